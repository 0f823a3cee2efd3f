//! What a run measured: a value that is saved, sent between hosts, and merged exactly.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::tally::{Failure, KINDS, Totals};
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
    fn each(&mut self) -> [&mut Hist; 10] {
        [
            &mut self.latency,
            &mut self.service,
            &mut self.lag,
            &mut self.lag_no_free_connection,
            &mut self.lag_woke_late,
            &mut self.failed,
            &mut self.unfinished,
            &mut self.connect,
            &mut self.first,
            &mut self.whole,
        ]
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
    /// Requests that were due.
    pub due: u64,
    /// Of these, written.
    pub sent: u64,
    /// Of these, answered 2xx.
    pub ok: u64,
    /// Of these, answered before the load's end (the drain left out).
    pub ok_in_time: u64,
    /// Complete responses of any status.
    pub responses: u64,
    /// Failures by kind, only those that occurred.
    pub errors: IndexMap<String, u64>,
    /// Due but never given a connection, when the drain ended.
    pub unsent: u64,
    /// Sent but not answered, when the drain ended.
    pub unanswered: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Requests that waited because no connection was free.
    pub waited: u64,
    /// Connections opened during the load.
    pub reopened: u64,
    /// Idle connections that the server closed.
    pub idle_closed: u64,
    /// Requests of the warm-up, counted nowhere else.
    pub warmup_requests: u64,
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

impl Report {
    /// Answers 2xx per second of the measured load; answers of the drain are not counted.
    pub fn throughput(&self) -> f64 {
        self.ok_in_time as f64 / self.measured_s.max(1e-9)
    }

    /// Due requests without an end.
    pub fn unfinished(&self) -> u64 {
        self.unsent + self.unanswered
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
                self.due,
                self.unsent,
                100.0 * self.exact_below()
            ));
        }
        let share = self.waited as f64 / self.due.max(1) as f64;
        if share > 0.01 {
            notes.push(format!(
                "{:.1} % of the requests waited for a free connection, 99th percentile {:.3} ms",
                100.0 * share,
                self.histograms.lag_no_free_connection.quantile(0.99) as f64 / 1e6
            ));
        }
        if self.failures() > 0 {
            let kinds: Vec<String> = self.errors.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            notes.push(format!("{} of {} requests failed: {}", self.failures(), self.due, kinds.join(", ")));
        }
        notes
    }

    /// Adds what another client measured at the same time: histograms, counts and seconds add up exactly.
    pub fn merge(&mut self, other: &Report) {
        self.started_us = self.started_us.min(other.started_us);
        self.ended_us = self.ended_us.max(other.ended_us);
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
        add_errors(&mut self.errors, &other.errors);
        match (&mut self.probe, &other.probe) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        self.thread_rates.extend_from_slice(&other.thread_rates);
        let mut histograms = other.histograms.clone();
        for (hist, more) in self.histograms.each().into_iter().zip(histograms.each()) {
            hist.add(more);
        }
        self.merge_timeline(&other.timeline);
    }

    fn merge_timeline(&mut self, other: &[Second]) {
        for second in other {
            match self.timeline.binary_search_by_key(&second.second, |s| s.second) {
                Ok(at) => {
                    let ours = &mut self.timeline[at];
                    ours.due += second.due;
                    ours.sent += second.sent;
                    ours.ok += second.ok;
                    add_errors(&mut ours.errors, &second.errors);
                    let mut latency = ours.latency.unpack();
                    latency.add(&second.latency.unpack());
                    ours.latency = Packed::from(&latency);
                }
                Err(at) => self.timeline.insert(at, second.clone()),
            }
        }
    }

    /// The `load` section of `summary.json`: the report with percentiles worked out, without the seconds (they are in
    /// `timeline.csv` and `latency.hlog`). Its schema is `docs/schema/summary-load.json`.
    pub fn summary(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        let Some(map) = value.as_object_mut() else { return value };
        let histograms = map.remove("histograms").unwrap_or_default();
        map.remove("timeline");
        map.remove("thread_rates");
        let h = &self.histograms;
        map.insert("throughput".into(), json!(self.throughput()));
        map.insert("unfinished".into(), json!(self.unfinished()));
        map.insert("exact_below_quantile".into(), json!(self.exact_below()));
        let (verdict, reasons) = match self.verdict() {
            Verdict::Sound => ("sound", Vec::new()),
            Verdict::Noted(notes) => ("noted", notes),
            Verdict::ClientLimited(why) => ("client_limited", why),
        };
        map.insert("verdict".into(), json!(verdict));
        map.insert("reasons".into(), json!(reasons));
        for (name, hist) in [
            ("latency_us", &self.latency_with_bounds()),
            ("latency_answered_us", &h.latency),
            ("service_us", &h.service),
            ("lag_us", &h.lag),
            ("lag_no_free_connection_us", &h.lag_no_free_connection),
            ("lag_woke_late_us", &h.lag_woke_late),
            ("failed_us", &h.failed),
            ("connect_us", &h.connect),
            ("sequence_first_us", &h.first),
            ("sequence_whole_us", &h.whole),
        ] {
            if hist.count() > 0 {
                map.insert(name.into(), percentiles(hist));
            }
        }
        if let (Some(probe), Some(seen)) = (map.get_mut("probe").and_then(Value::as_object_mut), &self.probe) {
            // The writes are in `probe.csv`.
            probe.remove("writes");
            if seen.visibility.count() > 0 {
                probe.insert("visibility_us".into(), percentiles(&seen.visibility));
            }
        }
        map.insert("thread_rates".into(), json!(self.thread_rates));
        map.insert("histograms".into(), histograms);
        value
    }
}

fn add_errors(errors: &mut IndexMap<String, u64>, more: &IndexMap<String, u64>) {
    for (kind, n) in more {
        *errors.entry(kind.clone()).or_default() += n;
    }
}

/// Count, mean, percentiles and maximum, us.
fn percentiles(hist: &Hist) -> Value {
    let us = |ns: u64| ns as f64 / 1000.0;
    json!({
        "count": hist.count(),
        "mean": hist.mean() / 1000.0,
        "min": us(hist.inner().min()),
        "p50": us(hist.quantile(0.5)),
        "p75": us(hist.quantile(0.75)),
        "p90": us(hist.quantile(0.9)),
        "p99": us(hist.quantile(0.99)),
        "p99_9": us(hist.quantile(0.999)),
        "p99_99": us(hist.quantile(0.9999)),
        "max": us(hist.max()),
    })
}

/// Failures that occurred, by name.
pub(super) fn named(failures: &[u64; KINDS]) -> IndexMap<String, u64> {
    let occurred = Failure::ALL.iter().filter(|(kind, _)| failures[*kind as usize] > 0);
    occurred.map(|&(kind, name)| (name.to_owned(), failures[kind as usize])).collect()
}

/// What the report takes from the sum of all threads' totals.
pub(super) fn histograms(totals: Totals, latency: Hist) -> Histograms {
    Histograms {
        latency,
        service: totals.service,
        lag: totals.lag,
        lag_no_free_connection: totals.lag_busy,
        lag_woke_late: totals.lag_late,
        failed: totals.failed,
        unfinished: totals.unfinished,
        connect: totals.connect,
        first: totals.first,
        whole: totals.whole,
    }
}

/// The per-second table.
pub fn timeline_csv(seconds: &[Second]) -> String {
    use std::fmt::Write;
    let mut out = String::from("second,due,sent,ok,errors,p50_us,p90_us,p99_us");
    for (_, name) in Failure::ALL {
        out.push(',');
        out.push_str(name);
    }
    out.push('\n');
    for s in seconds {
        let latency = s.latency.unpack();
        let p = |q: f64| latency.quantile(q) as f64 / 1000.0;
        let errors: u64 = s.errors.values().sum();
        // Writing into a string cannot fail.
        write!(out, "{},{},{},{},{errors}", s.second, s.due, s.sent, s.ok).ok();
        if latency.count() > 0 {
            write!(out, ",{:.1},{:.1},{:.1}", p(0.5), p(0.9), p(0.99)).ok();
        } else {
            out.push_str(",,,");
        }
        for (_, name) in Failure::ALL {
            write!(out, ",{}", s.errors.get(name).copied().unwrap_or(0)).ok();
        }
        out.push('\n');
    }
    out
}

/// The interval log that HdrHistogram's tools read: one compressed histogram per second, values in ns.
pub fn hlog(report: &Report) -> String {
    use std::fmt::Write;
    let start = report.started_us as f64 / 1e6;
    let mut out = String::new();
    // Writing into a string cannot fail.
    write!(
        out,
        "#[Histogram log format version 1.3]\n#[StartTime: {start:.3} (seconds since epoch), UTC]\n\
         #[BaseTime: {start:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
    )
    .ok();
    for s in &report.timeline {
        // Interval maxima are in ms in these logs, whatever the unit of the histogram.
        let max = s.latency.unpack().max() as f64 / 1e6;
        writeln!(out, "{:.3},{:.3},{max:.3},{}", s.second as f64, 1.0, s.latency.as_str()).ok();
    }
    out
}

/// Nanoseconds as seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

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
        report.due = (latencies.len() + unfinished.len()) as u64;
        report.ok = latencies.len() as u64;
        report.ok_in_time = report.ok;
        report.unanswered = unfinished.len() as u64;
        latencies.iter().for_each(|&ns| report.histograms.latency.record(ns));
        unfinished.iter().for_each(|&ns| report.histograms.unfinished.record(ns));
        report
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
        assert_eq!((from_summary.due, from_summary.unfinished()), (3, 1));
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
            prop_assert_eq!((merged.due, merged.ok, merged.clients), (expected.due, expected.ok, 2));
            prop_assert_eq!(merged.rate, 20.0);
        }
    }
}
