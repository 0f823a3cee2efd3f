//! Load is offered to real servers of the tests' own; what was measured is read back from the run's files.

mod accuracy;
mod clients;
mod faults;
mod scripts;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use maestro::experiment::{TargetName, Variant};
use maestro::store::{Deployment, RunDir, State, Status, Store};

use crate::harness::{Session, wait_for};

/// What a server does with a request: the whole request in, the whole answer out; nothing closes the connection.
type Answer = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// A server on a port of its own: one thread per connection.
pub struct Server {
    port: u16,
    /// Request lines with their bodies, in order of arrival.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&seen));
        std::thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(conn, &*answer, &log));
            }
        });
        Server { port, seen }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut conn: TcpStream, answer: &Answer, seen: &Mutex<Vec<String>>) {
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(length) = request_length(&pending) {
            let request = String::from_utf8(pending.drain(..length).collect()).unwrap();
            seen.lock().unwrap().push(request.clone());
            match answer(&request) {
                Some(bytes) if conn.write_all(&bytes).is_ok() => {}
                _ => return,
            }
        }
        match conn.read(&mut buffer) {
            Ok(n) if n > 0 => pending.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
}

fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let field = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned);
    let length = text.lines().find_map(field).map_or(0, |n| n.parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

pub fn ok(body: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// A root in which `run` has just started the app with these front ends.
pub fn deployed(origin: &str, replica: &str) -> Session {
    let session = Session::new();
    let store = Store::new(session.root());
    let deployment = Deployment {
        format: 1,
        app: "socialNetwork".into(),
        target: TargetName::Embedded,
        tag: "20261018000000".into(),
        config: "configs/embedded/socialNetwork/us-eu.yml".into(),
        config_sha256: "0".repeat(64),
        zone_pair: "US->EU".into(),
        clients: 1,
        variant: Some(Variant::Antipode),
        origin_url: Some(origin.into()),
        replica_url: Some(replica.into()),
        jaeger_url: None,
        links: IndexMap::new(),
        pid: None,
        delay: None,
        other: IndexMap::new(),
    };
    store.write_deployment(&deployment).unwrap();
    let state = State {
        app: Some("socialNetwork".into()),
        tag: Some(deployment.tag.clone()),
        antipode: Some(true),
        ..State::default()
    };
    store.write_state(TargetName::Embedded, &state).unwrap();
    session
}

/// The run that the last `wkld` left.
pub fn last_run(session: &Session) -> RunDir {
    let state = Store::new(session.root()).read_state(TargetName::Embedded).unwrap();
    RunDir::new(session.path(&state.local_gather_path.expect("a run")))
}

const WKLD: &str = "--embedded socialNetwork wkld";

#[test]
fn posts_are_sent_and_kept_as_a_run() {
    let server = Server::start(|_| ok("Successfully uploaded post #1\n"));
    let session = deployed(&server.url(), &server.url());
    let done = session.ok(&format!("{WKLD} -E compose-post -d 1 -r 40 -c 4 -t 2"));
    assert!(done.stdout.starts_with("40 of 40 requests ok, 40.00 requests/s;"), "{}", done.stdout);
    let seen = server.seen();
    assert_eq!(seen.len(), 40);
    assert!(seen.iter().all(|r| r.starts_with("POST /wrk2-api/post/compose HTTP/1.1\r\n")));
    let run = last_run(&session);
    let expected = "gather/embedded/socialNetwork/compose-post/us-eu-40-antipode/";
    assert!(run.path().starts_with(session.path(expected)), "{}", run.path().display());
    let record = run.read_record().unwrap();
    let load = record.load.unwrap();
    assert_eq!((load.due, load.sent, load.ok, load.unfinished, load.throughput), (40, 40, 40, 0, 40.0));
    assert_ne!(record.outcome.status, Status::Running);
    assert!(record.ended_us.unwrap() - record.started_us >= 900_000);
    let text = std::fs::read_to_string(run.client_out(0)).unwrap();
    assert!(text.starts_with("Running 1s test @ http://127.0.0.1:"), "{text}");
    assert!(text.contains("\n  2 threads and 4 connections\n") && text.contains("\n 90.000%"), "{text}");
    assert!(text.contains("\n  40 requests in 1.00s, ") && text.contains("\nRequests/sec:     40.00\n"), "{text}");
    let hlog = std::fs::read_to_string(run.file("latency.hlog")).unwrap();
    assert!(hlog.lines().filter(|line| line.contains(",HISTFAAA")).count() >= 1, "{hlog}");
    assert!(run.file("latency.hgrm").exists());
}

#[test]
fn the_timeline_adds_up_to_the_summary() {
    let server = Server::start(|request| if request.contains("user_id=1") { ok("") } else { status(500) });
    let session = deployed(&server.url(), &server.url());
    session.ok(&format!("{WKLD} -E read-home-timeline -d 2.5 -r 60 -c 3 --warmup 1"));
    let run = last_run(&session);
    let load = run.read_record().unwrap().load.unwrap();
    assert_eq!((load.due, load.sent), (90, 90));
    assert_eq!(load.ok + load.errors["status_5xx"], 90);
    let csv = std::fs::read_to_string(run.file("timeline.csv")).unwrap();
    let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().unwrap();
    let rows: Vec<_> = rows.collect();
    let sum = |name: &str| {
        let column = names.iter().position(|n| *n == name).unwrap();
        rows.iter().map(|row| row[column].parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("due"), sum("sent"), sum("ok")), (90, 90, load.ok));
    assert_eq!((sum("errors"), sum("status_5xx")), (90 - load.ok, 90 - load.ok));
    let summary = run.read_summary().unwrap();
    assert_eq!(summary["load"]["latency_answered_us"]["count"], load.ok);
    assert_eq!(summary["load"]["warmup_requests"], 60);
}

fn status(code: u16) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 {code} x\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

#[test]
fn reads_go_to_the_replicas_socket() {
    let (origin, replica) = (Server::start(|_| ok("")), Server::start(|_| ok("{}")));
    let session = deployed(&origin.url(), &replica.url());
    session.ok(&format!("{WKLD} -E sequence-compose-post-read-home-timeline -d 1 -r 30 -c 2"));
    let (writes, reads) = (origin.seen(), replica.seen());
    assert_eq!((writes.len(), reads.len()), (30, 30));
    assert!(writes.iter().all(|r| r.starts_with("POST /wrk2-api/post/compose ")));
    assert!(reads.iter().all(|r| r.starts_with("GET /wrk2-api/home-timeline/read?user_id=")));
    let summary = last_run(&session).read_summary().unwrap();
    assert_eq!(summary["load"]["sequence_first_us"]["count"], 30);
    session.ok(&format!("{WKLD} -E read-user-timeline -d 1 -r 10"));
    assert_eq!((origin.seen().len(), replica.seen().len()), (30, 40));
}

#[test]
fn interrupting_keeps_what_was_measured() {
    let server = Server::start(|_| ok(""));
    let session = deployed(&server.url(), &server.url());
    let args: Vec<&str> = WKLD.split(' ').chain("-E compose-post -d 60 -r 100 -c 2".split(' ')).collect();
    let child = session.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("some requests", 20, || (server.seen().len() > 30).then_some(()));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id() as i32).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let done: crate::harness::Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 130, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: interrupted after "), "{}", done.stderr);
    let record = last_run(&session).read_record().unwrap();
    let load = record.load.unwrap();
    assert!(load.ok > 30 && load.due < 6000);
    assert!(record.outcome.reasons.contains(&"ended by the user".to_owned()), "{:?}", record.outcome);
}

#[test]
fn unusable_requests_are_refused_in_one_line() {
    let server = Server::start(|_| ok(""));
    let session = deployed(&server.url(), &server.url());
    for (line, message) in [
        ("-E nonsense -r 10", "unknown endpoint `nonsense`"),
        ("-E compose-post -r 10 -c 1 -t 2", "1 connection(s) for 2 threads"),
        ("-E compose-post -r 10 -d 5 --warmup 5", "a warm-up of 5 s leaves nothing of 5 s"),
        ("-E compose-post --ramp 5:x", "ramp piece `5:x`: `x` is not a rate"),
        ("-r 10", "no endpoint given"),
        ("-E compose-post", "no rate given"),
        ("-E compose-post -r 10 -c 4 --max-connections 2", "at most 2 connections is less than the 4"),
        ("-E compose-post -r 10 --start-at 1", "has passed"),
        ("-r 10 --url ftp://x", "scheme `ftp`"),
    ] {
        let done = session.run(&format!("{WKLD} {line}"));
        assert_eq!(done.code, 2, "{line}: {}", done.stderr);
        let first = done.stderr.lines().next().unwrap();
        assert!(first.starts_with("maestro: ") && first.contains(message), "{line}: {}", done.stderr);
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn nobody_listening_is_an_unreachable_environment() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let session = deployed(&url, &url);
    let done = session.run(&format!("{WKLD} -E compose-post -d 1 -r 10"));
    assert_eq!(done.code, 3);
    let expected = format!("maestro: cannot connect to `127.0.0.1:{port}`: Connection refused");
    assert!(done.stderr.contains(&expected), "{}", done.stderr);
    assert_eq!(last_run(&session).read_record().unwrap().outcome.status, Status::Void);
    let done = session.run("wkld --url http://no-such-host.invalid/ -r 10");
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains("cannot find the address of `no-such-host.invalid`"), "{}", done.stderr);
}

#[test]
fn a_url_is_driven_without_a_deployment() {
    let server = Server::start(|_| ok("hello"));
    let session = Session::new();
    let done = session.ok(&format!("wkld --url {}/path?x=1 -r 50 -d 1 -c 2", server.url()));
    assert!(done.stdout.contains("  50 requests in 1.00s, "), "{}", done.stdout);
    assert!(server.seen().iter().all(|r| r.starts_with("GET /path?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")));
    assert_eq!(std::fs::read_dir(session.root()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn the_social_graph_is_registered_and_followed() {
    let server = Server::start(|request| if request.contains("username=username_962&") { status(500) } else { ok("") });
    let session = deployed(&server.url(), &server.url());
    session.write("datasets/social-graph/socfb-Reed98/socfb-Reed98.mtx", "4 4 3\n2 1\n3 1\n4 2\n");
    let done = session.ok(&format!("{WKLD} -E init-social-graph"));
    assert_eq!(done.stdout, "Registered 4 users successfully\n3 edges finished\n");
    let seen = server.seen();
    assert_eq!(seen.iter().filter(|r| r.starts_with("POST /wrk2-api/user/register ")).count(), 4);
    assert_eq!(seen.iter().filter(|r| r.starts_with("POST /wrk2-api/user/follow ")).count(), 6);
}

#[test]
fn a_violation_is_shown_step_by_step() {
    let server = Server::start(|request| {
        if request.starts_with("GET ") {
            Some(b"HTTP/1.1 500 x\r\nContent-Length: 62\r\n\r\nGet home-timeline failure: Return set incomplete (post missing)".to_vec())
        } else {
            ok("")
        }
    });
    let session = deployed(&server.url(), &server.url());
    let done = session.ok(&format!("{WKLD} -E antipode-wht-error -r 1"));
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        &lines[..5],
        [
            "[Register User] 200",
            "[Register User] 200",
            "[Follow User] 200",
            "[Compose Post] 200",
            "[Read Home Timeline] 500"
        ]
    );
    assert!(lines[5].contains("Return set incomplete"), "{}", done.stdout);
}
