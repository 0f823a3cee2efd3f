//! The documents' story on Google Cloud: the emulator's machines are real hosts, so SSH, engines and swarm are real.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::docker::unique;
use crate::gce_emulator::{Emulator, Machines};
use crate::gcp_chaos::{APP, placement};
use crate::harness::{Done, Session};
use crate::hosts::Lab;

/// Hosts that wait to become machines: container, address, and whose they are now.
type Pool = Arc<Mutex<Vec<(String, String, Option<String>)>>>;

/// Machines that are hosts of a lab. Nobody gets in but with the key of the machine's metadata.
struct Hosts(Pool);

impl Hosts {
    fn of(&self, name: &str) -> Option<String> {
        let pool = self.0.lock().expect("the pool");
        pool.iter().find(|(.., owner)| owner.as_deref() == Some(name)).map(|(container, ..)| container.clone())
    }
}

fn inside(container: &str, script: &str) -> String {
    let done = Command::new("docker").args(["exec", container, "sh", "-c", script]).output().expect("docker");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

impl Machines for Hosts {
    fn create(&mut self, name: &str, metadata: &BTreeMap<String, String>) -> (String, String) {
        if name.starts_with("maestro-base-") {
            return ("10.128.0.1".into(), "192.0.2.1".into());
        }
        let mut pool = self.0.lock().expect("the pool");
        let free = pool.iter_mut().find(|(.., owner)| owner.is_none()).expect("a free host");
        free.2 = Some(name.to_owned());
        let (user, key) = metadata["ssh-keys"].split_once(':').expect("USER:KEY");
        assert_eq!(user, "root");
        inside(&free.0, &format!("echo '{key}' > /root/.ssh/authorized_keys"));
        (free.1.clone(), free.1.clone())
    }

    fn delete(&mut self, name: &str) {
        let mut pool = self.0.lock().expect("the pool");
        for (container, _, owner) in pool.iter_mut().filter(|(.., owner)| owner.as_deref() == Some(name)) {
            inside(container, "echo > /root/.ssh/authorized_keys");
            *owner = Some("deleted".into());
        }
    }

    fn host_key(&mut self, name: &str) -> Option<String> {
        let line = inside(&self.of(name)?, "cat /etc/ssh_host_ed25519.pub");
        line.split(' ').nth(1).map(str::to_owned)
    }
}

struct Story {
    emulator: Emulator,
    session: Session,
    binary: PathBuf,
    images: Vec<(&'static str, String)>,
    lab: Lab,
}

impl Story {
    fn start() -> Option<Story> {
        let installed = |program: &str| Command::new("which").arg(program).output().is_ok_and(|o| o.status.success());
        if !installed("redis-server") || !installed("rabbitmq-server") {
            eprintln!("skipped: redis-server and rabbitmq-server are not installed (Debian packages)");
            return None;
        }
        let lab = Lab::start(&["one", "two", "three", "four"])?;
        let pool = lab.hosts().iter().map(|host| (host.container.clone(), host.address.clone(), None)).collect();
        let pool: Pool = Arc::new(Mutex::new(pool));
        lab.hosts().iter().for_each(|host| drop(inside(&host.container, "echo > /root/.ssh/authorized_keys")));
        let name = |part: &str| format!("localhost/{}/{part}", unique("gcp"));
        let images = vec![
            ("MAESTRO_MINI_IMAGE", name("mini:t")),
            ("MAESTRO_REDIS_IMAGE", name("redis:t")),
            ("MAESTRO_RABBITMQ_IMAGE", name("rabbitmq:t")),
        ];
        let (binary, copy) = (env!("CARGO_BIN_EXE_maestro"), lab.path("maestro"));
        let stripped = Command::new("strip").arg("-o").arg(&copy).arg(binary).status();
        let binary = if stripped.is_ok_and(|status| status.success()) { copy } else { binary.into() };
        let session = Session::new();
        session.write("gcp/config.yml", "project_id: p\nsource_ranges: [192.0.2.9/32]\n");
        session.write("c.yml", placement() + "endpoint_mode: dnsrr\nports: host\n");
        Some(Story { emulator: Emulator::start(Box::new(Hosts(pool))), session, binary, images, lab })
    }

    fn run(&self, line: &str) -> Done {
        let mut command = Command::new(&self.binary);
        command.args(["--gcp", APP]).args(line.split_whitespace()).current_dir(self.session.root());
        command.env_remove("MAESTRO_ROOT").env("TZ", "UTC").env("USER", "tester");
        command.env("MAESTRO_GCE_ENDPOINT", &self.emulator.url).stdin(std::process::Stdio::null());
        command.envs(self.images.iter().map(|(name, image)| (*name, image)));
        command.output().expect("start maestro").into()
    }

    fn ok(&self, line: &str) -> Done {
        self.run(line).ok(line)
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        for (_, image) in &self.images {
            Command::new("docker").args(["rmi", "-f", image]).output().ok();
        }
    }
}

#[test]
fn the_documents_story_from_build_to_nothing_left() {
    let Some(story) = Story::start() else { return };
    let deploy = "deploy -config c.yml -clients 1";
    story.ok("firewall apply");
    let refused = story.run(&format!("{deploy} --yes"));
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("no machine image of family `maestro-base`"), "{}", refused.stderr);
    story.ok("build");
    let asked = story.run(deploy);
    assert_eq!(asked.code, 2, "{}", asked.stderr);
    assert!(
        asked.stderr.contains("4 machines in project `p`") && asked.stderr.contains("not confirmed"),
        "{}",
        asked.stderr
    );
    assert!(asked.stderr.contains("estimate: "), "{}", asked.stderr);
    assert_eq!(story.emulator.instances(), Vec::<String>::new());
    let done = story.ok(&format!("{deploy} --yes"));
    assert!(!done.stderr.contains("rule `"), "no rule is missing: {}", done.stderr);
    assert_eq!(story.emulator.instances().len(), 4);
    story.ok("run -antipode --timeout 240");
    assert!(story.ok("doctor").stdout.contains("the machines of the deployment are made"));
    story.ok("wkld -E compose-post -r 40 -d 3 -c 4");
    let verdict = story.ok("gather").stdout;
    assert!(verdict.contains("violations    none in "), "{verdict}");
    what_was_recorded(&story);
    assert!(story.ok("info -hosts").stdout.contains("client00"));
    let names = story.ok("ssh -- hostname").stdout;
    assert_eq!(names.lines().count(), 4, "{names}");
    story.ok("clean -restart");
    story.ok("wkld -E compose-post -r 20 -d 2 -c 2");
    let names = story.emulator.instances();
    story.emulator.preempt(names.iter().find(|name| name.ends_with("-replica")).unwrap());
    let void = story.run("wkld -E compose-post -r 20 -d 2 -c 2");
    assert_eq!(void.code, 5, "{}", void.stderr);
    let why = "machine `replica` in europe-west3-a does not run any more (pre-empted?)";
    assert!(void.stderr.contains(why), "{}", void.stderr);
    let gone = story.ok("clean -strong --images --firewall");
    assert!(gone.stderr.contains("(an estimate)"), "{}", gone.stderr);
    assert_eq!((story.emulator.instances(), story.emulator.leftovers()), (Vec::new(), Vec::new()));
    story.ok("gc --check --all");
    assert_eq!(story.emulator.violations(), Vec::<String>::new());
    let host = &story.lab.hosts()[0];
    assert_eq!(inside(&host.container, "cat /root/.ssh/authorized_keys"), "", "the key went with the machine");
}

/// The run says what its machines cost; the private key is the owner's alone and in no request.
fn what_was_recorded(story: &Story) {
    let parent = story.session.path(&format!("gather/gcp/{APP}/compose-post/c-40-antipode"));
    let dir = std::fs::read_dir(parent).unwrap().next().unwrap().unwrap().path();
    let run = std::fs::read_to_string(dir.join("run.yml")).unwrap();
    assert!(run.contains("usd_estimate:") && run.contains("prices_as_of:"), "{run}");
    let deployments = story.session.path(&format!("deploy/gcp/{APP}"));
    let mut keys = std::fs::read_dir(deployments).unwrap().map(|entry| entry.unwrap().path().join("ssh/id"));
    let key = keys.find(|path| path.exists()).expect("a key");
    let text = std::fs::read_to_string(&key).unwrap();
    let secret = text.lines().nth(2).unwrap().to_owned();
    let sent = story.emulator.requests().into_iter().find(|(_, body)| body.to_string().contains(&secret));
    assert_eq!(sent, None, "the private key was sent");
}
