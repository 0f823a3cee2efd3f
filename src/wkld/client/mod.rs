//! The client: one event loop per thread over raw epoll. No locks, channels or allocation per request.
//!
//! A thread takes every T-th request of the one shared schedule and sends it on any free connection. When none is
//! free the request waits here and its wait is part of its latency; nothing is skipped and nothing catches up slower
//! than it can.
//!
//! ```text
//! send.rs      due requests -> free connections          receive.rs   events -> answers -> tally
//! conn.rs      sockets and pools                         tally.rs     what is counted
//! end.rs       what has no end when the drain is over    mod.rs       the loop, waiting, time
//! ```

mod conn;
mod end;
mod receive;
mod send;
pub mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, clock_gettime, timerfd_create,
    timerfd_settime,
};

use self::conn::{Conn, Pool};
use self::tally::{Interval, Totals};
use super::Pace;
use super::schedule::{Dues, SECOND};
use super::source::{Broken, Made, Source};
use super::url::Host;

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// Events taken at once.
const EVENTS: usize = 256;

/// Timeouts and seconds are looked at this often, ns.
const TICK: u64 = 20_000_000;

/// Below this gap to the next request sleeping costs more than it saves, ns.
const SPIN_BELOW: u64 = 20_000;

/// A sleep ends later than asked by 10 to 40 us. One that ends early and is polled to its end does not, and costs little
/// more. Sends that come late after a long gap and in time after a short one would be no Poisson process, ns.
const WAKE_A_LITTLE_EARLY: u64 = 12_000;

/// Before a gap of at least this length there is CPU time for a longer poll, ns.
const LONG_GAP: u64 = 500_000;

/// How much earlier its sleep ends, ns.
const WAKE_EARLY: u64 = 25_000;

/// Requests that are due within one window of this length are sent together under coarse pace, ns.
pub(super) const COARSE_WINDOW: u64 = 1_000_000;

/// What the timer's event carries: the index of no connection.
const NO_CONNECTION: u64 = u64::MAX;

/// Waiting in epoll is rounded up to multiples of this, ns.
const EPOLL_UNIT: u64 = 1_000_000;

/// A wake-up later than this is a stall of the client, ns.
const STALL: u64 = 100_000;

/// Now, ns of the monotonic clock.
pub(crate) fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

/// What all threads of a run share. Instants are ns of the monotonic clock.
pub(super) struct Shared<'s> {
    pub hosts: Vec<Host>,
    pub pace: Pace,
    pub timeout: u64,
    pub drain: u64,
    pub warmup: u64,
    pub duration: u64,
    /// The first due instant, set once every thread is ready; 0 when the load does not start.
    pub start: AtomicU64,
    /// The person asked to end.
    pub stop: &'s AtomicBool,
}

/// What a thread is given for itself.
pub(super) struct Share<'a> {
    pub index: usize,
    pub connections: usize,
    pub max_connections: usize,
    pub dues: Dues,
    pub source: Box<dyn Source + 'a>,
    /// Where its seconds go.
    pub intervals: Sender<(usize, Box<Interval>)>,
    /// Where emptied ones come back.
    pub recycled: Receiver<Box<Interval>>,
}

/// How a thread ended.
pub(super) struct Ended {
    pub totals: Box<Totals>,
    /// Why the script could not go on.
    pub broken: Option<String>,
}

/// The next request.
#[derive(Clone, Copy)]
struct Head {
    due: u64,
    made: Made,
    /// It stands for a request that was held back.
    aside: bool,
}

/// The second request of a sequence, waiting for a connection.
#[derive(Clone, Copy)]
struct Follow {
    due: u64,
    ready: u64,
    key: u64,
    measured: bool,
}

/// A request whose host has no free connection while another host has.
struct Parked {
    head: Head,
    bytes: Vec<u8>,
}

/// One thread's generator.
pub(super) struct Engine<'a> {
    shared: &'a Shared<'a>,
    share: Share<'a>,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    pools: Vec<Pool>,
    head: Option<Head>,
    /// The next request's bytes.
    prepared: Vec<u8>,
    scratch: Vec<u8>,
    follows: VecDeque<Follow>,
    parked: VecDeque<Parked>,
    /// What a script held back, by due instant.
    delayed: BTreeMap<(u64, u64), Parked>,
    delayed_count: u64,
    buffer: Box<[u8]>,
    totals: Box<Totals>,
    interval: Box<Interval>,
    interval_end: u64,
    now: u64,
    start: u64,
    warm: u64,
    end: u64,
    next_tick: u64,
    /// The client's last late wake-up: when it should have been, when it was.
    stall: (u64, u64),
    /// Wakes the loop to the nanosecond, which a timeout of epoll does not: an event at the instant `alarm`.
    timer: OwnedFd,
    alarm: u64,
    /// Connections with a request on them.
    active: usize,
    fixed: bool,
    listens: bool,
    broken: Option<String>,
}

impl<'a> Engine<'a> {
    /// A generator that has not opened its connections yet.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance.
    pub(in crate::wkld) fn new(shared: &'a Shared<'a>, share: Share<'a>) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // At the edge: it says once that it has gone off, and needs no reading.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(NO_CONNECTION), flags)?;
        let (fixed, listens) = (share.source.fixed(), share.source.listens());
        let mut engine = Engine {
            shared,
            epoll,
            conns: Vec::with_capacity(share.connections),
            pools: Vec::new(),
            head: None,
            prepared: Vec::with_capacity(1024),
            scratch: Vec::with_capacity(1024),
            follows: VecDeque::new(),
            parked: VecDeque::new(),
            delayed: BTreeMap::new(),
            delayed_count: 0,
            buffer: vec![0; BUFFER].into(),
            totals: Box::default(),
            interval: Box::default(),
            interval_end: 0,
            now: clock(),
            start: 0,
            warm: 0,
            end: 0,
            next_tick: 0,
            stall: (0, 0),
            timer,
            alarm: 0,
            active: 0,
            fixed,
            listens,
            broken: None,
            share,
        };
        for host in 0..shared.hosts.len() {
            engine.add_pool(host);
        }
        Ok(engine)
    }

    fn add_pool(&mut self, host: usize) {
        let pool = self.pools.len();
        let first = self.conns.len() as u32;
        self.conns.extend((0..self.share.connections).map(|_| Conn::new(pool)));
        let closed = (first..self.conns.len() as u32).rev().collect();
        self.pools.push(Pool { host, closed, places: self.share.connections, ..Pool::default() });
    }

    /// Sends the whole share of the schedule, drains, and returns the counts.
    pub(in crate::wkld) fn run(mut self) -> Ended {
        self.start = self.shared.start.load(Ordering::Acquire);
        if self.start == 0 {
            return Ended { totals: self.totals, broken: None };
        }
        self.warm = self.start + self.shared.warmup;
        self.end = self.start + self.shared.duration;
        self.interval_end = self.start + SECOND;
        let cpu_before = cpu_time();
        let mut events = Vec::with_capacity(EVENTS);
        self.make_next();
        loop {
            self.now = clock();
            if self.now >= self.next_tick {
                self.tick();
            }
            self.send_due();
            if self.is_over() {
                break;
            }
            self.wait(&mut events);
            for event in &events {
                self.handle(event.data.u64(), event.flags);
            }
        }
        self.totals.cpu_ns = cpu_time().saturating_sub(cpu_before);
        self.finish()
    }

    /// Housekeeping: timeouts, the end of a second, the wish to stop.
    fn tick(&mut self) {
        if self.shared.stop.load(Ordering::Relaxed) || self.share.source.stopped() {
            self.stop_now();
        }
        self.expire();
        while self.now >= self.interval_end {
            self.turn_interval();
        }
        self.next_tick = (self.now + TICK).min(self.interval_end);
    }

    /// Ends the schedule at this instant; a short drain remains.
    fn stop_now(&mut self) {
        self.end = self.end.min(self.now);
        if self.head.is_some_and(|head| head.due >= self.end) {
            self.head = None;
        }
    }

    /// How long after its end the load may be drained, ns.
    fn drain(&self) -> u64 {
        let interrupted = self.broken.is_some() || self.shared.stop.load(Ordering::Relaxed);
        if interrupted { self.shared.drain.min(SECOND) } else { self.shared.drain }
    }

    /// Hands the second that has passed to the collector.
    fn turn_interval(&mut self) {
        let next = self.interval.second + 1;
        let mut fresh = self.share.recycled.try_recv().unwrap_or_default();
        fresh.reuse(next);
        let full = std::mem::replace(&mut self.interval, fresh);
        self.interval_end += SECOND;
        // The collector outlives the threads; if it has gone, nobody wants the seconds.
        self.share.intervals.send((self.share.index, full)).ok();
    }

    /// Everything that was due has an end, or the drain is over.
    fn is_over(&self) -> bool {
        let waiting = self.follows.len() + self.parked.len() + self.delayed.len();
        let idle = self.head.is_none() && self.active == 0 && waiting == 0;
        idle && self.now >= self.end || self.now >= self.end.saturating_add(self.drain())
    }

    /// When something is due that can be sent, if anything is.
    fn sends_at(&self) -> Option<u64> {
        let delayed = self.delayed.first_key_value().map(|(key, _)| key.0);
        let head = self.head.filter(|head| head.aside || self.can_send(head.made.host)).map(|head| head.due);
        delayed.into_iter().chain(head).min()
    }

    /// Requests that are due at this instant or before may be sent now. Under coarse pace a window is sent at its end.
    fn sends_up_to(&self) -> u64 {
        match self.shared.pace {
            Pace::Coarse => self.now - self.now % COARSE_WINDOW,
            Pace::Exact | Pace::Spin => self.now,
        }
    }

    /// Sets the timer to an instant; false when the kernel refuses.
    fn set_alarm(&mut self, at: u64) -> bool {
        if self.alarm == at {
            return true;
        }
        let value = Itimerspec { it_interval: timespec(0), it_value: timespec(at) };
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value).is_ok();
        self.alarm = if set { at } else { 0 };
        set
    }

    /// Sleeps until an event comes or a request is due, in the way of the pace.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        events.clear();
        let limit = if self.now < self.end { self.end } else { self.end.saturating_add(self.drain()) };
        let (wake, sends) = wake_at(self.shared.pace, self.now, self.next_tick.min(limit), self.sends_at());
        let gap = wake.saturating_sub(self.now);
        let polls = match self.shared.pace {
            Pace::Spin => true,
            Pace::Exact => gap < SPIN_BELOW || gap <= WAKE_EARLY && self.alarm.abs_diff(wake) <= WAKE_EARLY,
            Pace::Coarse => gap == 0,
        };
        if polls {
            take_events(&self.epoll, events, Some(0));
        } else if sends {
            let early = match self.shared.pace {
                Pace::Exact if gap >= LONG_GAP => WAKE_EARLY,
                Pace::Exact => WAKE_A_LITTLE_EARLY,
                _ => 0,
            };
            let lasts = if self.set_alarm(wake - early) { None } else { Some(gap) };
            take_events(&self.epoll, events, lasts);
        } else {
            take_events(&self.epoll, events, Some(gap));
        }
        self.now = clock();
        if self.now > wake + STALL {
            self.stall = (wake, self.now);
        }
    }
}

/// When the loop has to go on although no event comes, and whether something is to be sent then: `look` is when it has
/// other work, `due` when something is due that can be sent.
fn wake_at(pace: Pace, now: u64, look: u64, due: Option<u64>) -> (u64, bool) {
    // The other work can wait for a request that is due soon after; its rounding must not make a request wait for it.
    match due.filter(|&due| due < look + TICK) {
        Some(due) if pace == Pace::Coarse => (due.next_multiple_of(COARSE_WINDOW), true),
        Some(due) => (due, true),
        None => (now + look.saturating_sub(now).next_multiple_of(EPOLL_UNIT), false),
    }
}

/// Waits for events (for at most `timeout` ns, rounded up to [`EPOLL_UNIT`]) and takes them.
fn take_events(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, timeout: Option<u64>) {
    // After an error (a signal) the loop looks again.
    epoll::wait(epoll, spare_capacity(events), timeout.map(timespec).as_ref()).ok();
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / SECOND) as i64, tv_nsec: (ns % SECOND) as i64 }
}

/// CPU time of this thread, ns.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

impl From<Broken> for String {
    fn from(broken: Broken) -> String {
        broken.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_request_never_waits_for_other_work() {
        let at = |pace, look, due| wake_at(pace, 100 * MS + 1, look, due);
        assert_eq!(at(Pace::Exact, 105 * MS, Some(103 * MS + 7)), (103 * MS + 7, true));
        assert_eq!(at(Pace::Exact, 105 * MS, Some(105 * MS + 7)), (105 * MS + 7, true), "due just after it");
        assert_eq!(at(Pace::Exact, 105 * MS, None), (105 * MS + 1, false), "in whole ms");
        for due in (100 * MS..200 * MS).step_by(300_000) {
            let (wake, sends) = at(Pace::Spin, 105 * MS, Some(due));
            assert!(wake <= due.max(105 * MS), "{wake} for {due}");
            assert_eq!(wake == due, sends);
        }
        assert_eq!(at(Pace::Coarse, 105 * MS, Some(103 * MS + 7)), (104 * MS, true), "at the window's end");
        assert_eq!(at(Pace::Coarse, 105 * MS, Some(104 * MS)), (104 * MS, true));
    }
}
