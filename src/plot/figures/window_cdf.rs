//! `window_cdf`: the distribution of the windows at the rate that the variants are compared at, one curve per round;
//! windows that never ended lower the curve's end, and the clocks' uncertainty is a band around it.

use serde_json::json;

use crate::experiment::Variant;
use crate::plot::figure::{Axis, Figure, Key, KeyKind, Mark, Marker, Panel, Point, RULE, color};
use crate::plot::run_data::{Run, Traces};
use crate::plot::scale::{Kind, Scale, short};
use crate::plot::table::{Cell, cells, pairs, rate_value};
use crate::plot::{Drawing, Frame, PlotError};

use super::{at_peak, by_pair, cell_name, curve_notes, plain_keys, window_note};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let all = cells(runs);
    let pairs = pairs(&all);
    let shown = at_peak(&all);
    let x = x_scale(&shown);
    let mut keys = plain_keys(&shown);
    if shown.iter().any(|cell| bound(cell).is_some()) {
        keys.push(Key { label: "Clock error".into(), color: RULE, kind: KeyKind::Band });
    }
    let panels = |pair: &str| vec![panel(&shown, pair, &x)];
    let title = "Distribution of the consistency windows per zone pair";
    let figure = Figure { keys, notes: notes(&shown), ..by_pair(title, &pairs, panels) };
    Ok(Drawing { figure, frames: vec![frame(&shown)], facts: Vec::new(), printed: None })
}

/// The largest clock error among a cell's runs, ms.
fn bound(cell: &Cell<'_>) -> Option<f64> {
    cell.runs.iter().filter_map(|run| run.clock_bound_ms).reduce(f64::max)
}

/// Up to the largest p99 and a half: tails beyond it would squeeze the rest into a corner.
fn x_scale(shown: &[Cell<'_>]) -> Scale {
    let traces: Vec<&Traces> =
        shown.iter().flat_map(|cell| cell.runs.iter()).filter_map(|run| run.traces.as_ref()).collect();
    let low = traces.iter().filter_map(|t| t.cdf.first()).map(|(ms, _)| *ms).fold(0.0, f64::min);
    let ends = traces.iter().filter_map(|t| {
        let last = t.cdf.last()?.0;
        Some(t.p99.value.map_or(last, |p99| last.min(p99 * 1.5)))
    });
    Scale { kind: Kind::Linear, low, high: ends.fold(1e-3, f64::max) * 1.02 }
}

fn panel(shown: &[Cell<'_>], pair: &str, x: &Scale) -> Panel {
    let mut marks = Vec::new();
    for cell in shown.iter().filter(|cell| cell.pair == pair) {
        for run in &cell.runs {
            let Some(traces) = &run.traces else { continue };
            if let Some(bound) = run.clock_bound_ms {
                marks.push(Mark::Band { points: band(&traces.cdf, bound, x), color: color(cell.variant) });
            }
            marks.push(curve(cell, traces, x));
        }
    }
    Panel {
        weight: 1.0,
        x: Axis { label: "Consistency Window (ms)".into(), scale: x.clone() },
        y: Axis { label: "Share of posts".into(), scale: Scale { kind: Kind::Linear, low: 0.0, high: 1.02 } },
        right: false,
        marks,
    }
}

/// The steps of a distribution, as far as the axis goes.
fn curve(cell: &Cell<'_>, traces: &Traces, x: &Scale) -> Mark {
    let mut points = vec![Point::new(traces.cdf.first().map_or(0.0, |(ms, _)| *ms), 0.0)];
    let mut height = 0.0;
    for (ms, share) in traces.cdf.iter().filter(|(ms, _)| *ms <= x.high) {
        points.push(Point::new(*ms, height));
        points.push(Point { hover: hover(cell, *ms, *share, height), ..Point::new(*ms, *share) });
        height = *share;
    }
    points.push(Point::new(x.high, height));
    Mark::Line { points, color: color(cell.variant), width: 1.5, marker: Marker::None, dashed: false }
}

/// Only where a decile is passed: a value every few pixels would hide the others.
fn hover(cell: &Cell<'_>, ms: f64, share: f64, before: f64) -> String {
    if (share * 10.0).floor() == (before * 10.0).floor() {
        return String::new();
    }
    format!("{}: {} % of windows up to {} ms", cell_name(cell), short(share * 100.0), short(ms))
}

/// Between the curve moved left and the curve moved right by the clocks' uncertainty.
fn band(cdf: &[(f64, f64)], bound: f64, x: &Scale) -> Vec<(f64, f64, f64)> {
    let at = |ms: f64| match cdf.partition_point(|(value, _)| *value <= ms) {
        0 => 0.0,
        n => cdf[n - 1].1,
    };
    let steps = 300;
    let place = |i: i32| x.low + (x.high - x.low) * f64::from(i) / f64::from(steps);
    (0..=steps).map(place).map(|ms| (ms, at(ms - bound), at(ms + bound))).collect()
}

fn notes(shown: &[Cell<'_>]) -> Vec<String> {
    let mut notes = curve_notes(shown);
    notes.push(window_note(shown));
    let bound = shown.iter().filter_map(bound).reduce(f64::max);
    notes.extend(bound.map(|bound| format!("Clock error: up to \u{b1}{} ms.", short(bound))));
    let censored: u64 =
        shown.iter().flat_map(|cell| cell.runs.iter()).filter_map(|run| run.traces.as_ref()).map(|t| t.censored).sum();
    if censored > 0 {
        notes.push(format!("{censored} windows never ended; they count as longer than all others (Kaplan-Meier)."));
    }
    notes
}

fn frame(shown: &[Cell<'_>]) -> Frame {
    let mut df = Frame::new("df", &["zone_pair", "type", "rps", "dir", "window_ms", "share"]);
    for cell in shown {
        for run in &cell.runs {
            for (ms, share) in run.traces.iter().flat_map(|traces| &traces.cdf) {
                df.rows.push(vec![
                    json!(cell.pair),
                    json!(Variant::as_str(cell.variant)),
                    rate_value(cell.rate),
                    json!(run.dir),
                    json!(ms),
                    json!(share),
                ]);
            }
        }
    }
    df
}
