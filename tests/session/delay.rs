//! The delay helper in network namespaces of its own, between a real Redis primary and its replica.
//!
//! These tests make namespaces, so they need root and `ip`; without them (or without redis-server) they say
//! `skipped: ...` and pass.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use maestro::delay::proof::{Expected, Proof, compare};
use maestro::delay::spec::{Asked, Distribution, Spec};
use maestro::delay::{Backend, Probed, Reply, Request, Rule, Rules, Status};

use crate::harness::wait_for;

/// What the kernel says here, and the reason to skip a netem test.
const NO_NETEM: &str = "kernel has no sch_";

static LABS: AtomicU32 = AtomicU32::new(0);

/// Two hosts joined by a cable: `near` holds the Redis replica, `far` the primary.
struct Lab {
    dir: tempfile::TempDir,
    near: String,
    far: String,
    children: Vec<Child>,
}

const NEAR: &str = "10.77.0.2";
const FAR: &str = "10.77.0.1";
const FAR_V6: &str = "fd77::1";

fn run(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let quiet = |c: &mut Command| c.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    quiet(Command::new(words[0]).args(&words[1..]))
}

impl Lab {
    /// The lab, or `None` with the reason printed.
    fn new() -> Option<Lab> {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("mst-{}-{number}-{end}", std::process::id());
        let dir = tempfile::tempdir().expect("a directory");
        let lab = Lab { dir, near: name("near"), far: name("far"), children: Vec::new() };
        let (near, far) = (&lab.near, &lab.far);
        for line in [
            format!("ip netns add {near}"),
            format!("ip netns add {far}"),
            format!("ip link add eth0 netns {near} type veth peer name eth0 netns {far}"),
            format!("ip -n {near} link set lo up"),
            format!("ip -n {far} link set lo up"),
            format!("ip -n {near} address add {NEAR}/24 dev eth0"),
            format!("ip -n {far} address add {FAR}/24 dev eth0"),
            format!("ip -n {near} address add fd77::2/64 dev eth0 nodad"),
            format!("ip -n {far} address add {FAR_V6}/64 dev eth0 nodad"),
            format!("ip -n {near} link set eth0 up"),
            format!("ip -n {far} link set eth0 up"),
        ] {
            if !run(&line) {
                eprintln!("skipped: cannot make network namespaces here (`{line}`)");
                return None;
            }
        }
        Some(lab)
    }

    /// A lab with Redis in both hosts, replicating.
    fn with_redis() -> Option<Lab> {
        if !run("redis-server --version") {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let mut lab = Lab::new()?;
        let common = "redis-server --port 6379 --save  --protected-mode no --repl-diskless-sync-delay 0";
        for (namespace, more) in
            [(lab.far.clone(), String::new()), (lab.near.clone(), format!("--replicaof {FAR} 6379"))]
        {
            let mut words: Vec<String> = common.split(' ').map(str::to_owned).collect();
            words.extend(more.split_whitespace().map(str::to_owned));
            words.extend(["--dir".to_owned(), lab.dir.path().display().to_string()]);
            words.extend(["--bind".to_owned(), "*".to_owned(), "-::*".to_owned()]);
            let child =
                Command::new("ip").args(["netns", "exec", &namespace]).args(&words).stdout(Stdio::null()).spawn();
            lab.children.push(child.expect("start redis-server"));
        }
        wait_for("replication", 20, || lab.replicates().then_some(()));
        Some(lab)
    }

    fn inside(&self, namespace: &str, words: &[&str]) -> String {
        let output = Command::new("ip").args(["netns", "exec", namespace]).args(words).output().expect("run ip");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn replicates(&self) -> bool {
        self.inside(&self.near, &["redis-cli", "info", "replication"]).contains("master_link_status:up")
    }

    /// The redirect tables in a namespace; empty when there is none of ours.
    fn tables(&self) -> String {
        self.inside(&self.near, &["nft", "list", "tables"])
    }

    /// Starts a helper in `namespace` with its state in `dir`.
    fn helper(&mut self, namespace: &str, dir: &Path, more: &[&str]) -> Helper {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]);
        // What is tested is the delay, not how late a machine busy with other tests wakes a process.
        if run("chrt --rr 1 true") {
            command.args(["chrt", "--rr", "1"]);
        }
        command.args([env!("CARGO_BIN_EXE_maestro"), "delay-helper", "serve", "--dir"]);
        let child = command.arg(dir).args(more).stderr(Stdio::null()).spawn().expect("start a helper");
        let helper = Helper { dir: dir.to_owned(), child };
        wait_for("the helper", 20, || helper.try_ask(&Request::Status));
        helper
    }

    fn near_helper(&mut self, more: &[&str]) -> Helper {
        let dir = self.dir.path().join("near");
        self.helper(&self.near.clone(), &dir, more)
    }

    fn far_helper(&mut self) -> Helper {
        let dir = self.dir.path().join("far");
        self.helper(&self.far.clone(), &dir, &["--lease", "300"])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for namespace in [&self.near, &self.far] {
            run(&format!("ip netns delete {namespace}"));
        }
    }
}

/// A running helper; killed hard when it goes out of scope.
struct Helper {
    dir: PathBuf,
    child: Child,
}

impl Helper {
    fn try_ask(&self, request: &Request) -> Option<Reply> {
        let text = serde_json::to_string(request).expect("a request");
        let args = ["delay-helper", "ask", "--dir"];
        let output = Command::new(env!("CARGO_BIN_EXE_maestro")).args(args).arg(&self.dir).arg(text).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("a reply"))
    }

    fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request).unwrap_or_else(|| panic!("{request:?} was refused"))
    }

    fn refusal(&self, request: &Request) -> String {
        let text = serde_json::to_string(request).expect("a request");
        let args = ["delay-helper", "ask", "--dir"];
        let output = Command::new(env!("CARGO_BIN_EXE_maestro")).args(args).arg(&self.dir).arg(text).output().unwrap();
        assert!(!output.status.success(), "{request:?} was granted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn probed(&self, request: &Request) -> Probed {
        match self.ask(request) {
            Reply::Probed(probed) => probed,
            other => panic!("{other:?}"),
        }
    }

    fn round_trips(&self, peer: &str, port: u16, rounds: usize) -> Probed {
        let peers = vec![peer.to_owned()];
        self.probed(&Request::Probe { peers, port, connections: 25, rounds, patience_ms: 10_000.0 })
    }

    fn kill(&mut self) {
        self.child.kill().expect("kill the helper");
        self.child.wait().expect("wait for the helper");
    }

    fn ended(&mut self, seconds: u64) -> i32 {
        wait_for("the helper's end", seconds, || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spec(delay_ms: f64, jitter_ms: f64, distribution: Distribution) -> Spec {
    Spec::check(Asked { delay_ms, jitter_ms, distribution, ..Asked::default() }).expect("a sound specification")
}

fn constant(delay_ms: f64) -> Spec {
    spec(delay_ms, 0.0, Distribution::Uniform)
}

fn rules(peer: &str, ports: &[u16], from_peer: Option<Spec>, to_peer: Option<Spec>) -> Rules {
    let rule = Rule {
        name: "primary -> replica".to_owned(),
        peers: vec![peer.to_owned()],
        ports: ports.to_vec(),
        from_peer,
        to_peer,
        following: None,
    };
    Rules { backend: Backend::Proxy, seed: 42, rules: vec![rule] }
}

fn writes(count: usize) -> Request {
    Request::Visibility { peers: vec![FAR.to_owned()], port: 6379, writes: count, patience_ms: 10_000.0 }
}

/// Measures until `sound` accepts the proof. Other work on the machine can only add time, so a few attempts are fair;
/// a delay that is wrong stays wrong in all of them.
fn proved(what: &str, mut measure: impl FnMut() -> Proof, sound: impl Fn(&Proof) -> bool) -> Proof {
    let mut last = None;
    for _ in 0..8 {
        let proof = measure();
        if sound(&proof) {
            return proof;
        }
        last = Some(proof);
    }
    panic!("{what}: {last:?}");
}

#[test]
fn what_was_asked_is_obtained_in_every_shape_and_by_replication_itself() {
    let Some(mut lab) = Lab::with_redis() else { return };
    let far = lab.far_helper();
    let echo = far.status().echo_port;
    let near = lab.near_helper(&["--lease", "300"]);
    let before = near.round_trips(FAR, echo, 8);
    let visible_before = near.probed(&writes(20));
    near.ask(&Request::Apply(rules(FAR, &[6379, echo], Some(Spec::zero()), None)));
    assert_eq!(near.status().rules[0].cut_over, 1, "the replication stream was open and is cut over");
    wait_for("replication through the proxy", 20, || lab.replicates().then_some(()));
    for delay in [5.0, 20.0, 100.0] {
        let set = |spec: Spec| near.ask(&Request::Set { rule: 0, spec });
        let jittered = Distribution::ALL.map(|shape| spec(delay, delay * 0.1, shape));
        for asked in [constant(delay)].into_iter().chain(jittered) {
            let expected = Expected::of(&[asked]);
            let measure = || {
                let (mut steady, mut after) = (Vec::new(), Probed::default());
                for _turn in 0..2 {
                    set(constant(delay));
                    steady.extend(near.round_trips(FAR, echo, 4).samples_ns);
                    set(asked);
                    let some = near.round_trips(FAR, echo, 4);
                    after.samples_ns.extend(some.samples_ns);
                    after.lost += some.lost;
                }
                compare(&expected, &before.samples_ns, &steady, &after.samples_ns, after.lost)
            };
            let sound =
                |proof: &Proof| proof.verdict().is_ok() && proof.lost == 0 && proof.ks_p.is_none_or(|p| p > 0.001);
            let path = proved(&format!("{asked}: path"), measure, sound);
            let measure = || {
                let after = near.probed(&writes(6));
                compare(&expected, &visible_before.samples_ns, &[], &after.samples_ns, after.lost)
            };
            let store = proved(&format!("{asked}: replication"), measure, |proof| proof.verdict().is_ok());
            eprintln!("{asked}: path {path}, KS p {:?}; replication p50 {:.2} ms", path.ks_p, store.obtained_p50_ms);
        }
    }
    let carried = near.status().rules[0].proxy.clone().expect("the proxy's counts");
    assert!(carried.accepted > 100 && carried.refused == 0, "{carried:?}");
}

#[test]
fn nothing_is_left_when_the_helper_is_killed_and_the_lease_holds_over_restarts() {
    let Some(mut lab) = Lab::with_redis() else { return };
    let mut near = lab.near_helper(&["--lease", "8"]);
    let echo = near.status().echo_port;
    near.ask(&Request::Apply(rules(FAR, &[6379], Some(constant(30.0)), None)));
    assert!(near.status().tied_to_process, "this kernel knows the owner flag");
    assert!(lab.tables().contains("maestro_delay"));

    near.kill();
    assert_eq!(lab.tables(), "", "the kernel removed the rules with the process");
    wait_for("direct replication", 20, || lab.replicates().then_some(()));

    // Started again as an engine would: it takes its rules up for the rest of the lease, then ends by itself.
    let mut again = lab.near_helper(&["--lease", "300"]);
    let status = again.status();
    assert_eq!((status.restarts, status.rules.len(), status.echo_port), (1, 1, echo));
    assert!(status.lease_left_s <= 8.0, "the lease is the old one: {} s", status.lease_left_s);
    assert!(lab.tables().contains("maestro_delay"));
    assert_eq!(again.ended(20), 0);
    assert_eq!(lab.tables(), "");
    wait_for("direct replication", 20, || lab.replicates().then_some(()));
}

#[test]
fn without_the_owner_flag_the_addresses_expire() {
    let Some(mut lab) = Lab::with_redis() else { return };
    let mut near = lab.near_helper(&["--lease", "300", "--no-owner"]);
    near.ask(&Request::Apply(rules(FAR, &[6379], Some(constant(5.0)), None)));
    assert!(!near.status().tied_to_process);
    near.kill();
    let ping = || lab.inside(&lab.near, &["redis-cli", "-h", FAR, "ping"]);
    assert_ne!(ping(), "PONG\n", "the rule is still there and leads nowhere");
    wait_for("traffic passing the orphaned rule", 30, || (ping() == "PONG\n").then_some(()));
    // The next helper removes what is left of it.
    let mut next = lab.near_helper(&["--lease", "300", "--no-owner"]);
    next.ask(&Request::Off);
    assert_eq!(next.ended(10), 0);
    assert_eq!(lab.tables(), "");
}

#[test]
fn both_directions_and_both_families() {
    let Some(mut lab) = Lab::new() else { return };
    let far = lab.far_helper();
    let echo = far.status().echo_port;
    let near = lab.near_helper(&["--lease", "300"]);
    for peer in [FAR, FAR_V6] {
        let before = near.round_trips(peer, echo, 4);
        near.ask(&Request::Apply(rules(peer, &[], Some(constant(20.0)), Some(constant(30.0)))));
        let measure = || {
            let after = near.round_trips(peer, echo, 4);
            compare(
                &Expected::of(&[constant(20.0), constant(30.0)]),
                &before.samples_ns,
                &[],
                &after.samples_ns,
                after.lost,
            )
        };
        proved(&format!("{peer}: both directions"), measure, |proof| proof.verdict().is_ok());
        near.ask(&Request::Set { rule: 0, spec: Spec::zero() });
    }
}

#[test]
fn connections_that_the_peer_opens_are_delayed_too() {
    let Some(mut lab) = Lab::new() else { return };
    let far = lab.far_helper();
    let near = lab.near_helper(&["--lease", "300"]);
    let echo = near.status().echo_port;
    let before = far.round_trips(NEAR, echo, 4);
    near.ask(&Request::Apply(rules(FAR, &[echo], Some(constant(40.0)), None)));
    let measure = || {
        let after = far.round_trips(NEAR, echo, 4);
        compare(&Expected::of(&[constant(40.0)]), &before.samples_ns, &[], &after.samples_ns, after.lost)
    };
    proved("opened by the peer", measure, |proof| proof.verdict().is_ok());
}

#[test]
fn a_peer_with_a_new_address_is_followed() {
    let Some(mut lab) = Lab::new() else { return };
    let far = lab.far_helper();
    let echo = far.status().echo_port;
    assert!(run(&format!("ip -n {} address add 10.77.0.9/24 dev eth0", lab.far)));
    // A name service of this test's own: the helper sees this file as its /etc/hosts.
    let hosts = lab.dir.path().join("hosts");
    std::fs::write(&hosts, format!("{FAR} primary\n")).unwrap();
    let dir = lab.dir.path().join("near");
    let script = format!(
        "mount --bind {} /etc/hosts && exec {} delay-helper serve --dir {} --lease 300",
        hosts.display(),
        env!("CARGO_BIN_EXE_maestro"),
        dir.display()
    );
    let child =
        Command::new("ip").args(["netns", "exec", &lab.near, "sh", "-c", &script]).stderr(Stdio::null()).spawn();
    let near = Helper { dir, child: child.unwrap() };
    wait_for("the helper", 20, || near.try_ask(&Request::Status));

    assert!(near.refusal(&Request::Apply(rules("nobody", &[], Some(constant(1.0)), None))).contains("`nobody`"));
    near.ask(&Request::Apply(rules("primary", &[echo], Some(constant(20.0)), None)));
    assert_eq!(near.status().rules[0].addresses, [FAR.parse::<std::net::IpAddr>().unwrap()]);
    std::fs::write(&hosts, "10.77.0.9 primary\n").unwrap();
    let moved = wait_for("the new address", 20, || {
        let status = near.status();
        (status.rules[0].address_changes > 0).then_some(status)
    });
    assert_eq!(moved.rules[0].addresses, ["10.77.0.9".parse::<std::net::IpAddr>().unwrap()]);
    let slow = near.round_trips("10.77.0.9", echo, 1);
    assert!(slow.samples_ns.iter().all(|ns| *ns >= 20_000_000), "undelayed: {slow:?}");
    // The old one is nobody's any more.
    near.ask(&Request::Set { rule: 0, spec: constant(60_000.0) });
    assert_eq!(near.round_trips(FAR, echo, 1).lost, 0);
}

#[test]
fn a_schedule_waits_for_the_load_and_is_followed() {
    let Some(mut lab) = Lab::new() else { return };
    let near = lab.near_helper(&["--lease", "300"]);
    near.ask(&Request::Apply(rules(FAR, &[], Some(constant(1.0)), None)));
    let schedule = |text: &str| Request::Follow(serde_json::from_str(text).unwrap());
    let bad = r#"{"steps": [{"at_s": 0, "rule": {"delay_ms": 1}}, {"at_s": 1, "rule": {"jitter_ms": 2}}]}"#;
    assert!(near.refusal(&schedule(bad)).contains("step 2: jitter 2 ms"));

    let steps = r#"{"steps": [{"at_s": 0, "rule": {"delay_ms": 1}}, {"at_s": 0.3, "rule": {"delay_ms": 7}}]}"#;
    near.ask(&schedule(steps));
    assert_eq!(near.status().rules[0].from_peer, "0 ms", "nothing is delayed before the load");
    let step = |wanted: usize| {
        let seen = || {
            let rule = near.status().rules.remove(0);
            (rule.step == Some(wanted)).then_some(rule.from_peer)
        };
        wait_for(&format!("step {wanted}"), 20, seen)
    };
    near.ask(&Request::Begin);
    assert_eq!(step(1), "7 ms");
}

#[test]
fn a_namespace_that_lost_its_interfaces_is_given_up() {
    let Some(mut lab) = Lab::new() else { return };
    let mut near = lab.near_helper(&["--lease", "300"]);
    near.ask(&Request::Apply(rules(FAR, &[], Some(constant(1.0)), None)));
    assert!(run(&format!("ip -n {} link delete eth0", lab.near)));
    assert_eq!(near.ended(20), 4, "so that the engine starts it anew in the container's next namespace");
}

#[test]
fn netem_does_the_same_where_the_kernel_has_it() {
    let Some(mut lab) = Lab::new() else { return };
    let far = lab.far_helper();
    let near = lab.near_helper(&["--lease", "300"]);
    let echo = far.status().echo_port;
    let before = near.round_trips(FAR, echo, 4);
    let asked = spec(20.0, 2.0, Distribution::Normal);
    let expected = Expected::of(&[asked]);
    let mut wanted = rules(NEAR, &[echo], None, Some(asked));
    wanted.backend = Backend::Netem;

    let Reply::Kernel { netem, redirect } = far.ask(&Request::Kernel) else { panic!("no answer about the kernel") };
    assert!(redirect, "the other tests need it");
    let loopback = lab.inside(&lab.far, &["tc", "qdisc", "show", "dev", "lo"]);
    assert!(loopback.starts_with("qdisc noqueue 0:"), "asking left something behind: {loopback}");

    // Somebody else's work on the interface is left alone, whatever the kernel has.
    assert!(run(&format!("ip netns exec {} tc qdisc add dev eth0 root handle 1: htb", lab.far)));
    let refusal = far.refusal(&Request::Apply(wanted.clone()));
    assert!(refusal.contains("interface `eth0` already has the root discipline `htb 1:`"), "{refusal}");
    assert!(run(&format!("ip netns exec {} tc qdisc delete dev eth0 root", lab.far)));

    if !netem {
        let refusal = far.refusal(&Request::Apply(wanted));
        assert!(refusal.contains(NO_NETEM), "{refusal}");
        let left = lab.inside(&lab.far, &["tc", "qdisc", "show", "dev", "eth0"]);
        assert!(left.starts_with("qdisc noqueue 0:"), "half a rule was left: {left}");
        eprintln!("skipped: kernel has no sch_netem");
        return;
    }
    far.ask(&Request::Apply(wanted));
    let measure = || {
        let after = near.round_trips(FAR, echo, 8);
        compare(&expected, &before.samples_ns, &[], &after.samples_ns, after.lost)
    };
    proved("netem", measure, |proof| proof.verdict().is_ok() && proof.ks_p.is_none_or(|p| p > 0.001));
    assert_eq!(far.status().rules[0].netem_drops, Some(0));
    far.ask(&Request::Off);
    let left = lab.inside(&lab.far, &["tc", "qdisc", "show", "dev", "eth0"]);
    assert!(!left.contains("netem") && !left.contains("prio"), "{left}");
}

#[test]
fn the_helper_says_no_in_words() {
    let Some(mut lab) = Lab::new() else { return };
    let near = lab.near_helper(&["--lease", "300"]);
    let set = Request::Set { rule: 0, spec: Spec::zero() };
    assert_eq!(near.refusal(&set), "maestro: no rule is in force\n");
    assert!(near.refusal(&Request::Renew { seconds: -1.0 }).contains("a lease of -1 s"));
    let probe = Request::Probe { peers: vec![FAR.to_owned()], port: 9, connections: 1, rounds: 1, patience_ms: 500.0 };
    assert!(near.refusal(&probe).contains("no answer to a probe"));
    assert!(near.refusal(&writes(1)).contains("10.77.0.1 port 6379"));
}
