//! The laptop dies (`kill -9`) at any instant of `deploy` and of `clean -strong`, while the API stumbles: `gc` leaves
//! nothing of ours, and everything of others.

use std::time::Duration;

use maestro::app::App;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::gcp_site::{Cloud, SITE};
use crate::harness::wait_for;

pub const APP: &str = "socialNetworkMini";
/// Machines of the placement: manager, nodes, clients.
const MACHINES: usize = 5;

/// What `gc` leaves beside machines: what is others', and the firewall rules, which cost nothing.
const LEFT: [&str; 6] = ["maestro-base-of-bob", "maestro-ssh", "nodes", "portainer", "swarm", "disk-of-somebody"];

/// Two regions, two nodes, every service on one of them.
pub fn placement() -> String {
    let mut text = String::from("replication_pair: US->EU\nservices:\n");
    let app = App::find(APP).expect("the app");
    for service in app.services {
        let node = if service.name.ends_with("-us") { "replica" } else { "origin" };
        text.push_str(&format!("  {}: {node}\n", service.name));
    }
    text.push_str(
        "manager: {name: manager, hostname: manager.dsb, zone: us-central1-a, machine_type: e2-medium}\n\
         clients: {zone: us-central1-b, machine_type: e2-medium}\n\
         nodes:\n\
         \x20 origin: {hostname: origin.dsb, zone: us-central1-a, machine_type: e2-medium}\n\
         \x20 replica: {hostname: replica.dsb, zone: europe-west3-a, machine_type: e2-medium}\n",
    );
    text
}

struct Chaos {
    cloud: Cloud,
    random: rand::rngs::StdRng,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let cloud = Cloud::new(SITE);
        cloud.session.write("c.yml", placement());
        let bobs = cloud.labels(Some("bob"), "of-bob", 90_000);
        cloud.emulator.plant("us-central1-a", "database-of-somebody");
        cloud.emulator.plant_labelled("europe-west3-a", "alive-of-bob", &bobs);
        cloud.emulator.plant_disk("us-central1-a", "disk-of-somebody", &json!({"tool": "terraform"}));
        cloud.emulator.plant_image("maestro-base-of-bob", "maestro-base", &bobs);
        cloud.ok("--gcp firewall apply");
        Chaos { cloud, random: rand::rngs::StdRng::seed_from_u64(seed) }
    }

    /// Slow operations, and some of the failures that pass by themselves or do not.
    fn stumble(&mut self) {
        let emulator = &self.cloud.emulator;
        emulator.forgive();
        emulator.slow(self.random.random_range(0..6));
        let instances = "POST /compute/v1/projects/p/zones/us-central1-a/instances";
        match self.random.random_range(0..6) {
            0 => emulator.fail(instances, 2, 503, "backendError"),
            1 => emulator.fail(instances, 3, 429, "rateLimitExceeded"),
            2 => emulator.fail(instances, 1, 403, "quotaExceeded"),
            3 => emulator.fail("/operations/", 3, 503, "backendError"),
            4 => emulator.fail("DELETE", 2, 429, "rateLimitExceeded"),
            _ => {}
        }
    }

    /// Starts `line` and kills it after `span` at the latest. Whether it was still alive then.
    fn killed(&mut self, line: &str, span: Duration) -> bool {
        let instant = span.mul_f64(self.random.random_range(0.0..1.0));
        let log = std::fs::File::create(self.cloud.session.path("killed.log")).expect("a log");
        let mut child =
            self.cloud.command(line).stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("start");
        std::thread::sleep(instant);
        let alive = child.try_wait().expect("ask").is_none();
        child.kill().expect("kill");
        child.wait().expect("wait");
        // What it had sent is answered before anybody looks.
        let emulator = &self.cloud.emulator;
        let mut seen = usize::MAX;
        wait_for("the emulator to be idle", 10, || {
            let now = emulator.requests().len();
            std::mem::replace(&mut seen, now).eq(&now).then_some(())
        });
        alive
    }

    /// `gc` leaves nothing of ours and everything of others.
    fn swept(&self, what: &str) {
        let cloud = &self.cloud;
        let done = cloud.run("--gcp gc --yes");
        assert_eq!(done.code, 0, "{what}\n{}{}", done.stdout, done.stderr);
        cloud.ok("--gcp gc --check");
        cloud.ok("--gcp gc --check --all");
        assert_eq!(cloud.emulator.ours(), ["alive-of-bob", "maestro-base-of-bob"], "{what}");
        assert_eq!(cloud.emulator.instances(), ["alive-of-bob", "database-of-somebody"], "{what}");
        assert_eq!(cloud.emulator.leftovers(), LEFT, "{what}");
        cloud.fine();
    }

    /// Machines of ours that are there.
    fn machines(&self) -> usize {
        self.cloud.emulator.ours().iter().filter(|name| !name.ends_with("-of-bob")).count() / 2
    }
}

/// Kills `instants` commands at work, `strike` by `strike`; those that ended before do not count.
fn repeat(instants: usize, what: &str, mut strike: impl FnMut(usize) -> bool) {
    let (mut killed, mut round) = (0, 0);
    while killed < instants {
        assert!(round < instants * 6, "{what}: only {killed} of {round} were killed at work");
        killed += usize::from(strike(round));
        round += 1;
    }
    eprintln!("{what}: {killed} of {round} killed at work");
}

fn instants() -> usize {
    if std::env::var_os("MAESTRO_TEST_FULL").is_some() { 25 } else { 3 }
}

#[test]
fn a_deploy_killed_at_any_instant_leaves_nothing_that_gc_does_not_find() {
    let mut chaos = Chaos::new(20_261_128);
    let mut with_machines = 0;
    repeat(instants(), "deploy", |round| {
        chaos.stumble();
        let deploy = format!("--gcp {APP} deploy -config c.yml -clients 2 --yes --tag t{round}");
        let at_work = chaos.killed(&deploy, Duration::from_millis(2000));
        with_machines += usize::from(chaos.machines() > 0);
        chaos.swept(&format!("round {round}"));
        at_work
    });
    eprintln!("machines were left after {with_machines}");
    assert!(with_machines > 0);
}

#[test]
fn a_clean_killed_at_any_instant_leaves_nothing_that_gc_does_not_find() {
    let mut chaos = Chaos::new(20_261_129);
    let mut with_machines = 0;
    repeat(instants(), "clean -strong", |round| {
        chaos.cloud.emulator.forgive();
        let log = std::fs::File::create(chaos.cloud.session.path("deploy.log")).expect("a log");
        let deploy = format!("--gcp {APP} deploy -config c.yml -clients 2 --yes --tag t{round}");
        let mut command = chaos.cloud.command(&deploy);
        let mut child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("start");
        // It waits for hosts that are not there.
        wait_for("the machines", 60, || (chaos.machines() == MACHINES).then_some(()));
        child.kill().expect("kill");
        child.wait().expect("wait");
        chaos.stumble();
        let at_work = chaos.killed(&format!("--gcp {APP} clean -strong"), Duration::from_millis(600));
        with_machines += usize::from(chaos.machines() > 0);
        chaos.swept(&format!("round {round}"));
        at_work
    });
    eprintln!("machines were left after {with_machines}");
    assert!(with_machines > 0);
}
