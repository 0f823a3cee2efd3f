//! Several clients, the search for the highest rate, the probe, TLS, and the files' forms.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Server, WKLD, deployed, last_run, ok};
use crate::harness::{Done, Session};

/// Runs `maestro worker` with an assignment on stdin.
fn worker(session: &Session, assignment: &Value) -> Done {
    let mut child = session
        .command(&["worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(assignment.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

fn assignment(url: &str, client: u64) -> Value {
    json!({
        "format": 1,
        "workload": {
            "pieces": [{ "duration_ns": 1_000_000_000_u64, "from": 40.0, "to": 40.0 }], "arrivals": "constant", "seed": 1,
            "warmup_ns": 0, "connections": 2, "max_connections": 2, "threads": 1, "pace": "exact",
            "timeout_ns": 5_000_000_000_u64, "drain_ns": 5_000_000_000_u64, "client": client, "clients": 2
        },
        "requests": { "kind": "url", "url": format!("{url}/") }
    })
}

#[test]
fn two_workers_share_one_schedule() {
    let server = Server::start(|_| ok(""));
    let session = Session::new();
    let mut due = 0;
    for client in 0..2 {
        let done = worker(&session, &assignment(&server.url(), client));
        assert_eq!(done.code, 0, "{}", done.stderr);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((report["due"].as_u64(), report["rate"].as_f64()), (Some(20), Some(20.0)));
        due += report["due"].as_u64().unwrap();
    }
    assert_eq!((due, server.seen().len()), (40, 40));
    let done = worker(&session, &json!({ "format": 1 }));
    assert_eq!(done.code, 2);
    assert!(done.stderr.starts_with("maestro: unusable assignment: "), "{}", done.stderr);
    let mut newer = assignment(&server.url(), 0);
    newer["format"] = 9.into();
    assert!(worker(&session, &newer).stderr.contains("format 9 is newer"));
}

#[test]
fn merging_runs_adds_them_up() {
    let server = Server::start(|request| if request.contains("=7&") { None } else { ok("") });
    let session = deployed(&server.url(), &server.url());
    let mut runs = Vec::new();
    for seed in [1, 2] {
        session.ok(&format!("{WKLD} -E read-home-timeline -d 2 -r 30 -c 2 --seed {seed}"));
        runs.push(last_run(&session));
    }
    let paths: Vec<String> = runs.iter().map(|run| run.path().display().to_string()).collect();
    session.ok(&format!("merge {} {} --out merged", paths[0], paths[1]));
    let merged: Value =
        serde_json::from_str(&std::fs::read_to_string(session.path("merged/summary.json")).unwrap()).unwrap();
    let parts: Vec<Value> = runs.iter().map(|run| run.read_summary().unwrap()).collect();
    for key in ["due", "sent", "ok", "bytes", "rate", "connections"] {
        let sum: f64 = parts.iter().map(|part| part["load"][key].as_f64().unwrap()).sum();
        assert_eq!(merged["load"][key].as_f64().unwrap(), sum, "{key}");
    }
    let csv = std::fs::read_to_string(session.path("merged/timeline.csv")).unwrap();
    let due: u64 = csv.lines().skip(1).map(|row| row.split(',').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(due, 120);
    let logs = session.ok(&format!("--json merge {}/latency.hlog {}/latency.hlog", paths[0], paths[1]));
    let logs: Value = serde_json::from_str(&logs.stdout).unwrap();
    assert_eq!(logs["count"], merged["load"]["ok"]);
    assert_eq!(logs["p99_us"], merged["load"]["latency_us"]["p99"]);
    let done = session.run(&format!("merge {} {}/latency.hlog", paths[0], paths[1]));
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert_eq!(session.run("merge nowhere").code, 2);
}

#[test]
fn the_load_section_fits_its_schema() {
    let server = Server::start(|_| ok(""));
    let session = deployed(&server.url(), &server.url());
    session.ok(&format!("{WKLD} -E sequence-compose-post-read-home-timeline -d 1 -r 20 -c 2"));
    let path = format!("{}/docs/schema/summary-load.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let load = last_run(&session).read_summary().unwrap()["load"].clone();
    let faults: Vec<String> = validator.iter_errors(&load).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let mut broken = load;
    broken["surprise"] = 1.into();
    assert!(!validator.is_valid(&broken), "unknown keys are refused");
}

#[test]
fn the_highest_rate_is_found_and_every_step_kept() {
    // One request at a time, 4 ms each: 250 requests/s.
    let gate = Mutex::new(());
    let server = Server::start(move |_| {
        let _one = gate.lock().unwrap();
        std::thread::sleep(Duration::from_millis(4));
        ok("")
    });
    let session = deployed(&server.url(), &server.url());
    let line = format!("--json {WKLD} -E compose-post --find-max --slo p90=150ms -r 60 -d 1 -c 8 --drain 2");
    let done = session.ok(&line);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    let max = found["max_rate"].as_f64().unwrap();
    assert!((1.0..=260.0).contains(&max), "{found}");
    let curve = found["curve"].as_array().unwrap();
    let met = |wanted: bool| curve.iter().filter(move |p| p["met"] == wanted).map(|p| p["rate"].as_f64().unwrap());
    assert!(met(true).fold(0.0, f64::max) == max && met(false).count() > 0, "{found}");
    let csv = std::fs::read_to_string(last_run(&session).file("curve.csv")).unwrap();
    assert_eq!(csv.lines().count(), curve.len() + 1);
    let done = session.run(&format!("{WKLD} -E compose-post --find-max --slo p99=fast -d 1"));
    assert_eq!((done.code, done.stderr.contains("an example is p99=500ms")), (2, true), "{}", done.stderr);
}

#[test]
fn the_probe_sees_when_a_post_shows() {
    let posts: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
    let (written, next) = (Arc::clone(&posts), AtomicUsize::new(0));
    let origin = Server::start(move |request| {
        if !request.starts_with("POST /wrk2-api/post/compose ") {
            return ok("");
        }
        let id = next.fetch_add(1, Ordering::Relaxed).to_string();
        written.lock().unwrap().push((id.clone(), Instant::now()));
        ok(&format!("Successfully uploaded post #{id}\n"))
    });
    // A post shows 80 ms after it was written.
    let replica = Server::start(move |_| {
        let posts = posts.lock().unwrap();
        let visible = posts.iter().filter(|(_, at)| at.elapsed() > Duration::from_millis(80));
        let shown: Vec<Value> = visible.map(|(id, _)| json!({ "post_id": id })).collect();
        ok(&Value::from(shown).to_string())
    });
    let session = deployed(&origin.url(), &replica.url());
    let done = session.ok(&format!("{WKLD} -E compose-post -d 1 -r 40 -c 4 --probe 0.5"));
    assert!(done.stdout.contains("\nprobe: "), "{}", done.stdout);
    let run = last_run(&session);
    let load = run.read_summary().unwrap()["load"].clone();
    let probe = &load["probe"];
    let probed = probe["probed"].as_u64().unwrap();
    assert!((8..=32).contains(&probed), "{probe}");
    let misses = probe["first_misses"].as_u64().unwrap();
    assert!((1..=probed).contains(&misses) && probe["never"] == 0, "{probe}");
    assert!(probe["visibility_us"]["min"].as_f64().unwrap() > 70_000.0, "{probe}");
    assert_eq!(load["due"], 40, "probes are no requests of the schedule");
    let csv = std::fs::read_to_string(run.file("probe.csv")).unwrap();
    assert_eq!(csv.lines().count() as u64, probed + 1);
    assert!(origin.seen().iter().filter(|r| r.starts_with("POST /wrk2-api/user/register ")).count() == 128);
    let done = session.run(&format!("{WKLD} -E read-home-timeline -r 5 --probe 0.5"));
    assert_eq!((done.code, done.stderr.contains("--probe works with -E compose-post")), (2, true), "{}", done.stderr);
}

#[test]
fn clients_start_together_at_a_stated_instant() {
    let server = Server::start(|_| ok(""));
    let session = deployed(&server.url(), &server.url());
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 2;
    session.ok(&format!("{WKLD} -E compose-post -d 1 -r 10 --start-at {at}"));
    assert_eq!(last_run(&session).read_record().unwrap().started_us, at as i64 * 1_000_000);
}

#[test]
fn poisson_and_ramps_offer_what_they_say() {
    let server = Server::start(|_| ok(""));
    let session = deployed(&server.url(), &server.url());
    session.ok(&format!("{WKLD} -E compose-post --ramp 1:20,1:20-60 -c 2"));
    let record = last_run(&session).read_record().unwrap();
    assert_eq!((record.load.unwrap().due, record.workload.rate), (60, 30.0));
    assert_eq!(record.workload.arrivals, "1:20,1:20-60");
    session.ok(&format!("{WKLD} -E compose-post -d 1 -r 50 -c 2 --arrivals poisson --seed 3 --pace coarse"));
    let first = last_run(&session).read_record().unwrap();
    session.ok(&format!("{WKLD} -E compose-post -d 1 -r 50 -c 2 --arrivals poisson --seed 3 --pace spin"));
    let second = last_run(&session).read_record().unwrap();
    assert_eq!(first.load.unwrap().due, second.load.unwrap().due, "the seed decides");
    assert_eq!((first.workload.pace.as_str(), second.workload.pace.as_str()), ("coarse", "spin"));
}

mod tls {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    fn fixture(name: &str) -> String {
        format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn serve(conn: TcpStream, config: Arc<ServerConfig>) {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), conn);
        let mut buffer = [0; 4096];
        while let Ok(n) = stream.read(&mut buffer) {
            let body = "x".repeat(40_000);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if n == 0 || stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
    }

    fn server() -> String {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = CertificateDer::pem_file_iter(fixture("server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                std::thread::spawn(move || serve(conn, config));
            }
        });
        url
    }

    #[test]
    fn a_trusted_server_is_driven_and_a_stranger_refused() {
        let url = server();
        let session = Session::new();
        for trust in [format!("--ca {}", fixture("ca.pem")), "--insecure".to_owned()] {
            let done = session.ok(&format!("--json wkld --url {url} -r 40 -d 1 -c 2 {trust}"));
            let load: Value = serde_json::from_str(&done.stdout).unwrap();
            assert_eq!((load["ok"].as_u64(), load["errors"].to_string().as_str()), (Some(40), "{}"), "{load}");
            assert!(load["bytes"].as_u64().unwrap() > 40 * 40_000, "{load}");
        }
        let done = session.run(&format!("wkld --url {url} -r 10 -d 1"));
        assert_eq!(done.code, 3, "{}", done.stderr);
        assert!(done.stderr.contains("the TLS handshake failed"), "{}", done.stderr);
        let done = session.run(&format!("wkld --url {url} -r 10 -d 1 --ca nowhere.pem"));
        assert_eq!((done.code, done.stderr.contains("`nowhere.pem`")), (2, true), "{}", done.stderr);
    }
}
