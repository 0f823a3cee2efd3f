//! `delay` on the miniature's link.

use serde_json::{Value, json};

use super::{FOUND, Mini, NEAR, VISIBLE, WRITTEN, micros};
use crate::harness::wait_for;

#[test]
fn delay_is_put_in_force_measured_shown_and_taken_back() {
    let mini = Mini::start(NEAR, "");
    let done = mini.ok("delay -d 400 -j 20 -dist normal");
    assert!(done.stderr.contains("400 ms +- 20 ms normal on the replication link"), "{}", done.stderr);
    let link = mini.admin("/maestro/link").json();
    assert_eq!((&link["delay_ms"], &link["distribution"]), (&json!(400.0), &json!("normal")));
    let record = std::fs::read_to_string(mini.dir().join("deployment.yml")).unwrap();
    assert!(record.contains("asked: 400 ms +- 20 ms normal") && record.contains("backend: embedded"), "{record}");
    let post = mini.compose(1);
    mini.drain();
    wait_for("the row", 10, || mini.truth().contains_key(&post).then_some(()));
    let row = &mini.truth()[&post];
    assert!(micros(row, VISIBLE) - micros(row, WRITTEN) > 200_000, "{row:?}");
    assert_eq!(row[FOUND], "false");
    let shown = mini.session.ok("--json --embedded socialNetwork delay --show");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["rule"]["jitter_ms"], 20.0);
    assert!(shown["measured"]["path"]["p50_ms"].as_f64().unwrap() > 350.0, "{shown}");
    mini.ok("delay --off");
    mini.ok("delay --off");
    assert_eq!(mini.admin("/maestro/link").json()["delay_ms"], 0.0);
    assert!(!std::fs::read_to_string(mini.dir().join("deployment.yml")).unwrap().contains("delay"));
}

#[test]
fn loss_and_rate_are_put_in_force_and_refused_without_sense() {
    let mini = Mini::start(NEAR, "");
    let done = mini.ok("delay -d 300 -j 30 -c 50 -dist pareto --loss 5 --rate 10 --seed 3");
    let asked = "300 ms +- 30 ms pareto, correlation 50 %, loss 5 %, 10 Mbit/s";
    assert!(done.stderr.contains(asked), "{}", done.stderr);
    let link = mini.admin("/maestro/link").json();
    assert_eq!((&link["loss_percent"], &link["rate_mbit"]), (&json!(5.0), &json!(10.0)));
    for (line, reason) in [("delay -d 5 --loss 101", "loss 101 %"), ("delay -d 5 --rate -1", "rate -1 Mbit/s")] {
        let done = mini.run(line);
        assert!(done.code == 2 && done.stderr.contains(reason), "{line}: {} {}", done.code, done.stderr);
    }
    assert_eq!(mini.admin("/maestro/link").json(), link, "a refused one changes nothing");
}

#[test]
fn a_delay_can_follow_a_schedule() {
    let mini = Mini::start(NEAR, "");
    let schedule = "steps:\n- {at_s: 0, rule: {delay_ms: 50}}\n- {at_s: 0.2, rule: {delay_ms: 80}}\n";
    mini.session.write("schedule.yml", schedule);
    let done = mini.ok("delay --schedule schedule.yml");
    assert!(done.stderr.contains("2 steps of schedule.yml start with the next post"), "{}", done.stderr);
    let delay = || mini.admin("/maestro/link").json()["delay_ms"].as_f64().unwrap();
    assert_eq!(delay(), 0.0);
    mini.compose(1);
    wait_for("the last step", 10, || (delay() == 80.0).then_some(()));
    mini.session.write("schedule.yml", "steps:\n- {at_s: 2, rule: {delay_ms: 5}}\n- {at_s: 1, rule: {delay_ms: 30}}\n");
    let done = mini.run("delay --schedule schedule.yml");
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("step 2: at_s 1 is not after the step above"), "{}", done.stderr);
}

#[test]
fn delays_that_make_no_sense_are_refused_with_the_reason() {
    let mini = Mini::deployed(NEAR);
    for (line, reason) in [
        ("delay -d 5 -j 10", "jitter 10 ms is larger than the delay of 5 ms"),
        ("delay -d 5 -dist pareto", "distribution `pareto` shapes the jitter, and the jitter is 0"),
        ("delay -d -5", "delay -5 ms: data cannot arrive before it was sent"),
        ("delay -d 5 -c 120", "correlation 120 %: a share is between 0 and 100 %"),
        ("delay --both", "the miniature has one link that can be delayed"),
        ("delay --from nginx-thrift", "the miniature has one link that can be delayed"),
        ("delay --backend netem", "has no meaning inside the miniature"),
        ("delay --schedule absent.yml", "no such file `absent.yml`"),
        ("delay", "the embedded miniature was not started yet"),
    ] {
        let done = mini.run(line);
        assert_eq!(done.code, 2, "{line}: {}", done.stderr);
        let first = done.stderr.lines().next().unwrap();
        assert!(first.starts_with("maestro: ") && first.contains(reason), "{line}: {}", done.stderr);
    }
}
