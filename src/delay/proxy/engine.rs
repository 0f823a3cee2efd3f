//! The proxy's loop: events, instants that have come, connections with work left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::connection::{Connection, Next};
use super::flow::{Flow, Link};
use super::{Command, Destination, Entrance, Opener, RuleStats, Setup, Specs};

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Tokens from here on are listeners.
const LISTENER: u64 = 1 << 62;

/// Nanoseconds since the proxy started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// What a rule's connections share.
#[derive(Debug)]
pub(super) struct RuleShare {
    pub(super) counts: RuleStats,
    /// By `from_peer`.
    pub(super) links: [Link; 2],
    held: Histogram<u64>,
    late: Histogram<u64>,
}

impl RuleShare {
    fn new() -> Result<Self, hdrhistogram::CreationError> {
        // Up to 10 minutes in us with 3 digits; what is longer counts as that.
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 3);
        Ok(RuleShare {
            counts: RuleStats::default(),
            links: Default::default(),
            held: histogram()?,
            late: histogram()?,
        })
    }

    pub(super) fn count(&mut self, from_peer: bool, length: usize) {
        let bytes = if from_peer { &mut self.counts.from_peer_bytes } else { &mut self.counts.to_peer_bytes };
        *bytes += length as u64;
    }

    /// A piece that arrived at `arrived` and was due at `release` went on at `now` (ns).
    pub(super) fn passed_on(&mut self, arrived: u64, release: u64, now: u64) {
        if release > arrived {
            self.counts.pieces += 1;
            self.held.saturating_record((now - arrived) / 1000);
            self.late.saturating_record(now.saturating_sub(release) / 1000);
        }
    }

    fn stats(&self) -> RuleStats {
        let ms = |q: f64| self.held.value_at_quantile(q) as f64 / 1e3;
        RuleStats {
            held_p50_ms: ms(0.5),
            held_p99_ms: ms(0.99),
            late_p99_us: self.late.value_at_quantile(0.99) as f64,
            ..self.counts.clone()
        }
    }
}

/// What every connection may touch.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) now: u64,
    pub(super) scratch: Vec<u8>,
    pub(super) queued: usize,
    pub(super) stats: Vec<RuleShare>,
}

/// A place for a connection; the generation tells stale events and instants from fresh ones.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
    /// The earliest instant already in the heap.
    armed: Option<u64>,
    again: bool,
}

pub(super) struct Engine {
    epoll: OwnedFd,
    timer: OwnedFd,
    timer_at: Option<u64>,
    wake: Arc<OwnedFd>,
    commands: Arc<Mutex<Vec<Command>>>,
    entrances: Vec<Entrance>,
    rules: Vec<Specs>,
    version: u64,
    destination: Destination,
    mark: Option<u32>,
    seed: u64,
    streams: u64,
    slots: Vec<Slot>,
    free: Vec<usize>,
    instants: BinaryHeap<Reverse<(u64, usize, u32)>>,
    again: Vec<usize>,
    starved: bool,
    shared: Shared,
}

impl Engine {
    pub(super) fn new(setup: Setup, commands: Arc<Mutex<Vec<Command>>>, wake: Arc<OwnedFd>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &*wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        for (index, entrance) in setup.entrances.iter().enumerate() {
            entrance.listener.set_nonblocking(true)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, &entrance.listener, epoll::EventData::new_u64(LISTENER + index as u64), flags)?;
        }
        let shares: Result<Vec<RuleShare>, _> = setup.rules.iter().map(|_| RuleShare::new()).collect();
        let shared = Shared {
            clock: Clock(Instant::now()),
            now: 0,
            scratch: vec![0; super::READ],
            queued: 0,
            stats: shares.map_err(io::Error::other)?,
        };
        Ok(Engine {
            epoll,
            timer,
            timer_at: None,
            wake,
            commands,
            entrances: setup.entrances,
            rules: setup.rules,
            version: 0,
            destination: setup.destination,
            mark: setup.mark,
            seed: setup.seed,
            streams: 0,
            slots: Vec::new(),
            free: Vec::new(),
            instants: BinaryHeap::new(),
            again: Vec::new(),
            starved: false,
            shared,
        })
    }

    pub(super) fn run(&mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
        loop {
            let timeout = if self.again.is_empty() { None } else { Some(Timespec { tv_sec: 0, tv_nsec: 0 }) };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("the proxy's loop ends: {error}");
                    return;
                }
            }
            self.shared.now = self.shared.clock.now();
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        if self.obey() {
                            return;
                        }
                    }
                    // Edge-triggered: setting it anew arms it, so its counter need not be read.
                    TIMER => self.timer_at = None,
                    token if token >= LISTENER => self.accept((token - LISTENER) as usize),
                    token => self.event(token, event.flags),
                }
            }
            self.pass_instants();
            for index in std::mem::take(&mut self.again) {
                self.slots[index].again = false;
                self.pump(index);
            }
            self.arm();
        }
    }

    /// Carries out commands; true when the proxy is to end.
    fn obey(&mut self) -> bool {
        let mut counter = [0u8; 8];
        // Only the wake-up matters, not the count.
        let _ = rustix::io::read(&*self.wake, &mut counter);
        let commands = self.commands.lock().map(|mut c| std::mem::take(&mut *c)).unwrap_or_default();
        for command in commands {
            match command {
                Command::Set(rule, specs) => {
                    if let Some(slot) = self.rules.get_mut(rule) {
                        *slot = specs;
                        self.version += 1;
                    }
                }
                Command::Stats(reply) => {
                    let stats = self.stats();
                    // Nobody waits any more: then nobody needs it.
                    let _ = reply.send(stats);
                }
                Command::Stop => return true,
            }
        }
        false
    }

    fn stats(&mut self) -> Vec<RuleStats> {
        for share in &mut self.shared.stats {
            (share.counts.open, share.counts.queued_bytes) = (0, 0);
        }
        for connection in self.slots.iter().filter_map(|slot| slot.connection.as_ref()) {
            let counts = &mut self.shared.stats[connection.rule].counts;
            counts.open += 1;
            counts.queued_bytes += connection.queued() as u64;
        }
        self.shared.stats.iter().map(RuleShare::stats).collect()
    }

    fn event(&mut self, token: u64, flags: epoll::EventFlags) {
        let (index, side) = ((token & 0x7fff_ffff) as usize >> 1, (token & 1) as usize);
        let generation = (token >> 31) as u32 & 0x7fff_ffff;
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.generation == generation) else { return };
        let Some(connection) = slot.connection.as_mut() else { return };
        let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        let side = &mut connection.sides[side];
        side.readable |= flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP | broken);
        side.writable |= flags.intersects(epoll::EventFlags::OUT | broken);
        self.pump(index);
    }

    fn pass_instants(&mut self) {
        while let Some(Reverse((instant, index, generation))) = self.instants.peek().copied() {
            if instant > self.shared.now {
                break;
            }
            self.instants.pop();
            let slot = &mut self.slots[index];
            if slot.generation == generation {
                slot.armed = None;
                self.pump(index);
            }
        }
    }

    /// Gives a connection its turn and notes what it needs next.
    fn pump(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(connection) = slot.connection.as_mut() else { return };
        if connection.version != self.version {
            connection.version = self.version;
            let specs = self.rules[connection.rule];
            for flow in 0..2 {
                let spec = if connection.carries_from_peer(flow) { specs.from_peer } else { specs.to_peer };
                connection.flows[flow].respec(spec);
            }
        }
        let next = connection.pump(&mut self.shared);
        let counts = &mut self.shared.stats[connection.rule].counts;
        counts.queued_peak_bytes = counts.queued_peak_bytes.max(self.shared.queued as u64);
        match next {
            Next::Wait(None) => {}
            Next::Wait(Some(instant)) => {
                if slot.armed.is_none_or(|armed| instant < armed) {
                    slot.armed = Some(instant);
                    self.instants.push(Reverse((instant, index, slot.generation)));
                }
            }
            Next::Again => {
                if !slot.again {
                    slot.again = true;
                    self.again.push(index);
                }
            }
            Next::Close => self.close(index),
        }
    }

    fn close(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if let Some(connection) = slot.connection.take() {
            self.shared.queued -= connection.queued();
        }
        slot.generation = slot.generation.wrapping_add(1) & 0x7fff_ffff;
        slot.armed = None;
        self.free.push(index);
        if std::mem::take(&mut self.starved) {
            for entrance in 0..self.entrances.len() {
                self.accept(entrance);
            }
        }
    }

    /// Sets the timer to the earliest instant.
    fn arm(&mut self) {
        let Some(Reverse((instant, ..))) = self.instants.peek().copied() else { return };
        if self.timer_at == Some(instant) {
            return;
        }
        // A zero would disarm it.
        let wait = instant.saturating_sub(self.shared.clock.now()).max(1);
        let value = Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok() {
            self.timer_at = Some(instant);
        }
    }

    fn accept(&mut self, entrance: usize) {
        loop {
            let listener = &self.entrances[entrance].listener;
            match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(accepted) => {
                    if let Err(error) = self.take(entrance, accepted) {
                        tracing::warn!("a connection was not carried on: {error}");
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    // Out of descriptors or memory: try again when a connection has ended.
                    tracing::warn!("cannot accept: {error}");
                    self.starved = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, entrance: usize, accepted: OwnedFd) -> io::Result<()> {
        let Entrance { listener, rule, opener } = &self.entrances[entrance];
        let (rule, opener) = (*rule, *opener);
        let destination = match self.destination {
            Destination::Fixed(address) => address,
            Destination::Original => original(&accepted, listener.local_addr()?)?,
        };
        let outgoing = dial(destination, self.mark)?;
        sockopt::set_tcp_nodelay(&accepted, true)?;
        keep_alive(&accepted)?;
        self.shared.stats[rule].counts.accepted += 1;
        let specs = self.rules[rule];
        let specs = match opener {
            Opener::Here => [specs.to_peer, specs.from_peer],
            Opener::Peer => [specs.from_peer, specs.to_peer],
        };
        let stream = self.streams;
        self.streams += 2;
        let flows = [Flow::new(specs[0], self.seed, stream), Flow::new(specs[1], self.seed, stream + 1)];
        let mut connection = Box::new(Connection::new(rule, opener, accepted, outgoing, flows));
        connection.version = self.version;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let token = (u64::from(slot.generation) << 31) | ((index as u64) << 1);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        for (side, number) in connection.sides.iter().zip(0..) {
            epoll::add(&self.epoll, &side.socket, epoll::EventData::new_u64(token | number), flags)?;
        }
        slot.connection = Some(connection);
        Ok(())
    }
}

/// Where a redirected connection was going. One that came to the listener itself is refused: it would go on for ever.
fn original(accepted: &OwnedFd, listener: SocketAddr) -> io::Result<SocketAddr> {
    let destination = if listener.is_ipv4() {
        SocketAddr::V4(sockopt::ip_original_dst(accepted)?)
    } else {
        SocketAddr::V6(sockopt::ipv6_original_dst(accepted)?)
    };
    if destination.port() == listener.port() {
        return Err(io::Error::other(format!("{destination} is the proxy itself")));
    }
    Ok(destination)
}

/// Starts to connect, marked so that the redirect lets it pass.
fn dial(destination: SocketAddr, mark: Option<u32>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SockAddr::from(destination)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    let socket = OwnedFd::from(socket);
    keep_alive(&socket)?;
    Ok(socket)
}

/// A peer that vanished without a word is noticed within two minutes.
fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket2::SockRef::from(socket).set_tcp_keepalive(&probes)
}
