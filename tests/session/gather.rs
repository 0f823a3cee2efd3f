//! Gather as a session: the Python tool's cases, a trace store behind a socket, and what goes wrong with one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Session;
use crate::store_server::{Reply, TraceServer};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gather")
}

/// A file of a case, decompressed when it is kept compressed.
fn fixture(case: &str, name: &str) -> Option<Vec<u8>> {
    let path = cases().join(case).join(name);
    if let Ok(bytes) = fs::read(&path) {
        return Some(bytes);
    }
    let packed = fs::File::open(cases().join(case).join(format!("{name}.gz"))).ok()?;
    let mut bytes = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut bytes).unwrap();
    Some(bytes)
}

fn text(case: &str, name: &str) -> String {
    String::from_utf8(fixture(case, name).unwrap()).unwrap()
}

/// A root as the Python tool's wkld left it.
struct Golden {
    session: Session,
    target: String,
    run: PathBuf,
}

impl Golden {
    fn new(case: &str) -> Golden {
        let session = Session::new();
        let facts: Value = serde_json::from_str(&text(case, "case.json")).unwrap();
        let target = facts["deploy_type"].as_str().unwrap().to_owned();
        let state = text(case, "last.yml");
        session.write(&format!("deploy/{target}/.last.yml"), &state);
        session.write(facts["config"].as_str().unwrap(), text(case, "config.yml"));
        let line = state.lines().find_map(|line| line.strip_prefix("local_gather_path: ")).unwrap();
        if let Some(info) = fixture(case, "info.start.yml") {
            session.write(&format!("{line}/info.yml"), info);
        }
        let run = session.path(line);
        Golden { session, target, run }
    }

    fn gather(&self, server: &TraceServer, columns: &str) -> crate::harness::Done {
        let (target, url) = (format!("--{}", self.target), server.url());
        let args = [&target, "socialNetwork", "gather", "--jaeger", &url, "--drain-timeout", "0"];
        self.session.command(&args).env("COLUMNS", columns).output().unwrap().into()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.run.join(name)).unwrap()
    }
}

fn server_for(case: &str) -> TraceServer {
    let (traces, deps) = (fixture(case, "input.json").unwrap(), fixture(case, "deps.json").unwrap());
    TraceServer::start(move |path| match path.split('?').next() {
        Some("/api/traces") => Reply::json(traces.clone()),
        Some("/api/dependencies") => Reply::json(deps.clone()),
        _ => Reply::status(404),
    })
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Cell by cell: numbers within 1e-9, everything else letter by letter.
fn assert_same_csv(got: &str, expected: &str) {
    assert_eq!(got.lines().count(), expected.lines().count());
    for (row, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
        let (a, b): (Vec<&str>, Vec<&str>) = (got.split(';').collect(), expected.split(';').collect());
        assert_eq!(a.len(), b.len(), "row {row}");
        for (a, b) in a.iter().zip(&b) {
            let equal = match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => close(a, b),
                _ => a == b,
            };
            assert!(equal, "row {row}: {got} != {expected}");
        }
    }
}

fn yaml(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

fn assert_fits_the_schema(summary: &str, what: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/summary-consistency.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let summary: Value = serde_json::from_str(summary).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&summary["consistency"]).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?}");
    summary["consistency"].clone()
}

#[test]
fn the_python_tools_cases_come_out_the_same() {
    let mut seen = 0;
    for entry in fs::read_dir(cases()).unwrap() {
        let case = entry.unwrap().file_name().into_string().unwrap();
        if case.starts_with("crash_") {
            continue;
        }
        let golden = Golden::new(&case);
        let server = server_for(&case);
        for (columns, expected) in [("200", "traces.info.cols200"), ("80", "traces.info")] {
            let done = golden.gather(&server, columns);
            assert_eq!(done.code, 0, "{case}: {}", done.stderr);
            assert_eq!(golden.read("traces.info"), text(&case, &format!("expected/{expected}")), "{case}");
        }
        assert_same_csv(&golden.read("traces.csv"), &text(&case, "expected/traces.csv"));
        let (info, expected) = (yaml(&golden.read("info.yml")), yaml(&text(&case, "expected/info.yml")));
        let keys = |list: &[(String, String)]| list.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&info)[..expected.len()], keys(&expected), "{case}");
        for ((key, got), (_, expected)) in info.iter().zip(&expected) {
            let equal = match (got.parse::<f64>(), expected.parse::<f64>()) {
                (Ok(a), Ok(b)) => close(a, b) && got.contains('.') == expected.contains('.'),
                _ => got == expected,
            };
            assert!(equal, "{case}: {key}: {got} != {expected}");
        }
        assert_eq!(golden.read(".last.yml"), text(&case, "last.yml"));
        assert_fits_the_schema(&golden.read("summary.json"), &case);
        seen += 1;
    }
    assert!(seen >= 8);
}

/// What gather says about a server that answers every question about traces with `reply`.
fn said_of(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (crate::harness::Done, Golden) {
    let golden = Golden::new("small");
    let deps = fixture("small", "deps.json").unwrap();
    let server = TraceServer::start(move |path| match path.split('?').next() {
        Some("/api/traces") => reply(),
        Some("/api/dependencies") => Reply::json(deps.clone()),
        Some("/api/services") => Reply::json(r#"{"data":["compose-post-service"],"total":1}"#),
        _ => Reply::status(404),
    });
    (golden.gather(&server, "80"), golden)
}

#[test]
fn a_compressed_answer_reads_as_a_plain_one() {
    let (done, golden) = said_of(|| Reply::json(fixture("small", "input.json").unwrap()).gzip());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_same_csv(&golden.read("traces.csv"), &text("small", "expected/traces.csv"));
}

#[test]
fn an_answer_that_breaks_off_keeps_what_came() {
    let (done, golden) = said_of(|| Reply::json(fixture("small", "input.json").unwrap()).cut_after(30_000));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let summary = assert_fits_the_schema(&golden.read("summary.json"), "cut");
    assert_eq!(summary["violations"]["n"], 5);
    assert_eq!(summary["ledger"]["lost"]["cut off by the end of the answer"], 1);
    assert!(summary["source"]["damage"].is_string());
}

#[test]
fn servers_of_no_use_are_named_in_one_line() {
    let lines = |done: &crate::harness::Done| done.stderr.lines().filter(|l| l.starts_with("maestro: ")).count();
    let (html, _) = said_of(|| Reply::html("<html>login</html>"));
    assert_eq!((html.code, lines(&html)), (4, 1), "{}", html.stderr);
    assert!(html.stderr.contains("HTML, not JSON"), "{}", html.stderr);
    let (empty, _) = said_of(|| Reply::json(r#"{"data":[],"total":0,"errors":null}"#));
    assert_eq!((empty.code, lines(&empty)), (4, 1), "{}", empty.stderr);
    assert!(empty.stderr.contains("no traces of service `compose-post-service`"), "{}", empty.stderr);
    let refusal = r#"{"data":null,"errors":[{"code":400,"msg":"parameter 'service' is required"}]}"#;
    let (refused, _) = said_of(move || Reply::json(refusal).with_status(400));
    assert_eq!((refused.code, lines(&refused)), (4, 1), "{}", refused.stderr);
    assert!(refused.stderr.contains("answered 400: parameter 'service' is required"), "{}", refused.stderr);
    let golden = Golden::new("small");
    let gone = golden.session.run("--local socialNetwork gather --jaeger http://127.0.0.1:1");
    assert_eq!((gone.code, lines(&gone)), (3, 1), "{}", gone.stderr);
}

#[test]
fn where_the_python_tool_died_ours_reports_and_goes_on() {
    let case = "crash_missing_tag__wht_start_queue_ts";
    let golden = Golden::new(case);
    let done = golden.gather(&server_for(case), "80");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let summary = assert_fits_the_schema(&golden.read("summary.json"), case);
    assert_eq!(summary["ledger"]["lost"]["no tag wht_start_queue_ts in _UploadHomeTimelineHelper"], 1);
    assert!(done.stderr.contains("warning: only 66.67 % complete"), "{}", done.stderr);
    let case = "crash_no_dependency";
    let golden = Golden::new(case);
    let done = golden.gather(&server_for(case), "80");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("no dependency leads into"), "{}", done.stderr);
    assert!(golden.read("info.yml").contains("requests: 2\n"));
}

#[test]
fn one_trace_is_explained_from_a_saved_answer() {
    let session = Session::new();
    let saved = session.write("small.json", fixture("small", "input.json").unwrap());
    let answer: Value = serde_json::from_slice(&fixture("small", "input.json").unwrap()).unwrap();
    let id = answer["data"][3]["traceID"].as_str().unwrap();
    let done = session.run_args(&["explain", id, "--traces", saved.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("FanoutHomeTimelines"), "{}", done.stdout);
    assert!(done.stdout.contains("window 48 ms, from written to read"), "{}", done.stdout);
    assert!(done.stdout.contains("VIOLATION"), "{}", done.stdout);
    assert_eq!(session.run_args(&["explain", "77", "--traces", saved.to_str().unwrap()]).code, 2);
}
