//! Ending connections that were there before the redirect: address translation looks only at the first packet of a
//! connection, so an open replication stream would go on undelayed for ever.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use rustix::net::netlink;

use super::{ACK, DUMP, Message, REQUEST, Refusal, Socket, attributes, u32_at};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const TCP: u8 = 6;
/// ESTABLISHED, SYN_SENT, SYN_RECV and CLOSE_WAIT: the states in which data may still flow.
const STATES: u32 = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 8);
/// `INET_DIAG_MARK`.
const MARK: u16 = 15;
/// `struct inet_diag_sockid`.
const ID: usize = 48;

/// A TCP connection of this namespace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connection {
    /// Port on this side.
    pub local_port: u16,
    /// The other side.
    pub remote: (IpAddr, u16),
    /// Its `SO_MARK`.
    pub mark: u32,
    family: u8,
    id: Vec<u8>,
}

/// Every open TCP connection of this network namespace.
pub(crate) fn connections() -> Result<Vec<Connection>, Refusal> {
    let mut socket = Socket::open(Some(netlink::SOCK_DIAG))?;
    let mut found = Vec::new();
    for family in [2u8, 10] {
        let mut body = vec![family, TCP, 0, 0];
        body.extend_from_slice(&STATES.to_ne_bytes());
        body.extend_from_slice(&[0; ID]);
        for (_, answer) in socket.dump(Message::new(BY_FAMILY, REQUEST | DUMP, &body))? {
            found.extend(parse(&answer));
        }
    }
    Ok(found)
}

/// Reads one `struct inet_diag_msg`.
fn parse(answer: &[u8]) -> Option<Connection> {
    let id = answer.get(4..4 + ID)?;
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let remote = match answer[0] {
        2 => IpAddr::V4(Ipv4Addr::new(id[20], id[21], id[22], id[23])),
        _ => {
            let octets: [u8; 16] = id[20..36].try_into().ok()?;
            // A v6 socket that talks v4 shows a mapped address; the rules know it as v4.
            Ipv6Addr::from(octets).to_canonical()
        }
    };
    // The fixed part is 72 bytes: family..retrans 4, id 48, expires, rqueue, wqueue, uid, inode 20.
    let extra = attributes(answer.get(72..).unwrap_or(&[]));
    let mark = extra.iter().find(|(kind, _)| *kind == MARK).map_or(0, |(_, value)| u32_at(value, 0));
    Some(Connection { local_port: port(0), remote: (remote, port(2)), mark, family: answer[0], id: id.to_vec() })
}

/// Ends `connections` with a reset on both sides. Gives how many were ended; those already gone are passed over.
pub(crate) fn destroy(connections: &[Connection]) -> Result<usize, Refusal> {
    let mut socket = Socket::open(Some(netlink::SOCK_DIAG))?;
    let mut ended = 0;
    for connection in connections {
        let mut body = vec![connection.family, TCP, 0, 0];
        body.extend_from_slice(&STATES.to_ne_bytes());
        body.extend_from_slice(&connection.id);
        match socket.request(Message::new(DESTROY, REQUEST | ACK, &body)) {
            Ok(()) => ended += 1,
            Err(refusal) if refusal.errno == Errno::NOENT => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(ended)
}
