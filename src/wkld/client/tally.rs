//! What one thread counts: totals of the run, and the current second.

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

/// Counts of one thread over the run, warm-up excluded.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Requests that were due.
    pub due: u64,
    /// Written completely or in part.
    pub sent: u64,
    /// Answered 2xx.
    pub ok: u64,
    /// Of these, answered before the end of the load.
    pub ok_in_time: u64,
    /// Complete responses of any status.
    pub responses: u64,
    /// Failed, by kind.
    pub failures: [u64; KINDS],
    /// Still without a connection when the drain ended.
    pub unsent: u64,
    /// Still without an answer when the drain ended.
    pub unanswered: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Sent later than due because every connection was busy.
    pub waited: u64,
    /// Connections opened again after the start.
    pub reopened: u64,
    /// Idle connections that the server closed.
    pub idle_closed: u64,
    /// Requests of the warm-up.
    pub warmup: u64,
    /// Done - sent of 2xx answers.
    pub service: Hist,
    /// Sent - due.
    pub lag: Hist,
    /// Its part without a free connection.
    pub lag_busy: Hist,
    /// Its part by the client's own lateness.
    pub lag_late: Hist,
    /// Failure - due of failed requests.
    pub failed: Hist,
    /// Age of what had no end when the drain ended: lower bounds of latencies.
    pub unfinished: Hist,
    /// Time to open a connection.
    pub connect: Hist,
    /// Done - due of the first requests of sequences.
    pub first: Hist,
    /// End of the second - due of the first, of sequences.
    pub whole: Hist,
    /// CPU time of the thread, ns.
    pub cpu_ns: u64,
    /// Measured length of its load (shorter than planned when it was ended), ns.
    pub covered_ns: u64,
}

impl Totals {
    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Totals) {
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
            (&mut self.warmup, other.warmup),
            (&mut self.cpu_ns, other.cpu_ns),
        ] {
            *count += more;
        }
        self.covered_ns = self.covered_ns.max(other.covered_ns);
        for (count, more) in self.failures.iter_mut().zip(other.failures) {
            *count += more;
        }
        for (hist, more) in [
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
            (&mut self.lag_busy, &other.lag_busy),
            (&mut self.lag_late, &other.lag_late),
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
