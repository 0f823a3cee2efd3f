//! Run directories become rows, rows become cells: one per zone pair, variant and rate, with the median over rounds.
//!
//! A cell's numbers do not depend on the order in which a config names its runs.

use serde_json::{Value, json};

use crate::experiment::Variant;
use crate::stats::{self, Interval};

use super::run_data::Run;

/// Runs of one zone pair, variant and rate: the rounds of one measurement.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// `US->EU`.
    pub pair: &'a str,
    /// Baseline or antipode.
    pub variant: Variant,
    /// Offered requests/s.
    pub rate: f64,
    /// The rounds, in the order of the config.
    pub runs: Vec<&'a Run>,
}

impl Cell<'_> {
    /// Median of `metric` over the rounds that have it.
    pub fn median(&self, metric: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        stats::median(&self.values(metric))
    }

    /// Median of `metric` with the interval across rounds; both ends equal the median for a single round.
    pub fn interval(&self, metric: impl Fn(&Run) -> Option<f64>) -> Option<Interval> {
        let values = self.values(metric);
        let value = stats::median(&values)?;
        Some(stats::median_interval(&values).unwrap_or(Interval { value, low: value, high: value }))
    }

    /// `metric` of every round that has it.
    pub fn values(&self, metric: impl Fn(&Run) -> Option<f64>) -> Vec<f64> {
        self.runs.iter().filter_map(|run| metric(run)).collect()
    }

    /// (violations, observations) over all rounds.
    pub fn violations(&self) -> (u64, u64) {
        let traces = self.runs.iter().filter_map(|run| run.traces.as_ref());
        traces.fold((0, 0), |(k, n), traces| (k + traces.violations, n + traces.observations))
    }
}

/// Groups `runs` into cells ordered by pair, variant and rate.
pub fn cells(runs: &[Run]) -> Vec<Cell<'_>> {
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for run in runs {
        let same = |cell: &&mut Cell<'_>| cell.pair == run.pair && cell.variant == run.variant && cell.rate == run.rate;
        match cells.iter_mut().find(same) {
            Some(cell) => cell.runs.push(run),
            None => cells.push(Cell { pair: &run.pair, variant: run.variant, rate: run.rate, runs: vec![run] }),
        }
    }
    cells.sort_by(|a, b| {
        let by_name = a.pair.cmp(b.pair).then(a.variant.cmp(&b.variant));
        by_name.then(a.rate.total_cmp(&b.rate))
    });
    cells
}

/// The zone pairs of `cells`, each once, in order.
pub fn pairs<'a>(cells: &[Cell<'a>]) -> Vec<&'a str> {
    let mut pairs: Vec<&str> = cells.iter().map(|cell| cell.pair).collect();
    pairs.dedup();
    pairs
}

/// The rate at which a pair's variants are compared: the highest that both have, else the highest.
pub fn peak(cells: &[Cell<'_>], pair: &str) -> Option<f64> {
    let rates = |variant: Variant| {
        cells.iter().filter(move |cell| cell.pair == pair && cell.variant == variant).map(|cell| cell.rate)
    };
    let antipode: Vec<f64> = rates(Variant::Antipode).collect();
    let both = rates(Variant::Baseline).filter(|rate| antipode.contains(rate)).reduce(f64::max);
    both.or_else(|| rates(Variant::Baseline).chain(rates(Variant::Antipode)).reduce(f64::max))
}

/// The cell of `pair`, `variant` and `rate`.
pub fn cell<'c, 'a>(cells: &'c [Cell<'a>], pair: &str, variant: Variant, rate: f64) -> Option<&'c Cell<'a>> {
    cells.iter().find(|cell| cell.pair == pair && cell.variant == variant && cell.rate == rate)
}

/// Throughput of a run, requests/s.
pub fn throughput(run: &Run) -> Option<f64> {
    run.load.map(|load| load.throughput)
}

/// Its p90 latency, ms.
pub fn latency_p90(run: &Run) -> Option<f64> {
    run.load.map(|load| load.p90_ms)
}

/// Its p90 latency rounded to a whole ms (halves to even), as the Python tool tabulated it.
pub fn latency_p90_rounded(run: &Run) -> Option<f64> {
    latency_p90(run).map(f64::round_ties_even)
}

/// The p90 of its windows, ms.
pub fn window_p90(run: &Run) -> Option<f64> {
    run.traces.as_ref().and_then(|traces| traces.p90.value)
}

/// The share of its observations that are violations, percent.
pub fn violation_percent(run: &Run) -> Option<f64> {
    let traces = run.traces.as_ref().filter(|traces| traces.observations > 0)?;
    Some(100.0 * traces.violations as f64 / traces.observations as f64)
}

/// The p90 window of a cell: median and interval across rounds; for a single round its own interval.
pub fn window_interval(cell: &Cell<'_>) -> Option<Interval> {
    match cell.runs.as_slice() {
        [run] => {
            let p90 = run.traces.as_ref()?.p90;
            let value = p90.value?;
            Some(Interval { value, low: p90.low.unwrap_or(value), high: p90.high.unwrap_or(value) })
        }
        _ => cell.interval(window_p90),
    }
}

/// A table behind a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Its name in the data file (`df`).
    pub name: String,
    /// Column names, units in them.
    pub columns: Vec<&'static str>,
    /// Cells: text, numbers or null.
    pub rows: Vec<Vec<Value>>,
}

impl Frame {
    /// An empty frame.
    pub fn new(name: impl Into<String>, columns: &[&'static str]) -> Self {
        Frame { name: name.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// `{"columns": [...], "rows": [[...]]}`.
    pub fn to_json(&self) -> Value {
        json!({ "columns": self.columns, "rows": self.rows })
    }

    /// Comma-separated text with a header line; cells with a comma, quote or line end are quoted.
    pub fn to_csv(&self) -> String {
        let quoted = |text: &str| {
            if text.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let cell = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => quoted(text),
            other => other.to_string(),
        };
        let mut text = self.columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(",");
        text.push('\n');
        for row in &self.rows {
            text.push_str(&row.iter().map(cell).collect::<Vec<_>>().join(","));
            text.push('\n');
        }
        text
    }
}

/// A JSON number; a whole rate stays whole (`50`, not `50.0`), nothing is null.
pub fn rate_value(rate: f64) -> Value {
    if rate.fract() == 0.0 && rate.abs() < 9e15 { json!(rate as i64) } else { json!(rate) }
}

/// `Baseline`, `Antipode`: a variant as figures and tables print it.
pub fn variant_label(variant: Variant) -> &'static str {
    match variant {
        Variant::Baseline => "Baseline",
        Variant::Antipode => "Antipode",
    }
}
