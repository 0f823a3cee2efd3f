//! One connection: its socket, the request on it, and the pools of connections that are free.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustls::ClientConnection;

use super::tally::Failure;
use crate::wkld::response::{Capture, Response};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No socket.
    Closed,
    /// Being opened (and shaking hands), with or without a request that waits for it.
    Opening {
        /// A request waits for it.
        busy: bool,
    },
    /// Ready for a request.
    Idle,
    /// A request was written; its answer is awaited.
    Busy,
}

/// A request on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Job {
    /// When it was due, ns of the monotonic clock.
    pub due: u64,
    /// From when its latency counts: its due instant, or the end of the request before it in a sequence.
    pub ready: u64,
    /// When its connection was taken for it.
    pub sent: u64,
    /// Answers still to come.
    pub pending: u32,
    /// It counts (it is not of the warm-up).
    pub measured: bool,
    /// It is the second of a sequence.
    pub second: bool,
    /// Its answer has no body.
    pub no_body: bool,
    /// It leads to a second request with this key.
    pub then: Option<u64>,
    /// The source wants to see its answer under this tag; 0 for most.
    pub tag: u64,
}

/// One connection.
pub(super) struct Conn {
    pub pool: usize,
    pub phase: Phase,
    pub fd: Option<OwnedFd>,
    /// Told apart from earlier sockets in the same place by events that come late.
    pub generation: u32,
    pub job: Job,
    pub response: Response,
    /// The request that waits for the connection to open.
    pub queued: Vec<u8>,
    /// Bytes that the socket did not take yet.
    pub out: Vec<u8>,
    pub out_at: usize,
    pub wants_write: bool,
    pub opened_at: u64,
    pub tls: Option<Box<ClientConnection>>,
    pub capture: Option<Box<Capture>>,
}

impl Conn {
    pub(super) fn new(pool: usize) -> Self {
        Conn {
            pool,
            phase: Phase::Closed,
            fd: None,
            generation: 0,
            job: Job::default(),
            response: Response::default(),
            queued: Vec::new(),
            out: Vec::new(),
            out_at: 0,
            wants_write: false,
            opened_at: 0,
            tls: None,
            capture: None,
        }
    }

    /// Closes the socket and forgets what was half done on it.
    pub(super) fn shut(&mut self) {
        self.fd = None;
        self.phase = Phase::Closed;
        self.generation = self.generation.wrapping_add(1);
        self.response.reset(false);
        self.queued.clear();
        self.out.clear();
        self.out_at = 0;
        self.wants_write = false;
        self.tls = None;
    }
}

/// The connections to one host.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Index of the host.
    pub host: usize,
    /// Open and free, the one used last on top.
    pub idle: Vec<u32>,
    /// Places without a socket.
    pub closed: Vec<u32>,
    /// Places in all.
    pub places: usize,
    /// Since when a connection is free, without a gap; ns of the monotonic clock.
    pub free_since: u64,
    /// Which of the host's addresses is tried next.
    pub address: usize,
}

impl Pool {
    /// A free connection, or a place for one.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.idle.pop().or_else(|| self.closed.pop())
    }

    /// Whether [`Pool::take`] would give one.
    pub(super) fn is_free(&self) -> bool {
        !self.idle.is_empty() || !self.closed.is_empty()
    }
}

/// Begins to open a connection.
///
/// # Errors
/// The kind of failure when that is impossible at once.
pub(super) fn open(address: &SocketAddr) -> Result<OwnedFd, Failure> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(|error| {
        if matches!(error, Errno::MFILE | Errno::NFILE) { Failure::OpenFiles } else { Failure::Connect }
    })?;
    // Without it a request that is written in two parts would wait for an acknowledgement.
    sockopt::set_tcp_nodelay(&fd, true).map_err(|_| Failure::Connect)?;
    match rustix::net::connect(&fd, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(_) => Err(Failure::Connect),
    }
}
