//! A look at every host before anything is changed: one table, then what stands in the way.

use std::collections::{BTreeSet, HashMap};

use super::Hosts;
use crate::clock::{Exchange, Offset, offset};
use crate::cluster::{Facts, HostFacts, MAESTRO, Needs, PortUse, STACK, TOOL};
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::docker::{Engine, EngineFacts};
use crate::execute::ssh::{Exec, Remote};
use crate::inventory::Host;
use crate::peer::now_ns;
use crate::swarm::NAMESPACE;
use crate::ui;

/// Less free disk than this is refused, bytes: images and stores need some.
const LEAST_DISK: u64 = 2 << 30;

/// Clocks further apart than this are worth a word, us.
const CLOCK_TOLERANCE_US: f64 = 100_000.0;

/// Looks at a host's clock this often; the quickest exchange decides.
const CLOCK_LOOKS: usize = 3;

/// Prints `key=value` lines. Everything is in POSIX and the usual /proc, nothing needs root.
const LOOK: &str = r#"say() { printf '%s=%s\n' "$1" "$2"; }
say hostname "$(cat /proc/sys/kernel/hostname)"
say machine "$(uname -m)"
say kernel "$(uname -r)"
say cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
say cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c ^processor /proc/cpuinfo)"
say memory "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
say clock_source "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)"
say synchronised "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)"
say connection "$SSH_CONNECTION"
say addresses "$(hostname -I 2>/dev/null)"
say home_disk "$(df -Pk "$HOME" | awk 'NR==2 {print $4}')"
say docker_disk "$(df -Pk /var/lib/docker 2>/dev/null | awk 'NR==2 {print $4}')"
say tcp "$(awk '$4 == "0A" {split($2, a, ":"); print a[2]}' /proc/net/tcp /proc/net/tcp6 2>/dev/null | sort -u | tr '\n' ' ')"
say udp "$(awk 'NR > 1 {split($2, a, ":"); print a[2]}' /proc/net/udp /proc/net/udp6 2>/dev/null | sort -u | tr '\n' ' ')"
sudo -n true 2>/dev/null && say sudo yes || say sudo no
have() {
  [ -d "/sys/module/$1" ] && return 0
  m=/lib/modules/$(uname -r)
  grep -qs "/$1\.ko" "$m/modules.dep" "$m/modules.builtin"
}
[ -e /proc/net/ip_vs ] || have ip_vs && say ipvs yes || say ipvs no
have vxlan && say vxlan yes || say vxlan no"#;

/// What one host says.
struct Seen {
    values: HashMap<String, String>,
    engine: EngineFacts,
    clock: Option<Offset>,
    sudo: bool,
    /// The engine is in a swarm already.
    swarm: bool,
    /// Services of the stack run there already: the ports are theirs.
    ours: bool,
}

impl Seen {
    fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    fn ports(&self, key: &str) -> BTreeSet<u16> {
        self.text(key).split_whitespace().filter_map(|hex| u16::from_str_radix(hex, 16).ok()).collect()
    }

    /// Free disk where images go, bytes.
    fn disk(&self) -> u64 {
        let kilobytes = if self.text("docker_disk").is_empty() { "home_disk" } else { "docker_disk" };
        self.number(kilobytes) << 10
    }

    /// The address by which the other hosts reach this one: where the SSH connection arrived, unless that is only this
    /// host's own loopback.
    fn address(&self) -> String {
        let arrived = self.text("connection").split_whitespace().nth(2).unwrap_or_default();
        let own = arrived.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_loopback());
        let first = self.text("addresses").split_whitespace().next().unwrap_or(arrived);
        if own { arrived.to_owned() } else { first.to_owned() }
    }
}

/// Looks at all hosts at once.
///
/// # Errors
/// Exit code 3 with every reason, after the table was shown.
pub(super) async fn ensure(hosts: &Hosts, needs: &Needs) -> Result<Outcome> {
    let names = hosts.names();
    let seen = hosts.each(&names, async |name| look(hosts, &name).await).await?;
    let mut doubts = Vec::new();
    let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
    for (host, seen) in hosts.all().iter().zip(&seen) {
        let found = judge(host, seen, needs);
        rows.push(row(host, seen, &found));
        doubts.extend(found.into_iter().map(|why| format!("{}: {why}", host.name)));
    }
    for line in ui::table(&rows).lines() {
        ui::note(line);
    }
    let fatal: Vec<&String> = doubts.iter().filter(|why| !needs.force || !why.contains(FORCEABLE)).collect();
    if fatal.is_empty() {
        doubts.iter().for_each(ui::warn);
        let found = Facts {
            inventory: (*hosts.inventory).clone(),
            hosts: hosts.all().iter().zip(&seen).map(|(host, seen)| facts(host, seen)).collect(),
            ..Facts::default()
        };
        return Ok(Outcome::Hosts(Box::new(found)));
    }
    let why: Vec<&str> = fatal.iter().map(|why| why.as_str()).collect();
    let plain = Plain::new(Exit::Unreachable, format!("these hosts cannot be used as they are: {}", why.join("; ")));
    let ipvs = fatal.iter().any(|why| why.contains(NO_IPVS));
    Err(match ipvs {
        true => plain.with_hint("without IPVS: --endpoint-mode dnsrr --publish host").into(),
        false => plain.into(),
    })
}

const HEADER: [&str; 9] = ["host", "roles", "engine", "arch", "cpus", "memory", "free disk", "clock", "finding"];

/// Part of the reasons that `--force` overrides.
const FORCEABLE: &str = "kernel";

const NO_IPVS: &str = "its kernel has no IPVS, so virtual addresses and the routing mesh would carry nothing";

async fn look(hosts: &Hosts, name: &str) -> Result<Seen> {
    let remote = hosts.remote(name)?;
    let text = remote.run_ok(&Exec::script(LOOK, &[])).await?.text();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let values = pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
    let clock = coarse_clock(&remote).await?;
    let (engine, sudo) = hosts.engine_and_sudo(name).await?;
    let facts = engine.facts().await?;
    let swarm = engine.swarm().await?.active;
    let ours = swarm && runs_ours(&engine).await?;
    Ok(Seen { values, engine: facts, clock, sudo, swarm, ours })
}

async fn runs_ours(engine: &Engine) -> Result<bool> {
    Ok(!engine.list_containers(&[(NAMESPACE, STACK)]).await?.is_empty())
}

/// The host's clock before anything of ours is there: by `date`, to some milliseconds.
async fn coarse_clock(remote: &Remote) -> Result<Option<Offset>> {
    let mut exchanges = Vec::new();
    for _ in 0..CLOCK_LOOKS {
        let sent = now_ns();
        let output = remote.run(&Exec::new(["date", "+%s%N"])).await?;
        let answered = now_ns();
        if let Ok(stamped) = output.text().parse() {
            exchanges.push(Exchange { sent, stamped, answered });
        }
    }
    Ok(offset(&exchanges))
}

/// Everything that stands in the way on one host.
fn judge(host: &Host, seen: &Seen, needs: &Needs) -> Vec<String> {
    let mut why = Vec::new();
    let disk = seen.disk();
    if disk < LEAST_DISK {
        why.push(format!("only {} of disk are free, {} are needed", bytes(disk), bytes(LEAST_DISK)));
    }
    if needs.virtual_addresses && seen.text("ipvs") == "no" {
        why.push(NO_IPVS.to_owned());
    }
    if let Some(clock) = seen.clock
        && clock.offset_us.abs() - clock.bound_us > CLOCK_TOLERANCE_US
    {
        ui::warn(format!(
            "{}: its clock is {:+.1} s from this one's; windows will be corrected",
            host.name,
            clock.offset_us / 1e6
        ));
    }
    let (tcp, udp) = (seen.ports("tcp"), seen.ports("udp"));
    let of_swarm = |port: &PortUse| port.service == "the swarm" && seen.swarm;
    for port in needs.ports.iter().filter(|port| port.host.is_empty() || port.host == host.name) {
        let taken = if port.udp { udp.contains(&port.port) } else { tcp.contains(&port.port) };
        if taken && !of_swarm(port) && !seen.ours {
            let word = if port.udp { "udp" } else { "tcp" };
            why.push(format!("port {}/{word}, which {} needs, is taken", port.port, port.service));
        }
    }
    why
}

fn row(host: &Host, seen: &Seen, found: &[String]) -> Vec<String> {
    let roles: Vec<&str> = host.roles.iter().map(|role| role.as_str()).collect();
    let clock = seen.clock.map_or_else(
        || "unknown".to_owned(),
        |clock| format!("{:+.0} ±{:.0} ms", clock.offset_us / 1e3, (clock.bound_us / 1e3).max(1.0)),
    );
    let finding = if found.is_empty() { "ok".to_owned() } else { ui::count(found.len(), "problem") };
    vec![
        host.name.clone(),
        roles.join(","),
        seen.engine.version.clone() + if seen.sudo { " (sudo)" } else { "" },
        seen.text("machine").to_owned(),
        seen.text("cpus").to_owned(),
        bytes(seen.number("memory") << 10),
        bytes(seen.disk()),
        clock,
        finding,
    ]
}

/// "3.2 GB".
fn bytes(n: u64) -> String {
    match n {
        0..1_000_000_000 => format!("{:.0} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

fn facts(host: &Host, seen: &Seen) -> HostFacts {
    HostFacts {
        name: host.name.clone(),
        address: seen.address(),
        hostname: seen.text("hostname").to_owned(),
        machine: seen.text("machine").to_owned(),
        kernel: seen.text("kernel").to_owned(),
        cpu: seen.text("cpu").to_owned(),
        cpus: seen.number("cpus") as usize,
        memory_bytes: seen.number("memory") << 10,
        clock_source: seen.text("clock_source").to_owned(),
        clock_synchronised: seen.text("synchronised") == "yes",
        engine: seen.engine.version.clone(),
        sudo: seen.sudo,
        ..HostFacts::default()
    }
}

/// Whether labels say that something is maestro's.
pub(super) fn is_ours(labels: &HashMap<String, String>) -> bool {
    labels.get(TOOL).is_some_and(|value| value == MAESTRO)
}
