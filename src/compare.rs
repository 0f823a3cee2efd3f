//! What changed from one set of runs to another: every metric with its interval, the difference with its interval and
//! an effect size. Pure: runs in, [`Comparison`] out.
//!
//! Requests inside a run are correlated, so a round is the unit: intervals come from a bootstrap over rounds. Where a
//! side has a single round, the intervals measured within the runs are combined (G. Y. Zou, A. Donner, Statistics in
//! Medicine 27 (2008): MOVER); where there is none either, the difference has no interval and no verdict.

use serde_json::{Value, json};

use crate::error::{Exit, Fault};
use crate::experiment::Variant;
use crate::plot::Run;
use crate::plot::run_data::{Quantile, Second};
use crate::plot::table::{Cell, cells};
use crate::stats::{self, Interval};

/// A number of a run that is compared.
pub struct Metric {
    /// Its name in output and conditions.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Its value in a run.
    value: fn(&Run) -> Option<f64>,
    /// Its interval within one run.
    within: fn(&Run) -> Option<Interval>,
}

/// Every metric.
pub static METRICS: [Metric; 8] = [
    Metric {
        name: "throughput",
        unit: "req/s",
        value: |run| Some(run.load?.throughput),
        within: |run| by_parts(run, run.load?.throughput, |second| Some(second.ok)),
    },
    Metric {
        name: "latency.p50",
        unit: "ms",
        value: |run| run.load?.p50_ms,
        within: |run| by_parts(run, run.load?.p50_ms?, |second| second.p50_ms),
    },
    Metric {
        name: "latency.p90",
        unit: "ms",
        value: |run| Some(run.load?.p90_ms),
        within: |run| by_parts(run, run.load?.p90_ms, |second| second.p90_ms),
    },
    Metric {
        name: "latency.p99",
        unit: "ms",
        value: |run| run.load?.p99_ms,
        within: |run| by_parts(run, run.load?.p99_ms?, |second| second.p99_ms),
    },
    Metric {
        name: "window.p50",
        unit: "ms",
        value: |run| window(run, 50).value,
        within: |run| bounds(window(run, 50)),
    },
    Metric {
        name: "window.p90",
        unit: "ms",
        value: |run| window(run, 90).value,
        within: |run| bounds(window(run, 90)),
    },
    Metric {
        name: "window.p99",
        unit: "ms",
        value: |run| window(run, 99).value,
        within: |run| bounds(window(run, 99)),
    },
    Metric { name: "violations", unit: "%", value: |run| violations(run).map(|v| v.value), within: violations },
];

/// The interval of `value` from the seconds in which requests were due, behind the warm-up.
fn by_parts(run: &Run, value: f64, of: impl Fn(&Second) -> Option<f64>) -> Option<Interval> {
    let measured = run.timeline.iter().filter(|second| second.due > 0.0 && second.second >= run.warmup_s);
    stats::parts_interval(value, &measured.filter_map(of).collect::<Vec<f64>>())
}

fn window(run: &Run, percent: u32) -> Quantile {
    let Some(traces) = &run.traces else { return Quantile::default() };
    match percent {
        50 => traces.p50,
        90 => traces.p90,
        _ => traces.p99,
    }
}

fn bounds(quantile: Quantile) -> Option<Interval> {
    Some(Interval { value: quantile.value?, low: quantile.low?, high: quantile.high? })
}

/// Percent, with Wilson's interval.
fn violations(run: &Run) -> Option<Interval> {
    let traces = run.traces.as_ref().filter(|traces| traces.observations > 0)?;
    let share = stats::wilson(traces.violations, traces.observations);
    Some(Interval { value: share.value * 100.0, low: share.low * 100.0, high: share.high * 100.0 })
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The interval of the difference lies above 0.
    Higher,
    /// It lies below 0.
    Lower,
    /// It holds 0.
    NoChange,
    /// There is no interval: one round on a side.
    Unknown,
    /// A side has no value.
    NoData,
}

impl Verdict {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Higher => "higher",
            Verdict::Lower => "lower",
            Verdict::NoChange => "no change detected",
            Verdict::Unknown => "one round only",
            Verdict::NoData => "no data",
        }
    }
}

/// One side of a difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// Median over rounds.
    pub value: f64,
    /// Its interval, where there is one.
    pub interval: Option<Interval>,
    /// Rounds that have the metric.
    pub rounds: usize,
}

/// One metric on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The metric's name.
    pub metric: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Before.
    pub a: Option<Side>,
    /// After.
    pub b: Option<Side>,
    /// b - a.
    pub change: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Where the interval comes from: `bootstrap by round` or `within runs`.
    pub method: &'static str,
    /// (b - a) / a, percent; absent when a is 0.
    pub relative: Option<f64>,
    /// Cliff's delta over rounds, -1..=1; absent for a single round on a side.
    pub effect: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
}

/// Two cells that were compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// `US->EU baseline 160 req/s`.
    pub a: String,
    /// The other side.
    pub b: String,
    /// Every metric.
    pub differences: Vec<Difference>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// The cells that both sides have.
    pub matched: Vec<Matched>,
    /// Cells without a counterpart, as they are printed.
    pub alone: Vec<String>,
}

/// Compares `b` with `a`, cell by cell (zone pair, variant and rate). Sides of one variant each are compared across
/// variants, and two single cells whatever they are.
pub fn compare(a: &[Run], b: &[Run]) -> Comparison {
    let (cells_a, cells_b) = (cells(a), cells(b));
    let across = one_variant(&cells_a) && one_variant(&cells_b);
    let single = cells_a.len() == 1 && cells_b.len() == 1;
    let same = |x: &Cell<'_>, y: &Cell<'_>| {
        single || (x.pair == y.pair && x.rate == y.rate && (across || x.variant == y.variant))
    };
    let mut out = Comparison::default();
    for x in &cells_a {
        match cells_b.iter().find(|y| same(x, y)) {
            Some(y) => out.matched.push(match_cells(x, y)),
            None => out.alone.push(format!("A: {}", name(x))),
        }
    }
    let unmatched = cells_b.iter().filter(|y| !cells_a.iter().any(|x| same(x, y)));
    out.alone.extend(unmatched.map(|y| format!("B: {}", name(y))));
    out
}

fn one_variant(cells: &[Cell<'_>]) -> bool {
    cells.windows(2).all(|pair| pair[0].variant == pair[1].variant)
}

fn name(cell: &Cell<'_>) -> String {
    let variant: Variant = cell.variant;
    format!("{} {variant} {} req/s", cell.pair, cell.rate)
}

/// Every metric of two cells.
pub fn match_cells(a: &Cell<'_>, b: &Cell<'_>) -> Matched {
    let differences = METRICS.iter().map(|metric| difference(metric, a, b)).collect();
    Matched { a: name(a), b: name(b), differences }
}

fn difference(metric: &Metric, a: &Cell<'_>, b: &Cell<'_>) -> Difference {
    let (values_a, values_b) = (a.values(metric.value), b.values(metric.value));
    let (side_a, side_b) = (side(metric, a, &values_a), side(metric, b, &values_b));
    let change = side_a.as_ref().zip(side_b.as_ref()).map(|(a, b)| b.value - a.value);
    let by_round = stats::difference_interval(&values_a, &values_b).map(|d| (d.low, d.high));
    let (interval, method) = match (by_round, side_a.as_ref().zip(side_b.as_ref())) {
        (Some(interval), _) => (Some(interval), "bootstrap by round"),
        (None, Some((a, b))) => match a.interval.zip(b.interval) {
            Some((a, b)) => (Some(mover(a, b)), "within runs"),
            None => (None, ""),
        },
        (None, None) => (None, ""),
    };
    let relative = change.zip(side_a.as_ref()).filter(|(_, a)| a.value != 0.0).map(|(d, a)| 100.0 * d / a.value.abs());
    let rounds = values_a.len() > 1 && values_b.len() > 1;
    Difference {
        metric: metric.name,
        unit: metric.unit,
        change,
        interval,
        method,
        relative,
        effect: if rounds { stats::cliffs_delta(&values_a, &values_b) } else { None },
        verdict: verdict(change, interval),
        a: side_a,
        b: side_b,
    }
}

fn side(metric: &Metric, cell: &Cell<'_>, values: &[f64]) -> Option<Side> {
    let value = stats::median(values)?;
    let interval = match cell.runs.as_slice() {
        [run] => (metric.within)(run),
        _ => stats::median_interval(values),
    };
    Some(Side { value, interval, rounds: values.len() })
}

/// The interval of b - a from the intervals of a and b.
fn mover(a: Interval, b: Interval) -> (f64, f64) {
    let change = b.value - a.value;
    let low = change - (b.value - b.low).hypot(a.high - a.value);
    let high = change + (b.high - b.value).hypot(a.value - a.low);
    (low, high)
}

fn verdict(change: Option<f64>, interval: Option<(f64, f64)>) -> Verdict {
    match (change, interval) {
        (None, _) => Verdict::NoData,
        (Some(_), None) => Verdict::Unknown,
        (Some(_), Some((low, _))) if low > 0.0 => Verdict::Higher,
        (Some(_), Some((_, high))) if high < 0.0 => Verdict::Lower,
        _ => Verdict::NoChange,
    }
}

/// Why a condition cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("condition `{text}`: {why}")]
pub struct ConditionError {
    text: String,
    why: String,
}

impl Fault for ConditionError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        Some(format!("METRIC > +10% or METRIC < -5 (in its unit); metrics: {}", names.join(", ")))
    }
}

/// `window.p90 > +10%`: what must not happen from A to B.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    metric: &'static str,
    above: bool,
    limit: f64,
    percent: bool,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`ConditionError`] saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let fail = |why: &str| ConditionError { text: text.to_owned(), why: why.to_owned() };
        let at = text.find(['<', '>']).ok_or_else(|| fail("neither `>` nor `<` in it"))?;
        let (metric, rest) = (text[..at].trim(), text[at + 1..].trim());
        let metric = METRICS.iter().find(|known| known.name == metric).ok_or_else(|| fail("unknown metric"))?;
        let (number, percent) = match rest.strip_suffix('%') {
            Some(number) => (number.trim(), true),
            None => (rest, false),
        };
        let limit: f64 = number.parse().map_err(|_| fail("the limit is not a number"))?;
        if !limit.is_finite() {
            return Err(fail("the limit is not a number"));
        }
        Ok(Condition {
            text: text.trim().to_owned(),
            metric: metric.name,
            above: text[at..].starts_with('>'),
            limit,
            percent,
        })
    }

    /// Why `matched` meets the condition; `None` when it does not. A change that is not told from noise does not meet
    /// it; missing data does, because a gate must not pass on nothing.
    pub fn met(&self, matched: &Matched) -> Option<String> {
        let found = matched.differences.iter().find(|d| d.metric == self.metric)?;
        let value = if self.percent { found.relative } else { found.change };
        let place = format!("`{}` ({} to {})", self.text, matched.a, matched.b);
        match (value, found.verdict) {
            (None, Verdict::NoData) => Some(format!("{place}: no data")),
            (None, _) if self.beyond_from_zero(found) => Some(format!("{place}: A is 0, B is not")),
            (None, _) | (Some(_), Verdict::NoChange) => None,
            (Some(value), _) => {
                let beyond = if self.above { value > self.limit } else { value < self.limit };
                let unit = if self.percent { "%" } else { found.unit };
                beyond.then(|| format!("{place}: {value:+.1} {unit}"))
            }
        }
    }

    /// A relative change from 0 is infinite: beyond every limit on its side.
    fn beyond_from_zero(&self, found: &Difference) -> bool {
        let change = found.change.unwrap_or(0.0);
        found.verdict != Verdict::NoChange && if self.above { change > 0.0 } else { change < 0.0 }
    }
}

impl Comparison {
    /// The machine-readable form.
    pub fn to_json(&self) -> Value {
        let side = |side: &Option<Side>| match side {
            None => Value::Null,
            Some(side) => json!({
                "value": side.value,
                "low": side.interval.map(|interval| interval.low),
                "high": side.interval.map(|interval| interval.high),
                "rounds": side.rounds,
            }),
        };
        let difference = |d: &Difference| {
            json!({
                "metric": d.metric,
                "unit": d.unit,
                "a": side(&d.a),
                "b": side(&d.b),
                "difference": {
                    "value": d.change,
                    "low": d.interval.map(|(low, _)| low),
                    "high": d.interval.map(|(_, high)| high),
                    "method": d.method,
                },
                "relative_percent": d.relative,
                "cliffs_delta": d.effect,
                "verdict": d.verdict.as_str(),
            })
        };
        let matched = self.matched.iter().map(
            |m| json!({ "a": m.a, "b": m.b, "metrics": m.differences.iter().map(difference).collect::<Vec<_>>() }),
        );
        json!({ "format": 1, "compared": matched.collect::<Vec<_>>(), "alone": self.alone })
    }
}

impl Matched {
    /// Header and one row per metric that a side has, for a table.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![["metric", "A", "B", "B - A", "95 % interval", "%", "effect", "verdict"].map(str::to_owned).to_vec()];
        for d in self.differences.iter().filter(|d| d.a.is_some() || d.b.is_some()) {
            let side = |side: &Option<Side>| side.as_ref().map_or("-".into(), |side| number(side.value));
            rows.push(vec![
                format!("{} ({})", d.metric, d.unit),
                side(&d.a),
                side(&d.b),
                d.change.map_or("-".into(), signed),
                d.interval.map_or("-".into(), |(low, high)| format!("{} .. {}", signed(low), signed(high))),
                d.relative.map_or("-".into(), |percent| format!("{percent:+.1}")),
                d.effect.map_or("-".into(), |effect| format!("{effect:+.2}")),
                d.verdict.as_str().to_owned(),
            ]);
        }
        rows
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 { format!("+{text}") } else { text }
}

/// A table in Markdown.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if i == 0 {
            let rule: Vec<&str> =
                row.iter().enumerate().map(|(c, _)| if c == 0 || c == 7 { "---" } else { "---:" }).collect();
            text.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_bad_ones_refused() {
        let condition = Condition::parse("window.p90 > +10%").unwrap();
        assert_eq!(
            (condition.metric, condition.above, condition.limit, condition.percent),
            ("window.p90", true, 10.0, true)
        );
        let condition = Condition::parse("throughput<-5").unwrap();
        assert_eq!((condition.above, condition.limit, condition.percent), (false, -5.0, false));
        for (text, why) in [
            ("window.p90", "neither"),
            ("window.p95 > 1", "unknown metric"),
            ("window.p90 > much", "not a number"),
            ("window.p90 > NaN", "not a number"),
            ("> 3", "unknown metric"),
        ] {
            assert!(Condition::parse(text).unwrap_err().to_string().contains(why), "{text}");
        }
    }

    #[test]
    fn intervals_of_two_single_runs_combine() {
        // Newcombe, Statistics in Medicine 17 (1998), table II: 56/70 - 48/80, method 10: 0.0524 to 0.3339.
        let (a, b) = (stats::wilson(48, 80), stats::wilson(56, 70));
        let (low, high) = mover(a, b);
        assert!((low - 0.0524).abs() < 5e-5 && (high - 0.3339).abs() < 5e-5, "{low} {high}");
    }

    fn with(metric: &'static str, a: f64, b: f64, interval: Option<(f64, f64)>) -> Matched {
        let side = |value| Some(Side { value, interval: None, rounds: 3 });
        let difference = Difference {
            metric,
            unit: "ms",
            a: side(a),
            b: side(b),
            change: Some(b - a),
            interval,
            method: "bootstrap by round",
            relative: (a != 0.0).then(|| 100.0 * (b - a) / a),
            effect: None,
            verdict: verdict(Some(b - a), interval),
        };
        Matched { a: "A".into(), b: "B".into(), differences: vec![difference] }
    }

    #[test]
    fn a_condition_is_met_by_changes_and_not_by_noise() {
        let condition = Condition::parse("window.p90 > +10%").unwrap();
        assert!(condition.met(&with("window.p90", 100.0, 115.0, Some((5.0, 20.0)))).unwrap().ends_with("+15.0 %"));
        assert_eq!(condition.met(&with("window.p90", 100.0, 115.0, Some((-5.0, 20.0)))), None);
        assert_eq!(condition.met(&with("window.p90", 100.0, 105.0, Some((1.0, 9.0)))), None);
        assert!(condition.met(&with("window.p90", 100.0, 115.0, None)).is_some());
        assert!(condition.met(&with("window.p90", 0.0, 1.0, Some((0.5, 2.0)))).unwrap().contains("A is 0"));
    }

    #[test]
    fn a_gate_does_not_pass_on_nothing() {
        let mut matched = with("window.p90", 1.0, 1.0, None);
        matched.differences[0].change = None;
        matched.differences[0].relative = None;
        matched.differences[0].verdict = Verdict::NoData;
        assert!(Condition::parse("window.p90 > 10%").unwrap().met(&matched).unwrap().ends_with("no data"));
    }
}
