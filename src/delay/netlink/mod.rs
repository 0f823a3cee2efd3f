//! Talking to the kernel over netlink: messages built byte by byte, requests that wait for their acknowledgement.
//!
//! The helper runs in a container made `FROM scratch`, inside the network namespace of an application that brings no
//! tools either. So there is no `tc`, `nft`, `iptables` or `ss` to call; these few messages replace them.

pub(crate) mod diag;
pub(crate) mod nft;
pub(crate) mod route;

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_EXCL`.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP` (`ROOT | MATCH`).
pub(crate) const DUMP: u16 = 0x300;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// A refusal by the kernel, with its own words where it gives some.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}{}", .errno, .text.as_ref().map(|t| format!(" ({t})")).unwrap_or_default())]
pub(crate) struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// `NLMSGERR_ATTR_MSG`.
    pub text: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal { errno, text: None }
    }
}

/// One netlink message under construction. Lengths are filled in as parts end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of `kind` with `flags` and the fixed part `body` (whose length must be a multiple of 4).
    pub(crate) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(body);
        let mut message = Message { bytes };
        message.close(0);
        message
    }

    /// Appends the attribute `kind` with `payload`.
    pub(crate) fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.end(start);
        self
    }

    /// Appends a text attribute with its terminating zero.
    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.attribute(kind, &payload)
    }

    /// Appends a number in network byte order, as nftables wants them.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds what `fill` appends, marked as nested.
    pub(crate) fn nested(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.holding(kind | NESTED, &[], fill)
    }

    /// Appends an attribute with a fixed part and then what `fill` appends (traffic control's way; not marked).
    pub(crate) fn holding(mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(fixed);
        let mut message = fill(self);
        message.end(start);
        message
    }

    /// The bytes to send, with `sequence` filled in.
    pub(crate) fn into_bytes(mut self, sequence: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.close(0);
    }

    fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A netlink socket. Requests are answered one at a time.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

/// One answer: its type and what follows its header.
pub(crate) type Answer = (u16, Vec<u8>);

impl Socket {
    /// Opens a socket of one netlink family; `None` is the routing family.
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, Refusal> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        // An acknowledgement is a matter of microseconds; a kernel that keeps silent must not hang the helper.
        let patience = std::time::Duration::from_secs(5);
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(patience))?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends `messages` together (each that asks for it is acknowledged) and waits for `acknowledgements`.
    pub(crate) fn send(&mut self, messages: Vec<Message>, acknowledgements: usize) -> Result<(), Refusal> {
        self.sequence += 1;
        let bytes: Vec<u8> = messages.into_iter().flat_map(|m| m.into_bytes(self.sequence)).collect();
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        let mut seen = 0;
        let mut refusal = None;
        while seen < acknowledgements {
            for (kind, body) in self.receive()? {
                if kind != NLMSG_ERROR {
                    continue;
                }
                seen += 1;
                match error_of(&body) {
                    Some(error) if refusal.is_none() => refusal = Some(error),
                    _ => {}
                }
            }
            // A refused batch is not carried out and its other parts may stay unacknowledged.
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Sends one message and waits for its acknowledgement.
    pub(crate) fn request(&mut self, message: Message) -> Result<(), Refusal> {
        self.send(vec![message], 1)
    }

    /// Asks for a list and gives every entry.
    pub(crate) fn dump(&mut self, message: Message) -> Result<Vec<Answer>, Refusal> {
        self.sequence += 1;
        rustix::net::send(&self.fd, &message.into_bytes(self.sequence), SendFlags::empty())?;
        let mut entries = Vec::new();
        loop {
            for (kind, body) in self.receive()? {
                match kind {
                    NLMSG_DONE => return Ok(entries),
                    NLMSG_ERROR => match error_of(&body) {
                        Some(refusal) => return Err(refusal),
                        None => return Ok(entries),
                    },
                    _ => entries.push((kind, body)),
                }
            }
        }
    }

    /// Asks for one thing.
    pub(crate) fn get(&mut self, message: Message) -> Result<Option<Answer>, Refusal> {
        self.sequence += 1;
        rustix::net::send(&self.fd, &message.into_bytes(self.sequence), SendFlags::empty())?;
        match self.receive()?.into_iter().next() {
            Some((NLMSG_ERROR, body)) => error_of(&body).map_or(Ok(None), Err),
            other => Ok(other),
        }
    }

    /// The messages of one datagram that answer the current request; stale ones are passed over.
    fn receive(&self) -> Result<Vec<Answer>, Refusal> {
        let mut buffer = vec![0u8; 64 * 1024];
        let (_, length) = rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
        let mut answers = Vec::new();
        let mut rest = &buffer[..length.min(64 * 1024)];
        while rest.len() >= HEADER {
            let total = u32_at(rest, 0) as usize;
            if total < HEADER || total > rest.len() {
                break;
            }
            if u32_at(rest, 8) == self.sequence {
                answers.push((u16_at(rest, 4), rest[HEADER..total].to_vec()));
            }
            rest = &rest[total.next_multiple_of(4).min(rest.len())..];
        }
        Ok(answers)
    }
}

/// The refusal in the body of an `NLMSG_ERROR`; `None` for an acknowledgement.
fn error_of(body: &[u8]) -> Option<Refusal> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    // With NETLINK_CAP_ACK unset the request follows the code; extended attributes are not asked for.
    Some(Refusal { errno: Errno::from_raw_os_error(-code), text: None })
}

/// The attributes in `bytes`: kind (without flag bits) and payload.
pub(crate) fn attributes(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0));
        if length < 4 || length > rest.len() {
            break;
        }
        found.push((u16_at(rest, 2) & 0x3fff, &rest[4..length]));
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    found
}

/// A number in host byte order at `at`; 0 outside.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

/// A number in host byte order at `at`; 0 outside.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_padding_are_filled_in() {
        let message = Message::new(20, REQUEST | ACK, &[1, 2, 3, 4]).text(1, "ab").nested(2, |m| m.be32(3, 7));
        let bytes = message.into_bytes(9);
        assert_eq!(u32_at(&bytes, 0) as usize, bytes.len());
        assert_eq!(u32_at(&bytes, 8), 9);
        let found = attributes(&bytes[20..]);
        assert_eq!(found[0], (1, &b"ab\0"[..]));
        assert_eq!(found[1].0, 2);
        assert_eq!(attributes(found[1].1), vec![(3, &[0, 0, 0, 7][..])]);
    }

    #[test]
    fn broken_attributes_end_the_list() {
        assert!(attributes(&[1, 0, 0, 0]).is_empty());
        assert!(attributes(&[200, 0, 1, 0, 5]).is_empty());
    }
}
