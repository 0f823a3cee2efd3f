//! Commands about the project itself, against the emulator: firewall, gc, doctor, the base image.

use serde_json::{Value, json};

use crate::gce_emulator::{Addresses, Emulator};
use crate::harness::{Done, Session};

/// A root with a site file, and an emulator that its commands talk to.
pub struct Cloud {
    pub session: Session,
    pub emulator: Emulator,
}

pub const SITE: &str = "project_id: p\nsource_ranges: [192.0.2.9/32]\n";

impl Cloud {
    pub fn new(site: &str) -> Cloud {
        let session = Session::new();
        session.write("gcp/config.yml", site);
        Cloud { session, emulator: Emulator::start(Box::new(Addresses::default())) }
    }

    pub fn command(&self, line: &str) -> std::process::Command {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = self.session.command(&args);
        command.env("MAESTRO_GCE_ENDPOINT", &self.emulator.url).env("USER", "tester");
        command
    }

    pub fn run(&self, line: &str) -> Done {
        self.command(line).output().expect("start maestro").into()
    }

    pub fn ok(&self, line: &str) -> Done {
        self.run(line).ok(line)
    }

    /// Runs it and demands this exit code.
    pub fn ends(&self, line: &str, code: i32) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, code, "maestro {line}\nstdout:\n{}\nstderr:\n{}", done.stdout, done.stderr);
        done
    }

    /// Labels as this caller's things have them, or another's.
    pub fn labels(&self, owner: Option<&str>, deployment: &str, expires_in: i64) -> Value {
        let mine = format!("tester-{}", rustix::system::uname().nodename().to_string_lossy().to_lowercase());
        let mine: String =
            mine.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect();
        let expiry = jiff::Timestamp::now().as_second() + expires_in;
        json!({"tool": "maestro", "deployment": deployment, "owner": owner.unwrap_or(&mine), "expiry": expiry.to_string()})
    }

    pub fn fine(&self) {
        assert_eq!(self.emulator.violations(), Vec::<String>::new());
    }
}

#[test]
fn the_site_file_is_asked_for_and_checked() {
    let cloud = Cloud::new("project_id: change-me\n");
    let done = cloud.ends("--gcp firewall plan", 2);
    assert_eq!(
        done.stderr,
        "maestro: `gcp/config.yml`: project_id is still `change-me`\n  put your project's id there\n"
    );
    cloud.session.write("gcp/config.yml", "project_id: p\nttl_hours: 0\n");
    assert!(cloud.ends("--gcp gc", 2).stderr.contains("ttl_hours: 0 is outside"));
    cloud.session.write("gcp/config.yml", SITE);
    let done = cloud.ends("--local gc", 2);
    assert!(done.stderr.contains("`gc` is about Google Cloud, not about `--local`"), "{}", done.stderr);
    cloud.session.write("gcp/credentials.json", "{\"type\": \"service_account\"");
    assert!(cloud.ends("--gcp gc", 2).stderr.contains("credentials.json"));
}

#[test]
fn firewall_plans_applies_and_plans_again() {
    let cloud = Cloud::new(SITE);
    let done = cloud.ends("--gcp firewall plan", 4);
    assert_eq!(
        done.stdout,
        "rule `portainer` is missing\nrule `swarm` is missing\nrule `nodes` is missing\nrule `maestro-ssh` is missing\n"
    );
    assert!(done.stderr.contains("4 of 4 firewall rules are not as they should be\n  maestro --gcp firewall apply"));
    let dry = cloud.ok("--gcp firewall apply --dry-run");
    assert!(dry.stdout.starts_with("create rule `portainer`\n"), "{}", dry.stdout);
    assert!(cloud.emulator.leftovers().is_empty());
    assert_eq!(cloud.ok("--gcp firewall apply").stdout, "all 4 rules are as they should be\n");
    cloud.ok("--gcp firewall plan");
    let nodes = cloud.emulator.firewall("nodes").unwrap();
    assert_eq!(nodes["sourceRanges"], json!(["192.0.2.9/32"]));
    assert_eq!((&nodes["sourceTags"], &nodes["targetTags"]), (&json!(["swarm"]), &json!(["nodes"])));
    assert_eq!(cloud.emulator.firewall("swarm").unwrap()["sourceRanges"], Value::Null);

    // The caller moved: the rules that are ours follow.
    cloud.session.write("gcp/config.yml", "project_id: p\nsource_ranges: [198.51.100.7/32]\n");
    let done = cloud.ends("--gcp firewall plan", 4);
    assert!(done.stdout.contains("rule `nodes` does not let in 198.51.100.7/32\n"), "{}", done.stdout);
    assert!(done.stdout.contains("rule `nodes` lets in 192.0.2.9/32, which is not among the sources\n"));
    cloud.ok("--gcp firewall apply");
    assert_eq!(cloud.emulator.firewall("maestro-ssh").unwrap()["sourceRanges"], json!(["198.51.100.7/32"]));

    // Everyone, only when asked for.
    assert!(cloud.ends("--gcp firewall plan --open", 4).stdout.contains("rule `nodes` does not let in 0.0.0.0/0"));
    cloud.ok("--gcp firewall apply --open");
    assert!(cloud.ends("--gcp firewall plan", 4).stdout.contains("rule `nodes` lets in everyone (0.0.0.0/0)"));
    assert_eq!(cloud.emulator.firewall("swarm").unwrap()["sourceRanges"], Value::Null);
    let everyone = "project_id: p\nsource_ranges: [0.0.0.0/0]\n";
    cloud.session.write("gcp/config.yml", everyone);
    assert!(cloud.ends("--gcp firewall apply", 2).stderr.contains("lets in everyone (0.0.0.0/0)\n  name fewer"));

    // Another network: a rule cannot move, so ours are made anew there.
    cloud.session.write("gcp/config.yml", format!("{SITE}network: lab\n"));
    assert!(cloud.ends("--gcp firewall plan", 4).stdout.contains("rule `swarm` belongs to network `default`"));
    cloud.ok("--gcp firewall apply");
    assert_eq!(cloud.emulator.firewall("swarm").unwrap()["network"], "global/networks/lab");
    cloud.fine();
}

#[test]
fn firewall_leaves_rules_of_others_alone() {
    let cloud = Cloud::new(SITE);
    let theirs = json!({"name": "nodes", "network": "https://www.googleapis.com/compute/v1/projects/p/global/networks/default",
        "description": "by hand", "direction": "INGRESS", "sourceRanges": ["0.0.0.0/0"], "targetTags": ["nodes"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["8080-8082", "16686"]}], "unheardOf": {"x": 1}});
    cloud.emulator.plant_firewall(theirs.clone());
    let done = cloud.ends("--gcp firewall apply", 4);
    assert_eq!(cloud.emulator.firewall("nodes"), Some(theirs));
    let foreign = "it was not made by maestro, so it is left alone\n";
    assert!(
        done.stdout.starts_with(
            "rule `nodes` does not let in tcp 9001, 1234, 4080, 5563, 15672, 5672, 5778, 14268, 14250, 9411, 9100, 15673, 5673; "
        ),
        "{}",
        done.stdout
    );
    assert_eq!(done.stdout.matches(foreign).count(), 3, "{}", done.stdout);
    assert!(done.stderr.contains("1 of 4 firewall rules"), "{}", done.stderr);
    let rows: Value = serde_json::from_str(&cloud.ends("--gcp firewall plan --json", 4).stdout).unwrap();
    assert_eq!(
        (&rows[0]["rule"], &rows[0]["foreign"], &rows[0]["blocks"]),
        (&json!("nodes"), &json!(true), &json!(true))
    );
    cloud.fine();
}

#[test]
fn an_address_that_is_not_known_is_asked_for() {
    // The way to the emulator leaves by the loopback interface, whose address nobody else sees.
    let cloud = Cloud::new("project_id: p\n");
    let done = cloud.ends("--gcp firewall apply", 2);
    assert!(
        done.stderr.contains("it is not known from which address you reach the internet: the address here, 127.0.0.1")
    );
    assert!(done.stderr.contains("`source_ranges: [A.B.C.D/32]`"), "{}", done.stderr);
    assert!(cloud.emulator.leftovers().is_empty());
}

#[test]
fn answers_that_are_not_the_apis_are_one_line() {
    let cloud = Cloud::new(SITE);
    for (status, reason, words) in [
        (200, "html", "the answer is not the API's JSON\n  is there a proxy"),
        (200, "truncated", "the answer is not the API's JSON\n  is there a proxy"),
        (407, "html", "is there a proxy"),
        (401, "authError", "authError (injected)\n  check gcp/credentials.json"),
        (403, "forbidden", "forbidden (injected)\n  check gcp/credentials.json and the role in docs/gcp.md"),
    ] {
        cloud.emulator.fail("GET /compute/v1/projects/p/global/firewalls", 1, status, reason);
        let done = cloud.run("--gcp firewall plan -q");
        assert!(done.code == 2 || done.code == 3, "{status} {reason}: {}", done.code);
        assert!(done.stderr.starts_with("maestro: listing firewall rules: "), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{status} {reason}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 2, "{}", done.stderr);
        assert!(!done.stderr.contains('<'), "{}", done.stderr);
    }
}

#[test]
fn gc_takes_what_is_expired_or_orphaned_and_nothing_else() {
    let cloud = Cloud::new(SITE);
    let zone = "us-central1-a";
    cloud.emulator.plant(zone, "database-of-somebody");
    cloud.emulator.plant_disk(zone, "disk-of-somebody", &json!({"tool": "terraform"}));
    assert_eq!(cloud.ok("--gcp gc --check").stdout, "nothing of maestro's is left\n");

    cloud.emulator.plant_labelled(zone, "alive-of-bob", &cloud.labels(Some("bob"), "d1", 3600));
    cloud.emulator.plant_labelled(zone, "expired-of-bob", &cloud.labels(Some("bob"), "d2", -1));
    cloud.emulator.plant_labelled("europe-west3-a", "alive-of-mine", &cloud.labels(None, "d3", 3600));
    cloud.emulator.plant_labelled(zone, "half-made", &cloud.labels(None, "d4", 3600));
    cloud.emulator.plant_disk(zone, "lone-disk", &cloud.labels(None, "d5", 3600));
    cloud.emulator.plant_disk(zone, "disk-of-bob", &cloud.labels(Some("bob"), "d1", 3600));
    // A deploy that did not come to its end: a record without hosts.
    cloud.session.write(
        "deploy/gcp/socialNetwork/d4/deployment.yml",
        "format: 1\napp: socialNetwork\ntarget: gcp\ntag: d4\nconfig: c.yml\nconfig_sha256: ''\nzone_pair: US->EU\nclients: 1\n",
    );
    let done = cloud.ends("--gcp gc --check", 5);
    assert!(done.stderr.contains("3 things left in `p`"), "{}{}", done.stdout, done.stderr);
    let row = |name: &str| done.stdout.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(row("expired-of-bob").ends_with("expired"), "{}", done.stdout);
    assert!(row("alive-of-bob").ends_with("no: in use"), "{}", done.stdout);
    assert!(row("alive-of-mine").ends_with("no: in use (--all takes it)"), "{}", done.stdout);
    assert!(row("half-made").contains("orphaned"), "{}", done.stdout);
    assert!(row("lone-disk").contains("orphaned"), "{}", done.stdout);
    assert!(!done.stdout.contains("somebody"));

    let before = cloud.emulator.ours().len();
    assert!(cloud.ends("--gcp gc", 2).stderr.contains("not confirmed"));
    cloud.ok("--gcp gc --dry-run --yes");
    assert_eq!(cloud.emulator.ours().len(), before);
    cloud.emulator.fail("DELETE", 2, 503, "backendError");
    cloud.ok("--gcp gc --yes");
    cloud.ok("--gcp gc --check");
    assert_eq!(cloud.emulator.ours(), ["alive-of-mine", "alive-of-bob", "disk-of-bob"]);
    assert!(cloud.ends("--gcp gc --check --all", 5).stdout.contains("yours"));
    cloud.ok("--gcp gc --all --yes");
    cloud.ok("--gcp gc --all --check");
    assert_eq!(cloud.emulator.instances(), ["alive-of-bob", "database-of-somebody"]);
    assert_eq!(cloud.emulator.leftovers(), ["disk-of-bob", "disk-of-somebody"]);
    cloud.fine();
}

#[test]
fn build_images_a_machine_that_powers_itself_off() {
    let cloud = Cloud::new(&format!("{SITE}build_minutes: 0.5\n"));
    let dry = cloud.ok("--gcp socialNetworkMini build --skip-images --dry-run");
    assert_eq!(
        dry.stdout,
        "make a machine (e2-medium, us-central1-a) from `debian-cloud/debian-12`\n\
         wait until it powers itself off, at most 0.5 min\n\
         make an image of family `maestro-base` in `p` of its disk\n\
         delete the machine, and your older images of the family\n"
    );
    assert!(cloud.emulator.requests().is_empty());
    cloud.emulator.slow(2);
    cloud.emulator.fail("POST /compute/v1/projects/p/zones/us-central1-a/instances", 1, 503, "backendError");
    let done = cloud.ok("--gcp socialNetworkMini build --skip-images");
    assert!(
        done.stderr.contains("warning: rule `nodes` is missing (see: maestro --gcp firewall plan)"),
        "{}",
        done.stderr
    );
    assert_eq!(cloud.emulator.instances(), Vec::<String>::new());
    let [name] = cloud.emulator.leftovers().try_into().expect("one image");
    let image = cloud.emulator.image(&name).unwrap();
    assert_eq!(image["family"], "maestro-base");
    assert_eq!(image["labels"]["deployment"], "base-image");
    let inserted = cloud.emulator.requests().into_iter().find(|(line, _)| line.ends_with("/instances")).unwrap().1;
    assert_eq!(
        inserted["disks"][0]["initializeParams"]["sourceImage"],
        "projects/debian-cloud/global/images/debian-12-v20261001"
    );
    assert_eq!(inserted["serviceAccounts"], Value::Null);
    // A second image takes the place of the first.
    cloud.ok("--gcp socialNetworkMini build --skip-images");
    let [second] = cloud.emulator.leftovers().try_into().expect("one image");
    assert_ne!(name, second);
    cloud.fine();
}

#[test]
fn a_base_machine_that_fails_or_never_ends_is_removed() {
    let cloud = Cloud::new(&format!("{SITE}build_minutes: 0.02\n"));
    let build = "--gcp socialNetworkMini build --skip-images -q";
    cloud.emulator.hang("kernel\nmaestro-base: installing packages\n");
    let done = cloud.ends(build, 4);
    let last = done.stderr.lines().find(|line| line.starts_with("maestro: ")).unwrap();
    assert!(last.starts_with("maestro: power off of machine `maestro-base-"), "{last}");
    assert!(last.ends_with("` not ready after 1.2s; last seen: installing packages"), "{last}");
    cloud.session.write("gcp/config.yml", format!("{SITE}build_minutes: 10\n"));
    cloud.emulator.hang("maestro-base: installing packages\nmaestro-base: failed (100): installing packages\n");
    let done = cloud.ends(build, 4);
    assert!(done.stderr.contains("failed (100): installing packages\n"), "{}", done.stderr);
    cloud.session.write("gcp/config.yml", format!("{SITE}image_family: debian-9\n"));
    let done = cloud.ends(build, 4);
    assert!(done.stderr.contains("looking up image family `debian-9` of `debian-cloud`"), "{}", done.stderr);
    assert_eq!((cloud.emulator.instances(), cloud.emulator.leftovers()), (Vec::new(), Vec::new()));
    // Stopped from outside it takes the machine with it.
    cloud.session.write("gcp/config.yml", SITE);
    cloud.emulator.hang("maestro-base: installing packages\n");
    let mut child = cloud.command(build).stderr(std::process::Stdio::piped()).spawn().unwrap();
    crate::harness::wait_for("the machine", 30, || (!cloud.emulator.instances().is_empty()).then_some(()));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(cloud.emulator.instances(), Vec::<String>::new());
    cloud.fine();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pushed_where_the_machine_fetches_them() {
    use crate::docker::{Made, Sweep, busybox, engine, shell_image, unique};
    let Some(engine) = engine("images_are_pushed").await else { return };
    let Some(shell) = busybox("images_are_pushed") else { return };
    let registry = crate::registry::Registry::start();
    let name = unique("push");
    let remote = maestro::cloud::startup::remote_name(&format!("127.0.0.1:{}/dsb", registry.port), &name);
    let _sweep = Sweep(vec![Made::Image(format!("{remote}:1")), Made::Image(format!("{name}:1"))]);
    shell_image(&engine, &format!("{name}:1"), &shell).await;
    engine.tag_image(&format!("{name}:1"), &format!("{remote}:1")).await.unwrap();
    engine.push_image(&format!("{remote}:1"), None).await.unwrap();
    let id = engine.image(&format!("{name}:1")).await.unwrap().unwrap().id;
    assert_eq!(registry.id_of(&format!("dsb/{name}"), "1"), Some(id));
    let refused = engine.push_image("127.0.0.1:9/dsb/none:1", None).await.unwrap_err();
    assert!(refused.to_string().contains("push image `127.0.0.1:9/dsb/none:1`"), "{refused}");
}

#[test]
fn doctor_tells_when_a_run_can_start() {
    let cloud = Cloud::new(&format!("{SITE}registry: us-central1-docker.pkg.dev/p/dsb\n"));
    cloud.session.write("c.yml", crate::gcp_chaos::placement());
    let doctor = "--gcp socialNetworkMini doctor -config c.yml";
    let done = cloud.ends(doctor, 3);
    for words in [
        "rule `swarm` is missing",
        "none yet",
        "maestro --gcp socialNetworkMini build",
        "maestro --gcp firewall apply",
        "6 vCPUs of 72 free, 3 addresses of 29 free",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    assert!(done.stderr.contains("no run can start on `gcp` yet: firewall"), "{}", done.stderr);
    assert!(cloud.ends("--gcp socialNetworkMini doctor", 3).stdout.contains("no placement was named"));
    cloud.ok("--gcp firewall apply");
    cloud.emulator.plant_image("maestro-base-1", "maestro-base", &cloud.labels(None, "base-image", 9000));
    let done = cloud.ok(doctor);
    assert!(
        done.stdout.lines().any(|line| line.contains("base image") && line.contains("maestro-base-1")),
        "{}",
        done.stdout
    );
    cloud.emulator.quota(5.0);
    let done = cloud.ends(doctor, 3);
    assert!(done.stdout.contains("6 vCPUs of 5 free"), "{}", done.stdout);
    cloud.emulator.fail("/global/firewalls", 1, 403, "forbidden");
    let done = cloud.ends(doctor, 3);
    assert!(done.stdout.contains("check gcp/credentials.json and the role in docs/gcp.md"), "{}", done.stdout);
    cloud.session.write("gcp/config.yml", "project_id: change-me\n");
    assert!(cloud.ends(doctor, 3).stdout.contains("put your project's id there"));
    cloud.fine();
}

#[test]
fn extend_relabels_what_lives_long_enough_and_restarts_the_rest() {
    let cloud = Cloud::new(SITE);
    cloud.session.write("c.yml", crate::gcp_chaos::placement());
    assert!(cloud.ends("--gcp extend --ttl 1", 2).stderr.contains("no app given"));
    assert!(
        cloud.ends("--gcp socialNetworkMini extend --ttl 1", 2).stderr.contains("nothing is deployed on `gcp` yet")
    );
    cloud.emulator.plant_image("maestro-base-1", "maestro-base", &cloud.labels(Some("bob"), "base-image", 9000));
    cloud.ok("--gcp firewall apply");
    let names = crate::gcp_lost::half_made(&cloud, "t1");
    let expiry = |name: &String| {
        let label = cloud.emulator.instance(name).unwrap()["labels"]["expiry"].as_str().unwrap().to_owned();
        label.parse::<i64>().unwrap() - jiff::Timestamp::now().as_second()
    };
    let asked = |what: &str| cloud.emulator.requests().iter().filter(|(line, _)| line.ends_with(what)).count();
    assert!(names.iter().all(|name| (42_000..=43_200).contains(&expiry(name))));
    assert!(cloud.ends("--gcp extend --ttl 0.001", 2).stderr.contains("30 s to 120 days"));

    // They live 12 h anyway.
    let done = cloud.ok("--gcp extend --ttl 2");
    assert_eq!(done.stdout.matches("change its label").count(), 4, "{}", done.stdout);
    assert!(names.iter().all(|name| (7_000..=7_200).contains(&expiry(name))));
    assert_eq!((asked("/stop"), asked("/setScheduling")), (0, 0));

    // Longer than that takes a stop, which is asked for.
    let done = cloud.ends("--gcp extend --ttl 24", 2);
    assert_eq!(done.stdout.matches("stop, change, start").count(), 4, "{}", done.stdout);
    cloud.ok("--gcp extend --ttl 24 --dry-run");
    assert!(names.iter().all(|name| expiry(name) <= 7_200));
    cloud.emulator.fail("setLabels", 1, 412, "conditionNotMet");
    cloud.emulator.fail("/start", 1, 503, "backendError");
    cloud.ok("--gcp extend --ttl 24 --yes");
    assert_eq!((asked("/stop"), asked("/setScheduling")), (4, 4));
    for name in &names {
        let vm = cloud.emulator.instance(name).unwrap();
        assert_eq!(
            (&vm["status"], &vm["scheduling"]["maxRunDuration"]["seconds"]),
            (&json!("RUNNING"), &json!("86400"))
        );
        assert_eq!(vm["scheduling"]["instanceTerminationAction"], "DELETE");
        assert!((86_000..=86_400).contains(&expiry(name)));
        let role = vm["labels"]["role"].as_str().unwrap();
        assert!(["manager", "node", "client"].contains(&role), "{role}");
    }
    // What goes at the end is the caller's: the image that these machines started from is somebody else's.
    cloud.emulator.plant_image("maestro-base-0", "maestro-base", &cloud.labels(None, "base-image", 9000));
    cloud.ok("--gcp socialNetworkMini clean -strong --images --firewall");
    assert_eq!(
        (cloud.emulator.instances(), cloud.emulator.leftovers()),
        (Vec::new(), vec!["maestro-base-1".to_owned()])
    );
    cloud.fine();
}
