//! Google Cloud against an emulator that speaks its documented protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use maestro::cloud::Ownership;
use maestro::cloud::firewall::{TABLE, Wish, compare, rule};
use maestro::execute::gce::{Access, Gce, Kind, VmSpec, VmState};

use crate::gce_emulator::{Addresses, Emulator};

fn spec(name: &str) -> VmSpec {
    let ownership = Ownership {
        deployment: "d1".into(),
        owner: "tester".into(),
        expiry: jiff::Timestamp::now() + Duration::from_secs(3600),
    };
    VmSpec {
        name: name.into(),
        hostname: Some(format!("{name}.dsb")),
        zone: "us-central1-a".into(),
        machine_type: "e2-medium".into(),
        image: "projects/debian-cloud/global/images/debian-12".into(),
        disk_gb: 50,
        network: "default".into(),
        tags: vec!["swarm".into()],
        labels: ownership.labels(),
        metadata: BTreeMap::from([("ssh-keys".to_owned(), "root:ssh-ed25519 AAAA".to_owned())]),
        max_run: Duration::from_secs(3600),
        spot: false,
        reads_registry: false,
    }
}

fn with_client<T>(emulator: &Emulator, work: impl AsyncFnOnce(Gce) -> T) -> T {
    let access = Access {
        project: "p".into(),
        endpoint: Some(emulator.url.clone()),
        key: None,
        patience: Duration::from_secs(20),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move { work(Gce::connect(&access).await.unwrap()).await })
}

#[test]
fn machines_come_and_go_and_are_found_by_label() {
    let emulator = Emulator::start(Box::new(Addresses::default()));
    emulator.plant("us-central1-a", "database-of-somebody");
    with_client(&emulator, async |gce| {
        for name in ["a", "b", "c"] {
            gce.ensure_vm(&spec(name)).await.unwrap();
            gce.ensure_vm(&spec(name)).await.unwrap();
        }
        let vms = gce.vms(Some("d1")).await.unwrap();
        assert_eq!(vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(vms[0].state, VmState::Running);
        assert_eq!((vms[0].zone.as_str(), vms[0].machine_type.as_str()), ("us-central1-a", "e2-medium"));
        assert!(vms[0].external_ip.as_deref().unwrap().starts_with("192.0.2."));
        assert_eq!(vms[0].ownership().unwrap().deployment, "d1");
        for vm in vms {
            gce.delete_vm(&vm.zone, &vm.name).await.unwrap();
            gce.delete_vm(&vm.zone, &vm.name).await.unwrap();
        }
    });
    assert_eq!(emulator.instances(), ["database-of-somebody"]);
    assert_eq!(emulator.violations(), Vec::<String>::new());
}

#[test]
fn failures_are_told_apart() {
    let emulator = Emulator::start(Box::new(Addresses::default()));
    emulator.plant("us-central1-a", "taken");
    with_client(&emulator, async |gce| {
        for (name, kind, words) in [
            ("quota-now", Kind::Quota, "Limit: 24.0"),
            ("quota-later", Kind::Quota, "QUOTA_EXCEEDED"),
            ("stockout", Kind::Stockout, "enough resources"),
            ("taken", Kind::AlreadyExists, "belongs to something else"),
        ] {
            let error = gce.ensure_vm(&spec(name)).await.unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
        emulator.fail("GET /compute/v1/projects/p/global/images", 1, 403, "forbidden");
        let error = gce.image_exists("x").await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{error}");
        emulator.fail("GET /compute/v1/projects/p/global/images", 1, 200, "html");
        let error = gce.image_exists("x").await.unwrap_err();
        assert_eq!(error.kind, Kind::Protocol, "{error}");
        assert!(!gce.image_exists("x").await.unwrap());
    });
}

#[test]
fn passing_failures_are_ridden_out_and_nothing_is_made_twice() {
    let emulator = Emulator::start(Box::new(Addresses::default()));
    emulator.slow(3);
    emulator.fail("POST /compute/v1/projects/p/zones/us-central1-a/instances", 2, 503, "backendError");
    emulator.fail("/operations/", 2, 503, "backendError");
    emulator.fail("aggregated/instances", 1, 429, "rateLimitExceeded");
    with_client(&emulator, async |gce| {
        gce.ensure_vm(&spec("a")).await.unwrap();
        assert_eq!(gce.vms(None).await.unwrap().len(), 1);
    });
    assert_eq!(emulator.instances(), ["a"]);
}

#[test]
fn an_unreachable_api_is_one_clear_line() {
    let mut gone = Emulator::start(Box::new(Addresses::default()));
    gone.url = "http://127.0.0.1:9".into();
    with_client(&gone, async |gce| {
        let pending = gce.image_exists("x");
        let error = tokio::time::timeout(Duration::from_secs(60), pending).await.unwrap().unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable, "{error}");
        assert!(!error.to_string().contains('\n'));
    });
}

#[test]
fn the_firewall_table_is_created_and_compared() {
    let emulator = Emulator::start(Box::new(Addresses::default()));
    let wish = Wish { network: "default".into(), sources: vec!["192.0.2.9/32".into()], open: false };
    with_client(&emulator, async |gce| {
        assert_eq!(compare(&gce.firewall_rules().await.unwrap(), &wish).len(), TABLE.len());
        for wanted in TABLE {
            gce.ensure_firewall(&rule(wanted, &wish)).await.unwrap();
        }
        assert_eq!(compare(&gce.firewall_rules().await.unwrap(), &wish), []);
        for wanted in TABLE {
            gce.delete_firewall(wanted.name).await.unwrap();
        }
    });
    assert!(emulator.leftovers().is_empty());
}

#[test]
fn the_documents_name_what_the_table_gives() {
    use maestro::cloud::{price::Prices, provision};
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("configs/gcp/socialNetwork/us-eu.yml")).unwrap();
    let app = maestro::app::App::find("socialNetwork").unwrap();
    let target = maestro::experiment::TargetName::Gcp;
    let placement = maestro::placement::Placement::parse(target, app, "us-eu.yml", &text).unwrap();
    let machines = provision::machines(&placement, "t", 1).unwrap();
    let estimate = Prices::default().estimate(&machines, 50, false);
    let (hour, until) = (estimate.usd_per_hour, estimate.usd_per_hour * 12.0);
    let page = std::fs::read_to_string(root.join("docs/gcp.md")).unwrap();
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = format!(
        "({} machines) is {hour:.2} USD per hour by the built-in table of {}, {until:.2} USD until",
        machines.len(),
        estimate.as_of
    );
    assert!(words.contains(&said), "the page does not say: {said}");
}
