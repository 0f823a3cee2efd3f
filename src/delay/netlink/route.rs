//! Interfaces, routes and queueing disciplines of this network namespace.

use std::net::IpAddr;

use super::{DUMP, Message, REQUEST, Refusal, Socket, attributes, u16_at, u32_at};

const GET_LINK: u16 = 18;
const GET_ROUTE: u16 = 26;
const GET_QDISC: u16 = 38;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
/// `TC_H_ROOT`.
const ROOT: u32 = 0xFFFF_FFFF;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Up, and not the loopback.
    pub carries_traffic: bool,
}

/// A queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Qdisc {
    /// Index of its interface.
    pub interface: u32,
    /// Major number in the upper 16 bits; 0 for the kernel's default.
    pub handle: u32,
    /// Whether it is the interface's root.
    pub root: bool,
    /// `prio`, `netem`, ...
    pub kind: String,
    /// Packets it dropped.
    pub drops: u32,
    /// Packets it holds.
    pub queued: u32,
}

/// Every interface.
pub(crate) fn interfaces() -> Result<Vec<Interface>, Refusal> {
    let answers = Socket::open(None)?.dump(Message::new(GET_LINK, REQUEST | DUMP, &[0; 16]))?;
    let read = |body: &Vec<u8>| {
        // struct ifinfomsg: family, pad, type, index at 4, flags at 8.
        let flags = u32_at(body, 8);
        let extra = attributes(body.get(16..).unwrap_or(&[]));
        let of = |kind: u16| extra.iter().find(|(k, _)| *k == kind).map(|(_, value)| *value);
        Interface {
            index: u32_at(body, 4),
            name: text(of(3).unwrap_or(&[])),
            mtu: u32_at(of(4).unwrap_or(&[]), 0),
            carries_traffic: flags & IFF_UP != 0 && flags & IFF_LOOPBACK == 0,
        }
    };
    Ok(answers.iter().map(|(_, body)| read(body)).collect())
}

/// Index of the interface that packets to `peer` leave by.
pub(crate) fn towards(peer: &IpAddr) -> Result<Option<u32>, Refusal> {
    let (family, octets) = match peer {
        IpAddr::V4(v4) => (2u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10u8, v6.octets().to_vec()),
    };
    // struct rtmsg: family, length of the destination, and ten bytes that stay 0.
    let mut body = [0u8; 12];
    body[0] = family;
    body[1] = (octets.len() * 8) as u8;
    let answer = Socket::open(None)?.get(Message::new(GET_ROUTE, REQUEST, &body).attribute(1, &octets))?;
    Ok(answer.and_then(|(_, body)| {
        attributes(body.get(12..)?).iter().find(|(kind, _)| *kind == 4).map(|(_, value)| u32_at(value, 0))
    }))
}

/// Every queueing discipline.
pub(crate) fn qdiscs() -> Result<Vec<Qdisc>, Refusal> {
    let answers = Socket::open(None)?.dump(Message::new(GET_QDISC, REQUEST | DUMP, &[0; 20]))?;
    let read = |body: &Vec<u8>| {
        // struct tcmsg: family, pads, interface at 4, handle at 8, parent at 12, info at 16.
        let extra = attributes(body.get(20..).unwrap_or(&[]));
        let of = |kind: u16| extra.iter().find(|(k, _)| *k == kind).map(|(_, value)| *value).unwrap_or(&[]);
        // TCA_STATS2 holds TCA_STATS_QUEUE: queue length, backlog, drops, ...
        let stats = attributes(of(7));
        let queue = stats.iter().find(|(kind, _)| *kind == 3).map(|(_, value)| *value).unwrap_or(&[]);
        Qdisc {
            interface: u32_at(body, 4),
            handle: u32_at(body, 8),
            root: u32_at(body, 12) == ROOT,
            kind: text(of(1)),
            drops: u32_at(queue, 8),
            queued: u32_at(queue, 0),
        }
    };
    Ok(answers.iter().filter(|(_, body)| u16_at(body, 0) == 0).map(|(_, body)| read(body)).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}
