//! `latency_spectrum`: the latency at every percentile, the tail stretched so that 90 %, 99 % and 99.9 % are equally
//! far apart; one curve per round at the rate that the variants are compared at.

use serde_json::json;

use crate::plot::figure::{Axis, Figure, Mark, Marker, Panel, Point, color};
use crate::plot::run_data::Run;
use crate::plot::scale::{Kind, Scale, short};
use crate::plot::table::{Cell, cells, pairs, rate_value};
use crate::plot::{Drawing, Frame, PlotError};

use super::{at_peak, by_pair, cell_name, curve_notes, plain_keys};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let all = cells(runs);
    let pairs = pairs(&all);
    let shown = at_peak(&all);
    let shares = spectra(&shown).flat_map(inner).map(|(share, _)| share);
    let x = Scale { kind: Kind::Nines, low: 0.0, high: shares.fold(0.99, f64::max) };
    let panels = |pair: &str| vec![panel(&shown, pair, &x)];
    let figure = Figure {
        keys: plain_keys(&shown),
        notes: curve_notes(&shown),
        ..by_pair("Latency at every percentile per zone pair", &pairs, panels)
    };
    Ok(Drawing { figure, frames: vec![frame(&shown)], facts: Vec::new(), printed: None })
}

fn spectra<'c>(shown: &'c [Cell<'_>]) -> impl Iterator<Item = &'c Run> {
    shown.iter().flat_map(|cell| cell.runs.iter().copied())
}

/// The rows short of 100 %, which lies infinitely far out.
fn inner(run: &Run) -> impl Iterator<Item = (f64, f64)> + '_ {
    run.spectrum.iter().copied().filter(|(share, ms)| *share < 1.0 && *ms > 0.0)
}

fn panel(shown: &[Cell<'_>], pair: &str, x: &Scale) -> Panel {
    let mut marks = Vec::new();
    let mut values = Vec::new();
    for cell in shown.iter().filter(|cell| cell.pair == pair) {
        for run in &cell.runs {
            let mut before = 0.0;
            let mut points = Vec::new();
            for (share, ms) in inner(run) {
                values.push(ms);
                points.push(Point { hover: hover(cell, share, ms, before), ..Point::new(share, ms) });
                before = share;
            }
            let marker = if points.len() < 12 { crate::plot::figure::marker(cell.variant) } else { Marker::None };
            marks.push(Mark::Line { points, color: color(cell.variant), width: 1.5, marker, dashed: false });
        }
    }
    Panel {
        weight: 1.0,
        x: Axis { label: "Percentile".into(), scale: x.clone() },
        y: Axis { label: "Latency (ms)".into(), scale: Scale::around(Kind::Log, values) },
        right: false,
        marks,
    }
}

/// A value where one of the usual percentiles is passed.
fn hover(cell: &Cell<'_>, share: f64, ms: f64, before: f64) -> String {
    let usual = [0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 0.99999];
    if usual.iter().any(|at| before < *at && share >= *at) {
        format!("{}: {} % of requests within {} ms", cell_name(cell), percent(share), short(ms))
    } else {
        String::new()
    }
}

fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn frame(shown: &[Cell<'_>]) -> Frame {
    let mut df = Frame::new("df", &["zone_pair", "type", "rps", "dir", "share", "latency_ms"]);
    for cell in shown {
        for run in &cell.runs {
            for (share, ms) in &run.spectrum {
                df.rows.push(vec![
                    json!(cell.pair),
                    json!(cell.variant.as_str()),
                    rate_value(cell.rate),
                    json!(run.dir),
                    json!(share),
                    json!(ms),
                ]);
            }
        }
    }
    df
}
