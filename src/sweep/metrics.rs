//! The numbers of one run that verdicts, adaptive rounds and claims are made from.

use serde_json::Value;

use crate::error::Result;
use crate::store::{RunDir, Status};

/// One run in numbers. A number that the run does not have is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Goodput, requests/s.
    pub throughput: Option<f64>,
    /// Latency quantiles, ms: 50, 90, 99 %.
    pub latency_ms: [Option<f64>; 3],
    /// Window quantiles, ms: 50, 90, 99 %.
    pub window_ms: [Option<f64>; 3],
    /// Violations and observations.
    pub violations: Option<(u64, u64)>,
    /// Complete traces per due request, 0..1.
    pub completeness: Option<f64>,
    /// How the run ended.
    pub status: Status,
}

/// The quantiles kept.
const QUANTILES: [&str; 3] = ["p50", "p90", "p99"];

impl Metrics {
    /// Reads a run's `run.yml` and `summary.json`.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn read(run: &RunDir) -> Result<Metrics> {
        let record = run.read_record()?;
        let summary = run.read_summary()?;
        let consistency = &summary["consistency"];
        let count = |name: &str| consistency["violations"][name].as_u64();
        Ok(Metrics {
            throughput: record.load.as_ref().map(|load| load.throughput),
            latency_ms: QUANTILES.map(|q| summary["load"]["latency_us"][q].as_f64().map(|us| us / 1000.0)),
            window_ms: QUANTILES.map(|q| consistency["window"][q]["value"].as_f64()),
            violations: count("k").zip(count("n")),
            completeness: consistency["completeness"].as_f64().or_else(|| ledger_share(&consistency["ledger"])),
            status: record.outcome.status,
        })
    }

    /// A metric by its name on the command line: `throughput`, `latency.p90`, `window.p99`, `violations` (a share).
    pub fn get(&self, name: &str) -> Option<f64> {
        let index = |q: &str| QUANTILES.iter().position(|known| *known == q);
        match name.split_once('.') {
            Some(("latency", q)) => self.latency_ms[index(q)?],
            Some(("window", q)) => self.window_ms[index(q)?],
            None if name == "throughput" => self.throughput,
            None if name == "violations" => self.violations.filter(|v| v.1 > 0).map(|(k, n)| k as f64 / n as f64),
            _ => None,
        }
    }

    /// Whether `name` is one that [`Metrics::get`] knows.
    pub fn knows(name: &str) -> bool {
        match name.split_once('.') {
            Some(("latency" | "window", q)) => QUANTILES.contains(&q),
            None => matches!(name, "throughput" | "violations"),
            _ => false,
        }
    }
}

fn ledger_share(ledger: &Value) -> Option<f64> {
    let (complete, due) = (ledger["complete"].as_f64()?, ledger["due"].as_f64()?);
    (due > 0.0).then(|| complete / due)
}
