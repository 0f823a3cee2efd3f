//! Sweeps on the embedded target: the whole path, and what a kill leaves.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Session, wait_for};

/// A session with two placements on free ports and a sweep over them.
fn session(extra: &str) -> Session {
    let session = Session::new();
    for (stem, pair) in [("near", "US->EU"), ("far", "US->SG")] {
        let shipped = if stem == "near" { "us-eu" } else { "us-sg" };
        let path = format!("{}/configs/embedded/socialNetwork/{shipped}.yml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace("8080", "0").replace("8082", "0").replace("16686", "0");
        assert!(text.contains(pair));
        session.write(&format!("configs/embedded/socialNetwork/{stem}.yml"), text);
    }
    let sweep = format!(
        "format: 1\nname: small\nconfigs: [near, far]\nvariants: [baseline, antipode]\nrates: [40]\nconnections: [8]\n\
         threads: [1]\nrounds: 1\nduration_s: 1\nbetween: none\nblocks: none\nlate_client: flag\n{extra}"
    );
    session.write("sweep.yml", sweep);
    session
}

const SWEEP: &str = "--embedded socialNetwork sweep sweep.yml";

/// Cell id and round of every finished run in the journal, with how often.
fn finished(session: &Session) -> HashMap<String, usize> {
    let text = std::fs::read_to_string(session.path("sweeps/small-embedded/journal.jsonl")).unwrap_or_default();
    let mut seen = HashMap::new();
    for line in text.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["event"] == "finished" {
            *seen.entry(format!("{} {}", event["cell"], event["round"])).or_insert(0) += 1;
        }
    }
    seen
}

#[test]
fn a_sweep_ends_with_verdict_runs_and_figure() {
    let session = session("");
    let plan = session.ok(&format!("{SWEEP} --dry-run"));
    assert!(plan.stdout.contains("4 cells x 1 round = 4 runs"), "{}", plan.stdout);
    let done = session.ok(SWEEP);
    assert!(done.stdout.contains("far        antipode"), "{}", done.stdout);
    assert!(done.stdout.contains("0.00 % (0 of 40)"), "{}", done.stdout);
    let figures: Vec<&str> = done.stdout.lines().filter(|l| l.ends_with(".png") || l.ends_with(".svg")).collect();
    assert_eq!(figures.len(), 2, "{}", done.stdout);
    for figure in figures {
        assert!(session.path(figure.trim()).metadata().unwrap().len() > 1000);
    }
    assert_eq!(finished(&session).len(), 4);
    let status = session.ok(&format!("{SWEEP} --status"));
    assert!(status.stdout.contains("4 runs done, 0 left out, ended"), "{}", status.stdout);
    assert!(session.ok("--embedded info").stdout.contains("compose-post"));
}

#[test]
fn a_killed_sweep_goes_on_and_holds_every_cell_once() {
    let session = session("");
    let kills = if std::env::var_os("MAESTRO_TEST_FULL").is_some() { 30 } else { 4 };
    for kill in 0..kills {
        let mut child = session
            .command(&SWEEP.split(' ').collect::<Vec<_>>())
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Spread the instants over deploy, start, load and gather.
        std::thread::sleep(Duration::from_millis(150 + 397 * kill % 1900));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    session.ok(SWEEP);
    let finished = finished(&session);
    assert_eq!(finished.len(), 4, "{finished:?}");
    assert!(finished.values().all(|times| *times == 1), "{finished:?}");
    assert!(
        wait_for("the miniature's end", 10, || {
            let listing = std::process::Command::new("pgrep").args(["-f", session.root().to_str().unwrap()]).output();
            listing.ok().filter(|out| out.stdout.is_empty()).map(|_| true)
        }),
        "nothing of the sweep runs any more"
    );
}

#[test]
fn another_matrix_under_the_same_name_is_refused() {
    let session = session("");
    session.write(
        "sweeps/small-embedded/sweep.yml",
        "format: 1\nname: small\nconfigs: [near]\nvariants: [baseline]\nrates: [1]\nrounds: 1\nduration_s: 1\n",
    );
    let done = session.run(SWEEP);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("different sweep"), "{}", done.stderr);
}
