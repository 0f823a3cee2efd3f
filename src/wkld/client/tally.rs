//! What one thread counts: totals of the run, and the current second.

use serde::{Deserialize, Serialize};

use crate::wkld::sample::Hist;

/// Why a request failed. The names are keys in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, reset while opening.
    Connect,
    /// The host has no address.
    Dns,
    /// The TLS handshake or a record failed.
    Tls,
    /// The connection broke while the request was written.
    Write,
    /// It broke or ended before the answer was complete.
    Read,
    /// What came is not a response, or more than one.
    Protocol,
    /// No complete answer within the timeout.
    Timeout,
    /// No file descriptor was left for a connection.
    OpenFiles,
    /// The script gave no request.
    Script,
    /// Answered 3xx.
    Status3xx,
    /// Answered 4xx.
    Status4xx,
    /// Answered 5xx (or with a status that HTTP does not know).
    Status5xx,
}

/// Number of kinds.
pub const KINDS: usize = 12;

impl Failure {
    /// All kinds with their names, in the order of columns.
    pub const ALL: [(Failure, &'static str); KINDS] = [
        (Failure::Connect, "connect"),
        (Failure::Dns, "dns"),
        (Failure::Tls, "tls"),
        (Failure::Write, "write"),
        (Failure::Read, "read"),
        (Failure::Protocol, "protocol"),
        (Failure::Timeout, "timeout"),
        (Failure::OpenFiles, "open_files"),
        (Failure::Script, "script"),
        (Failure::Status3xx, "status_3xx"),
        (Failure::Status4xx, "status_4xx"),
        (Failure::Status5xx, "status_5xx"),
    ];

    /// The kind of a status that is not 2xx.
    pub fn of_status(status: u16) -> Self {
        match status {
            300..400 => Failure::Status3xx,
            400..500 => Failure::Status4xx,
            _ => Failure::Status5xx,
        }
    }
}

/// Requests of one thread in one second of the run.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Seconds since the start.
    pub second: u64,
    /// Written in this second.
    pub sent: u64,
    /// Answered 2xx in this second.
    pub ok: u64,
    /// Failed in this second, by kind.
    pub failures: [u64; KINDS],
    /// Latency of the answers of this second.
    pub latency: Hist,
}

impl Interval {
    /// Empties it for another second.
    pub fn reuse(&mut self, second: u64) {
        self.second = second;
        self.sent = 0;
        self.ok = 0;
        self.failures = [0; KINDS];
        self.latency.clear();
    }
}

/// What is counted over a run, warm-up excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that were due.
    pub due: u64,
    /// Of these, written completely or in part.
    pub sent: u64,
    /// Of these, answered 2xx.
    pub ok: u64,
    /// Of these, answered before the load's end (the drain left out).
    pub ok_in_time: u64,
    /// Complete responses of any status.
    pub responses: u64,
    /// Due but never given a connection, when the drain ended.
    pub unsent: u64,
    /// Sent but not answered, when the drain ended.
    pub unanswered: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Sent later than due because every connection was busy.
    pub waited: u64,
    /// Connections opened again after the start.
    pub reopened: u64,
    /// Idle connections that the server closed.
    pub idle_closed: u64,
    /// Requests of the warm-up, counted nowhere else.
    pub warmup_requests: u64,
}

impl Counts {
    /// Adds what another thread or client counted.
    pub fn add(&mut self, other: &Counts) {
        for (count, more) in [
            (&mut self.due, other.due),
            (&mut self.sent, other.sent),
            (&mut self.ok, other.ok),
            (&mut self.ok_in_time, other.ok_in_time),
            (&mut self.responses, other.responses),
            (&mut self.unsent, other.unsent),
            (&mut self.unanswered, other.unanswered),
            (&mut self.bytes, other.bytes),
            (&mut self.waited, other.waited),
            (&mut self.reopened, other.reopened),
            (&mut self.idle_closed, other.idle_closed),
            (&mut self.warmup_requests, other.warmup_requests),
        ] {
            *count += more;
        }
    }
}

/// The histograms of a run, ns. Requests of the warm-up are in none of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histograms {
    /// Done - due of 2xx answers (in a sequence: done - end of the first request). Free of coordinated omission.
    pub latency: Hist,
    /// Done - sent of 2xx answers.
    pub service: Hist,
    /// Sent - due of all requests.
    pub lag: Hist,
    /// The part of the lag without a free connection: the server's doing.
    pub lag_no_free_connection: Hist,
    /// The part of the lag by the client's own lateness.
    pub lag_woke_late: Hist,
    /// Failure - due of failed requests.
    pub failed: Hist,
    /// Ages of requests without an end: lower bounds of their latencies.
    pub unfinished: Hist,
    /// Time to open a connection.
    pub connect: Hist,
    /// Of sequences: done - due of the first request.
    pub first: Hist,
    /// Of sequences: done of the second - due of the first.
    pub whole: Hist,
}

impl Histograms {
    /// Adds another thread's or client's; the result is what one of all samples would be.
    pub fn add(&mut self, other: &Histograms) {
        for (hist, more) in [
            (&mut self.latency, &other.latency),
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
            (&mut self.lag_no_free_connection, &other.lag_no_free_connection),
            (&mut self.lag_woke_late, &other.lag_woke_late),
            (&mut self.failed, &other.failed),
            (&mut self.unfinished, &other.unfinished),
            (&mut self.connect, &other.connect),
            (&mut self.first, &other.first),
            (&mut self.whole, &other.whole),
        ] {
            hist.add(more);
        }
    }
}

/// What one thread measured over the run.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Its counts.
    pub counts: Counts,
    /// Failed requests, by kind.
    pub failures: [u64; KINDS],
    /// Its histograms; that of latency stays empty, because latencies go into the seconds.
    pub hist: Histograms,
    /// CPU time of the thread, ns.
    pub cpu_ns: u64,
    /// Measured length of its load (shorter than planned when it was ended), ns.
    pub covered_ns: u64,
}

impl Totals {
    /// Adds what another thread measured.
    pub fn add(&mut self, other: &Totals) {
        self.counts.add(&other.counts);
        self.hist.add(&other.hist);
        self.cpu_ns += other.cpu_ns;
        self.covered_ns = self.covered_ns.max(other.covered_ns);
        for (count, more) in self.failures.iter_mut().zip(other.failures) {
            *count += more;
        }
    }
}
