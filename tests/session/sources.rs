//! Where gather reads from: pages of a trace store that fail and come back, saved answers in several files, brokers
//! that still hold notifications, answers made to break a parser, and one trace looked up on a live server.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::harness::{Done, Session, wait_for};
use crate::store_server::{Reply, TraceServer};

/// First due instant of the made-up run, and its length, us.
const BEGIN_US: i64 = 1_700_000_000_000_000;
const LENGTH_US: i64 = 30_000_000;

/// Complete trace number `index`, with nothing in it that is not needed. Its window is 40 ms + `index` % 10.
fn trace(index: i64, start_us: i64) -> String {
    let ms = start_us / 1000;
    let (id, post, read) = (0xa000_0000_i64 + index, 7_000_000_000 + index, ms + 50 + index % 10);
    let span = |operation: &str, tags: &[(&str, String)]| {
        let tags: Vec<String> =
            tags.iter().map(|(key, value)| format!(r#"{{"key":"{key}","type":"string","value":{value}}}"#)).collect();
        format!(r#"{{"operationName":"{operation}","startTime":{start_us},"tags":[{}]}}"#, tags.join(","))
    };
    let spans = [
        span("/wrk2-api/post/compose", &[]),
        span("_ComposeAndUpload", &[("composepost_id", post.to_string())]),
        span("StorePost", &[("poststorage_post_written_ts", (ms + 10).to_string())]),
        span("_UploadHomeTimelineHelper", &[("wht_start_queue_ts", (ms + 12).to_string())]),
        span(
            "FanoutHomeTimelines",
            &[
                ("wht_start_worker_ts", (ms + 30).to_string()),
                ("poststorage_read_notification_ts", read.to_string()),
                ("wht_antipode_duration", "\"0.01\"".to_owned()),
                ("consistency_bool", "true".to_owned()),
                ("consistency_mongoread_duration", "\"0.5\"".to_owned()),
                ("notification_size_bytes", "\"790\"".to_owned()),
            ],
        ),
    ];
    format!(r#"{{"traceID":"{id:016x}","spans":[{}]}}"#, spans.join(","))
}

fn answer(traces: &[String]) -> String {
    format!(r#"{{"data":[{}],"total":0,"limit":0,"offset":0,"errors":null}}"#, traces.join(","))
}

/// The value of a number in a query.
fn number(path: &str, name: &str) -> Option<i64> {
    let query = path.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// A session with a run of `requests` requests on record, evenly spread, the last of them handled long ago.
struct Run {
    session: Session,
    dir: PathBuf,
}

impl Run {
    fn new(requests: i64) -> Run {
        let session = Session::new();
        let load =
            format!("load: {{due: {requests}, sent: {requests}, ok: {requests}, unfinished: 0, throughput: 10.0}}\n");
        let record = format!(
            "format: 1\nmaestro: 0.1.0\nrevision: test\napp: socialNetwork\ntarget: local\ndeployment: t\ntag: r\n\
             placement: {{path: x.yml, sha256: '', zone_pair: US->EU}}\nvariant: baseline\nendpoint: compose-post\n\
             workload: {WORKLOAD}\nstarted_us: {BEGIN_US}\nended_us: {}\n{load}\
             outcome: {{status: complete}}\n",
            BEGIN_US + LENGTH_US
        );
        session.write("run/run.yml", record);
        let dir = session.path("run");
        Run { session, dir }
    }

    fn gather(&self, server: &TraceServer, more: &[&str]) -> Done {
        let (dir, url) = (self.dir.to_str().unwrap(), server.url());
        let mut args = vec!["--local", "socialNetwork", "gather", "--run", dir, "--jaeger", &url];
        args.extend(more);
        self.session.run_args(&args)
    }

    fn summary(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.join("summary.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["consistency"].clone()
    }

    /// Trace ids in `windows.csv`; each occurs once.
    fn ids(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.dir.join("windows.csv")).unwrap();
        let ids: Vec<String> = text.lines().skip(1).map(|line| line.split(';').next().unwrap().to_owned()).collect();
        let set: BTreeSet<String> = ids.iter().cloned().collect();
        assert_eq!(set.len(), ids.len(), "no trace twice");
        set
    }
}

const WORKLOAD: &str = "{rate: 10.0, arrivals: constant, connections: 4, threads: 2, clients: 1, duration_s: 30.0, \
                        warmup_s: 0.0, seed: 1, pace: exact, timeout_s: 2.0}";

/// A trace store with `count` traces, evenly spread over the run, that looks at `start`, `end` and `limit` as Jaeger
/// does. `spoil` may change the answer to the window from .0 to .1 at its attempt number .2.
fn store(
    count: i64,
    notified: i64,
    spoil: impl Fn(i64, i64, u64, Reply) -> Reply + Send + Sync + 'static,
) -> TraceServer {
    let asked: Mutex<std::collections::HashMap<String, u64>> = Mutex::default();
    TraceServer::start(move |path| match path.split('?').next() {
        Some("/api/traces") => {
            let attempt = {
                let mut asked = asked.lock().unwrap();
                let times = asked.entry(path.to_owned()).or_default();
                *times += 1;
                *times
            };
            let (first, last) = (number(path, "start").unwrap(), number(path, "end").unwrap());
            let limit = number(path, "limit").unwrap() as usize;
            let at = |index: i64| BEGIN_US + index * LENGTH_US / count;
            let within = (0..count).rev().filter(|&index| (first..=last).contains(&at(index)));
            let traces: Vec<String> = within.take(limit).map(|index| trace(index, at(index))).collect();
            spoil(first, last, attempt, Reply::json(answer(&traces)))
        }
        Some("/api/dependencies") => Reply::json(edge(notified)),
        Some("/api/services") => Reply::json(r#"{"data":["compose-post-service"],"total":1}"#),
        _ => Reply::status(404),
    })
}

fn edge(calls: i64) -> String {
    format!(
        r#"{{"data":[{{"parent":"compose-post-service","child":"write-home-timeline-service-us","callCount":{calls}}}]}}"#
    )
}

/// The middle one of three pages.
fn is_middle(first: i64, last: i64) -> bool {
    (first..=last).contains(&(BEGIN_US + LENGTH_US / 2))
}

#[test]
fn a_page_that_fails_is_read_again_and_nothing_is_lost_or_counted_twice() {
    let run = Run::new(300);
    // 12,000 are expected, which makes three pages of a run with 300.
    let server = store(300, 12_000, |first, last, attempt, whole| match attempt {
        1 if is_middle(first, last) => Reply::status(503),
        2 if is_middle(first, last) => whole.cut_after(40_000),
        _ => whole,
    });
    let done = run.gather(&server, &["--drain-timeout", "0"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(run.ids().len(), 300);
    let summary = run.summary();
    assert_eq!(summary["source"]["answers"], 3);
    assert_eq!(summary["source"]["damage"], Value::Null);
    assert_eq!(summary["complete"]["share"], 1.0);
    let asked = server.asked();
    let pages: Vec<&String> = asked.iter().filter(|path| path.starts_with("/api/traces")).collect();
    let windows: BTreeSet<(i64, i64)> =
        pages.iter().map(|path| (number(path, "start").unwrap(), number(path, "end").unwrap())).collect();
    assert_eq!((pages.len(), windows.len()), (5, 3), "{pages:?}");
    let ends: Vec<i64> = windows.iter().flat_map(|&(first, last)| [first, last]).collect();
    assert!(ends[0] <= BEGIN_US && ends[5] >= BEGIN_US + LENGTH_US, "{ends:?}");
    assert!(ends[2] == ends[1] + 1 && ends[4] == ends[3] + 1, "no gap and no overlap: {ends:?}");
}

#[test]
fn a_page_that_keeps_failing_costs_only_what_it_did_not_bring() {
    let run = Run::new(300);
    let server = store(
        300,
        12_000,
        |first, last, _, whole| {
            if is_middle(first, last) { whole.cut_after(40_000) } else { whole }
        },
    );
    let done = run.gather(&server, &["--drain-timeout", "0"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let (kept, summary) = (run.ids().len(), run.summary());
    assert!((200..300).contains(&kept), "{kept}");
    assert_eq!(summary["ledger"]["lost"]["cut off by the end of the answer"], 1);
    assert_eq!(summary["ledger"]["lost"]["not traced"], 300 - kept as i64 - 1);
    assert_eq!(done.stderr.matches("an answer was damaged").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("warning: only "), "{}", done.stderr);
}

#[test]
fn a_page_that_is_full_is_read_in_halves() {
    let run = Run::new(12_000);
    let server = store(12_000, 100, |_, _, _, whole| whole);
    let done = run.gather(&server, &["--drain-timeout", "0"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(run.ids().len(), 12_000);
    let summary = run.summary();
    assert_eq!(summary["violations"]["n"], 12_000);
    // The windows are 40 to 49 ms: the sum is exact, in us.
    assert_eq!(summary["window"]["sum_us"], 12_000 * 44_500);
}

/// The four traces of the Python tool's smallest case, each as text, with the file that all of them came from.
fn small() -> (Vec<String>, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gather/small/input.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    (whole["data"].as_array().unwrap().iter().map(Value::to_string).collect(), whole)
}

#[test]
fn saved_answers_may_be_several_files_plain_or_compressed() {
    let (traces, whole) = small();
    let session = Session::new();
    let third = traces.len() / 3;
    let parts = [&traces[..third], &traces[third..2 * third], &traces[2 * third..]].map(answer);
    session.write("a.json", &parts[0]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(parts[1].as_bytes()).unwrap();
    session.write("b.json.gz", packed.finish().unwrap());
    session.write("c.json.zst", zstd::encode_all(parts[2].as_bytes(), 3).unwrap());
    session.write("whole.json", whole.to_string());
    session.ok("gather --traces whole.json --run one");
    let said = session.ok("gather --traces a.json b.json.gz c.json.zst --run three");
    assert!(said.stdout.contains("violations"), "{}", said.stdout);
    let read = |name: &str| std::fs::read_to_string(session.path(name)).unwrap();
    for file in ["traces.csv", "windows.csv", "traces.info"] {
        assert_eq!(read(&format!("three/{file}")), read(&format!("one/{file}")), "{file}");
    }
    let missing = session.run("gather --traces a.json nowhere.json --run other");
    assert_eq!((missing.code, missing.stderr.lines().count()), (2, 1), "{}", missing.stderr);
    assert!(missing.stderr.starts_with("maestro: cannot read `nowhere.json`"), "{}", missing.stderr);
}

/// Gathers an answer with `bad` between whole traces.
fn with_bad(bad: &str) -> (Done, Value, usize) {
    let run = Run::new(4);
    let at = |index: i64| trace(index, BEGIN_US + index * 1_000_000);
    let body = answer(&[at(0), bad.to_owned(), at(1), at(2)]);
    let server = TraceServer::start(move |path| match path.split('?').next() {
        Some("/api/traces") => Reply::json(body.clone()),
        _ => Reply::json(edge(4)),
    });
    let done = run.gather(&server, &["--drain-timeout", "0"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let kept = run.ids().len();
    (done, run.summary(), kept)
}

#[test]
fn what_is_made_to_break_a_parser_costs_one_trace_and_one_line() {
    let whole = trace(9, BEGIN_US + 9_000_000);
    let deep = format!(r#"{{"traceID":"ab","spans":[],"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let digits = "9".repeat(5000);
    for (bad, loss, damaged) in [
        (deep, "nested deeper than 128 levels", true),
        (whole.replace(r#""value":true"#, r#""value":tru"#), "malformed JSON", true),
        (whole.replace("\"0.01\"", "NaN"), "tag wht_antipode_duration in FanoutHomeTimelines is out of range", false),
        (
            whole.replace("\"790\"", &digits),
            "tag notification_size_bytes in FanoutHomeTimelines is out of range",
            false,
        ),
        (
            whole.replace("\"0.5\"", "\"1e999\""),
            "tag consistency_mongoread_duration in FanoutHomeTimelines is out of range",
            false,
        ),
    ] {
        let (done, summary, kept) = with_bad(&bad);
        assert_eq!(kept, 3, "{loss}: {}", done.stderr);
        assert_eq!(summary["ledger"]["lost"][loss], 1, "{}", summary["ledger"]);
        assert_eq!(summary["ledger"]["traced"], 4);
        assert_eq!(done.stderr.matches(loss).count(), usize::from(damaged), "{}", done.stderr);
        assert_eq!(done.stdout.matches(&format!("1: {loss}")).count(), 1, "{}", done.stdout);
    }
}

/// The most memory that `maestro` has had before it ended, bytes.
fn peak_of(mut child: std::process::Child) -> (u64, std::process::Output) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    wait_for("the end of gather", 300, || {
        let seen = std::fs::read_to_string(&status).unwrap_or_default();
        let line = seen.lines().find_map(|line| line.strip_prefix("VmHWM:").map(str::to_owned));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        child.try_wait().unwrap()
    });
    (peak, child.wait_with_output().unwrap())
}

#[test]
fn a_string_larger_than_memory_should_ever_be_is_passed_over() {
    let long = if std::env::var_os("MAESTRO_TEST_FULL").is_some() { 1 << 30 } else { 200 << 20 };
    let at = |index: i64| trace(index, BEGIN_US + index * 1_000_000);
    let (first, second) = (at(0), at(1));
    for inside in [true, false] {
        let run = Run::new(2);
        let (head, tail) = if inside {
            let bad = r#"{"traceID":"ab","spans":[{"operationName":""#;
            (format!(r#"{{"data":[{first},{bad}"#), format!(r#""}}]}},{second}],"errors":null}}"#))
        } else {
            (r#"{"note":""#.to_owned(), format!(r#"","data":[{first},{second}],"errors":null}}"#))
        };
        let server = TraceServer::start(move |path| match path.split('?').next() {
            Some("/api/traces") => Reply::json(head.clone()).filled(long, &tail),
            _ => Reply::json(edge(2)),
        });
        let (dir, url) = (run.dir.to_str().unwrap().to_owned(), server.url());
        let args = ["--local", "socialNetwork", "gather", "--run", &dir, "--jaeger", &url, "--drain-timeout", "0"];
        let mut command = run.session.command(&args);
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let (peak, output) = peak_of(child);
        let done: Done = output.into();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(run.ids().len(), 2);
        assert_eq!(done.stderr.matches("larger than 16 MiB").count(), usize::from(inside), "{}", done.stderr);
        assert!(peak < 100_000_000, "{peak} bytes");
    }
}

/// A broker's management API with `held` messages in the queue of notifications, and some in another one.
fn queues(held: u64) -> Reply {
    Reply::json(format!(
        r#"[{{"name":"write-home-timeline-us","messages":{held}}},{{"name":"federation: write-home-timeline -> x"}},
            {{"name":"somebody-elses","messages":17}}]"#
    ))
}

#[test]
fn gather_waits_for_the_brokers_and_then_for_the_spans() {
    let run = Run::new(20);
    let looks = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&looks);
    // Three messages are left, then two, then one, then none; the spans of what was handled come later still.
    let server = TraceServer::start(move |path| match path.split('?').next() {
        Some("/api/queues") => queues(3_u64.saturating_sub(seen.fetch_add(1, Ordering::SeqCst))),
        Some("/api/dependencies") => Reply::json(edge(20.min(14 + seen.load(Ordering::SeqCst) as i64))),
        Some("/api/traces") => {
            let traces: Vec<String> = (0..20).map(|i| trace(i, BEGIN_US + i * 1_000_000)).collect();
            Reply::json(answer(&traces))
        }
        _ => Reply::status(404),
    });
    let done = run.gather(&server, &["--broker", &server.url()]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let drained = &run.summary()["source"]["drained"];
    assert_eq!((drained["by"].as_str(), drained["complete"].as_bool()), (Some("queue"), Some(true)), "{drained}");
    let last = drained["last_seen"].as_str().unwrap();
    assert!(last.starts_with("0 in the brokers' queues, 20 notifications handled after "), "{last}");
    let asked = server.asked();
    let of = |what: &str| asked.iter().filter(|path| path.starts_with(what)).count();
    assert!(of("/api/queues") >= 9, "empty at the fourth look, spans stable five looks later: {asked:?}");
    let first_trace = asked.iter().position(|path| path.starts_with("/api/traces")).unwrap();
    let last_queue = asked.iter().rposition(|path| path.starts_with("/api/queues")).unwrap();
    assert!(last_queue < first_trace, "drained before read");
}

#[test]
fn a_queue_that_does_not_empty_is_named_at_the_deadline() {
    let run = Run::new(20);
    let server = TraceServer::start(move |path| match path.split('?').next() {
        Some("/api/queues") => queues(2),
        Some("/api/dependencies") => Reply::json(edge(18)),
        Some("/api/traces") => {
            let traces: Vec<String> = (0..18).map(|i| trace(i, BEGIN_US + i * 1_000_000)).collect();
            Reply::json(answer(&traces))
        }
        _ => Reply::status(404),
    });
    let done = run.gather(&server, &["--broker", &server.url(), "--drain-timeout", "1"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let said =
        "warning: not everything had arrived after 1s; last seen: 2 in the brokers' queues, 18 notifications handled";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    let warned = "warning: 2 notifications were still on their way when the traces were read";
    assert!(done.stderr.contains(warned), "{}", done.stderr);
    assert_eq!(run.summary()["source"]["drained"]["complete"], false);
    // Brokers that do not answer are named, and spans serve instead.
    let gone = run.gather(&server, &["--broker", "http://127.0.0.1:1", "--drain-timeout", "4"]);
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    assert_eq!(gone.stderr.matches("warning: `http://127.0.0.1:1`: ").count(), 1, "{}", gone.stderr);
    let drained = &run.summary()["source"]["drained"];
    assert_eq!((drained["by"].as_str(), drained["complete"].as_bool()), (Some("spans"), Some(true)), "{drained}");
}

#[test]
fn a_service_that_nobody_traced_is_answered_with_those_that_are() {
    let run = Run::new(1);
    let server = store(0, 1, |_, _, _, _| Reply::json(answer(&[])));
    let done = run.gather(&server, &["--drain-timeout", "0", "--service", "compose-post"]);
    assert_eq!(done.code, 4);
    let said = format!(
        "maestro: no traces of service `compose-post` at `{}`\n  services it knows: compose-post-service\n",
        server.url()
    );
    assert_eq!(done.stderr, said);
}

#[test]
fn one_trace_is_explained_from_a_live_server() {
    let session = Session::new();
    let ok = |line: &str| session.ok(&format!("--embedded socialNetwork {line}"));
    ok("deploy -tag t -config configs/embedded/socialNetwork/us-sg.yml");
    ok("run --ports auto");
    ok("wkld -E compose-post -r 40 -d 1 -c 4");
    let truth = std::fs::read_to_string(session.path("deploy/embedded/socialNetwork/t/truth.csv")).unwrap();
    let column = truth.lines().next().unwrap().split(';').position(|name| name == "post_id").unwrap();
    let post = truth.lines().nth(3).unwrap().split(';').nth(column).unwrap().to_owned();
    // Before anything was gathered the store itself is asked for the post.
    let by_post = ok(&format!("explain {post}")).stdout;
    assert!(by_post.contains("FanoutHomeTimelines") && by_post.contains("from written to read"), "{by_post}");
    assert!(by_post.contains("queued until received: the notification's way"), "{by_post}");
    let trace = by_post.lines().next().unwrap().strip_prefix("trace ").unwrap();
    assert_eq!(ok(&format!("explain {trace}")).stdout, by_post);
    ok("gather");
    assert_eq!(ok(&format!("explain {post}")).stdout, by_post, "now from the run's windows.csv");
    let unknown = session.run("--embedded socialNetwork explain 123456789");
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.starts_with("maestro: no trace or post `123456789`\n"), "{}", unknown.stderr);
    let words = session.run("--embedded socialNetwork explain not-an-id");
    assert!(words.stderr.contains("`not-an-id` is neither a trace id nor a post id"), "{}", words.stderr);
    ok("clean");
}
