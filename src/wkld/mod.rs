//! The load generator: an open loop that says how well it kept its own schedule.
//!
//! It knows URLs and makers of requests, no target and no files. [`run`] sends a [`Workload`] and returns a
//! [`Report`]; both travel as JSON, so the same generator runs on a client host.
//!
//! ```text
//! schedule   index -> due instant (pure)          source, script   what a request is made of
//! client     one event loop per thread            response, tls    reading answers
//! sample     histograms                           collect          seconds of all threads together
//! report     what was measured, merged exactly    export, wrk2     its files; wrk2's text, to the digit
//! ```

pub mod client;
mod collect;
pub mod export;
pub mod probe;
pub mod report;
pub mod response;
pub mod sample;
pub mod schedule;
pub mod script;
pub mod search;
pub mod source;
pub mod tls;
pub mod url;
pub mod wrk2;

use std::net::TcpStream;
use std::str::FromStr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::error::{Exit, Fault};
use client::tally::{Histograms, Interval, Totals};
use client::{Ended, Engine, Share, Shared};
use collect::Collector;
use report::{REPORT_FORMAT, Report, Second, seconds};
use schedule::{Arrivals, Piece, SECOND, Schedule};
use source::Source;
use url::Host;

/// How exactly requests are kept on time, and at what price in CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// Sleep to the nanosecond; poll when the gap is too short to sleep.
    #[default]
    Exact,
    /// Send what is due within a millisecond together.
    Coarse,
    /// Poll all the time.
    Spin,
}

impl Pace {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Pace::Exact => "exact",
            Pace::Coarse => "coarse",
            Pace::Spin => "spin",
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Pace::Exact, Pace::Coarse, Pace::Spin]
            .into_iter()
            .find(|pace| pace.as_str() == text)
            .ok_or_else(|| format!("unknown pace `{text}`; known: exact, coarse, spin"))
    }
}

/// What is asked of the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The offered load, piece by piece, over all clients.
    pub pieces: Vec<Piece>,
    /// How requests follow each other.
    pub arrivals: Arrivals,
    /// Seed of arrivals and bodies.
    pub seed: u64,
    /// First part that is cut from every series, ns.
    pub warmup_ns: u64,
    /// Connections of this client, per host.
    pub connections: usize,
    /// Up to this many connections per host when all are busy.
    pub max_connections: usize,
    /// Threads of this client.
    pub threads: usize,
    /// How exactly requests are kept on time.
    pub pace: Pace,
    /// A request without an answer after this time has failed, ns.
    pub timeout_ns: u64,
    /// Longest wait for answers after the end, ns.
    pub drain_ns: u64,
    /// First due instant, us since the epoch; at once when absent.
    #[serde(default)]
    pub start_at_us: Option<i64>,
    /// This client's number, from 0.
    #[serde(default)]
    pub client: u64,
    /// Clients that share the load.
    #[serde(default = "one")]
    pub clients: u64,
}

fn one() -> u64 {
    1
}

/// What can go wrong before a load has been sent.
#[derive(Debug, thiserror::Error)]
pub enum WkldError {
    /// The workload cannot be carried out as described.
    #[error("{0}")]
    Unusable(String),
    /// A host has no address.
    #[error("cannot find the address of `{host}`: {why}")]
    Resolve {
        /// As in the URL.
        host: String,
        /// The resolver's text.
        why: String,
    },
    /// No connection could be opened.
    #[error("cannot connect to `{host}`: {why}")]
    Connect {
        /// `host:port`.
        host: String,
        /// The system's text.
        why: String,
    },
    /// The process may not open that many files.
    #[error("{needed} connections need more open files than the limit of {limit} (`ulimit -n`)")]
    OpenFiles {
        /// Connections asked for.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The system refused a thread or an epoll instance.
    #[error("cannot start the load generator: {0}")]
    System(#[from] std::io::Error),
    /// A script cannot be used or failed.
    #[error("{0}")]
    Script(String),
}

impl Fault for WkldError {
    fn exit(&self) -> Exit {
        match self {
            WkldError::Unusable(_) | WkldError::OpenFiles { .. } | WkldError::Script(_) => Exit::Usage,
            WkldError::Resolve { .. } | WkldError::Connect { .. } | WkldError::System(_) => Exit::Unreachable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            WkldError::OpenFiles { .. } => Some("raise it (ulimit -n 65536) or ask for fewer connections".into()),
            WkldError::Connect { .. } => Some("is the application running? see: maestro run, maestro info".into()),
            _ => None,
        }
    }
}

/// Where a thread's requests come from: called once for each thread with its number among all threads of all clients.
pub type Sources<'a> = dyn FnMut(u64) -> Result<Box<dyn Source + 'a>, WkldError> + 'a;

/// The way to end a run early, from another thread.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Ends the run: nothing more is sent, what was measured is kept.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Workload {
    /// The schedule of all clients together.
    pub fn schedule(&self) -> Schedule {
        Schedule::new(&self.pieces, self.arrivals, self.seed)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`WkldError::Unusable`] with the numbers.
    pub fn check(&self) -> Result<(), WkldError> {
        let unusable = |why: String| Err(WkldError::Unusable(why));
        if self.threads == 0 {
            return unusable("0 threads cannot send anything".into());
        }
        if self.threads > 1024 {
            return unusable(format!("{} threads are more than the 1024 that make sense on one host", self.threads));
        }
        if self.connections < self.threads {
            return unusable(format!(
                "{} connection(s) for {} threads: every thread needs at least one",
                self.connections, self.threads
            ));
        }
        if self.max_connections < self.connections {
            return unusable(format!(
                "at most {} connections is less than the {} to begin with",
                self.max_connections, self.connections
            ));
        }
        let duration = self.schedule().duration_ns();
        if self.warmup_ns >= duration {
            return unusable(format!(
                "a warm-up of {} s leaves nothing of {} s",
                seconds(self.warmup_ns),
                seconds(duration)
            ));
        }
        Ok(())
    }
}

/// Sends `workload` to `hosts` with the requests of `sources` and returns what was measured. `watch` sees every second
/// when it is over. Blocks until the drain has ended; the sending threads are its own.
///
/// # Errors
/// [`WkldError`] when the load could not be started. What happens later is counted in the report.
pub fn run(
    workload: &Workload,
    hosts: Vec<Host>,
    sources: &mut Sources<'_>,
    stop: &Stop,
    watch: &mut dyn FnMut(&Second),
) -> Result<Report, WkldError> {
    workload.check()?;
    allow_files(workload, hosts.len())?;
    let schedule = workload.schedule();
    let shared = Shared {
        hosts,
        pace: workload.pace,
        timeout: workload.timeout_ns,
        drain: workload.drain_ns,
        warmup: workload.warmup_ns,
        duration: schedule.duration_ns(),
        start: AtomicU64::new(0),
        stop: &stop.0,
    };
    let (send, intervals) = channel();
    let mut recycle = Vec::new();
    let mut engines = Vec::new();
    for index in 0..workload.threads {
        let (back, recycled) = channel();
        recycle.push(back);
        let lane = workload.client * workload.threads as u64 + index as u64;
        let share = Share {
            index,
            connections: portion(workload.connections, workload.threads, index),
            max_connections: portion(workload.max_connections, workload.threads, index),
            dues: schedule.dues(lane, workload.clients * workload.threads as u64),
            source: sources(lane)?,
            intervals: send.clone(),
            recycled,
        };
        engines.push(Engine::new(&shared, share).map_err(std::io::Error::from)?);
    }
    drop(send);
    let own = schedule.clone();
    let collector =
        Collector::new(recycle, own.dues(workload.client, workload.clients), workload.warmup_ns, shared.duration);
    let (ended, collector, started_us) = conduct(workload, &shared, engines, &intervals, collector, watch)?;
    Ok(summarise(workload, &shared, ended, collector, started_us))
}

/// The share of thread `index` in `total`.
fn portion(total: usize, threads: usize, index: usize) -> usize {
    total / threads + usize::from(index < total % threads)
}

/// Raises the soft limit on open files as far as needed.
fn allow_files(workload: &Workload, hosts: usize) -> Result<(), WkldError> {
    let connections = (workload.max_connections * hosts.max(1)) as u64;
    let needed = connections + workload.threads as u64 + 64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    if let Some(hard) = maximum
        && hard < needed
    {
        return Err(WkldError::OpenFiles { needed: connections, limit: hard });
    }
    let wanted = Rlimit { current: Some(needed), maximum };
    let limit = current.unwrap_or_default();
    setrlimit(Resource::Nofile, wanted).map_err(|_| WkldError::OpenFiles { needed: connections, limit })
}

/// Starts the threads together, collects their seconds, and waits for their ends.
fn conduct<'a>(
    workload: &Workload,
    shared: &'a Shared<'a>,
    engines: Vec<Engine<'a>>,
    intervals: &Receiver<(usize, Box<Interval>)>,
    mut collector: Collector,
    watch: &mut dyn FnMut(&Second),
) -> Result<(Vec<Ended>, Collector, i64), WkldError> {
    let ready = Barrier::new(engines.len() + 1);
    let go = Barrier::new(engines.len() + 1);
    let open = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for mut engine in engines {
            let (ready, go, open) = (&ready, &go, &open);
            let body = move || {
                open.fetch_add(engine.open_all(OPEN_LIMIT) as u64, Ordering::Relaxed);
                ready.wait();
                go.wait();
                engine.run()
            };
            // A thread that cannot be started would leave the others at the barrier; the standard library's spawn
            // ends the process in that case, as it should.
            threads.push(scope.spawn(body));
        }
        ready.wait();
        let begin = begin(workload, shared, open.load(Ordering::Relaxed));
        let start = begin.as_ref().map_or(0, |&(start, _)| start);
        shared.start.store(start, Ordering::Release);
        go.wait();
        for (thread, interval) in intervals {
            if let Some(second) = collector.take(thread, interval) {
                watch(&second);
                collector.timeline.push(second);
            }
        }
        let ended = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        let (_, started_us) = begin?;
        let rest = collector.rest();
        collector.timeline.extend(rest);
        Ok((ended, collector, started_us))
    })
}

/// How long connections may take to open before the load starts, ns.
const OPEN_LIMIT: u64 = 10 * SECOND;

/// Decides the first due instant: ns of the monotonic clock, and us since the epoch.
fn begin(workload: &Workload, shared: &Shared<'_>, open: u64) -> Result<(u64, i64), WkldError> {
    if open == 0
        && let Some(host) = shared.hosts.first()
    {
        return Err(WkldError::Connect {
            host: format!("{}:{}", host.name, host.addresses.first().map_or(0, |a| a.port())),
            why: connect_error(host),
        });
    }
    let (now, wall) = (client::clock(), jiff::Timestamp::now().as_microsecond());
    let Some(at) = workload.start_at_us else { return Ok((now + LEAD, wall + (LEAD / 1000) as i64)) };
    let ahead = at - wall;
    if ahead < 0 {
        return Err(WkldError::Unusable(format!(
            "the instant to start at has passed {:.3} s ago",
            -ahead as f64 / 1e6
        )));
    }
    Ok((now + ahead as u64 * 1000, at))
}

/// Between the go and the first due instant, ns: long enough for every thread to be in its loop.
const LEAD: u64 = 2_000_000;

/// What the system says about a host that lets nobody in.
fn connect_error(host: &Host) -> String {
    let Some(address) = host.addresses.first() else { return "no address".into() };
    match TcpStream::connect_timeout(address, Duration::from_secs(2)) {
        Err(error) => error.to_string(),
        Ok(_) if host.tls.is_some() => "the TLS handshake failed".into(),
        Ok(_) => "no connection came up in 10 s".into(),
    }
}

fn summarise(
    workload: &Workload,
    shared: &Shared<'_>,
    ended: Vec<Ended>,
    collector: Collector,
    started_us: i64,
) -> Report {
    let mut totals = Totals::default();
    let mut script_error = None;
    for thread in ended {
        totals.add(&thread.totals);
        script_error = script_error.or(thread.broken);
    }
    let interrupted = shared.stop.load(Ordering::Relaxed);
    // By the steady clock: the other one may be set while the load is sent.
    let elapsed_ns = client::clock().saturating_sub(shared.start.load(Ordering::Relaxed));
    let ended_us = started_us + (elapsed_ns / 1000) as i64;
    let measured_ns = (shared.duration - shared.warmup).min(totals.covered_ns.max(1));
    Report {
        format: REPORT_FORMAT,
        started_us,
        ended_us,
        clock_stepped_us: jiff::Timestamp::now().as_microsecond() - ended_us,
        measured_s: seconds(measured_ns),
        rate: workload.schedule().mean_rate() / workload.clients as f64,
        clients: 1,
        threads: workload.threads,
        connections: workload.connections,
        pace: workload.pace,
        counts: totals.counts,
        errors: report::named(&totals.failures),
        cpu_s: seconds(totals.cpu_ns),
        peak_rss_bytes: peak_rss(),
        interrupted,
        script_error,
        probe: None,
        thread_rates: collector.thread_rates,
        timeline: collector.timeline,
        histograms: Histograms { latency: collector.latency, ..totals.hist },
    }
}

/// Largest resident memory of this process so far, bytes.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
