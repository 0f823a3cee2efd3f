//! `--local`: the miniature as real containers of a real engine, from build to clean, and what can go wrong on the way.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use maestro::app::APPS;

use crate::docker::{busybox, engine, shell_tree, unique};
use crate::harness::{Done, Session, stripped, wait_for};

const CONFIG: &str = "configs/local/socialNetworkMini/debug.yml";

/// Held by the test whose application runs: two of them at a time are more than a small machine carries.
static TURN: Mutex<()> = Mutex::new(());

/// Images of names that nobody else uses; everything of this test goes when this is dropped, after a panic, too.
pub struct Bench {
    _turn: MutexGuard<'static, ()>,
    pub session: Session,
    pub images: Vec<(&'static str, String)>,
}

impl Bench {
    pub fn new(word: &str) -> Self {
        let name = |part: &str| format!("localhost/{}/{part}", unique(word));
        Bench {
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
            session: Session::new(),
            images: vec![
                ("MAESTRO_MINI_IMAGE", name("mini:t")),
                ("MAESTRO_REDIS_IMAGE", name("redis:t")),
                ("MAESTRO_RABBITMQ_IMAGE", name("rabbitmq:t")),
            ],
        }
    }

    pub fn command(&self, line: &str) -> Command {
        let args: Vec<&str> = ["--local", "socialNetworkMini"].into_iter().chain(line.split_whitespace()).collect();
        let mut command = self.session.command(&args);
        command.envs(self.images.iter().map(|(name, image)| (*name, image))).env("MINI_EXE", stripped());
        command
    }

    pub fn run(&self, line: &str) -> Done {
        self.command(line).output().expect("start maestro").into()
    }

    pub fn ok(&self, line: &str) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, 0, "{line}\nstdout:\n{}\nstderr:\n{}", done.stdout, done.stderr);
        done
    }

    pub fn deploy(&self, tag: &str) {
        self.ok(&format!("deploy -config {CONFIG} -tag {tag}"));
    }

    /// Names of the containers that this root has on the engine.
    fn left(&self) -> BTreeSet<String> {
        let ours =
            docker(&["ps", "-a", "--format", "{{.Names}} {{.Label \"com.docker.compose.project.working_dir\"}}"]);
        let root = self.session.root().display().to_string();
        ours.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.command("clean -strong").output().ok();
        for (_, image) in &self.images {
            Command::new("docker").args(["rmi", "-f", image]).output().ok();
        }
    }
}

pub fn docker(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).output().expect("docker");
    assert!(done.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Whether the miniature can be run here; prints why not.
pub async fn possible(test: &str) -> bool {
    if engine(test).await.is_none() {
        return false;
    }
    let installed = |program: &str| Command::new("which").arg(program).output().is_ok_and(|done| done.status.success());
    if installed("redis-server") && installed("rabbitmq-server") {
        return true;
    }
    eprintln!("skipped {test}: redis-server and rabbitmq-server are not installed (Debian packages of these names)");
    false
}

/// The one run of `variant`.
fn run_dir(bench: &Bench, variant: &str) -> std::path::PathBuf {
    let runs = bench.session.path("gather/local/socialNetworkMini/compose-post");
    std::fs::read_dir(runs.join(variant)).unwrap().next().unwrap().unwrap().path()
}

fn consistency(bench: &Bench, variant: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(run_dir(bench, variant).join("summary.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["consistency"].clone()
}

/// What the store says of the `posts` of a run: bytes of one on average, and of all with the store's own bookkeeping.
fn stored(bench: &Bench, variant: &str, posts: u64) -> (u64, u64) {
    let text = std::fs::read_to_string(run_dir(bench, variant).join("info.yml")).unwrap();
    let value = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{text}"));
        line.trim_start_matches(':').trim().parse().unwrap()
    };
    let (one, all) = (value("avg_post_storage_size_bytes"), value("total_post_storage_size_bytes"));
    assert!(one > 100 && all > one * posts, "{text}");
    (one, all)
}

fn violations(bench: &Bench, variant: &str) -> (u64, u64) {
    let counts = &consistency(bench, variant)["violations"];
    (counts["k"].as_u64().unwrap(), counts["n"].as_u64().unwrap())
}

/// Everything on the engine that is not this test's.
fn others(what: &[&str], ours: &str) -> BTreeSet<String> {
    docker(what).lines().filter(|line| line.contains(ours)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_miniature_runs_as_containers_from_build_to_clean() {
    if !possible("the_miniature_runs_as_containers").await {
        return;
    }
    let bench = Bench::new("mini");
    bench.ok("build");
    let foreign = Foreign::plant(&bench.images[1].1);
    assert_eq!(bench.ok("build").stderr.matches("made ").count(), 0, "what is there is not made again");

    missing_image(&bench);
    bench.deploy("cycle");
    taken_port(&bench);
    container_that_ends(&bench);

    bench.ok("run --ports auto");
    let again = bench.ok("-v run");
    assert!(!again.stderr.contains("making it anew"), "{}", again.stderr);
    bench.ok("wkld -E compose-post -r 100 -d 5 -c 4");
    bench.ok("gather");
    let (k, n) = violations(&bench, "debug-100");
    assert!(k > 0 && n >= 450, "{k} of {n}");
    let drained = &consistency(&bench, "debug-100")["source"]["drained"];
    assert_eq!((&drained["by"], &drained["complete"]), (&"queue".into(), &true.into()), "{drained}");
    let (baseline, _) = stored(&bench, "debug-100", n);

    let other = bench.ok("-v run -antipode");
    assert_eq!(other.stderr.matches("making it anew").count(), 3, "{}", other.stderr);
    bench.ok("wkld -E compose-post -r 100 -d 5 -c 4");
    bench.ok("gather");
    let (k, n) = violations(&bench, "debug-100-antipode");
    assert!(k == 0 && n >= 450, "{k} of {n}");
    let (lineage, _) = stored(&bench, "debug-100-antipode", n);
    assert!(lineage > baseline, "a lineage takes room: {baseline} and {lineage} bytes per post");

    what_info_shows(&bench);
    monitoring(&bench);
    bench.deploy("second");
    let replaced = bench.ok("run --ports auto");
    assert!(replaced.stderr.contains("of the deployment before"), "{}", replaced.stderr);
    bench.ok("clean -strong");
    assert_eq!(bench.left(), BTreeSet::new());
    for (name, image) in &bench.images {
        // The image of the foreign container stays, as it must.
        assert_eq!(docker(&["images", "-q", image]).is_empty(), *name != "MAESTRO_REDIS_IMAGE", "{image}");
    }
    foreign.is_untouched();
    bench.ok("clean");
}

/// A volume, a network and a container that look a little like the deployment's.
struct Foreign(String);

impl Foreign {
    fn plant(image: &str) -> Self {
        let name = unique("foreign");
        docker(&["volume", "create", "--label", "com.docker.compose.project=cycle", &name]);
        docker(&["network", "create", "--label", "com.docker.compose.project=cycle", &name]);
        docker(&["create", "--name", &name, "--label", "com.docker.compose.project=cycle", image]);
        Foreign(name)
    }

    fn is_untouched(&self) {
        assert_eq!(others(&["ps", "-a", "--format", "{{.Names}}"], &self.0).len(), 1);
        assert_eq!(others(&["volume", "ls", "-q"], &self.0).len(), 1);
        assert_eq!(others(&["network", "ls", "--format", "{{.Name}}"], &self.0).len(), 1);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        Command::new("docker").args(["rm", "-f", &self.0]).output().ok();
        Command::new("docker").args(["volume", "rm", &self.0]).output().ok();
        Command::new("docker").args(["network", "rm", &self.0]).output().ok();
    }
}

fn missing_image(bench: &Bench) {
    let deploy = bench.command(&format!("deploy -config {CONFIG} -tag noimage"));
    let done: Done = { deploy }.env("MAESTRO_REDIS_IMAGE", "localhost/nobody/has-this:1").output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let done = bench.run("run --ports auto");
    assert_eq!(done.code, 4);
    assert_eq!(
        done.stderr,
        "maestro: the engine has no image `localhost/nobody/has-this:1`\n  \
         build or fetch them first with `maestro build`\n"
    );
    assert_eq!(bench.left(), BTreeSet::new());
}

fn taken_port(bench: &Bench) {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let free = || TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let done = bench.run(&format!("run --ports {},{},{port}", free(), free()));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains(&format!("port {port} of the engine's host is already in use")), "{}", done.stderr);
    assert!(done.stderr.contains("took back "), "{}", done.stderr);
    assert_eq!(bench.left(), BTreeSet::new());
}

fn container_that_ends(bench: &Bench) {
    let path = bench.session.path("deploy/local/socialNetworkMini/cycle/docker-compose.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    let broken = text.replace("- social-graph\n", "- no-such-role\n");
    assert_ne!(text, broken);
    std::fs::write(&path, broken).unwrap();
    let done = bench.run("run --ports auto");
    std::fs::write(&path, text).unwrap();
    assert_eq!(done.code, 4, "{}", done.stderr);
    assert!(
        done.stderr.contains("social-graph-service | maestro: unknown role `no-such-role`"),
        "its log is shown: {}",
        done.stderr
    );
    assert!(done.stderr.contains("maestro: service `social-graph-service` ended: exit code 2"), "{}", done.stderr);
    assert_eq!(bench.left(), BTreeSet::new());
}

fn what_info_shows(bench: &Bench) {
    let rows = bench.ok("info -ps --json").stdout;
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 18);
    assert!(rows.as_array().unwrap().iter().all(|row| row["state"] == "running"));
    let log = bench.ok("info -logs compose-post-service").stdout;
    assert!(log.contains("compose-post-service listens on 0.0.0.0:9090"), "{log}");
    let unknown = bench.run("info -logs compose");
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("no service `compose` runs here\n  services: compose-post-service,"));
    let links = bench.ok("info -links").stdout;
    assert!(links.contains("antipode") && links.matches("http://127.0.0.1:").count() == 3, "{links}");
}

/// Portainer's image cannot be had here: one line says so, and the application goes on. With something in its place all
/// the rest of it is looked at.
fn monitoring(bench: &Bench) {
    let with = |image: &str| -> Done {
        let mut run = bench.command("run -antipode -portainer --ports auto");
        run.env("MAESTRO_PORTAINER_IMAGE", image).output().unwrap().into()
    };
    let done = with("localhost:1/nobody/portainer:1");
    assert_eq!(done.code, 3, "{}", done.stderr);
    let said: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("maestro: ")).collect();
    let start = "maestro: no image `localhost:1/nobody/portainer:1`, and no way to make it here: ";
    assert!(said.len() == 1 && said[0].starts_with(start), "{}", done.stderr);
    assert_eq!(bench.left().len(), 18, "the application goes on");

    let Some(shell) = busybox("monitoring") else { return };
    let stub = Stub::make(&shell);
    let done = with(&stub.0);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let kept = bench.session.path("deploy/local/socialNetworkMini/cycle/portainer.password");
    let password = std::fs::read_to_string(&kept).unwrap();
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let links = bench.ok("info -links").stdout;
    let line = links.lines().find(|line| line.contains("Portainer")).unwrap_or_else(|| panic!("{links}"));
    assert!(line.contains("http://127.0.0.1:") && line.contains(&format!("admin / {password}")), "{links}");
    let container = bench.left().into_iter().find(|name| name.contains("portainer")).unwrap();
    let container = container.split(' ').next().unwrap();
    assert_eq!(docker(&["exec", container, "cat", "/run/portainer.password"]), password);
    let arguments = docker(&["inspect", "-f", "{{.Args}} {{.Config.Env}}", container]);
    assert!(!arguments.contains(&password), "{arguments}");
}

/// An image that runs, does nothing, and goes with the test.
struct Stub(String);

impl Stub {
    fn make(busybox: &[u8]) -> Self {
        let name = format!("localhost/{}:t", unique("portainer"));
        idle_image(Command::new("docker").arg("import"), &name, busybox);
        Stub(name)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        Command::new("docker").args(["rmi", "-f", &self.0]).output().ok();
    }
}

/// Has `import` (`docker import`, here or elsewhere) make an image that runs, does nothing, and ends when it is told to.
pub fn idle_image(import: &mut Command, name: &str, busybox: &[u8]) {
    let entry = r#"ENTRYPOINT ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]"#;
    import.args(["--change", entry, "-", name]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = import.spawn().expect("docker");
    child.stdin.take().unwrap().write_all(&shell_tree(busybox)).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Scrapes every second, all three sources of numbers are up. Fetches packages, so only where there is time for it.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_every_second() {
    if std::env::var_os("MAESTRO_TEST_FULL").is_none() || !possible("prometheus_scrapes").await {
        return;
    }
    let bench = Bench::new("scrape");
    bench.ok("build");
    bench.deploy("scraped");
    bench.ok("run -prometheus --ports auto");
    let links = bench.ok("info -links").stdout;
    let line = links.lines().find(|line| line.contains("Prometheus")).unwrap_or_else(|| panic!("{links}"));
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let ask = |path: &str| -> serde_json::Value {
        let mut answer = ureq::get(format!("{}{path}", url.trim_end_matches('/'))).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    };
    wait_for("three sources", 60, || {
        let up = ask("/api/v1/query?query=sum(up)")["data"]["result"][0]["value"][1].clone();
        (up == "3").then_some(())
    });
    let targets = ask("/api/v1/targets")["data"]["activeTargets"].clone();
    assert!(targets.as_array().unwrap().iter().all(|target| target["scrapeInterval"] == "1s"), "{targets}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_anywhere_nothing_stays_behind() {
    if !possible("interrupted_anywhere").await {
        return;
    }
    let bench = Bench::new("break");
    bench.ok("build");
    bench.deploy("broken");
    for containers in [1, 9, 18] {
        let child = bench.command("run --ports auto").stderr(Stdio::piped()).spawn().unwrap();
        wait_for("containers", 60, || (bench.left().len() >= containers).then_some(()));
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ended: Done = child.wait_with_output().unwrap().into();
        assert_eq!(ended.code, 130, "{}", ended.stderr);
        assert!(ended.stderr.ends_with("maestro: interrupted\n"), "{}", ended.stderr);
        assert_eq!(bench.left(), BTreeSet::new(), "it takes back what it had started");
        bench.ok("clean");
    }
    let mut child = bench.command("run --ports auto").stderr(Stdio::null()).spawn().unwrap();
    wait_for("containers", 60, || (bench.left().len() >= 5).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    bench.ok("clean");
    assert_eq!(bench.left(), BTreeSet::new(), "killed, it is cleaned all the same");
}

#[test]
fn without_an_engine_one_line_says_so() {
    let bench = Bench::new("none");
    bench.deploy("t");
    for command in ["run", "build", "clean", "info -ps"] {
        let missing = bench.session.path("docker.sock");
        let done: Done =
            bench.command(command).env("DOCKER_HOST", format!("unix://{}", missing.display())).output().unwrap().into();
        assert_eq!(done.code, 3, "{command}: {}", done.stderr);
        let expected = format!(
            "maestro: no Docker engine answers at `unix://{}` (no such file or directory)\n",
            missing.display()
        );
        assert!(done.stderr.starts_with(&expected), "{command}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 2, "{command}: {}", done.stderr);
    }
}

#[test]
fn without_permission_one_line_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped without_permission: only root can become somebody without permission");
        return;
    }
    let bench = Bench::new("denied");
    bench.deploy("t");
    let socket = bench.session.path("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    Command::new("chown").args(["-R", "65534:65534"]).arg(bench.session.path("deploy")).status().unwrap();
    std::fs::set_permissions(bench.session.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_maestro")]);
    command.args(["--local", "socialNetworkMini", "run"]).current_dir(bench.session.root());
    let done: Done = command.env("DOCKER_HOST", format!("unix://{}", socket.display())).output().unwrap().into();
    if done.stderr.contains("failed to execute") {
        eprintln!("skipped without_permission: the binary is where only root may go");
        return;
    }
    assert_eq!(done.code, 3, "{}", done.stderr);
    let expected = format!("maestro: no permission to use the Docker engine at `unix://{}`\n", socket.display());
    assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
    std::fs::remove_file(&socket).unwrap();
}

/// A compose file with every service of the full application.
fn whole_application() -> String {
    let app = APPS.iter().find(|app| app.name == "socialNetwork").unwrap();
    let mut text = String::from("version: \"3.9\"\nservices:\n");
    for service in app.services {
        text.push_str(&format!("  {}:\n    image: example/{}:1\n", service.name, service.name));
        let needs: Vec<&str> = match service.name {
            "nginx-thrift" | "nginx-thrift-us" => vec!["jaeger"],
            "home-timeline-redis-us" => vec!["home-timeline-redis-eu"],
            name if name.contains("-service") && !name.starts_with("social") => vec!["compose-post-redis"],
            _ => vec![],
        };
        for need in needs {
            text.push_str(&format!("    depends_on: [{need}]\n"));
        }
        for door in [app.origin, app.readers_door(), app.jaeger] {
            if door.service == service.name {
                let inner = if door.service == "jaeger" { 16686 } else { 8080 };
                text.push_str(&format!("    ports: [\"{}:{inner}\"]\n", door.port));
            }
        }
    }
    text
}

#[test]
fn the_plans_for_the_whole_application_are_stable() {
    let session = Session::new();
    session.write("app/docker-compose.yml", whole_application());
    let config = "configs/local/socialNetwork/debug.yml";
    let deploy = format!("--local socialNetwork deploy -config {config} -tag golden --app-dir app");
    let planned = session.ok(&format!("{deploy} --dry-run"));
    session.ok(&deploy);
    let mut text = planned.stdout;
    for command in ["run --dry-run", "run -antipode --dry-run", "clean --dry-run"] {
        text.push_str(&session.ok(&format!("--local socialNetwork {command}")).stdout);
    }
    let text = anonymous(&text, &session);
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/local/plans.txt");
    if std::env::var_os("MAESTRO_ACCEPT").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "run with MAESTRO_ACCEPT=1 to accept the change");
}

/// Without what differs each time: the root, the deployment's own number, the compose file's size.
fn anonymous(text: &str, session: &Session) -> String {
    let record = std::fs::read_to_string(session.path("deploy/local/socialNetwork/golden/deployment.yml")).unwrap();
    let uid = record.lines().find_map(|line| line.strip_prefix("uid: ")).unwrap().trim_matches('"');
    text.replace(&session.root().display().to_string(), "ROOT").replace(uid, "UID")
}
