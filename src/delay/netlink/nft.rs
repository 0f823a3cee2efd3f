//! The redirect rules of the proxy backend, as nftables messages.
//!
//! Everything lives in a table of our own, so installing touches nobody's rules and removing means removing the
//! table. Two independent ways make sure that the rules cannot outlive the process that serves them:
//!
//! * The table carries the *owner* flag (Linux 5.12): the kernel deletes it when the socket that made it closes,
//!   however the process ends.
//! * The peer addresses sit in a set whose elements expire ([`EXPIRY`]) unless they are entered anew. On a kernel
//!   that does not know the flag an orphaned rule stops matching, and traffic passes undelayed.
//!
//! For peers 10.0.0.2 with port 6379, listeners 15001 (outgoing) and 15002 (incoming) the table reads
//!
//! ```text
//! table ip maestro_delay { flags owner
//!   set peer0 { type ipv4_addr; flags timeout; elements = { 10.0.0.2 timeout 12s } }
//!   chain out { type nat hook output priority -150
//!     tcp; ip daddr @peer0; tcp dport 6379; meta mark != 0x6d616573; redirect to :15001 }
//!   chain in { type nat hook prerouting priority -150
//!     tcp; ip saddr @peer0; tcp dport 6379; redirect to :15002 } }
//! ```

use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink;

use super::{ACK, APPEND, CREATE, Message, REQUEST, Refusal, Socket};

/// The table's name in either family.
pub(crate) const TABLE: &str = "maestro_delay";

/// `SO_MARK` of the proxy's own connections ("maes"), which are not redirected again.
pub(crate) const MARK: u32 = 0x6d61_6573;

/// How long a peer's address stays in force without being renewed.
pub(crate) const EXPIRY: Duration = Duration::from_secs(12);

/// Before Docker's own `nat` chains (-100), which must not see these connections first.
const PRIORITY: i32 = -150;

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const OWNER: u32 = 2;
const TIMEOUT_SET: u32 = 0x10;
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const REGISTER: u32 = 1;
const TCP: u8 = 6;

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub(crate) fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// nft's type number and length of an address, and where source and destination are in the header.
    fn layout(self) -> (u32, u32, u32, u32) {
        match self {
            Family::V4 => (7, 4, 12, 16),
            Family::V6 => (8, 16, 8, 24),
        }
    }
}

/// One redirect: connections between this namespace and the peers of set `peer{index}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// Which peer set.
    pub index: usize,
    /// TCP ports of the side that accepts; every port when empty.
    pub ports: Vec<u16>,
    /// Listener for connections opened here.
    pub outgoing: u16,
    /// Listener for connections opened by the peer.
    pub incoming: u16,
}

/// The rules in force, tied to the socket that made them.
#[derive(Debug)]
pub(crate) struct Table {
    socket: Socket,
    owned: bool,
}

impl Table {
    /// Installs the redirects of one or both families. Whatever an earlier helper left behind goes first.
    pub(crate) fn install(redirects: &[Redirect], families: &[Family], owner: bool) -> Result<Self, Refusal> {
        let mut socket = Socket::open(Some(netlink::NETFILTER))?;
        remove_leftovers(&mut socket)?;
        let mut owned = owner;
        match transact(&mut socket, install_messages(redirects, families, owner)) {
            Err(refusal) if owner && matches!(refusal.errno, Errno::OPNOTSUPP | Errno::INVAL) => {
                owned = false;
                transact(&mut socket, install_messages(redirects, families, false))?;
            }
            other => other?,
        }
        Ok(Table { socket, owned })
    }

    /// Whether the kernel removes the table with this process.
    pub(crate) fn owned(&self) -> bool {
        self.owned
    }

    /// Enters the addresses of peer set `index` anew, and takes out those in `gone`.
    pub(crate) fn renew(&mut self, index: usize, present: &[IpAddr], gone: &[IpAddr]) -> Result<(), Refusal> {
        for family in Family::ALL {
            let of = |all: &[IpAddr]| all.iter().copied().filter(|a| Family::of(a) == family).collect::<Vec<_>>();
            let (present, gone) = (of(present), of(gone));
            if present.is_empty() && gone.is_empty() {
                continue;
            }
            let add = || match present.is_empty() {
                true => Vec::new(),
                false => vec![elements(NEW_ELEMENT, family, index, &present)],
            };
            let all: Vec<IpAddr> = present.iter().chain(&gone).copied().collect();
            let mut exchange = vec![elements(DELETE_ELEMENT, family, index, &all)];
            exchange.extend(add());
            match transact(&mut self.socket, exchange) {
                Err(refusal) if refusal.errno == Errno::NOENT => {}
                other => {
                    other?;
                    continue;
                }
            }
            // One of them is new or has expired: one by one, then.
            for address in all {
                match transact(&mut self.socket, vec![elements(DELETE_ELEMENT, family, index, &[address])]) {
                    Err(refusal) if refusal.errno == Errno::NOENT => {}
                    other => other?,
                }
            }
            transact(&mut self.socket, add())?;
        }
        Ok(())
    }

    /// Removes the table of both families.
    pub(crate) fn remove(mut self) -> Result<(), Refusal> {
        remove_leftovers(&mut self.socket)
    }
}

/// Removes what an earlier helper left behind, in both families.
pub(crate) fn clear() -> Result<(), Refusal> {
    remove_leftovers(&mut Socket::open(Some(netlink::NETFILTER))?)
}

fn remove_leftovers(socket: &mut Socket) -> Result<(), Refusal> {
    for family in Family::ALL {
        let delete = message(DELETE_TABLE, ACK, family).text(1, TABLE);
        match transact(socket, vec![delete]) {
            Err(refusal) if matches!(refusal.errno, Errno::NOENT | Errno::AFNOSUPPORT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Sends `messages` as one transaction: all or none.
fn transact(socket: &mut Socket, messages: Vec<Message>) -> Result<(), Refusal> {
    let acknowledgements = messages.len();
    if acknowledgements == 0 {
        return Ok(());
    }
    // nfgenmsg: family 0, version 0, subsystem 10 in network byte order.
    let edge = |kind| Message::new(kind, REQUEST, &[0, 0, 0, 10]);
    let mut batch = vec![edge(BATCH_BEGIN)];
    batch.extend(messages);
    batch.push(edge(BATCH_END));
    socket.send(batch, acknowledgements)
}

fn message(kind: u16, flags: u16, family: Family) -> Message {
    Message::new(kind, REQUEST | flags, &[family.number(), 0, 0, 0])
}

/// Everything that makes the tables of `families`.
pub(crate) fn install_messages(redirects: &[Redirect], families: &[Family], owner: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    for &family in families {
        let table = message(NEW_TABLE, CREATE | ACK, family).text(1, TABLE);
        messages.push(table.be32(2, if owner { OWNER } else { 0 }));
        for (index, redirect) in redirects.iter().enumerate() {
            messages.push(peer_set(family, redirect.index, index as u32 + 1));
        }
        for (name, hook) in [("out", OUTPUT), ("in", PREROUTING)] {
            messages.push(chain(family, name, hook));
        }
        for redirect in redirects {
            let any = [None];
            let some: Vec<Option<u16>> = redirect.ports.iter().copied().map(Some).collect();
            for port in if some.is_empty() { &any[..] } else { &some[..] } {
                messages.push(rule(family, "out", redirect, *port));
                messages.push(rule(family, "in", redirect, *port));
            }
        }
    }
    messages
}

fn peer_set(family: Family, index: usize, id: u32) -> Message {
    let (kind, length, ..) = family.layout();
    message(NEW_SET, CREATE | ACK, family)
        .text(1, TABLE)
        .text(2, &format!("peer{index}"))
        .be32(3, TIMEOUT_SET)
        .be32(4, kind)
        .be32(5, length)
        .be32(10, id)
        .attribute(11, &(EXPIRY.as_millis() as u64).to_be_bytes())
}

fn chain(family: Family, name: &str, hook: u32) -> Message {
    message(NEW_CHAIN, CREATE | ACK, family)
        .text(1, TABLE)
        .text(3, name)
        .nested(4, |m| m.be32(1, hook).be32(2, PRIORITY as u32))
        .text(7, "nat")
}

fn elements(kind: u16, family: Family, index: usize, addresses: &[IpAddr]) -> Message {
    let flags = if kind == NEW_ELEMENT { CREATE | ACK } else { ACK };
    message(kind, flags, family).text(1, TABLE).text(2, &format!("peer{index}")).nested(3, |mut list| {
        for address in addresses {
            let value = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            list = list.nested(1, |element| element.nested(1, |key| key.attribute(1, &value)));
        }
        list
    })
}

fn rule(family: Family, chain: &str, redirect: &Redirect, port: Option<u16>) -> Message {
    let (_, length, source, destination) = family.layout();
    let (address, listener) =
        if chain == "out" { (destination, redirect.outgoing) } else { (source, redirect.incoming) };
    let set = format!("peer{}", redirect.index);
    message(NEW_RULE, CREATE | APPEND | ACK, family).text(1, TABLE).text(2, chain).nested(4, |mut list| {
        list = load_meta(list, 16);
        list = compare(list, 0, &[TCP]);
        list = load_header(list, 1, address, length);
        list = expression(list, "lookup", |m| m.text(1, &set).be32(2, REGISTER));
        if let Some(port) = port {
            list = load_header(list, 2, 2, 2);
            list = compare(list, 0, &port.to_be_bytes());
        }
        if chain == "out" {
            list = load_meta(list, 3);
            list = compare(list, 1, &MARK.to_ne_bytes());
        }
        list = expression(list, "immediate", |m| {
            m.be32(1, REGISTER).nested(2, |value| value.attribute(1, &listener.to_be_bytes()))
        });
        expression(list, "redir", |m| m.be32(1, REGISTER))
    })
}

fn expression(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    list.nested(1, |m| m.text(1, name).nested(2, fill))
}

fn load_meta(list: Message, key: u32) -> Message {
    expression(list, "meta", |m| m.be32(1, REGISTER).be32(2, key))
}

/// Loads `length` bytes at `offset` of the network (1) or transport (2) header.
fn load_header(list: Message, base: u32, offset: u32, length: u32) -> Message {
    expression(list, "payload", |m| m.be32(1, REGISTER).be32(2, base).be32(3, offset).be32(4, length))
}

/// Compares the register: equal (0) or different (1).
fn compare(list: Message, operator: u32, value: &[u8]) -> Message {
    expression(list, "cmp", |m| m.be32(1, REGISTER).be32(2, operator).nested(3, |data| data.attribute(1, value)))
}
