//! The netem backend: which traffic-control requests make a path slow, as data.
//!
//! ```text
//! root d1a0: prio, 3 bands and one per rule; the priomap names only the first three, as the kernel's default does
//!   d1a0:4 ── d1a1: netem          reached by the filters alone: no other packet is delayed
//!   d1a0:5 ── d1a2: netem          the second rule, and so on
//!   filters: TCP with one of the store's ports, to one of the peer's task addresses
//! ```
//! A request prints as the `tc` command that would do the same, and is sent as a netlink message, since neither the
//! application's image nor ours contains `tc`. A root discipline that somebody else set up is refused, not replaced.

use std::fmt;
use std::net::IpAddr;

use super::netlink::route::{Interface, Qdisc};
use super::netlink::{ACK, CREATE, EXCL, Message, REQUEST};
use super::spec::{Distribution, Spec};

/// Handle of our root.
pub(crate) const ROOT: u32 = 0xd1a0_0000;

/// Rules that one interface can carry: `prio` has at most 16 bands.
pub(crate) const MOST_RULES: usize = 13;

/// The kernel's own priomap (`pfifo_fast`): it knows three bands, so those above belong to the filters.
const PRIOMAP: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

/// What the path is assumed to carry when no rate is given, bytes/s (10 Gbit/s).
const ASSUMED_RATE: f64 = 1.25e9;

/// iproute2's `TABLEFACTOR` and the length of the tables it ships.
const SCALE: f64 = 8192.0;
const TABLE: usize = 4096;

const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;

/// Which end of a connection has the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Our end: answers of a store to a peer that connected to it.
    Ours(u16),
    /// The peer's end.
    Peers(u16),
    /// All TCP.
    Any,
}

/// One change of traffic control.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    /// Our root, for so many rules.
    AddRoot(Interface, usize),
    /// The delay of rule number .1, with its seed.
    AddDelay(Interface, usize, Spec, u64),
    /// Another delay in its place; packets already held keep theirs.
    ChangeDelay(Interface, usize, Spec, u64),
    /// Sends matching packets to the delay of rule number .1.
    AddFilter(Interface, usize, IpAddr, Port),
    /// Everything of ours on this interface.
    DeleteRoot(Interface),
}

/// What one rule wants of traffic control.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Addresses of its peer.
    pub peers: Vec<IpAddr>,
    /// The store's ports; all when empty.
    pub ports: Vec<u16>,
    /// To what is sent to the peer.
    pub spec: Spec,
}

/// The band of rule `rule`, as a class of our root.
fn band(rule: usize) -> u32 {
    ROOT | (4 + rule as u32)
}

/// The handle of its netem.
pub(crate) fn delay_handle(rule: usize) -> u32 {
    ROOT + ((1 + rule as u32) << 16)
}

/// What somebody else has set up on `interface`, if anything: replacing it would destroy their work.
pub(crate) fn foreign_root(qdiscs: &[Qdisc], interface: &Interface) -> Option<String> {
    qdiscs
        .iter()
        .find(|q| q.interface == interface.index && q.root && q.handle != 0 && q.handle != ROOT)
        .map(|q| format!("{} {:x}:", q.kind, q.handle >> 16))
}

/// The requests that make `rules` on `interface`. `seed` is that of the first rule.
pub(crate) fn requests(interface: &Interface, rules: &[Wanted], seed: u64) -> Vec<Request> {
    let mut requests = vec![Request::AddRoot(interface.clone(), rules.len())];
    for (rule, wanted) in rules.iter().enumerate() {
        requests.push(Request::AddDelay(interface.clone(), rule, wanted.spec, seed.wrapping_add(rule as u64)));
        let ports: Vec<Port> = if wanted.ports.is_empty() {
            vec![Port::Any]
        } else {
            wanted.ports.iter().flat_map(|&port| [Port::Ours(port), Port::Peers(port)]).collect()
        };
        for peer in &wanted.peers {
            requests.extend(ports.iter().map(|port| Request::AddFilter(interface.clone(), rule, *peer, *port)));
        }
    }
    requests
}

/// Packets that netem must hold at the same time: bandwidth x longest delay, a quarter more, and never below netem's
/// own default. A limit that is too small shows as loss.
pub(crate) fn packet_limit(spec: &Spec, mtu: u32) -> u32 {
    let rate = spec.bytes_per_second().unwrap_or(ASSUMED_RATE);
    let packets = 1.25 * rate * spec.longest_ms() / 1e3 / f64::from(mtu.clamp(576, 9000));
    (packets.ceil() as u32).clamp(1000, 2_000_000)
}

impl Request {
    fn interface(&self) -> &Interface {
        match self {
            Request::AddRoot(i, _) | Request::DeleteRoot(i) => i,
            Request::AddDelay(i, ..) | Request::ChangeDelay(i, ..) | Request::AddFilter(i, ..) => i,
        }
    }

    /// The `tc` command that does the same.
    pub(crate) fn argv(&self) -> Vec<String> {
        let dev = &self.interface().name;
        let root = handle(ROOT);
        let line = match self {
            Request::AddRoot(_, rules) => {
                let map: Vec<String> = PRIOMAP.iter().map(u8::to_string).collect();
                format!("tc qdisc add dev {dev} root handle {root} prio bands {} priomap {}", 3 + rules, map.join(" "))
            }
            Request::AddDelay(interface, rule, spec, _) => delay_line("add", interface, *rule, spec),
            Request::ChangeDelay(interface, rule, spec, _) => delay_line("change", interface, *rule, spec),
            Request::AddFilter(_, rule, peer, port) => {
                let (protocol, ip, priority, bits) =
                    if peer.is_ipv4() { ("ip", "ip", 1, 32) } else { ("ipv6", "ip6", 2, 128) };
                let port = match port {
                    Port::Ours(port) => format!(" match {ip} sport {port} 0xffff"),
                    Port::Peers(port) => format!(" match {ip} dport {port} 0xffff"),
                    Port::Any => String::new(),
                };
                format!(
                    "tc filter add dev {dev} parent {root} protocol {protocol} prio {priority} u32 \
                     match {ip} dst {peer}/{bits} match {ip} protocol 6 0xff{port} flowid {root}{}",
                    4 + rule
                )
            }
            Request::DeleteRoot(_) => format!("tc qdisc del dev {dev} root handle {root}"),
        };
        line.split(' ').map(str::to_owned).collect()
    }

    /// The netlink message that does it.
    pub(crate) fn message(&self) -> Message {
        let index = self.interface().index;
        let add = CREATE | EXCL;
        match self {
            Request::AddRoot(_, rules) => {
                let mut options = (3 + *rules as u32).to_ne_bytes().to_vec();
                options.extend_from_slice(&PRIOMAP);
                // iproute2 appends an empty TCA_PRIO_MQ; the kernel has long ignored it.
                traffic(NEW_QDISC, add, index, ROOT, u32::MAX, 0)
                    .text(1, "prio")
                    .holding(2, &options, |m| m.attribute(2, &[]))
            }
            Request::AddDelay(interface, rule, spec, seed) => netem_message(add, interface, *rule, spec, *seed),
            Request::ChangeDelay(interface, rule, spec, seed) => netem_message(0, interface, *rule, spec, *seed),
            Request::AddFilter(_, rule, peer, port) => {
                let (protocol, priority) = if peer.is_ipv4() { (0x0800u16, 1) } else { (0x86dd, 2) };
                let info = (priority << 16) | u32::from(protocol.to_be());
                traffic(NEW_FILTER, add, index, 0, ROOT, info).text(1, "u32").holding(2, &[], |m| {
                    m.attribute(1, &band(*rule).to_ne_bytes()).attribute(5, &selector(*peer, *port))
                })
            }
            Request::DeleteRoot(_) => traffic(DELETE_QDISC, 0, index, ROOT, u32::MAX, 0),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv().join(" "))
    }
}

fn handle(handle: u32) -> String {
    format!("{:x}:", handle >> 16)
}

/// A message with `struct tcmsg`.
fn traffic(kind: u16, flags: u16, interface: u32, handle: u32, parent: u32, info: u32) -> Message {
    let mut body = [0u8; 4].to_vec();
    for number in [interface, handle, parent, info] {
        body.extend_from_slice(&number.to_ne_bytes());
    }
    Message::new(kind, REQUEST | ACK | flags, &body)
}

fn delay_line(verb: &str, interface: &Interface, rule: usize, spec: &Spec) -> String {
    let (dev, parent, words) = (&interface.name, handle(ROOT), netem_words(spec, interface));
    format!("tc qdisc {verb} dev {dev} parent {parent}{} handle {} netem {words}", 4 + rule, handle(delay_handle(rule)))
}

fn netem_words(spec: &Spec, interface: &Interface) -> String {
    let asked = spec.asked();
    let mut words = format!("limit {} delay {}ms", packet_limit(spec, interface.mtu), asked.delay_ms);
    if asked.jitter_ms > 0.0 {
        words.push_str(&format!(" {}ms", asked.jitter_ms));
        if asked.correlation_percent > 0.0 {
            words.push_str(&format!(" {}%", asked.correlation_percent));
        }
        if asked.distribution != Distribution::Uniform {
            words.push_str(&format!(" distribution {}", asked.distribution));
        }
    }
    if asked.loss_percent > 0.0 {
        words.push_str(&format!(" loss {}%", asked.loss_percent));
    }
    if let Some(rate) = asked.rate_mbit {
        words.push_str(&format!(" rate {rate}mbit"));
    }
    words
}

fn netem_message(flags: u16, interface: &Interface, rule: usize, spec: &Spec, seed: u64) -> Message {
    let asked = spec.asked();
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter; times in the kernel's ticks of 64 ns.
    let ticks = |ms: f64| (ms * 1e6 / 64.0) as u32;
    let mut options = Vec::new();
    for number in [
        ticks(asked.delay_ms),
        packet_limit(spec, interface.mtu),
        share(asked.loss_percent),
        0,
        0,
        ticks(asked.jitter_ms),
    ] {
        options.extend_from_slice(&number.to_ne_bytes());
    }
    let message = traffic(NEW_QDISC, flags, interface.index, delay_handle(rule), band(rule), 0);
    message.text(1, "netem").holding(2, &options, |mut m| {
        if asked.correlation_percent > 0.0 {
            let mut correlation = share(asked.correlation_percent).to_ne_bytes().to_vec();
            correlation.extend_from_slice(&[0; 8]);
            m = m.attribute(1, &correlation);
        }
        if let Some(rate) = spec.bytes_per_second() {
            // struct tc_netem_rate: rate, overheads; beyond 32 bits the true value is in an attribute of its own.
            let mut fixed = u32::try_from(rate as u64).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
            fixed.extend_from_slice(&[0; 12]);
            if rate >= f64::from(u32::MAX) {
                m = m.attribute(8, &(rate as u64).to_ne_bytes());
            }
            m = m.attribute(6, &fixed);
        }
        if let Some(table) = table(asked.distribution) {
            m = m.attribute(2, &table.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>());
        }
        // TCA_NETEM_PRNG_SEED (Linux 6.6); older kernels pass over it.
        if seed != 0 { m.attribute(14, &seed.to_ne_bytes()) } else { m }
    })
}

/// A percentage as netem counts it: 2^32 - 1 is all.
fn share(percent: f64) -> u32 {
    (percent / 100.0 * f64::from(u32::MAX)).round() as u32
}

/// The table that iproute2 would send for `distribution`; `None` for netem's own uniform.
fn table(distribution: Distribution) -> Option<Vec<i16>> {
    if distribution == Distribution::Uniform {
        return None;
    }
    let entry = |i: usize| {
        let value = distribution.quantile(i as f64 / TABLE as f64) * SCALE;
        value.round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
    };
    Some((0..TABLE).map(entry).collect())
}

/// `struct tc_u32_sel` with its keys: (mask, value, offset) of 32-bit words.
fn selector(peer: IpAddr, port: Port) -> Vec<u8> {
    let mut keys: Vec<([u8; 4], [u8; 4], u32)> = Vec::new();
    let (address, first, protocol, ports) = match peer {
        IpAddr::V4(v4) => (v4.octets().to_vec(), 16, ([0, 0xff, 0, 0], [0, 6, 0, 0], 8), 20),
        IpAddr::V6(v6) => (v6.octets().to_vec(), 24, ([0, 0, 0xff, 0], [0, 0, 6, 0], 4), 40),
    };
    for (at, word) in address.chunks_exact(4).enumerate() {
        keys.push(([0xff; 4], [word[0], word[1], word[2], word[3]], first + 4 * at as u32));
    }
    keys.push(protocol);
    match port {
        Port::Ours(p) => keys.push(([0xff, 0xff, 0, 0], [p.to_be_bytes()[0], p.to_be_bytes()[1], 0, 0], ports)),
        Port::Peers(p) => keys.push(([0, 0, 0xff, 0xff], [0, 0, p.to_be_bytes()[0], p.to_be_bytes()[1]], ports)),
        Port::Any => {}
    }
    // flags TC_U32_TERMINAL, offshift, number of keys, and 13 bytes that stay 0.
    let mut bytes = vec![1, 0, keys.len() as u8, 0];
    bytes.extend_from_slice(&[0; 12]);
    for (mask, value, offset) in keys {
        bytes.extend_from_slice(&mask);
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(&offset.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::spec::Asked;

    fn interface() -> Interface {
        Interface { index: 1, name: "lo".to_owned(), mtu: 1500, carries_traffic: true }
    }

    fn spec(asked: Asked) -> Spec {
        Spec::check(asked).unwrap()
    }

    fn hex(request: &Request) -> String {
        request.message().into_bytes(0).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const ADD_ROOT: &str = "4c00000024000506000000000000000000000000010000000000a0d1ffffffff0000000009000100\
        7072696f000000001c000200040000000102020201020000010101010101010104000200";
    const ADD_DELAY: &str = "7000000024000506000000000000000000000000010000000000a1d10400a0d1000000000a000100\
        6e6574656d0000004000020084d71700b1280000295c8f0200000000000000005a6202001000010000000040\
        00000000000000001400060040597307000000000000000000000000";
    const ADD_FILTER_OURS: &str = "7c0000002c00050600000000000000000000000001000000000000000000a0d1080001000800\
        01007533320050000200080001000400a0d14400050001000300000000000000000000000000ffffffff0a0000021000\
        00000000000000ff0000000600000800000000000000ffff000018eb00001400000000000000";
    const ADD_FILTER_PEERS: &str = "7c0000002c00050600000000000000000000000001000000000000000000a0d1080001000800\
        01007533320050000200080001000400a0d14400050001000300000000000000000000000000ffffffff0a0000021000\
        00000000000000ff00000006000008000000000000000000ffff000018eb1400000000000000";
    const ADD_FILTER_V6: &str = "ac0000002c00050600000000000000000000000001000000000000000000a0d186dd020008000100\
        7533320080000200080001000400a0d17400050001000600000000000000000000000000fffffffffd00000018000000\
        00000000ffffffff000000001c00000000000000ffffffff000000002000000000000000ffffffff0000000224000000\
        000000000000ff00000006000400000000000000ffff000018eb00002800000000000000";
    const DELETE_ROOT: &str = "2400000025000500000000000000000000000000010000000000a0d1ffffffff00000000";

    /// The expected bytes are what iproute2 6.1's `tc` sends for the printed command (recorded with strace; the
    /// sequence number set to 0).
    #[test]
    fn messages_are_byte_for_byte_what_tc_sends() {
        let slow = spec(Asked {
            delay_ms: 100.0,
            jitter_ms: 10.0,
            correlation_percent: 25.0,
            loss_percent: 1.0,
            rate_mbit: Some(1000.0),
            ..Asked::default()
        });
        let limit = packet_limit(&slow, 1500);
        assert_eq!(limit, 11_459, "1.25 x 125 MB/s x 110 ms / 1500 B");
        let recorded_limit = ADD_DELAY.replace("b1280000", &format!("{:08x}", limit.swap_bytes()));
        let v4 = "10.0.0.2".parse().unwrap();
        let cases = [
            (
                Request::AddRoot(interface(), 1),
                "tc qdisc add dev lo root handle d1a0: prio bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1",
                ADD_ROOT,
            ),
            (
                Request::AddDelay(interface(), 0, slow, 0),
                "tc qdisc add dev lo parent d1a0:4 handle d1a1: netem limit 11459 delay 100ms 10ms 25% loss 1% rate \
                 1000mbit",
                &recorded_limit,
            ),
            (
                Request::AddFilter(interface(), 0, v4, Port::Ours(6379)),
                "tc filter add dev lo parent d1a0: protocol ip prio 1 u32 match ip dst 10.0.0.2/32 match ip protocol \
                 6 0xff match ip sport 6379 0xffff flowid d1a0:4",
                ADD_FILTER_OURS,
            ),
            (
                Request::AddFilter(interface(), 0, v4, Port::Peers(6379)),
                "tc filter add dev lo parent d1a0: protocol ip prio 1 u32 match ip dst 10.0.0.2/32 match ip protocol \
                 6 0xff match ip dport 6379 0xffff flowid d1a0:4",
                ADD_FILTER_PEERS,
            ),
            (
                Request::AddFilter(interface(), 0, "fd00::2".parse().unwrap(), Port::Ours(6379)),
                "tc filter add dev lo parent d1a0: protocol ipv6 prio 2 u32 match ip6 dst fd00::2/128 match ip6 \
                 protocol 6 0xff match ip6 sport 6379 0xffff flowid d1a0:4",
                ADD_FILTER_V6,
            ),
            (Request::DeleteRoot(interface()), "tc qdisc del dev lo root handle d1a0:", DELETE_ROOT),
        ];
        for (request, command, bytes) in cases {
            assert_eq!(request.to_string(), command);
            assert_eq!(hex(&request), bytes, "{command}");
        }
    }

    #[test]
    fn every_rule_has_a_band_of_its_own() {
        let wanted = |peer: &str, ports: &[u16], delay_ms| Wanted {
            peers: vec![peer.parse().unwrap()],
            ports: ports.to_vec(),
            spec: spec(Asked { delay_ms, rate_mbit: Some(10.0), ..Asked::default() }),
        };
        let rules = [wanted("10.0.0.2", &[6379], 5.0), wanted("fd00::3", &[], 20.0)];
        let printed: Vec<String> = requests(&interface(), &rules, 1).iter().map(Request::to_string).collect();
        let match4 = "match ip dst 10.0.0.2/32 match ip protocol 6 0xff match ip";
        let filter = "tc filter add dev lo parent d1a0: protocol";
        assert_eq!(
            printed,
            [
                "tc qdisc add dev lo root handle d1a0: prio bands 5 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1".to_owned(),
                "tc qdisc add dev lo parent d1a0:4 handle d1a1: netem limit 1000 delay 5ms rate 10mbit".to_owned(),
                format!("{filter} ip prio 1 u32 {match4} sport 6379 0xffff flowid d1a0:4"),
                format!("{filter} ip prio 1 u32 {match4} dport 6379 0xffff flowid d1a0:4"),
                "tc qdisc add dev lo parent d1a0:5 handle d1a2: netem limit 1000 delay 20ms rate 10mbit".to_owned(),
                format!("{filter} ipv6 prio 2 u32 match ip6 dst fd00::3/128 match ip6 protocol 6 0xff flowid d1a0:5"),
            ]
        );
    }

    #[test]
    fn a_plain_delay_carries_no_attributes_and_a_seed_comes_last() {
        let plain = spec(Asked { delay_ms: 100.0, ..Asked::default() });
        let plain_hex = hex(&Request::AddDelay(interface(), 0, plain, 0));
        assert!(plain_hex.ends_with("1c00020084d71700e796010000000000000000000000000000000000"), "{plain_hex}");
        assert!(hex(&Request::ChangeDelay(interface(), 0, plain, 5)).ends_with("0c000e000500000000000000"));
    }

    /// Sums and samples of iproute2's shipped normal.dist, pareto.dist and paretonormal.dist.
    #[test]
    fn tables_are_those_that_iproute2_ships() {
        let pareto = table(Distribution::Pareto).unwrap();
        assert_eq!(pareto.iter().map(|v| i64::from(*v)).sum::<i64>(), -1_123_786);
        let at = |t: &[i16]| (0..TABLE).step_by(512).map(|i| t[i]).collect::<Vec<_>>();
        assert_eq!(at(&pareto), [-5461, -4964, -4362, -3609, -2622, -1237, 955, 5461]);
        // iproute2 rounds its normal table on another grid: equal within 4 of 8192, except in the last few entries.
        for (distribution, expected) in [
            (Distribution::Normal, [-32768, -9423, -5525, -2610, 0, 2611, 5526, 9424]),
            (Distribution::ParetoNormal, [-12305, -6078, -4652, -3359, -1966, -275, 2097, 6451]),
        ] {
            for (ours, theirs) in at(&table(distribution).unwrap()).into_iter().zip(expected) {
                assert!((i32::from(ours) - theirs).abs() <= 18, "{distribution}: {ours} and {theirs}");
            }
        }
        assert_eq!(table(Distribution::Uniform), None);
    }

    #[test]
    fn a_foreign_root_is_seen_and_ours_and_the_default_are_not() {
        let qdisc = |handle, root| Qdisc { interface: 1, handle, root, kind: "htb".to_owned(), drops: 0, queued: 0 };
        assert_eq!(foreign_root(&[qdisc(0x10000, true)], &interface()).as_deref(), Some("htb 1:"));
        assert_eq!(foreign_root(&[qdisc(0, true), qdisc(ROOT, true), qdisc(0x20000, false)], &interface()), None);
    }

    #[test]
    fn the_limit_follows_bandwidth_times_delay() {
        let slow = spec(Asked { delay_ms: 100.0, rate_mbit: Some(1.0), ..Asked::default() });
        assert_eq!(packet_limit(&slow, 1500), 1000, "never below netem's default");
        let fast = spec(Asked { delay_ms: 100.0, ..Asked::default() });
        assert_eq!(packet_limit(&fast, 1500), 104_167);
    }
}
