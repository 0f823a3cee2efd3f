//! An application without replicas, without a variant and with one front end: what is planned for it, what is refused,
//! and the load it is offered.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::harness::Session;

const APP: &str = "hotelReservation";

/// A session with the app's compose file below `app/`.
fn session() -> Session {
    let session = Session::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose/hotel-reservation.yml");
    session.write("app/docker-compose.yml", std::fs::read(file).unwrap());
    session
}

fn deploy(target: &str, placement: &str) -> String {
    let config = format!("configs/{target}/{APP}/{placement}.yml");
    format!("--{target} {APP} deploy -config {config} -clients 1 -tag golden --app-dir app")
}

/// Without what differs each time: the root, the deployment's own number, the size of a file with the root in it.
fn anonymous(text: &str, session: &Session, target: &str) -> String {
    let record =
        std::fs::read_to_string(session.path(&format!("deploy/{target}/{APP}/golden/deployment.yml"))).unwrap();
    let uid = record.lines().find_map(|line| line.strip_prefix("uid: ")).unwrap().trim_matches('"');
    let text = text.replace(&session.root().display().to_string(), "ROOT").replace(uid, "UID");
    let lines = text.lines().map(|line| match line.split_once(" (") {
        Some((step, size)) if size.ends_with(" bytes)") => format!("{step}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn assert_golden(text: &str, name: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hotel").join(name);
    if std::env::var_os("MAESTRO_ACCEPT").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, text).unwrap();
    }
    let stored = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(text, stored, "run with MAESTRO_ACCEPT=1 to accept the change");
}

#[test]
fn its_plans_on_one_engine_are_stable() {
    let session = session();
    let deploy = deploy("local", "debug");
    let mut text = session.ok(&format!("{deploy} --dry-run")).stdout;
    session.ok(&deploy);
    for command in ["run --dry-run", "run --ports 5005,16000 --dry-run", "clean -strong --dry-run"] {
        text.push_str(&session.ok(&format!("--local {APP} {command}")).stdout);
    }
    assert_golden(&anonymous(&text, &session, "local"), "local.txt");
}

#[test]
fn its_plans_on_hosts_are_stable() {
    let session = session();
    let hosts = ["saturn1", "saturn2", "saturn3", "angainor"];
    let hosts = hosts.map(|host| format!("Host {host}\n  HostName 127.0.0.1\n  Port 1\n")).concat();
    let path = session.write("ssh_config", hosts);
    session.write("gsd/config.yml", format!("ssh_config_filepath: {}\ndefault_ssh_user: root\n", path.display()));
    let deploy = deploy("gsd", "three-hosts");
    let mut text = session.ok(&format!("{deploy} --dry-run")).stdout;
    // Nobody answers at these hosts; what was filed before is what `run` and `clean` are planned from.
    let refused = session.run(&deploy);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    for command in ["run --dry-run", "clean -strong --dry-run"] {
        text.push_str(&session.ok(&format!("--gsd {APP} {command}")).stdout);
    }
    assert_golden(&anonymous(&text, &session, "gsd"), "gsd.txt");
}

#[test]
fn what_it_does_not_have_is_refused_with_the_next_move() {
    let session = session();
    session.ok(&deploy("local", "debug"));
    let sweep = "format: 1\nname: hotel\nconfigs: [debug]\nvariants: [baseline, antipode]\nendpoints: [mixed]\n\
                 rates: [10]\nrounds: 1\nduration_s: 1\n";
    session.write("sweep.yml", sweep);
    session.write("pair.yml", "replication_pair: US->EU\n");
    let no_variant = "`hotelReservation` has no antipode variant: nothing in it enforces lineage";
    let no_windows = "`hotelReservation` replicates nothing: it has neither windows nor violations to";
    let cases = [
        ("run -antipode", no_variant, "leave -antipode out"),
        ("sweep sweep.yml --dry-run", no_variant, "leave -antipode out"),
        ("delay -d 5 --dry-run", "`hotelReservation` has no replicas that a delay could put apart", "--from SERVICE"),
        (
            "run --ports 1,2,3 --dry-run",
            "`hotelReservation` has 2 doors (`frontend`, `jaeger`), and 3",
            "one port for each",
        ),
        ("gather --jaeger http://127.0.0.1:1", no_windows, "`summary.json`"),
        ("explain 0123456789abcdef", no_windows, "`summary.json`"),
    ];
    for (command, line, hint) in cases {
        let done = session.run(&format!("--local {APP} {command}"));
        let said = done.code == 2 && done.stderr.contains(line) && done.stderr.contains(hint);
        assert!(said && done.stdout.is_empty(), "{command}: {} {}", done.code, done.stderr);
    }
    let done = session.run(&format!("--embedded {APP} deploy -config pair.yml -clients 1"));
    let hint = "--embedded runs socialNetwork";
    assert!(
        done.code == 2 && done.stderr.contains("has no miniature") && done.stderr.contains(hint),
        "{}",
        done.stderr
    );
    let named = format!("--local {APP} delay --from frontend --to search -d 5 --dry-run");
    assert!(session.ok(&named).stdout.contains("frontend"), "services that are named can be put apart");
}

/// A front end that answers everything with 200 and counts what it was asked: (method, path, query, head).
#[derive(Clone, Default)]
struct Front(Arc<Mutex<Vec<[String; 4]>>>);

impl Front {
    fn start() -> (Front, u16) {
        let front = Front::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counting = front.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let front = counting.clone();
                std::thread::spawn(move || front.serve(stream));
            }
        });
        (front, port)
    }

    /// Requests of one connection; none of the app's has a body.
    fn serve(&self, mut stream: TcpStream) {
        let mut heads = String::new();
        let mut buffer = [0; 4096];
        loop {
            let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
            heads.push_str(&String::from_utf8_lossy(&buffer[..read]));
            while let Some((head, rest)) = heads.split_once("\r\n\r\n") {
                let mut words = head.split_whitespace();
                let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let asked = [method, path.to_owned(), query.to_owned(), head.to_owned()];
                self.0.lock().unwrap().push(asked);
                heads = rest.to_owned();
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").is_err() {
                    return;
                }
            }
        }
    }
}

/// The app deployed, with its front end and its trace API at `port`.
fn running(session: &Session, port: u16) {
    session.ok(&deploy("local", "debug"));
    let path = session.path(&format!("deploy/local/{APP}/golden/deployment.yml"));
    let mut record = std::fs::read_to_string(&path).unwrap();
    for door in ["origin_url", "replica_url", "jaeger_url"] {
        record.push_str(&format!("{door}: http://127.0.0.1:{port}\n"));
    }
    std::fs::write(path, record + "variant: baseline\n").unwrap();
}

#[test]
fn its_mixed_load_has_the_shares_that_were_asked_for() {
    let session = session();
    let (front, port) = Front::start();
    running(&session, port);
    let planned = session.ok(&format!("--local {APP} wkld -E mixed -r 1000 -d 2 -c 4 -t 2 --dry-run")).stdout;
    assert!(planned.starts_with("send 2000 requests in 2 s to http://127.0.0.1"), "{planned}");
    session.ok(&format!("--local {APP} wkld -E mixed -r 1000 -d 2 -c 4 -t 2"));

    let asked = front.0.lock().unwrap().clone();
    let mut counts: HashMap<(&str, &str), u32> = HashMap::new();
    for [method, path, query, head] in &asked {
        *counts.entry((method, path)).or_default() += 1;
        assert_eq!(method == "POST", head.ends_with("\r\nContent-Length: 0"), "{head}");
        assert!(!query.is_empty(), "{head}");
    }
    // Each share of 2000 draws within four standard deviations.
    let shares = [
        (("GET", "/hotels"), 1112..=1288),
        (("GET", "/recommendations"), 692..=868),
        (("GET", "/user"), 1..=23),
        (("POST", "/reservation"), 1..=23),
    ];
    for (kind, expected) in shares {
        let count = counts.remove(&kind).unwrap_or_default();
        assert!(expected.contains(&count), "{kind:?}: {count} of {}", asked.len());
    }
    assert!(counts.is_empty() && asked.len() == 2000, "{counts:?} beside the four, {} in all", asked.len());
}

#[test]
fn its_run_is_a_whole_run_without_windows() {
    let session = session();
    let (front, port) = Front::start();
    running(&session, port);
    let done = session.ok(&format!("--local {APP} wkld -E reserve -r 50 -d 1 -c 2"));
    assert!(front.0.lock().unwrap().iter().all(|[method, path, ..]| method == "POST" && path == "/reservation"));
    let run = done.stdout.lines().find_map(|line| line.strip_prefix("run: ")).unwrap().to_owned();
    assert!(run.starts_with(&format!("gather/local/{APP}/reserve/debug-50/")), "{run}");
    let summary = std::fs::read_to_string(session.path(&format!("{run}/summary.json"))).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert!(summary["load"]["latency_us"]["p90"].as_f64().is_some() && summary["consistency"].is_null(), "{summary}");
    let shown = session.ok(&format!("--local {APP} info")).stdout;
    assert!(shown.contains(&format!("front end    http://127.0.0.1:{port}")) && !shown.contains("replica"), "{shown}");
    session.ok(&format!("report {run} -o page.html"));
    assert!(std::fs::read_to_string(session.path("page.html")).unwrap().contains("debug"));
}
