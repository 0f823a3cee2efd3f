//! What is still known, and can still be deleted, when a deploy or its local directory came to an early end.

use serde_json::{Value, json};

use crate::gcp_chaos::{APP, placement};
use crate::gcp_site::{Cloud, SITE};
use crate::harness::wait_for;

/// Machines of [`placement`] with one client.
const MACHINES: usize = 4;

/// A project in which deploys can be made.
pub fn ready() -> Cloud {
    let cloud = Cloud::new(SITE);
    cloud.session.write("c.yml", placement());
    let image = cloud.labels(Some("bob"), "base-image", 9000);
    cloud.emulator.plant_image("maestro-base-1", "maestro-base", &image);
    cloud.ok("--gcp firewall apply");
    cloud
}

/// Makes machines; the deploy is killed while it waits for hosts that are not there. Returns their names.
pub fn half_made(cloud: &Cloud, tag: &str) -> Vec<String> {
    let mut deploy = cloud.command(&format!("--gcp {APP} deploy -config c.yml -clients 1 --yes -q --tag {tag}"));
    let mut deploy = deploy.stderr(std::process::Stdio::null()).spawn().unwrap();
    let running = || {
        let mut names = cloud.emulator.instances();
        names.retain(|name| name.starts_with(&format!("maestro-{tag}-")));
        let runs = |name: &String| cloud.emulator.instance(name).is_some_and(|vm| vm["status"] == "RUNNING");
        (names.len() == MACHINES && names.iter().all(runs)).then_some(names)
    };
    let names = wait_for("the machines", 60, running);
    deploy.kill().unwrap();
    deploy.wait().unwrap();
    names
}

#[test]
fn a_lost_directory_loses_nothing() {
    let cloud = ready();
    assert!(cloud.ok("--gcp info").stdout.contains("project `p` has no machine of maestro's\n"));
    let mut bobs = cloud.labels(Some("bob"), "d1", 3600);
    bobs["uid"] = json!("b0b");
    cloud.emulator.plant_labelled("us-central1-a", "alive-of-bob", &bobs);
    cloud.emulator.plant("us-central1-a", "database-of-somebody");
    let names = half_made(&cloud, "t1");
    let recorded = cloud.ok("--gcp info").stdout;
    let row = recorded.lines().find(|line| line.starts_with("t1 ") && line.contains("tester-")).unwrap_or_default();
    assert!(row.ends_with("yes"), "{recorded}");
    std::fs::remove_dir_all(cloud.session.path("deploy")).unwrap();

    let told = cloud.ok("--gcp info").stdout;
    assert!(told.starts_with("nothing is deployed on `gcp`\n"), "{told}");
    for name in &names {
        let row = told.lines().find(|line| line.starts_with(name.as_str())).unwrap_or_default();
        let words: Vec<&str> = row.split_whitespace().collect();
        let vm = cloud.emulator.instance(name).unwrap();
        let label = |key: &str| vm["labels"][key].as_str().unwrap().to_owned();
        assert_eq!(words[1..4], ["t1", &label("node"), &label("role")], "{told}");
        assert!(words[4].starts_with("us-central1-") || words[4] == "europe-west3-a", "{told}");
        assert_eq!(words[5..7], ["e2-medium", "running"], "{told}");
        assert_eq!(words[7], vm["networkInterfaces"][0]["accessConfigs"][0]["natIP"].as_str().unwrap());
    }
    let next = "`t1` is yours and not recorded here; to delete it: maestro --gcp clean -strong -tag t1\n";
    assert!(told.ends_with(next), "{told}");
    assert!(!told.contains("somebody") && told.contains("alive-of-bob"), "{told}");
    let rows: Value = serde_json::from_str(&cloud.ok("--gcp info --json").stdout).unwrap();
    let t1 = &rows["project"]["deployments"][1];
    assert_eq!((&t1["tag"], &t1["recorded"]), (&json!("t1"), &json!(false)));
    assert_eq!(t1["machines"].as_array().unwrap().len(), MACHINES);

    // Nothing goes without a tag, of others, or unasked.
    let done = cloud.ends("--gcp clean -strong --yes", 2);
    assert!(
        done.stderr.contains("in `p` there is yours: t1\n  maestro --gcp clean -strong -tag t1"),
        "{}",
        done.stderr
    );
    let done = cloud.ends("--gcp clean -strong -tag d1 --yes", 2);
    assert!(done.stderr.contains("`d1` belongs to `bob`"), "{}", done.stderr);
    assert!(cloud.ends("--gcp clean -strong -tag t1", 2).stderr.contains("nothing was deleted: not confirmed"));
    let dry = cloud.ok("--gcp clean -strong -tag t1 --dry-run");
    assert!(dry.stdout.contains("EnsureGone machines and disks of `t1` in all zones"), "{}", dry.stdout);
    assert_eq!(cloud.emulator.instances().len(), MACHINES + 2);

    cloud.ok("--gcp clean -strong -tag t1 --yes");
    assert_eq!(cloud.emulator.instances(), ["alive-of-bob", "database-of-somebody"]);
    assert!(cloud.ok("--gcp clean -strong -tag t1 --yes").stderr.contains("nothing to clean"));
    assert!(cloud.ok("--gcp clean -strong").stderr.contains("nothing in `p` is yours"));
    cloud.fine();
}

#[test]
fn a_deployment_that_is_not_the_current_one_goes_by_its_tag() {
    let cloud = ready();
    half_made(&cloud, "t1");
    let second = half_made(&cloud, "t2");
    cloud.ok("--gcp clean -strong -tag t1 --yes");
    assert_eq!(cloud.emulator.instances().len(), second.len());
    assert!(cloud.ok("--gcp info").stdout.lines().any(|line| line.starts_with("t2 ") && line.ends_with("yes")));
    let done = cloud.session.run("--local clean -strong -tag t1");
    assert!(done.code == 2 && done.stderr.contains("`-tag` is about Google Cloud"), "{}", done.stderr);
}

#[test]
fn a_project_that_does_not_answer_is_an_error_only_where_nothing_is_recorded() {
    let cloud = ready();
    cloud.emulator.fail("aggregated/instances", 1, 403, "forbidden");
    assert!(cloud.ends("--gcp info", 2).stderr.contains("listing machines: forbidden"));
    half_made(&cloud, "t1");
    cloud.emulator.fail("aggregated/instances", 1, 403, "forbidden");
    assert!(cloud.ok("--gcp info").stderr.contains("warning: the project could not be looked at: "));
    cloud.session.write("gcp/config.yml", "project_id: change-me\n");
    assert!(cloud.ok("--gcp info").stderr.contains("warning: no project was looked at: "));
}

#[test]
fn rules_that_shut_us_out_stop_a_deploy_before_anything_is_made() {
    let cloud = ready();
    let deploy = format!("--gcp {APP} deploy -config c.yml -clients 1 --yes");
    let rule = |name: &str, ports: &[&str]| {
        json!({"name": name, "network": "global/networks/default", "description": "made by maestro", "targetTags": [],
            "allowed": [{"IPProtocol": "tcp", "ports": ports}], "sourceTags": ["swarm"], "sourceRanges": ["192.0.2.9/32"]})
    };
    cloud.emulator.plant_firewall(rule("maestro-ssh", &["23"]));
    cloud.emulator.plant_firewall(rule("nodes", &["8080"]));
    let done = cloud.ends(&deploy, 4);
    let last = "no machine was made: rule `maestro-ssh` does not let in tcp 22\n  maestro --gcp firewall apply\n";
    assert!(done.stderr.ends_with(last), "{}", done.stderr);
    assert!(done.stderr.contains("warning: rule `nodes` does not let in tcp 9001"), "{}", done.stderr);
    assert_eq!(cloud.emulator.instances(), Vec::<String>::new());
    cloud.emulator.plant_firewall(rule("maestro-ssh", &["22"]));
    assert_eq!(half_made(&cloud, "t1").len(), MACHINES, "the others only warn");
    cloud.fine();
}

#[test]
fn addresses_count_against_the_quota_too() {
    let cloud = ready();
    cloud.emulator.addresses(3.0);
    let done = cloud.ends(&format!("--gcp {APP} deploy -config c.yml -clients 1 --yes"), 4);
    assert!(
        done.stderr.contains("the quota would not do: us-central1 needs 3 addresses and has 2 left\n"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("addresses of the regions' quotas: europe-west3 1 of 2 free, us-central1 3 of 2 free")
    );
    assert_eq!(cloud.emulator.instances(), Vec::<String>::new());
}

#[test]
fn a_clean_ends_when_the_disks_are_gone_too() {
    let cloud = ready();
    let names = half_made(&cloud, "t1");
    let labels = cloud.emulator.instance(&names[0]).unwrap()["labels"].clone();
    cloud.emulator.plant_disk("europe-west3-a", "disk-that-lingers", &labels);
    let done = cloud.ok(&format!("--gcp {APP} clean -strong --firewall"));
    assert!(done.stderr.contains("no machine and no disk of `t1` is left in any zone"), "{}", done.stderr);
    assert_eq!(cloud.emulator.leftovers(), ["maestro-base-1"]);
    cloud.fine();
}

#[test]
fn a_quota_spent_midway_takes_back_what_this_deploy_made_and_nothing_else() {
    let cloud = ready();
    let names = half_made(&cloud, "t1");
    let of_node = |node: &str| names.iter().find(|name| name.ends_with(node)).unwrap();
    // Two of the four went away: the same deploy makes them again, and the second region has no room.
    cloud.emulator.take_away(of_node("-origin"));
    cloud.emulator.take_away(of_node("-replica"));
    let kept = cloud.emulator.instances();
    cloud.emulator.fail("POST /compute/v1/projects/p/zones/europe-west3-a/instances", 1, 403, "quotaExceeded");
    let done = cloud.ends(&format!("--gcp {APP} deploy -config c.yml -clients 1 --yes --tag t1"), 4);
    assert!(done.stderr.contains("took back 1 machine that this deploy had made\n"), "{}", done.stderr);
    assert!(done.stderr.contains("quotaExceeded (injected)\n  ask for more quota"), "{}", done.stderr);
    assert_eq!(cloud.emulator.instances(), kept);
    assert_eq!(kept.len(), MACHINES - 2);

    // The same when the operation, not the call, ends in the quota's error: of a first deploy nothing stays.
    cloud.session.write(
        "later.yml",
        placement().replace(": replica\n", ": quota-later\n").replace("  replica: {", "  quota-later: {"),
    );
    let done = cloud.ends(&format!("--gcp {APP} deploy -config later.yml -clients 1 --yes --tag t2"), 4);
    assert!(done.stderr.contains("took back 3 machines that this deploy had made\n"), "{}", done.stderr);
    assert!(done.stderr.contains("QUOTA_EXCEEDED: Quota 'CPUS' exceeded."), "{}", done.stderr);
    assert_eq!(cloud.emulator.instances(), kept);
    cloud.fine();
}

#[test]
fn another_endpoint_than_this_machine_is_refused() {
    let cloud = Cloud::new(SITE);
    for endpoint in [
        "http://192.0.2.1:80",
        "https://127.0.0.1",
        "http://127.0.0.1@192.0.2.1/",
        "http://localhost:1",
        "127.0.0.1:1",
        "http://127.0.0.1.example.org",
    ] {
        let done: crate::harness::Done =
            cloud.command("--gcp gc --check").env("MAESTRO_GCE_ENDPOINT", endpoint).output().unwrap().into();
        assert_eq!(done.code, 2, "{endpoint}: {}", done.stderr);
        let said = format!(
            "maestro: MAESTRO_GCE_ENDPOINT: `{endpoint}` is not `http://` and an address of this machine's loopback\n"
        );
        assert!(done.stderr.starts_with(&said), "{}", done.stderr);
    }
    cloud.ok("--gcp gc --check");
}
