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
    let tail: Vec<&str> = done.stdout.lines().rev().take(5).collect();
    assert!(tail[4] == "runs:" && tail[..4].iter().all(|line| line.starts_with("  gather/embedded/")), "{tail:?}");
    assert!(done.stdout.contains("report:\n  sweeps/small-embedded/report.html\n"), "{}", done.stdout);
    let report = std::fs::read_to_string(session.path("sweeps/small-embedded/report.html")).unwrap();
    assert!(report.contains("../../gather/embedded/socialNetwork/compose-post/far-40"), "links to the raw files");
    assert!(done.stdout.contains("orchestration per run: mean "), "{}", done.stdout);
    let times = std::fs::read_to_string(session.path("sweeps/small-embedded/times.csv")).unwrap();
    assert_eq!(times.lines().count(), 5, "{times}");
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

/// Kills a sweep (SIGKILL) at seeded random instants until `kills` hit, or until it came to its end.
fn kill_again_and_again(session: &Session, kills: u32) -> u32 {
    let (mut state, mut hit) = (0x2545_f491_u64, 0);
    while hit < kills {
        let mut child = session
            .command(&SWEEP.split(' ').collect::<Vec<_>>())
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Spread over cleaning, deploy, start, load, gather and the next run.
        std::thread::sleep(Duration::from_millis(20 + (state >> 33) % 2800));
        child.kill().unwrap();
        hit += u32::from(!child.wait().unwrap().success());
        let status = session.ok(&format!("{SWEEP} --status --json")).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["pid"], Value::Null, "nobody is at it: {status}");
        if status["ended"] == true {
            break;
        }
    }
    hit
}

/// (round, placement, variant, rate) of the runs of a sweep in their order, as planned.
fn planned(session: &Session) -> Vec<(String, String, String, String)> {
    let plan = session.ok(&format!("{SWEEP} --dry-run")).stdout;
    let row = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        (words[1].clone(), words[2].clone(), words[3].clone(), words[5].clone())
    };
    plan.lines().skip(2).map(row).collect()
}

/// The same of the finished runs, as journalled.
fn done(session: &Session, name: &str) -> Vec<(String, String, String, String)> {
    let text = std::fs::read_to_string(session.path(&format!("sweeps/{name}/journal.jsonl"))).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of = |event: Value| {
        let cell = event["cell"].as_str().unwrap().to_owned();
        let words: Vec<&str> = cell.split(' ').collect();
        let rate = words[3].strip_suffix("/s").unwrap();
        ((event["round"].as_u64().unwrap() + 1).to_string(), words[0].into(), words[1].into(), rate.into())
    };
    events.filter(|event| event["event"] == "finished").map(of).collect()
}

/// The names of the files of every run that a sweep's plot config lists.
fn shapes(session: &Session, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(session.path(&format!("sweeps/{name}/plots.yml"))).unwrap();
    let runs = text.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let files = |run: &str| {
        let mut names: Vec<String> = std::fs::read_dir(session.path(run))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    runs.map(files).collect()
}

#[test]
fn a_killed_sweep_goes_on_and_equals_an_undisturbed_one_in_shape() {
    let full = std::env::var_os("MAESTRO_TEST_FULL").is_some();
    let session = session(if full { "max_rounds: 30\nretries: 0\n" } else { "" });
    if full {
        let text = std::fs::read_to_string(session.path("sweep.yml")).unwrap();
        session.write("sweep.yml", text.replace("rounds: 1\n", "rounds: 5\n"));
    }
    let kills = if full { 30 } else { 4 };
    let hit = kill_again_and_again(&session, kills);
    assert!(hit == kills || full, "{hit} kills");
    session.ok(SWEEP);
    let plan = planned(&session);
    eprintln!("killed {hit} times; {} runs", plan.len());
    assert_eq!(done(&session, "small-embedded"), plan, "every run once, in the planned order");
    assert!(
        wait_for("the miniature's end", 10, || {
            let listing = std::process::Command::new("pgrep").args(["-f", session.root().to_str().unwrap()]).output();
            listing.ok().filter(|out| out.stdout.is_empty()).map(|_| true)
        }),
        "nothing of the sweep runs any more"
    );
    session.ok(&format!("{SWEEP} --name calm"));
    assert_eq!(done(&session, "calm"), plan);
    let calm = shapes(&session, "calm");
    assert_eq!(shapes(&session, "small-embedded"), calm, "the same files in every run");
    assert!(calm.len() == plan.len() && calm[0].contains(&"summary.json".to_owned()), "{calm:?}");
}

#[test]
fn a_sweep_that_cannot_work_is_refused_before_its_first_run() {
    for (wrong, needle) in [
        ("endpoints: [nowhere]\n", "unknown endpoint `nowhere`"),
        ("endpoints: [init-social-graph]\n", "is a list of steps"),
        ("figures: [nonsense]\n", "nonsense"),
        ("arrivals: sometimes\n", "sometimes"),
        ("delay: { delay_ms: 5, distribution: wild }\n", "unknown distribution `wild`"),
        ("overrides:\n  - rate: 40\n    threads: 9\n", "9"),
        ("until: window.p90 < 5\n", "METRIC ci < PERCENT%"),
    ] {
        let session = session(wrong);
        let done = session.run(SWEEP);
        assert_eq!(done.code, 2, "{wrong}: {}", done.stderr);
        assert!(done.stderr.contains(needle) && done.stderr.lines().count() <= 2, "{wrong}: {}", done.stderr);
        assert!(!session.path("sweeps").exists(), "{wrong}");
    }
}

#[test]
fn runs_that_fail_are_left_out_with_their_reason_and_the_others_go_on() {
    let session = session("retries: 1\nvariants: [baseline]\nfigures: [throughput_latency]\n");
    let sweep = std::fs::read_to_string(session.path("sweep.yml")).unwrap();
    session.write("sweep.yml", sweep.replace("variants: [baseline, antipode]\n", ""));
    // Nothing that the far placement does can be seen in its traces.
    let far = session.path("configs/embedded/socialNetwork/far.yml");
    let text = std::fs::read_to_string(&far).unwrap();
    std::fs::write(&far, text + "\nfaults: { missing_fanout: 1 }\n").unwrap();
    let done = session.ok(SWEEP);
    let cell = "far baseline compose-post 40/s c8 t1 round 1";
    let reason = "not one complete observation in ";
    assert_eq!(done.stderr.matches(&format!("warning: {cell}: {reason}")).count(), 2, "{}", done.stderr);
    assert!(done.stderr.contains(&format!("warning: {cell}: left out after 2 attempts")), "{}", done.stderr);
    assert!(done.stdout.contains(&format!("left out:\n  {cell}: {reason}")), "{}", done.stdout);
    assert_eq!(finished(&session).len(), 1, "the near placement's run");
    let status = session.ok(&format!("{SWEEP} --status")).stdout;
    assert!(status.contains("1 of 2 runs done, 1 left out, ended") && status.contains(reason), "{status}");
    // Typed again there is nothing left to do, and the same is said.
    let again = session.ok(SWEEP);
    assert!(again.stdout.contains(&format!("left out:\n  {cell}: {reason}")), "{}", again.stdout);
    assert_eq!(finished(&session).len(), 1);
}

#[test]
fn an_interrupted_sweep_takes_down_what_it_started_and_goes_on_later() {
    let session = session("");
    let child = session
        .command(&SWEEP.split(' ').collect::<Vec<_>>())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the first run's end", 60, || (!finished(&session).is_empty()).then_some(()));
    let status = session.ok(&format!("{SWEEP} --status")).stdout;
    assert!(status.contains(&format!("process {} is at it, about ", child.id())), "{status}");
    assert!(status.contains("  now    ") && status.contains("  done   ") && status.contains("  to do  "), "{status}");
    nix_kill(child.id());
    let done = crate::harness::Done::from(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stdout.as_str()), (130, ""), "{}", done.stderr);
    let deployed = std::fs::read_to_string(session.path("deploy/embedded/.last.yml")).unwrap();
    assert!(deployed.contains("cleaned: true"), "{deployed}");
    let before = finished(&session).len();
    assert!(before < 4, "{before}");
    let rest = session.ok(SWEEP);
    assert!(rest.stderr.contains(&format!("resuming: {before} of 4 runs done")), "{}", rest.stderr);
    assert!(finished(&session).values().all(|times| *times == 1) && finished(&session).len() == 4);
}

/// SIGINT, as ^C sends it.
fn nix_kill(pid: u32) {
    std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
}

#[test]
fn the_plan_of_a_sweep_on_rented_machines_tells_what_they_cost() {
    let session = Session::new();
    let plan = session.ok("--gcp socialNetwork sweep --dry-run --rounds 15");
    assert!(plan.stdout.contains("20 cells x 15 rounds = 300 runs, 25 h 0 min of load"), "{}", plan.stdout);
    assert!(plan.stderr.starts_with("warning: no estimate of the costs: "), "{}", plan.stderr);
    session.write("gcp/config.yml", "project_id: somebodys\n");
    let plan = session.ok("--gcp socialNetwork sweep --dry-run");
    let line = plan.stdout.lines().find(|line| line.starts_with("estimate: ")).unwrap();
    let usd: f64 = line.split(' ').nth(2).unwrap().parse().unwrap();
    assert!(usd > 1.0 && line.contains(" USD for 4 h 20 min of rented machines (prices of "), "{line}");
    assert!(!session.path("sweeps").exists());
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
