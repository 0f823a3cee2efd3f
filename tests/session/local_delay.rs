//! `delay` between the real post stores of a deployment on one engine: what was asked for is obtained, the stores'
//! own replication is slower by it, the application shows it, and nothing of it outlives its lease.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Done, wait_for};
use crate::local::{Bench, docker, possible};

const ORIGIN: &str = "post-storage-redis-eu";
const REPLICA: &str = "post-storage-redis-us";

/// A deployment that runs, from images made here.
struct Deployed {
    bench: Bench,
    project: String,
}

impl std::ops::Deref for Deployed {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl Deployed {
    fn new(word: &str) -> Self {
        let bench = Bench::new(word);
        bench.ok("build");
        bench.deploy("delayed");
        bench.ok("run --ports auto");
        let mut deployed = Deployed { bench, project: String::new() };
        let label = "{{index .Config.Labels \"com.docker.compose.project\"}}";
        deployed.project = docker(&["inspect", "-f", label, &deployed.container(ORIGIN)]).trim().to_owned();
        deployed
    }

    /// Helpers of this deployment on the engine: all, or those that run.
    fn helpers(&self, all: bool) -> usize {
        let label = format!("label=dev.maestro.delay={}", self.project);
        docker(&["ps", if all { "-aq" } else { "-q" }, "--filter", &label]).lines().count()
    }

    /// The record that `delay LINE` prints. Other work on the machine can make a proof fail, and then the command says
    /// so and takes its rules back: a few attempts are fair, for a delay that is wrong stays wrong in all of them.
    fn delayed(&self, line: &str) -> Value {
        let mut last = String::new();
        for _ in 0..5 {
            let done = self.run(&format!("delay {line} --json"));
            if done.code == 0 {
                return serde_json::from_str(&done.stdout).unwrap();
            }
            assert_eq!(done.code, 4, "delay {line}: {}", done.stderr);
            assert!(done.stderr.contains("off by more than"), "delay {line}: {}", done.stderr);
            last = done.stderr;
        }
        panic!("delay {line}: {last}");
    }

    fn shown(&self) -> Value {
        serde_json::from_str(&self.ok("delay --show --json").stdout).unwrap()
    }

    /// The status of the helper at `service`, once it answers and `look` is content with it.
    fn helper(&self, service: &str, look: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("the helper of {service}"), 60, || {
            let shown = self.shown();
            let found = shown["helpers"].as_array().unwrap().iter().find(|one| one["service"] == service)?;
            (found["status"].is_object() && look(&found["status"])).then(|| found.clone())
        })
    }

    /// Loads and gathers; how many notifications found no post, of how many.
    fn violations(&self) -> (u64, u64) {
        let done = self.ok("wkld -E compose-post -r 100 -d 3 -c 4");
        self.ok("gather");
        let run = done.stdout.lines().find_map(|line| line.strip_prefix("run: ")).expect("the run's directory");
        let text = std::fs::read_to_string(self.session.path(run).join("summary.json")).unwrap();
        let counts = serde_json::from_str::<Value>(&text).unwrap()["consistency"]["violations"].clone();
        (counts["k"].as_u64().unwrap(), counts["n"].as_u64().unwrap())
    }

    fn container(&self, service: &str) -> String {
        let rows: Value = serde_json::from_str(&self.ok("info -ps --json").stdout).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["service"] == service).unwrap().clone();
        row["container"].as_str().unwrap().to_owned()
    }

    /// What `redis-cli` says inside the container of `service`.
    fn redis(&self, service: &str, line: &str) -> String {
        let container = self.container(service);
        let words: Vec<&str> = ["exec", &container, "redis-cli"].into_iter().chain(line.split(' ')).collect();
        let done = Command::new("docker").args(words).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Whether a load is under way.
    fn loading(&self) -> bool {
        let runs = self.session.path("gather/local/socialNetworkMini/compose-post/debug-20");
        let records = std::fs::read_dir(runs).into_iter().flatten().flatten();
        let running = |path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("status: running"));
        records.into_iter().any(|run| running(run.path().join("run.yml")))
    }

    fn replicates(&self) -> bool {
        self.redis(REPLICA, "info replication").contains("master_link_status:up")
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_are_put_apart_and_the_application_shows_it() {
    if !possible("the_stores_are_put_apart").await {
        return;
    }
    let bench = Deployed::new("apart");
    what_makes_no_sense_is_refused(&bench);
    let (bare, n) = bench.violations();
    assert!(n >= 250, "{n} notifications");

    obtained_in_every_shape(&bench);
    let record = bench.delayed("-d 20 -c 0");
    let slower = number(&record["visible_p50_ms"]) - number(&record["visible_before_p50_ms"]);
    assert!(slower > 17.0, "the replication stream itself: {record}");
    let (some, _) = bench.violations();
    bench.delayed("-d 100 -j 10 -dist normal");
    let (most, n) = bench.violations();
    eprintln!("violations without delay, at 20 ms and at 100 ms: {bare}, {some}, {most} of {n}");
    assert!(bare < most && most * 2 > n, "{bare}, {some}, {most} of {n}");

    bench.ok("run -antipode");
    assert_eq!(bench.violations().0, 0, "the barrier waits as long as it takes");
    directions_rates_and_several_pairs(&bench);
    a_schedule(&bench);
    bench.ok("delay --off");
    assert!(bench.ok("delay --off").stderr.contains("no delay was in force"));
    assert_eq!(bench.ok("delay --show").stdout, "no delay is in force\n");
}

fn what_makes_no_sense_is_refused(bench: &Deployed) {
    for (line, code, reason) in [
        ("-d 5 -j 10", 2, "jitter 10 ms is larger than the delay of 5 ms"),
        ("-d 5 -dist pareto", 2, "`pareto` shapes the jitter, and the jitter is 0"),
        ("-d -5", 2, "data cannot arrive before it was sent"),
        ("-d 5 --from post-storage-redis", 2, "has no service `post-storage-redis`"),
        ("-d 5 --from jaeger --to jaeger", 2, "`jaeger` does not replicate to itself"),
        ("--matrix absent.yml", 2, "no such file `absent.yml`"),
        ("--schedule absent.yml", 2, "no such file `absent.yml`"),
    ] {
        let done = bench.run(&format!("delay {line}"));
        assert_eq!(done.code, code, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(reason), "{line}: {}", done.stderr);
    }
    for line in ["-d 5 --backend netem", "-d 5 --loss 5"] {
        let done = bench.run(&format!("delay {line}"));
        let no_netem = done.stderr.contains("kernel has no sch_netem") || done.stderr.contains("`--loss` needs netem");
        assert!(done.code == 0 || no_netem, "{line}: {} {}", done.code, done.stderr);
        if done.code != 0 {
            eprintln!("skipped `{line}`: kernel has no sch_netem");
            assert_eq!(bench.helpers(true), 0, "{line}: a refused delay leaves nothing");
        }
        bench.ok("delay --off");
    }
}

/// All shapes at 5, 20 and 100 ms, without jitter and with 10 %; on an ordinary run one of each.
fn obtained_in_every_shape(bench: &Deployed) {
    let shapes = ["uniform", "normal", "pareto", "paretonormal"];
    let full = std::env::var_os("MAESTRO_TEST_FULL").is_some();
    let mut asked = Vec::new();
    for (index, delay) in [5.0, 20.0, 100.0].into_iter().enumerate() {
        let some = if full { &shapes[..] } else { &shapes[index + 1..=index + 1] };
        asked.extend(some.iter().map(|shape| (delay, delay / 10.0, *shape)));
        asked.extend(full.then_some((delay, 0.0, "uniform")));
    }
    for (delay, jitter, shape) in asked {
        let line = format!("-d {delay} -j {jitter} -dist {shape}");
        // Other work delays as well, and shows where the jitter is small; what is wrong stays wrong every time.
        let alike = |record: &Value| record["ks_p"].as_f64().is_none_or(|p| p > 0.001);
        let mut record = bench.delayed(&line);
        for seed in 1..4 {
            if alike(&record) {
                break;
            }
            record = bench.delayed(&format!("{line} --seed {seed}"));
        }
        assert_eq!(record["ks_p"].is_null(), jitter == 0.0, "{record}");
        assert!(alike(&record), "{line}: not the distribution asked for: {record}");
        assert_eq!(record["pair"], format!("{ORIGIN} -> {REPLICA}"));
        let slower = number(&record["visible_p50_ms"]) - number(&record["visible_before_p50_ms"]);
        eprintln!(
            "{line}: {} by {}, p50 {:.2} ms of {:.2}, KS p {}, replication {slower:.2} ms slower",
            record["asked"],
            record["backend"],
            number(&record["obtained_p50_ms"]),
            number(&record["expected_p50_ms"]),
            record["ks_p"],
        );
    }
}

fn directions_rates_and_several_pairs(bench: &Deployed) {
    let both = bench.delayed("-d 20 --both");
    assert_eq!(both["pair"], format!("{ORIGIN} <-> {REPLICA}"));
    assert!(number(&both["obtained_p50_ms"]) > 36.0, "there and back: {both}");

    let slow = bench.delayed("-d 5 --rate 8");
    assert_eq!(slow["asked"], "5 ms, 8 Mbit/s");
    // 1 MB at 8 Mbit/s is a second's worth; the replica has it all at last.
    let value = "x".repeat(100_000);
    let started = std::time::Instant::now();
    (0..10).for_each(|key| drop(bench.redis(ORIGIN, &format!("set rate:{key} {value}"))));
    wait_for("the slow stream", 60, || bench.redis(REPLICA, "strlen rate:9").starts_with("100000").then_some(()));
    let took = started.elapsed().as_secs_f64();
    assert!(took > 1.0, "1 MB at 8 Mbit/s was there after {took:.2} s");

    bench.session.write(
        "matrix.yml",
        format!(
            "pairs:\n- {{from: {ORIGIN}, to: {REPLICA}, delay_ms: 30}}\n\
             - {{from: write-home-timeline-rabbitmq-eu, to: write-home-timeline-rabbitmq-us, port: 5672, delay_ms: 10}}\n"
        ),
    );
    let matrix = bench.delayed("--matrix matrix.yml");
    let others = matrix["others"].as_array().unwrap();
    assert_eq!(others.len(), 1, "{matrix}");
    assert!(number(&matrix["obtained_p50_ms"]) > 27.0 && number(&others[0]["obtained_p50_ms"]) > 7.0, "{matrix}");
    let shown = bench.ok("delay --show").stdout;
    assert_eq!(shown.matches(" ms now").count(), 2, "{shown}");
}

fn a_schedule(bench: &Deployed) {
    bench.session.write("steps.yml", "steps:\n- {at_s: 0, rule: {delay_ms: 10}}\n- {at_s: 1, rule: {delay_ms: 40}}\n");
    bench.delayed("--schedule steps.yml");
    let now = |status: &Value| status["rules"][0]["from_peer"].as_str().unwrap_or_default().to_owned();
    assert_eq!(now(&bench.helper(REPLICA, |_| true)["status"]), "0 ms", "nothing before the load");
    bench.violations();
    assert_eq!(now(&bench.helper(REPLICA, |_| true)["status"]), "40 ms");
}

fn kill_main_process(container: &str) {
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_the_delay_ends_with_its_lease() {
    if !possible("whoever_is_killed").await {
        return;
    }
    let bench = Deployed::new("killed");
    interrupted(&bench);
    maestro_killed(&bench);
    helper_killed(&bench);
    helper_killed_before_the_proof(&bench);
    peer_restarted(&bench);
    container_killed(&bench);
    bench.ok("clean");
    assert_eq!(
        docker(&["ps", "-aq", "--filter", "label=dev.maestro.delay"]).lines().count(),
        0,
        "no helper of anybody"
    );
}

/// ^C takes back what the command had begun.
fn interrupted(bench: &Deployed) {
    let mut delay = bench.command("delay -d 100");
    let delay = delay.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("a helper", 60, || (bench.helpers(false) > 0).then_some(()));
    let pid = rustix::process::Pid::from_raw(i32::try_from(delay.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let done: Done = delay.wait_with_output().unwrap().into();
    assert_eq!((done.code, done.stderr.as_str()), (130, "maestro: interrupted; no delay is in force\n"));
    assert_eq!(bench.helpers(true), 0);
    assert_eq!(bench.ok("delay --show").stdout, "no delay is in force\n");
}

/// At three moments of the command: the helpers' start, the measuring, the proof.
fn maestro_killed(bench: &Deployed) {
    for moment in ["a helper", "a rule", "the end"] {
        let lease = if moment == "the end" { 25 } else { 8 };
        let mut child = bench.command(&format!("delay -d 30 --lease {lease}")).stderr(Stdio::null()).spawn().unwrap();
        wait_for("a helper", 60, || (bench.helpers(true) > 0).then_some(()));
        match moment {
            "a rule" => wait_for("a rule", 60, || {
                let shown = bench.run("delay --show --json");
                (shown.code == 0 && shown.stdout.contains("\"from_peer\"")).then_some(())
            }),
            "the end" => assert!(child.wait().unwrap().success()),
            _ => {}
        }
        child.kill().ok();
        child.wait().unwrap();
        wait_for(&format!("the end of the lease, killed at {moment}"), 60, || {
            (bench.helpers(false) == 0).then_some(())
        });
        wait_for("replication", 30, || bench.replicates().then_some(()));
        if moment == "the end" {
            let done = bench.run("wkld -E compose-post -r 20 -d 1");
            assert_eq!(done.code, 4, "a run that relies on it is refused: {}", done.stderr);
            assert!(done.stderr.contains("the delay on record is not in force any more"), "{}", done.stderr);
        }
        bench.ok("delay --off");
        bench.ok("delay --off");
        assert_eq!(bench.helpers(true), 0);
    }
}

/// The kernel takes its rules back at once; the engine starts it again, and it takes them up.
fn helper_killed(bench: &Deployed) {
    bench.delayed("-d 30 --lease 600");
    let before = bench.helper(REPLICA, |_| true);
    kill_main_process(before["helper"].as_str().unwrap());
    let after = bench.helper(REPLICA, |status| status["restarts"] == 1 && status["rules"][0].is_object());
    assert_eq!(after["status"]["rules"][0]["from_peer"], "30 ms", "{after}");
    wait_for("replication", 30, || bench.replicates().then_some(()));
}

/// While the command still measures: it says that the helper is gone or goes on with the one that took its place, and
/// what it leaves is what it says.
fn helper_killed_before_the_proof(bench: &Deployed) {
    bench.ok("delay --off");
    for moment in ["the helper's start", "its rule"] {
        let mut delay = bench.command("delay -d 30 --lease 600");
        let delay = delay.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("a helper", 60, || (bench.helpers(false) == 2).then_some(()));
        if moment == "its rule" {
            wait_for("a rule", 60, || bench.run("delay --show --json").stdout.contains("\"from_peer\"").then_some(()));
        }
        let one = format!("label=dev.maestro.delay={}", bench.project);
        let service = format!("label=dev.maestro.delay.service={REPLICA}");
        let name = docker(&["ps", "-q", "--filter", &one, "--filter", &service]);
        kill_main_process(name.trim());
        let done: Done = delay.wait_with_output().unwrap().into();
        match done.code {
            0 => assert_eq!(bench.helper(REPLICA, |_| true)["status"]["rules"][0]["from_peer"], "30 ms"),
            3 | 4 => assert_eq!(bench.helpers(true), 0, "{}", done.stderr),
            code => panic!("killed at {moment}: {code} {}", done.stderr),
        }
        eprintln!("killed at {moment}: {} {}", done.code, done.stderr.lines().last().unwrap_or_default());
        bench.ok("delay --off");
        assert_eq!(bench.helpers(true), 0);
        wait_for("replication", 30, || bench.replicates().then_some(()));
    }
    bench.delayed("-d 30 --lease 600");
}

/// The origin's store comes back with another address: the rule follows it, and a run during that is void.
fn peer_restarted(bench: &Deployed) {
    let origin = bench.container(ORIGIN);
    let address = || docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &origin]);
    let (before, squatter) = (address(), format!("{}-squatter", bench.project));
    let mut load = bench.command("wkld -E compose-post -r 20 -d 8 -c 4 --drain 5");
    let load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the load", 60, || bench.loading().then_some(()));
    let status = bench.helper(REPLICA, |_| true);
    docker(&["stop", "-t", "0", &origin]);
    let image = &bench.images.iter().find(|(name, _)| *name == "MAESTRO_REDIS_IMAGE").unwrap().1;
    docker(&["run", "-d", "--name", &squatter, "--network", &format!("{}_default", bench.project), image]);
    let moved = std::panic::catch_unwind(|| {
        docker(&["start", &origin]);
        assert_ne!(address(), before);
        bench.helper(REPLICA, |now| {
            now["rules"][0]["address_changes"].as_u64() > status["status"]["rules"][0]["address_changes"].as_u64()
        });
    });
    docker(&["rm", "-f", &squatter]);
    let done: Done = load.wait_with_output().unwrap().into();
    moved.unwrap();
    let run = done.stdout.lines().find_map(|line| line.strip_prefix("run: ")).expect("the run's directory");
    let record = std::fs::read_to_string(bench.session.path(run).join("run.yml")).unwrap();
    let record = record.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(record.contains("status: void") && record.contains("changed its address during the run"), "{record}");
    wait_for("replication", 60, || bench.replicates().then_some(()));
    let now = bench.shown();
    assert!(number(&now["pairs"][0]["now_p50_ms"]) > 25.0, "the rule holds for the new address: {now}");
}

/// With the replica's store its network goes, and with that the rule; the helper does not outlive its lease.
fn container_killed(bench: &Deployed) {
    bench.delayed("-d 30 --lease 8");
    let replica = bench.container(REPLICA);
    kill_main_process(&replica);
    wait_for("the end of the helpers", 90, || (bench.helpers(false) == 0).then_some(()));
    docker(&["start", &replica]);
    wait_for("replication without delay", 60, || bench.replicates().then_some(()));
    let done = bench.run("delay --show");
    assert!(done.code == 0 && done.stdout.contains("cannot be measured now"), "{}{}", done.stdout, done.stderr);
    bench.ok("delay --off");
    assert_eq!(bench.helpers(true), 0);
}
