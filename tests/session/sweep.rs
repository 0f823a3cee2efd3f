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
    a_bundle_holds_the_sweep_and_tells_when_it_no_longer_does(&session);
}

fn a_bundle_holds_the_sweep_and_tells_when_it_no_longer_does(session: &Session) {
    let plan = session.ok("bundle sweeps/small-embedded --dry-run");
    assert_eq!(plan.stdout, "write small-embedded.tar.zst of 4 runs and 1 figure\n");
    assert_eq!(session.ok("bundle sweeps/small-embedded").stdout, "small-embedded.tar.zst\n");
    let archive = std::fs::read(session.path("small-embedded.tar.zst")).unwrap();
    session.ok("bundle sweeps/small-embedded -o again.tar.zst");
    assert!(archive == std::fs::read(session.path("again.tar.zst")).unwrap(), "equal input, equal archive");
    let checked = session.ok("bundle --verify small-embedded.tar.zst").stdout;
    assert!(checked.ends_with("as listed, 1 figure drawn again and equal\n"), "{checked}");

    let mut tar = tar::Archive::new(zstd::Decoder::new(&archive[..]).unwrap());
    tar.unpack(session.path("open")).unwrap();
    let commands = std::fs::read_to_string(session.path("open/small-embedded/commands.sh")).unwrap();
    assert!(
        commands.contains("maestro --embedded socialNetwork wkld -E compose-post -r 40 -d 1 -c 8 -t 1"),
        "{commands}"
    );
    session.write("open/small-embedded/commands.sh", "true\n");
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    tar.append_dir_all("small-embedded", session.path("open/small-embedded")).unwrap();
    session.write("changed.tar.zst", tar.into_inner().unwrap().finish().unwrap());
    let broken = session.run("bundle --verify changed.tar.zst");
    assert_eq!((broken.code, broken.stdout.as_str()), (4, ""));
    let line = "maestro: `changed.tar.zst` does not hold: commands.sh: its content has changed\n";
    assert_eq!(broken.stderr, line);

    session.write("text.tar.zst", "no archive");
    for (line, needle) in [
        ("bundle --verify text.tar.zst", "`text.tar.zst` is no bundle"),
        ("bundle --verify nowhere.tar.zst", "nowhere.tar.zst"),
        ("bundle configs", "no run in"),
    ] {
        let refused = session.run(line);
        assert_ne!(refused.code, 0, "{line}");
        assert!(refused.stderr.contains(needle) && refused.stderr.lines().count() <= 2, "{line}: {}", refused.stderr);
    }
    let left: Vec<_> = std::fs::read_dir(session.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".maestro-bundle")), "{left:?}");
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
