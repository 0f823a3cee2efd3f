//! What a run measured: a value that is saved, sent between hosts, and merged exactly.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::client::tally::{Counts, Failure, Histograms, KINDS};
use super::probe::ProbeReport;
use super::sample::{Hist, Packed};
use super::schedule::SECOND;
use super::{Pace, client::COARSE_WINDOW};

/// Version of the report's form.
pub const REPORT_FORMAT: u32 = 1;

/// One second of the run. Due requests are counted by their due instant, everything else by when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the first due instant.
    pub second: u64,
    /// Requests that were due.
    pub due: u64,
    /// Requests written.
    pub sent: u64,
    /// Answers 2xx.
    pub ok: u64,
    /// Failures by kind, only those that occurred.
    #[serde(default)]
    pub errors: IndexMap<String, u64>,
    /// Latency of the answers of this second.
    pub latency: Packed,
}

impl Second {
    /// Adds what another client measured in the same second.
    pub fn add(&mut self, other: &Second) {
        self.due += other.due;
        self.sent += other.sent;
        self.ok += other.ok;
        add_errors(&mut self.errors, &other.errors);
        let mut latency = self.latency.unpack();
        latency.add(&other.latency.unpack());
        self.latency = Packed::from(&latency);
    }
}

/// What a run measured. Counts leave the warm-up out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// First due instant, us since the epoch.
    pub started_us: i64,
    /// End of the drain, us since the epoch.
    pub ended_us: i64,
    /// How much further than the steady clock the clock of the client has gone from start to end, us: it was set.
    #[serde(default)]
    pub clock_stepped_us: i64,
    /// Measured length of the load (without warm-up and drain), s.
    pub measured_s: f64,
    /// Offered requests/s, mean over the load.
    pub rate: f64,
    /// Clients, threads and connections over all clients.
    pub clients: usize,
    /// Threads over all clients.
    pub threads: usize,
    /// Connections over all clients.
    pub connections: usize,
    /// How requests were kept on time.
    pub pace: Pace,
    /// Requests, answers, connections and bytes.
    #[serde(flatten)]
    pub counts: Counts,
    /// Failures by kind, only those that occurred.
    pub errors: IndexMap<String, u64>,
    /// CPU time of the sending threads, s.
    pub cpu_s: f64,
    /// Largest resident memory of a client's process, bytes.
    pub peak_rss_bytes: u64,
    /// Ended by the user.
    pub interrupted: bool,
    /// Why the script could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_error: Option<String>,
    /// What the consistency probe saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeReport>,
    /// Answers of each thread in each full second.
    #[serde(default)]
    pub thread_rates: Vec<u64>,
    /// The histograms.
    pub histograms: Histograms,
    /// The seconds of the run.
    #[serde(default)]
    pub timeline: Vec<Second>,
}

/// Whether a run's numbers say something about the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Yes.
    Sound,
    /// They do, but the reader must know this.
    Noted(Vec<String>),
    /// They say something about the client.
    ClientLimited(Vec<String>),
}

/// A clock that is steered (NTP) moves by less than this beside the steady one in any load; more is a step, us.
const STEP_US: i64 = 100_000;

impl Report {
    /// Answers 2xx per second of the measured load; answers of the drain are not counted.
    pub fn throughput(&self) -> f64 {
        self.counts.ok_in_time as f64 / self.measured_s.max(1e-9)
    }

    /// Due requests without an end.
    pub fn unfinished(&self) -> u64 {
        self.counts.unsent + self.counts.unanswered
    }

    /// Failures of all kinds.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Latencies together with the lower bounds of those that have no end.
    pub fn latency_with_bounds(&self) -> Hist {
        let mut all = self.histograms.latency.clone();
        all.add(&self.histograms.unfinished);
        all
    }

    /// The quantile of [`Report::latency_with_bounds`] from which values are lower bounds; 1 when none is.
    pub fn exact_below(&self) -> f64 {
        let bounds = &self.histograms.unfinished;
        if bounds.count() == 0 {
            return 1.0;
        }
        let smallest = bounds.inner().min();
        let below = self.histograms.latency.inner().count_between(0, smallest.saturating_sub(1));
        below as f64 / (self.histograms.latency.count() + bounds.count()) as f64
    }

    /// Judges whether the client kept its schedule. Formula: measurement rules of the project; the client was the
    /// bottleneck when the 99th percentile of its own lateness exceeds max(1 ms, 10 % of the median latency), or when
    /// it left more than 1 % of the due requests unsent although connections were free.
    pub fn verdict(&self) -> Verdict {
        let mut limited = Vec::new();
        let late = self.histograms.lag_woke_late.quantile(0.99);
        let window = if self.pace == Pace::Coarse { COARSE_WINDOW } else { 0 };
        let allowed = window + (self.histograms.latency.quantile(0.5) / 10).max(1_000_000);
        if late > allowed {
            limited.push(format!(
                "the client was the bottleneck: it woke {:.3} ms late at the 99th percentile (allowed {:.3} ms)",
                late as f64 / 1e6,
                allowed as f64 / 1e6
            ));
        }
        if !limited.is_empty() {
            return Verdict::ClientLimited(limited);
        }
        let notes = self.notes();
        if notes.is_empty() { Verdict::Sound } else { Verdict::Noted(notes) }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.unfinished() > 0 {
            notes.push(format!(
                "{} of {} due requests had no end when the drain ended ({} never got a connection); latencies from \
                 the {:.2} % quantile on are lower bounds",
                self.unfinished(),
                self.counts.due,
                self.counts.unsent,
                100.0 * self.exact_below()
            ));
        }
        let share = self.counts.waited as f64 / self.counts.due.max(1) as f64;
        if share > 0.01 {
            notes.push(format!(
                "{:.1} % of the requests waited for a free connection, 99th percentile {:.3} ms",
                100.0 * share,
                self.histograms.lag_no_free_connection.quantile(0.99) as f64 / 1e6
            ));
        }
        if self.clock_stepped_us.abs() > STEP_US {
            let (way, by) = if self.clock_stepped_us < 0 {
                ("back", -self.clock_stepped_us)
            } else {
                ("forward", self.clock_stepped_us)
            };
            notes.push(format!(
                "the client's clock was set {way} by {:.3} s during the load; do not compare its times with those of traces",
                by as f64 / 1e6
            ));
        }
        if self.failures() > 0 {
            let kinds: Vec<String> = self.errors.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            notes.push(format!("{} of {} requests failed: {}", self.failures(), self.counts.due, kinds.join(", ")));
        }
        notes
    }

    /// Adds what another client measured at the same time: histograms, counts and seconds add up exactly.
    pub fn merge(&mut self, other: &Report) {
        self.started_us = self.started_us.min(other.started_us);
        self.ended_us = self.ended_us.max(other.ended_us);
        if other.clock_stepped_us.abs() > self.clock_stepped_us.abs() {
            self.clock_stepped_us = other.clock_stepped_us;
        }
        self.measured_s = self.measured_s.max(other.measured_s);
        self.rate += other.rate;
        self.clients += other.clients;
        self.threads += other.threads;
        self.connections += other.connections;
        self.cpu_s += other.cpu_s;
        self.peak_rss_bytes = self.peak_rss_bytes.max(other.peak_rss_bytes);
        self.interrupted |= other.interrupted;
        if self.script_error.is_none() {
            self.script_error.clone_from(&other.script_error);
        }
        self.counts.add(&other.counts);
        add_errors(&mut self.errors, &other.errors);
        match (&mut self.probe, &other.probe) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        self.thread_rates.extend_from_slice(&other.thread_rates);
        self.histograms.add(&other.histograms);
        self.merge_timeline(&other.timeline);
    }

    fn merge_timeline(&mut self, other: &[Second]) {
        for second in other {
            match self.timeline.binary_search_by_key(&second.second, |s| s.second) {
                Ok(at) => self.timeline[at].add(second),
                Err(at) => self.timeline.insert(at, second.clone()),
            }
        }
    }
}

fn add_errors(errors: &mut IndexMap<String, u64>, more: &IndexMap<String, u64>) {
    for (kind, n) in more {
        *errors.entry(kind.clone()).or_default() += n;
    }
}

/// Failures that occurred, by name.
pub(super) fn named(failures: &[u64; KINDS]) -> IndexMap<String, u64> {
    let occurred = Failure::ALL.iter().filter(|(kind, _)| failures[*kind as usize] > 0);
    occurred.map(|&(kind, name)| (name.to_owned(), failures[kind as usize])).collect()
}

/// Nanoseconds as seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND as f64
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A report of a run in which nothing was due.
    pub(in crate::wkld) fn empty() -> Report {
        serde_json::from_value(json!({
            "format": 1, "started_us": 1_000_000, "ended_us": 2_000_000, "measured_s": 1.0, "rate": 10.0, "clients": 1,
            "threads": 1, "connections": 1, "pace": "exact", "due": 0, "sent": 0, "ok": 0, "ok_in_time": 0,
            "responses": 0, "errors": {}, "unsent": 0, "unanswered": 0, "bytes": 0, "waited": 0, "reopened": 0,
            "idle_closed": 0, "warmup_requests": 0, "cpu_s": 0.0, "peak_rss_bytes": 0, "interrupted": false,
            "histograms": {}
        }))
        .unwrap()
    }

    fn with(latencies: &[u64], unfinished: &[u64]) -> Report {
        let mut report = empty();
        report.counts.due = (latencies.len() + unfinished.len()) as u64;
        report.counts.ok = latencies.len() as u64;
        report.counts.ok_in_time = report.counts.ok;
        report.counts.unanswered = unfinished.len() as u64;
        latencies.iter().for_each(|&ns| report.histograms.latency.record(ns));
        unfinished.iter().for_each(|&ns| report.histograms.unfinished.record(ns));
        report
    }

    #[test]
    fn a_clock_that_was_set_is_told() {
        let mut report = with(&[1_000_000], &[]);
        report.clock_stepped_us = 40_000;
        assert_eq!(report.verdict(), Verdict::Sound, "steered, not set");
        let mut other = report.clone();
        other.clock_stepped_us = -3_600_000_000;
        report.merge(&other);
        let Verdict::Noted(notes) = report.verdict() else { panic!("{:?}", report.verdict()) };
        assert!(notes[0].starts_with("the client's clock was set back by 3600.000 s"), "{notes:?}");
    }

    #[test]
    fn a_report_survives_its_journey() {
        let mut report = with(&[1_000_000, 2_000_000], &[5_000_000]);
        report.errors.insert("timeout".into(), 3);
        let latency = Packed::from(&report.histograms.latency);
        report.timeline.push(Second { second: 0, due: 3, sent: 3, ok: 2, errors: IndexMap::new(), latency });
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
        let from_summary: Report = serde_json::from_value(report.summary()).unwrap();
        assert_eq!(from_summary.histograms, report.histograms);
        assert_eq!((from_summary.counts.due, from_summary.unfinished()), (3, 1));
    }

    #[test]
    fn what_has_no_end_makes_the_upper_quantiles_lower_bounds() {
        let latencies = vec![1_000_000; 2100];
        let ages: Vec<u64> = (0..900).map(|i| 1_000_000 + i * 1_000_000).collect();
        let report = with(&latencies, &ages);
        let all = report.latency_with_bounds();
        let p99 = all.quantile(0.99) as f64 / 1e6;
        assert!((p99 - 870.0).abs() < 2.0, "{p99} ms");
        assert!(report.exact_below() <= 0.7);
        let Verdict::Noted(notes) = report.verdict() else { panic!("{:?}", report.verdict()) };
        assert!(notes[0].starts_with("900 of 3000 due requests had no end"), "{notes:?}");
    }

    #[test]
    fn a_late_client_is_named_and_coarse_pace_has_its_window() {
        let mut report = with(&[1_000_000], &[]);
        for _ in 0..100 {
            report.histograms.lag_woke_late.record(1_500_000);
        }
        assert!(matches!(report.verdict(), Verdict::ClientLimited(_)));
        report.pace = Pace::Coarse;
        assert_eq!(report.verdict(), Verdict::Sound);
        report.pace = Pace::Exact;
        report.histograms.latency = Hist::new();
        report.histograms.latency.record(100_000_000);
        assert_eq!(report.verdict(), Verdict::Sound, "10 % of the median latency is allowed");
    }

    proptest! {
        #[test]
        fn merging_adds_up(
            a in prop::collection::vec(1_000_u64..3_000_000_000, 1..100),
            b in prop::collection::vec(1_000_u64..3_000_000_000, 1..100),
        ) {
            let (mut merged, other) = (with(&a, &b), with(&b, &[]));
            merged.merge(&other);
            let mut both = a.clone();
            both.extend(&b);
            let expected = with(&both, &b);
            prop_assert_eq!(&merged.histograms.latency, &expected.histograms.latency);
            prop_assert_eq!((merged.counts.due, merged.counts.ok, merged.clients), (expected.counts.due, expected.counts.ok, 2));
            prop_assert_eq!(merged.rate, 20.0);
        }
    }
}
