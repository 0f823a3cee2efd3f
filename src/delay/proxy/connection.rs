//! One connection through the proxy: two sockets, two flows.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown, sockopt};

use super::flow::{Due, End, Flow};
use super::{Opener, engine::Shared};

/// Reads in a row before other connections get their turn.
const TURNS: usize = 16;

/// One of the two sockets. The flags follow the edge-triggered events.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) socket: OwnedFd,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// A connection: side 0 was accepted, side 1 connected; flow i carries what side i sends.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) rule: usize,
    pub(super) opener: Opener,
    pub(super) sides: [Side; 2],
    pub(super) flows: [Flow; 2],
    pub(super) connected: bool,
    pub(super) version: u64,
    passed: [bool; 2],
    paused: [bool; 2],
}

/// What a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing until an event, or until this instant (ns).
    Wait(Option<u64>),
    /// Another turn soon: there is more to do.
    Again,
    /// It is over.
    Close,
}

impl Connection {
    pub(super) fn new(rule: usize, opener: Opener, accepted: OwnedFd, outgoing: OwnedFd, flows: [Flow; 2]) -> Self {
        let side = |socket| Side { socket, readable: false, writable: false };
        Connection {
            rule,
            opener,
            sides: [side(accepted), side(outgoing)],
            flows,
            connected: false,
            version: 0,
            passed: [false; 2],
            paused: [false; 2],
        }
    }

    /// Whether flow `flow` carries data that the peer sends.
    pub(super) fn carries_from_peer(&self, flow: usize) -> bool {
        (self.opener == Opener::Peer) == (flow == 0)
    }

    /// Bytes that wait in both directions.
    pub(super) fn queued(&self) -> usize {
        self.flows[0].queued() + self.flows[1].queued()
    }

    /// Moves what can be moved at this moment.
    pub(super) fn pump(&mut self, shared: &mut Shared) -> Next {
        if !self.connected {
            if !self.sides[1].writable {
                return Next::Wait(None);
            }
            if !matches!(sockopt::socket_error(&self.sides[1].socket), Ok(Ok(()))) {
                shared.stats[self.rule].counts.refused += 1;
                return self.reset();
            }
            self.connected = true;
        }
        let mut again = false;
        for flow in 0..2 {
            match self.pump_flow(flow, shared) {
                Ok(more) => again |= more,
                Err(_) => return self.reset(),
            }
        }
        if self.passed == [true; 2] {
            return Next::Close;
        }
        if again {
            return Next::Again;
        }
        let wait = |flow: &Flow| match flow.due(shared.now) {
            Due::At(instant) => Some(instant),
            _ => None,
        };
        Next::Wait(match (wait(&self.flows[0]), wait(&self.flows[1])) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// Reads and writes one direction; true when its turn ended with work left.
    fn pump_flow(&mut self, flow: usize, shared: &mut Shared) -> Result<bool, Errno> {
        for _ in 0..TURNS {
            self.write(flow, shared)?;
            if !self.read(flow, shared)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads one piece. False when there is nothing to read or no room for it.
    fn read(&mut self, index: usize, shared: &mut Shared) -> Result<bool, Errno> {
        let from_peer = self.carries_from_peer(index);
        let flow = &mut self.flows[index];
        if !self.sides[index].readable || flow.ended() {
            return Ok(false);
        }
        let room = flow.has_room() && (shared.queued < super::TOTAL || flow.queued() < super::READ);
        if !room {
            if !self.paused[index] {
                self.paused[index] = true;
                shared.stats[self.rule].counts.paused += 1;
            }
            return Ok(false);
        }
        self.paused[index] = false;
        let size = flow.read_size();
        let length = match rustix::io::read(&self.sides[index].socket, &mut shared.scratch[..size]) {
            Ok(0) => {
                flow.push_end(shared.now, End::Finished);
                return Ok(true);
            }
            Ok(length) => length,
            Err(Errno::AGAIN) => {
                self.sides[index].readable = false;
                return Ok(false);
            }
            Err(Errno::INTR) => return Ok(true),
            Err(_) => {
                flow.push_end(shared.now, End::Reset);
                return Ok(true);
            }
        };
        let stats = &mut shared.stats[self.rule];
        stats.count(from_peer, length);
        let release = flow.release(shared.now, length, &mut stats.links[usize::from(from_peer)]);
        let mut rest = &shared.scratch[..length];
        // Nothing waits and nothing has to: pass the bytes on without keeping a copy.
        if release <= shared.now && flow.is_empty() && self.sides[1 - index].writable {
            match rustix::io::write(&self.sides[1 - index].socket, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            self.sides[1 - index].writable = rest.is_empty();
        }
        if !rest.is_empty() {
            flow.push(shared.now, release, rest);
            shared.queued += rest.len();
        }
        Ok(true)
    }

    /// Writes what is due.
    fn write(&mut self, index: usize, shared: &mut Shared) -> Result<(), Errno> {
        let flow = &mut self.flows[index];
        let to = &mut self.sides[1 - index];
        loop {
            match flow.due(shared.now) {
                Due::Data(data) if to.writable => {
                    let length = data.len();
                    match rustix::io::write(&to.socket, data) {
                        Ok(written) => {
                            to.writable = written == length;
                            shared.queued -= written;
                            if let Some((arrived, release)) = flow.taken(written) {
                                shared.stats[self.rule].passed_on(arrived, release, shared.clock.now());
                            }
                        }
                        Err(Errno::AGAIN) => to.writable = false,
                        Err(Errno::INTR) => {}
                        Err(error) => return Err(error),
                    }
                }
                Due::End(End::Finished) => {
                    flow.pop_end();
                    self.passed[index] = true;
                    match shutdown(&to.socket, Shutdown::Write) {
                        Ok(()) | Err(Errno::NOTCONN) => {}
                        Err(error) => return Err(error),
                    }
                }
                Due::End(End::Reset) => return Err(Errno::CONNRESET),
                Due::Data(_) | Due::At(_) | Due::Nothing => return Ok(()),
            }
        }
    }

    /// Ends both sides with a reset.
    fn reset(&mut self) -> Next {
        for side in &self.sides {
            // The descriptor is closed next; if the option cannot be set the peer sees an orderly end instead.
            let _ = sockopt::set_socket_linger(&side.socket, Some(std::time::Duration::ZERO));
        }
        Next::Close
    }
}
