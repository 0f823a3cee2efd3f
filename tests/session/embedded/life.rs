//! The miniature as a process: start, stop, restart, and everything that can happen to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Answer, Mini, NEAR, alive};
use crate::harness::{Done, Session, wait_for};

#[test]
fn run_twice_is_harmless_and_another_variant_takes_the_same_addresses() {
    let mini = Mini::start(NEAR, "");
    let (pid, origin) = (mini.pid(), mini.origin());
    mini.compose(1);
    let again = mini.ok("run");
    assert!(again.stderr.contains(&format!("already running as baseline (pid {pid})")), "{}", again.stderr);
    assert_eq!((mini.pid(), mini.status("posts")), (pid, json!(1)));
    mini.ok("run -antipode");
    assert!(!alive(pid));
    assert_eq!((mini.origin(), mini.record("variant")), (origin.clone(), "antipode".to_owned()));
    let state = std::fs::read_to_string(mini.session.path("deploy/embedded/.last.yml")).unwrap();
    assert!(state.contains("antipode: true"), "{state}");

    let pid = mini.pid();
    mini.compose(1);
    mini.ok("clean -restart");
    assert!(!alive(pid) && alive(mini.pid()));
    assert_eq!((mini.origin(), mini.record("variant"), mini.status("posts")), (origin, "antipode".into(), json!(0)));
    assert_eq!(mini.traces("compose-post-service").len(), 0);
}

#[test]
fn clean_ends_the_miniature_and_nothing_else() {
    let mini = Mini::start(NEAR, "");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let (pid, dir) = (mini.pid(), mini.dir());
    assert_eq!(std::fs::read_to_string(dir.join("dockerize.sync")).unwrap().trim(), "DONE");
    mini.ok("clean");
    assert!(!alive(pid));
    assert!(!dir.join("miniature.yml").exists() && !dir.join("dockerize.sync").exists());
    assert!(dir.join("truth.csv").exists() && dir.join("deployment.yml").exists());
    mini.ok("clean");
    assert!(alive(other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    let done = mini.run("wkld -E compose-post -r 10 -d 1");
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("run"), "{}", done.stderr);
}

#[test]
fn info_shows_its_process_its_addresses_and_its_log() {
    let mini = Mini::start(NEAR, "");
    let rows: Value = serde_json::from_str(&mini.ok("--json info -ps").stdout).unwrap();
    assert_eq!((&rows[0]["pid"], &rows[0]["state"]), (&json!(mini.pid()), &json!("running")), "{rows}");
    assert_eq!(rows[0]["urls"][0], json!(mini.origin()));
    let table = mini.ok("info -ps").stdout;
    assert!(table.starts_with("service ") && table.contains(&format!("miniature  running  {}", mini.pid())), "{table}");
    assert!(mini.ok("info -links").stdout.contains(&mini.origin()));

    let log = mini.dir().join("miniature.log");
    let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    writeln!(file, "a line of its log").unwrap();
    assert!(mini.ok("info -logs miniature").stdout.ends_with("a line of its log\n"));
    let mut follow = mini.session.command(&["--embedded", "socialNetwork", "info", "-logs", "miniature", "-follow"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    writeln!(file, "and another").unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "and another"));
    mini.ok("clean");
    assert!(wait_for("the end of what follows it", 20, || follow.try_wait().unwrap()).success());

    let other = mini.run("info -logs jaeger");
    let said = "maestro: no service `jaeger` runs here\n  one process plays them all: miniature\n";
    assert_eq!((other.code, other.stderr.as_str()), (2, said));
    assert_eq!(mini.ok("info -ps").stderr, "nothing runs\n");
    assert_eq!(mini.run("info -hosts").code, 2);
}

#[test]
fn a_miniature_that_was_killed_is_noticed_by_the_next_command() {
    let mini = Mini::start(NEAR, "-antipode");
    let pid = mini.pid();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    wait_for("its end", 5, || (!alive(pid)).then_some(()));
    for line in ["wkld -E compose-post -r 10 -d 1", "delay -d 5", "delay --show"] {
        let done = mini.run(line);
        assert_eq!(done.code, 3, "{line}: {}", done.stderr);
        let said = format!(
            "maestro: the embedded miniature is not running (pid {pid} ended)\n  start it with `maestro --embedded \
             socialNetwork run -antipode`\n"
        );
        assert_eq!(done.stderr, said, "{line}");
    }
    let done = mini.ok("run -antipode");
    assert!(done.stderr.contains(&format!("the miniature (pid {pid}) had ended; starting another")), "{}", done.stderr);
    mini.compose(1);
}

#[test]
fn a_process_that_only_has_the_same_number_is_left_alone() {
    let mini = Mini::start(NEAR, "");
    let (pid, text) = (mini.pid(), std::fs::read_to_string(mini.dir().join("miniature.yml")).unwrap());
    mini.ok("clean");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let stale = text.replace(&format!("pid: {pid}"), &format!("pid: {}", other.id()));
    std::fs::write(mini.dir().join("miniature.yml"), &stale).unwrap();
    mini.ok("clean");
    assert!(alive(other.id()));
    std::fs::write(mini.dir().join("miniature.yml"), &stale).unwrap();
    mini.ok("run --ports auto");
    assert!(alive(other.id()) && mini.pid() != other.id());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_taken_port_is_named_with_its_holder_and_the_way_out() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let mini = Mini::deployed(NEAR);
    let done = mini.run(&format!("run --ports {port},0,0"));
    assert_eq!(done.code, 3, "{}", done.stderr);
    let mut lines = done.stderr.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with(&format!("maestro: port {port} is taken by `")), "{first}");
    assert!(first.ends_with(&format!("(pid {})", std::process::id())), "{first}");
    assert!(lines.next().unwrap().contains("--ports auto"));
    assert!(!mini.dir().join("miniature.yml").exists());
    for bad in ["1,2", "8080,8080,1", "a,b,c", "1,2,99999"] {
        let done = mini.run(&format!("run --ports {bad}"));
        assert_eq!(done.code, 2, "{bad}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("ports `{bad}`")), "{}", done.stderr);
    }
}

#[test]
fn an_interrupted_start_leaves_nothing_behind() {
    let mini = Mini::deployed(&format!("{NEAR}faults: {{late_ready_ms: 600000}}\n"));
    let mut run = mini.session.command(&["--embedded", "socialNetwork", "run", "--ports", "auto"]);
    let mut run = run.stderr(Stdio::piped()).spawn().unwrap();
    let pid = wait_for("the process", 20, || mini.dir().join("miniature.yml").exists().then(|| mini.pid()));
    wait_for("its readiness", 20, || mini.dir().join("dockerize.sync").exists().then_some(()));
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    let status = run.wait().unwrap();
    let mut said = String::new();
    run.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!(!alive(pid));
    assert!(!mini.dir().join("miniature.yml").exists() && !mini.dir().join("dockerize.sync").exists());
}

#[test]
fn a_start_that_was_killed_is_found_again() {
    let mini = Mini::deployed(&format!("{NEAR}faults: {{late_ready_ms: 1500}}\n"));
    let mut run = mini.session.command(&["--embedded", "socialNetwork", "run", "--ports", "auto"]);
    let mut run = run.stderr(Stdio::null()).spawn().unwrap();
    let pid = wait_for("the process", 20, || mini.dir().join("miniature.yml").exists().then(|| mini.pid()));
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(alive(pid));
    let done = mini.ok("run");
    assert!(done.stderr.contains(&format!("already running as baseline (pid {pid})")), "{}", done.stderr);
    mini.ok("clean");
    assert!(!alive(pid));
}

#[test]
fn a_new_deployment_replaces_the_miniature_of_the_old_one() {
    let mini = Mini::start(NEAR, "");
    let pid = mini.pid();
    mini.ok("deploy -config near.yml -clients 1 -tag zz-second");
    assert!(alive(pid));
    let done = mini.ok("run --ports auto");
    assert!(done.stderr.contains("stopping the miniature of deployment"), "{}", done.stderr);
    assert!(!alive(pid) && alive(mini.pid()));
    assert_eq!(mini.record("tag"), "zz-second");
}

#[test]
fn shipped_placements_work_in_an_empty_directory_and_two_starts_are_kept_apart() {
    let mini = Mini { session: Session::new() };
    mini.ok("deploy -config configs/embedded/socialNetwork/us-sg.yml -clients 1");
    let start = || {
        let mut run = mini.session.command(&["--embedded", "socialNetwork", "run", "--ports", "auto"]);
        run.stderr(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start()].map(|run| Done::from(run.wait_with_output().unwrap()));
    let codes: Vec<i32> = outputs.iter().map(|done| done.code).collect();
    assert!(codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 3)), "{codes:?}");
    if let Some(refused) = outputs.iter().find(|done| done.code == 3) {
        assert!(refused.stderr.contains("another maestro"), "{}", refused.stderr);
    }
    let status = mini.admin("/maestro/status").json();
    assert_eq!((&status["zone_pair"], &status["posts"]), (&json!("US->SG"), &json!(0)));
    assert_eq!(status["pid"], mini.pid());
}

#[test]
fn unusable_placements_are_refused_at_deploy_in_one_line() {
    let session = Session::new();
    for (text, reason) in [
        ("", "the file is empty"),
        ("replication_pair: US->EU\nspeed: 3\n", "unknown field `speed`"),
        ("replication_pair: US->EU\nqueue: {workers: 0}\n", "queue.workers: must be between 1 and 4096, not 0"),
        ("replication_pair: US->EU\nqueue: {network_ms: {normal: {mean: -1, sd: 0}}}\n", "queue.network_ms: mean"),
        ("replication_pair: US->EU\nports: {origin: 1, replica: 1}\n", "ports: 1 is given twice"),
        ("replication_pair: US->EU\nfaults: {missing_tags: 2}\n", "faults.missing_tags: a share is between 0 and 1"),
        ("replication_pair: 7->8\nseed: minus\n", "line 2"),
    ] {
        session.write("bad.yml", text);
        let done = session.run("--embedded socialNetwork deploy -config bad.yml -clients 1");
        assert_eq!(done.code, 2, "{text}: {}", done.stderr);
        let lines: Vec<&str> = done.stderr.lines().collect();
        assert!(lines[0].starts_with("maestro: `") && lines[0].contains(reason), "{text}: {}", done.stderr);
        assert!(!session.path("deploy/embedded/.last.yml").exists());
    }
}

#[test]
fn readiness_comes_late_when_asked_to() {
    let late =
        format!("{NEAR}ports: {{origin: 0, replica: 0, jaeger: 0, setup: 0}}\nfaults: {{setup_delay_ms: 300}}\n");
    let mini = Mini::deployed(&late);
    let mut run = mini.session.command(&["--embedded", "socialNetwork", "run"]);
    let mut run = run.stderr(Stdio::null()).spawn().unwrap();
    wait_for("its record", 20, || mini.dir().join("miniature.yml").exists().then_some(()));
    let early = mini.admin("/maestro/services").json();
    let count = |services: &Value, replicas: &str| {
        services.as_array().unwrap().iter().filter(|service| service["replicas"] == replicas).count()
    };
    assert_eq!(run.wait().unwrap().code(), Some(0), "run waits for the canary, not for the file");
    assert_eq!(mini.admin("/maestro/ready"), Answer::new(200, "text/plain; charset=utf-8", "DONE"));
    assert_eq!(count(&mini.admin("/maestro/services").json(), "1/1"), 42);
    // Seen in time, the setup jobs were not done.
    assert!(matches!((count(&early, "1/1"), count(&early, "0/1")), (40, 2) | (42, 0)), "{early}");
}
