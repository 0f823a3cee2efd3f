//! From nothing to a swarm with the application on it, loads from client hosts, and back to nothing.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Site;
use crate::harness::Done;

#[test]
fn the_miniature_runs_on_a_swarm_of_four_hosts_from_deploy_to_clean() {
    let Some(site) = Site::start("the_miniature_runs_on_a_swarm") else { return };
    let watch = ProcessLists::start(&site);
    let mut told = vec![site.ok("build")];
    let times = if std::env::var_os("MAESTRO_TEST_FULL").is_some() { 2 } else { 1 };
    for time in 1..=times {
        told.push(site.ok(&format!("-v {}", site.deploy_line(&format!("cycle{time}")))));
        let again = site.ok(&format!("-v deploy -config {} -clients 2 -tag again{time}", super::CONFIG));
        assert!(!again.stderr.contains("sending ") && !again.stderr.contains("joined"), "{}", again.stderr);
        told.push(again);
        for (flag, variant) in [("", "four-60"), ("-antipode", "four-60-antipode")] {
            told.push(site.ok(&format!("-v run {flag} --timeout 240")));
            told.push(site.ok("-v wkld -E compose-post -r 60 -d 4 -c 4"));
            loads_came_from_both_clients(&site, variant);
            told.push(site.ok("gather"));
            windows_are_corrected(&site, variant);
        }
        told.extend(replication_is_delayed_between_hosts(&site));
        what_info_shows(&site);
        told.push(site.run(&format!("--dry-run {}", site.deploy_line("dry"))));
        let tokens =
            ["worker", "manager"].map(|role| site.host("alpha").sh(&format!("docker swarm join-token -q {role}")));
        told.push(site.ok("-v clean"));
        told.push(site.ok("-v clean -strong"));
        assert_eq!(site.left(), Vec::<String>::new());
        nothing_secret_was_told(&site, &tokens, &told, &watch);
    }
}

/// Real replication from one host to another, slower by what was asked; nobody takes it back before `clean`.
fn replication_is_delayed_between_hosts(site: &Site) -> Option<Done> {
    let mut last = None;
    // Other work on the machine delays as well: a few attempts, for a delay that is wrong stays wrong in all of them.
    for _ in 0..5 {
        let done = site.run("--json delay -d 50");
        if done.code == 0 {
            let record: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
            let number = |key: &str| record[key].as_f64().unwrap_or_else(|| panic!("no {key} in {record}"));
            let slower = number("visible_p50_ms") - number("visible_before_p50_ms");
            eprintln!("50 ms asked: path {} ms, replication slower by {slower:.2} ms", record["obtained_p50_ms"]);
            assert!((45.0..60.0).contains(&slower), "{record}");
            return Some(done);
        }
        assert!(done.code == 4 && done.stderr.contains("off by more than"), "{} {}", done.code, done.stderr);
        last = Some(done.stderr);
    }
    panic!("{last:?}");
}

fn run_dir(site: &Site, variant: &str) -> PathBuf {
    let parent = site.session.path(&format!("gather/gsd/socialNetworkMini/compose-post/{variant}"));
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    dirs.pop().unwrap()
}

fn loads_came_from_both_clients(site: &Site, variant: &str) {
    let dir = run_dir(site, variant);
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("summary.json")).unwrap()).unwrap();
    let load = &summary["load"];
    assert_eq!((load["due"].as_u64(), load["clients"].as_u64()), (Some(240), Some(2)), "{load}");
    let requests = |name: &str| -> u64 {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        let line = text.lines().find(|line| line.contains(" requests in ")).unwrap().trim();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let parts = requests("client00.out") + requests("client01.out");
    assert_eq!(parts, load["responses"].as_u64().unwrap(), "what each measured is what was added up");
    let run = std::fs::read_to_string(dir.join("run.yml")).unwrap();
    assert!(run.contains("client_hosts:\n  - alpha\n  - delta\n"), "{run}");
    for pair in ["a: controller\n  b: delta\n", "a: controller\n  b: gamma\n", "a: beta\n  b: gamma\n"] {
        assert_eq!(run.matches(pair).count(), 2, "{pair} before and after in {run}");
    }
}

fn windows_are_corrected(site: &Site, variant: &str) {
    let text = std::fs::read_to_string(run_dir(site, variant).join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    let seen = &summary["consistency"];
    assert_eq!(seen["clock"]["corrected"], true, "{seen}");
    assert!(seen["clock_bound_ms"].as_f64().unwrap() > 0.0);
    let (k, n) = (seen["violations"]["k"].as_u64().unwrap(), seen["violations"]["n"].as_u64().unwrap());
    assert!(n >= 200, "{k} of {n}");
    if variant.ends_with("antipode") {
        assert_eq!(k, 0, "of {n}");
    }
}

fn what_info_shows(site: &Site) {
    let hosts = site.ok("info -hosts").stdout;
    assert!(super::HOSTS.iter().all(|name| hosts.contains(name)), "{hosts}");
    assert!(site.ok("info -groups").stdout.contains("client: alpha delta"));
    let rows = site.ok("--json info -ps").stdout;
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 18);
    assert!(rows.as_array().unwrap().iter().all(|row| row["state"] == "running"), "{rows}");
    let log = site.ok("info -logs compose-post-service").stdout;
    assert!(log.contains("compose-post-service listens on"), "{log}");
    let unknown = site.run("info -logs compose");
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no service `compose`"), "{}", unknown.stderr);

    let names = site.ok("ssh -groups clients -- hostname").stdout;
    for alias in ["alpha", "delta"] {
        assert!(names.contains(&format!("{alias} | {}\n", site.host(alias).container)), "{names}");
    }
    let panes = site.ok("--dry-run ssh -hosts beta,gamma").stdout;
    assert!(panes.starts_with("tmux new-session ") && panes.matches("ssh -F").count() == 2, "{panes}");
}

/// Command lines of all processes on the hosts, seen again and again.
struct ProcessLists(Vec<(String, Child)>);

impl ProcessLists {
    fn start(site: &Site) -> Self {
        let script = "while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; sleep 0.1; done 2>/dev/null | \
            tr '\\0' '\\n' | awk '!seen[$0]++ { print; fflush() }' > /tmp/processes";
        let start = |container: &String| {
            let mut exec = Command::new("docker");
            exec.args(["exec", container, "sh", "-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
            (container.clone(), exec.spawn().unwrap())
        };
        ProcessLists(site.lab.hosts().iter().map(|host| start(&host.container)).collect())
    }
}

impl Drop for ProcessLists {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            // They end with their containers anyway.
            child.kill().and_then(|()| child.wait()).ok();
        }
    }
}

/// The user's key and the swarm's tokens are in nothing that was said, written or shown to other users of a host.
fn nothing_secret_was_told(site: &Site, tokens: &[String], told: &[Done], watch: &ProcessLists) {
    let key = std::fs::read_to_string(site.lab.path("id")).unwrap();
    let key = key.lines().nth(2).unwrap().to_owned();
    let secrets: Vec<&str> = tokens.iter().chain([&key]).map(String::as_str).collect();
    assert!(secrets.iter().all(|secret| secret.len() > 20), "{secrets:?}");
    let mut places: Vec<(String, String)> = Vec::new();
    for (index, done) in told.iter().enumerate() {
        places.push((format!("output {index}"), format!("{}{}", done.stdout, done.stderr)));
    }
    for host in site.lab.hosts() {
        let seen = host.sh("cat /tmp/processes");
        assert!(seen.contains("dockerd"), "the process list of {} was not seen", host.alias);
        places.push((format!("processes of {}", host.alias), seen));
        places.push((format!("the engine's log of {}", host.alias), host.sh("cat /tmp/dockerd.log")));
    }
    assert_eq!(watch.0.len(), super::HOSTS.len());
    files(site.session.root(), &mut places);
    for (place, text) in &places {
        for secret in &secrets {
            assert!(!text.contains(secret), "{place} tells a secret");
        }
    }
}

/// Every file of the root that is text.
fn files(folder: &std::path::Path, places: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, places);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            places.push((path.display().to_string(), text));
        }
    }
}
