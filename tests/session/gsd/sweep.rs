//! A sweep on four hosts with nobody at it, one of which loses its power during a load and comes back.

use serde_json::Value;

use super::{Site, placed};
use crate::harness::{Done, wait_for};

const SWEEP: &str = "format: 1\nname: outage\nconfigs: [four, five]\nvariants: [baseline, antipode]\nrates: [20, 40]\n\
    connections: [4]\nthreads: [1]\nclients: 2\nrounds: 1\nduration_s: 6\nbetween: none\nretries: 3\nlate_client: flag\n";

fn journal(site: &Site) -> Vec<Value> {
    let text = std::fs::read_to_string(site.session.path("sweeps/outage-gsd/journal.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event"] == kind).count()
}

#[test]
fn a_sweep_survives_a_host_that_loses_its_power_during_a_load() {
    if std::env::var_os("MAESTRO_TEST_FULL").is_none() {
        eprintln!("skipped a_sweep_survives_a_host_that_loses_its_power: MAESTRO_TEST_FULL=1 runs it");
        return;
    }
    let Some(site) = Site::start("a_sweep_survives_a_host") else { return };
    site.session.write("configs/gsd/socialNetworkMini/five.yml", placed("US->SG", "gamma", "beta"));
    site.session.write("sweep.yml", SWEEP);
    site.ok("build");
    let sweep = site
        .command("sweep sweep.yml")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();

    // The third run's load is going on: both sides answer, and the replica goes.
    wait_for("two runs", 600, || (count(&journal(&site), "finished") == 2).then_some(()));
    let worker = || site.host("delta").try_sh("pgrep -f '[m]aestro-.* worker'").0 == 0;
    wait_for("the next load", 300, || (count(&journal(&site), "started") >= 3 && worker()).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(worker(), "the load is still going on");
    site.host("gamma").power_off();
    wait_for("the end of the load", 60, || (!worker()).then_some(()));
    site.host("gamma").power_on();

    let done = Done::from(sweep.wait_with_output().unwrap());
    let events = journal(&site);
    for event in events.iter().filter(|event| event["event"] == "failed" || event["event"] == "quarantined") {
        eprintln!("{event}");
    }
    eprintln!("{}\n{}", done.stdout, done.stderr);
    assert_eq!(done.code, 0);
    let (finished, given_up) = (count(&events, "finished"), count(&events, "quarantined"));
    eprintln!("{finished} finished, {} attempts failed, {given_up} left out", count(&events, "failed"));
    assert_eq!(finished + given_up, 8, "every cell once, or its reason");
    let hit = count(&events, "failed") > 0 || events.iter().any(|event| event["status"] == "flagged");
    assert!(hit, "the outage left its mark");
    let status = site.ok("sweep sweep.yml --status").stdout;
    assert!(status.contains(&format!("{finished} of 8 runs done, {given_up} left out, ended")), "{status}");
    site.ok("clean -strong");
    assert_eq!(site.left(), Vec::<String>::new());
}
