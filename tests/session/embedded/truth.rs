//! What the miniature measures, held against what really happened.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{DELIVERED, FOUND, Mini, NEAR, READ, VISIBLE, WRITTEN, micros, span, tag};
use crate::harness::wait_for;

#[test]
fn a_constant_lag_yields_exactly_the_predicted_violations() {
    let lags = "replication: {network_ms: {constant: 20}, processing_ms: {constant: 5}}
queue: {network_ms: {constant: 60}, processing_ms: {constant: 0}}
";
    let mini = Mini::start(lags, "");
    // Posts need 25 ms, notifications 60: all found. With 1500 ms more, none. Without them, all found again.
    let mut expected = Vec::new();
    for (delay_ms, found) in [(0, true), (1500, false), (0, true)] {
        assert_eq!(mini.put("/maestro/link", &json!({"rule": {"delay_ms": delay_ms}})).0, 200);
        expected.extend((0..8).map(|user| (mini.compose(user), delay_ms, found)));
        mini.drain();
        wait_for("the replica", 10, || (mini.status("replicating") == 0).then_some(()));
    }
    let truth = mini.truth();
    assert_eq!(truth.len(), expected.len());
    let mut tags = HashMap::new();
    for trace in mini.traces("compose-post-service") {
        let compose = span(&trace, "compose-post-service", "_ComposeAndUpload").unwrap();
        let fanout = span(&trace, "write-home-timeline-service-us", "FanoutHomeTimelines").unwrap();
        let id = tag(compose, "composepost_id")["value"].as_str().unwrap().to_owned();
        tags.insert(id, tag(fanout, "consistency_bool")["value"].as_bool().unwrap());
    }
    for (post, delay_ms, found) in &expected {
        let row = &truth[post];
        assert_eq!(micros(row, VISIBLE) - micros(row, WRITTEN), (25 + delay_ms) * 1000, "{row:?}");
        assert!(micros(row, DELIVERED) - micros(row, WRITTEN) >= 60_000, "{row:?}");
        assert_eq!(row[FOUND], (micros(row, VISIBLE) <= micros(row, READ)).to_string(), "{row:?}");
        assert_eq!((row[FOUND].as_str(), tags[post]), (if *found { "true" } else { "false" }, *found));
    }
    let status = mini.admin("/maestro/status").json();
    assert_eq!((&status["handled"], &status["posts"]), (&json!(24), &json!(24)));
}

#[test]
fn the_barrier_removes_every_violation_and_widens_the_window() {
    let lags = "replication: {network_ms: {constant: 90}, processing_ms: {uniform: {min: 0, max: 40}}}
queue: {network_ms: {constant: 5}, processing_ms: {constant: 0}}
";
    let mini = Mini::start(lags, "-antipode");
    (0..20).for_each(|user| drop(mini.compose(user)));
    mini.drain();
    let truth = mini.truth();
    assert_eq!(truth.len(), 20);
    for row in truth.values() {
        assert_eq!(row[FOUND], "true");
        assert!(micros(row, READ) >= micros(row, VISIBLE), "{row:?}");
        assert!(micros(row, READ) - micros(row, WRITTEN) >= 90_000, "{row:?}");
    }
    assert_eq!(mini.status("barrier_timeouts"), 0);
}

#[test]
fn a_barrier_that_cannot_succeed_gives_up_at_its_deadline() {
    let faults = format!("{NEAR}barrier: {{deadline_ms: 60}}\nfaults: {{store_failures: 0.5}}\n");
    let mini = Mini::start(&faults, "-antipode");
    (0..4).for_each(|user| drop(mini.compose(user)));
    mini.drain();
    assert_eq!((mini.status("barrier_timeouts"), mini.status("posts")), (json!(2), json!(2)));
    let traces = mini.traces("compose-post-service");
    let fanouts = traces.iter().map(|t| span(t, "write-home-timeline-service-us", "FanoutHomeTimelines").unwrap());
    let (timed_out, rest): (Vec<_>, Vec<_>) =
        fanouts.partition(|fanout| tag(fanout, "wht_antipode_timed_out")["value"] == true);
    let found = |fanouts: &[&Value]| fanouts.iter().filter(|f| tag(f, "consistency_bool")["value"] == true).count();
    assert_eq!((timed_out.len(), found(&timed_out), found(&rest)), (2, 0, 2));
}

#[test]
fn gathered_windows_equal_the_ground_truth() {
    let lags = "replication: {network_ms: {constant: 10}, processing_ms: {lognormal: {median: 15, sigma: 0.7}}}
queue: {network_ms: {constant: 10}, processing_ms: {lognormal: {median: 18, sigma: 0.4}}}
";
    let mini = Mini::start(lags, "");
    // A busy machine may make the client late, which voids the run but changes no stamp.
    let done = mini.run("wkld -E compose-post -r 100 -d 2 --warmup 0 -c 8");
    assert!(matches!(done.code, 0 | 5), "{}", done.stderr);
    mini.ok("gather --warmup 0");
    let runs = mini.session.path("gather/embedded/socialNetwork/compose-post/near-100");
    let run = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    let windows = std::fs::read_to_string(run.join("windows.csv")).unwrap();
    let mut lines = windows.lines().map(|line| line.split(';').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (id, found, window, written, read) =
        (column("post_id"), column("found"), column("window_ms"), column("written_ms"), column("read_ms"));
    let truth = mini.truth();
    let (mut rows, mut violations) = (0, 0);
    for row in lines {
        let truth = &truth[row[id]];
        assert_eq!(row[found], truth[FOUND], "{row:?} {truth:?}");
        let exact = (micros(truth, READ) - micros(truth, WRITTEN)) as f64 / 1000.0;
        assert!((row[window].parse::<f64>().unwrap() - exact).abs() <= 1.0, "{row:?} {truth:?}");
        assert_eq!(row[written].parse::<i64>().unwrap(), micros(truth, WRITTEN) / 1000);
        assert_eq!(row[read].parse::<i64>().unwrap(), micros(truth, READ) / 1000);
        rows += 1;
        violations += usize::from(row[found] == "false");
    }
    assert_eq!((rows, truth.len()), (200, 200));
    assert!((10..150).contains(&violations), "both kinds occur: {violations}");
    let info = std::fs::read_to_string(run.join("info.yml")).unwrap();
    let total = info.lines().find_map(|line| line.strip_prefix("total_post_storage_size_bytes: ")).unwrap();
    let mean = info.lines().find_map(|line| line.strip_prefix("avg_post_storage_size_bytes: ")).unwrap();
    // Posts of the generator: 256 letters, no lists; documents of one size but for the digits of the user.
    assert!((440..480).contains(&mean.parse::<u64>().unwrap()), "{info}");
    assert!((200 * 480..200 * 520).contains(&total.parse::<u64>().unwrap()), "{info}");
}
