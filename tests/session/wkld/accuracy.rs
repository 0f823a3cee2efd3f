//! What a stall does to latencies, whoever stalls. The bounds are lower ones that hold on any machine; how close the
//! numbers come to the truth is measured by `benches/accuracy.sh`.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Server, ok};
use crate::harness::{Done, Session, wait_for};

fn ms(load: &Value, quantity: &str, percentile: &str) -> f64 {
    load[quantity][percentile].as_f64().unwrap() / 1000.0
}

#[test]
fn requests_due_while_the_server_is_frozen_are_late() {
    let state = Mutex::new((0, None));
    let server = Server::start(move |_| {
        let now = Instant::now();
        let (requests, until) = &mut *state.lock().unwrap();
        *requests += 1;
        if *requests == 50 {
            *until = Some(now + Duration::from_secs(1));
        }
        let frozen = until.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
        // Nobody else is served meanwhile: the lock is held.
        std::thread::sleep(frozen);
        ok("")
    });
    let done = Session::new().ok(&format!("--json wkld --url {} -r 100 -d 2 -c 4", server.url()));
    let load: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(load["ok"], 200, "{load}");
    // 100 requests were due in that second, 30 of them in its first 300 ms. Only four were sent.
    assert!(ms(&load, "latency_us", "p75") > 440.0, "{load}");
    assert!(ms(&load, "latency_us", "p90") > 690.0, "{load}");
    assert!(ms(&load, "lag_no_free_connection_us", "p90") > 690.0, "{load}");
}

#[test]
fn requests_due_while_the_client_is_stopped_are_late() {
    let server = Server::start(|_| ok(""));
    let session = Session::new();
    let url = server.url();
    let child = session
        .command(&["--json", "wkld", "--url", &url, "-r", "200", "-d", "3", "-c", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let signal = |signal| kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
    wait_for("some requests", 20, || (server.seen().len() > 50).then_some(()));
    signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(1));
    signal(Signal::CONT);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let load: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(load["ok"], 600, "{load}");
    // 200 requests were due in that second, 60 of them in its first 300 ms. A busy machine
    // stops a process some ms after it was told to.
    assert!(ms(&load, "latency_us", "p90") > 650.0, "{load}");
    assert!(ms(&load, "lag_woke_late_us", "p90") > 650.0, "it is the client's own doing: {load}");
    assert_eq!(load["verdict"], "client_limited", "{load}");
}
