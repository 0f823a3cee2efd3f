//! What of a report goes into files: the summary, the per-second table, and the interval log.

use std::fmt::Write;

use serde_json::{Value, json};

use super::client::tally::Failure;
use super::report::{Report, Second, Verdict};
use super::sample::Hist;

impl Report {
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

/// The per-second table.
pub fn timeline_csv(seconds: &[Second]) -> String {
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

/// The intervals of an interval log (start in whole seconds, histogram), one after the other: a log may hold more than
/// memory does when they are unpacked.
///
/// # Errors
/// A lower-case fragment with the line's number; nothing comes after it.
pub fn read_hlog(text: &str) -> impl Iterator<Item = Result<(u64, Hist), String>> + '_ {
    let lines = text.lines().enumerate();
    let data = lines.filter(|(_, line)| !(line.starts_with(['#', '"']) || line.trim().is_empty()));
    let mut broken = false;
    data.map_while(move |(at, line)| {
        if broken {
            return None;
        }
        let read = interval(line).map_err(|why| format!("line {}: {why}", at + 1));
        broken = read.is_err();
        Some(read)
    })
}

/// `[Tag=x,]start,length,max,histogram`.
fn interval(line: &str) -> Result<(u64, Hist), String> {
    // A tag, when there is one, comes first.
    let mut cells = line.split(',').skip_while(|cell| cell.starts_with("Tag="));
    let start = cells.next().and_then(|cell| cell.trim().parse::<f64>().ok()).filter(|start| start.is_finite());
    let start = start.ok_or("no start of an interval")?;
    let encoded = cells.nth(2).ok_or("no histogram")?;
    Ok((start.max(0.0).round() as u64, Hist::decode(encoded)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_with_tags_and_comments_are_read_and_faults_named() {
        let mut hist = Hist::new();
        hist.record(1_500_000);
        let line = format!("Tag=a,3.000,1.000,1.500,{}", hist.encode());
        let text = format!("#[StartTime: 1.0]\n\"StartTimestamp\",\"x\"\n{line}\n");
        let intervals: Vec<_> = read_hlog(&text).map(Result::unwrap).collect();
        assert_eq!((intervals.len(), intervals[0].0, intervals[0].1.count()), (1, 3, 1));
        let error = read_hlog("\n1.0,1.0,1.0,xyz\n1,1,1,x\n").map(Result::unwrap_err).collect::<Vec<_>>();
        assert!(error.len() == 1 && error[0].starts_with("line 2: "), "{error:?}");
    }
}
