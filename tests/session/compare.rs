//! `maestro compare` on the golden runs: what changed, and the gate for CI.

use std::fs;

use serde_json::Value;

use crate::harness::Session;
use crate::plot::root;

const BASE: &str = "gather/gcp/socialNetwork/compose-post";

fn pair(a: &str, b: &str) -> String {
    format!("compare {BASE}/{a} {BASE}/{b}")
}

#[test]
fn baseline_and_antipode_of_one_rate_are_compared() {
    let session = root();
    let done = session.ok(&pair("us-sg-160", "us-sg-160-antipode"));
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[..2], ["A: US->SG baseline 160 req/s", "B: US->SG antipode 160 req/s"]);
    let row = |metric: &str| lines.iter().find(|line| line.starts_with(metric)).unwrap().to_string();
    assert!(row("window.p90").contains("+180") && row("window.p90").ends_with("higher"), "{}", done.stdout);
    assert!(row("violations").contains("-34.0") && row("violations").ends_with("lower"), "{}", done.stdout);
    assert!(row("throughput").contains("-1.2"), "{}", done.stdout);
}

#[test]
fn the_same_runs_show_no_change() {
    let session = root();
    let done = session.ok(&pair("us-eu-100", "us-eu-100"));
    assert_eq!(done.stdout.matches("no change detected").count(), 8, "{}", done.stdout);
    let gated = session.run_args(&[
        "compare",
        &format!("{BASE}/us-eu-100"),
        &format!("{BASE}/us-eu-100"),
        "--fail-if",
        "window.p90 > -50%",
    ]);
    assert_eq!(gated.code, 0, "{}", gated.stderr);
}

#[test]
fn a_condition_that_is_met_fails_the_command_after_the_table() {
    let session = root();
    let args = |condition: &str| {
        let (a, b) = (format!("{BASE}/us-eu-160"), format!("{BASE}/us-eu-160-antipode"));
        session.run_args(&["compare", &a, &b, "--fail-if", condition])
    };
    let met = args("window.p90 > +10%");
    assert_eq!(met.code, 5);
    assert!(met.stdout.contains("window.p90"), "{}", met.stdout);
    assert!(met.stderr.starts_with("maestro: condition met: `window.p90 > +10%`"), "{}", met.stderr);
    assert_eq!(args("window.p90 > +500%").code, 0);
    assert_eq!(args("throughput < -1").code, 5);
    for bad in ["window.p95 > 1", "window.p90 = 1", "window.p90 > x"] {
        let done = args(bad);
        assert_eq!(done.code, 2, "{bad}");
        assert!(done.stderr.contains(bad) && done.stderr.lines().count() == 2, "{}", done.stderr);
    }
}

#[test]
fn sets_are_matched_cell_by_cell_and_what_is_alone_is_named() {
    let session = root();
    let list = |dirs: &[&str]| {
        let lines: String = dirs.iter().map(|dir| format!("  - {BASE}/{dir}\n")).collect();
        format!("throughput_latency:\n{lines}")
    };
    session.write("a.yml", list(&["us-eu-50/202110180800", "us-eu-100/202110180814", "us-sg-50/202110191020"]));
    session.write("b.yml", list(&["us-eu-50/202110180807", "us-eu-100/202110180821"]));
    let done = session.ok("compare a.yml b.yml");
    assert_eq!(done.stdout.matches("A: US->EU").count(), 2, "{}", done.stdout);
    assert_eq!(done.stderr, "warning: not compared, no counterpart: A: US->SG baseline 50 req/s\n");
    // A single round on each side: no interval for what has none within a run, Wilson's for violations.
    assert!(done.stdout.contains("one round only") && done.stdout.contains("no change detected"), "{}", done.stdout);
    session.write("c.yml", list(&["us-sg-100/202110191034", "us-sg-125/202110191048"]));
    let nothing = session.run("compare b.yml c.yml");
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("in common"), "{}", nothing.stderr);
}

/// A run of 22 seconds with `ok` answers in most of them; the first two are warm-up, and nothing is due in the last.
fn lone_run(session: &Session, dir: &str, ok: i32, p90_ms: i32) {
    session.write(&format!("{dir}/info.yml"), "rps: 100\ntype: baseline\nzone_pair: US->EU\n");
    session.write(
        &format!("{dir}/client00.out"),
        format!(" 50.000%    5.00ms\n 90.000%   {p90_ms}.00ms\n 99.000%   40.00ms\nRequests/sec:     {ok}.00\n"),
    );
    let mut timeline = String::from("second,due,sent,ok,errors,p50_us,p90_us,p99_us\n");
    for second in 0..23 {
        let (due, swing) = (if second < 22 { 100 } else { 0 }, second % 3 - 1);
        let us = |ms: i32| 1000 * ms + 200 * swing;
        timeline.push_str(&format!("{second},{due},{due},{},0,{},{},{}\n", ok + swing, us(5), us(p90_ms), us(40)));
    }
    session.write(&format!("{dir}/timeline.csv"), timeline);
}

#[test]
fn single_runs_are_compared_by_their_parts() {
    let session = Session::new();
    lone_run(&session, "a", 90, 10);
    lone_run(&session, "b", 95, 10);
    let json: Value = serde_json::from_str(&session.ok("compare a b --format json").stdout).unwrap();
    let metrics = json["compared"][0]["metrics"].as_array().unwrap();
    let of = |name: &str| metrics.iter().find(|metric| metric["metric"] == name).unwrap();
    assert_eq!(of("throughput")["verdict"], "higher", "{}", of("throughput"));
    assert_eq!(of("throughput")["difference"]["method"], "within runs");
    for same in ["latency.p50", "latency.p90", "latency.p99"] {
        assert_eq!(of(same)["verdict"], "no change detected", "{}", of(same));
    }
    lone_run(&session, "slow", 90, 30);
    let slow = session.run_args(&["compare", "a", "slow", "--fail-if", "latency.p90 > +50%"]);
    assert_eq!(slow.code, 5, "{}", slow.stdout);
}

#[test]
fn json_and_markdown_say_the_same() {
    let session = root();
    let line = pair("us-sg-160", "us-sg-160-antipode");
    let json: Value = serde_json::from_str(&session.ok(&format!("{line} --format json")).stdout).unwrap();
    let metrics = json["compared"][0]["metrics"].as_array().unwrap();
    let window = metrics.iter().find(|metric| metric["metric"] == "window.p90").unwrap();
    assert_eq!(window["difference"]["method"], "bootstrap by round");
    assert!((window["difference"]["value"].as_f64().unwrap() - 179.65).abs() < 1e-9);
    assert_eq!((&window["verdict"], &window["cliffs_delta"]), (&"higher".into(), &1.0.into()));
    let markdown = session.ok(&format!("{line} --format markdown")).stdout;
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 8);
    assert!(rows.iter().all(|row| row.matches('|').count() == 9), "{markdown}");
}

#[test]
fn a_path_without_runs_is_named() {
    let session = Session::new();
    fs::create_dir(session.path("empty")).unwrap();
    let done = session.run("compare empty empty");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("no run in"), "{}", done.stderr);
    let missing = session.run("compare nowhere empty");
    assert!(missing.code == 2 && missing.stderr.starts_with("maestro: no such file `nowhere`\n"), "{}", missing.stderr);
}
