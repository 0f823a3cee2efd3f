//! `visibility_latency_overhead`: the baseline's p90 visibility latency and what antipode adds to it, at every rate,
//! per zone pair. An overhead below zero is shown as such.

use serde_json::json;

use crate::experiment::Variant;
use crate::plot::figure::{Axis, Figure, Mark, Panel, color};
use crate::plot::run_data::Run;
use crate::plot::scale::{Scale, short};
use crate::plot::table::{Cell, cell, cells, pairs, rate_value, window_interval};
use crate::plot::{Drawing, Frame, PlotError};

use super::{Stack, by_pair, patch_keys, source_notes, visibility, window_note};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let pairs = pairs(&cells);
    let stacks: Vec<Stack> = pairs.iter().flat_map(|pair| stacks(&cells, pair)).collect();
    let y = Scale::from_zero(stacks.iter().map(Stack::top), 1.15);
    let mut notes = source_notes(&cells);
    notes.push(window_note(&cells));
    let title = "p90 visibility latency of the baseline and what antipode adds, per zone pair and rate";
    let panels = |pair: &str| vec![panel(&stacks, pair, &y)];
    let figure = Figure { keys: patch_keys(&cells), notes, ..by_pair(title, &pairs, panels) };
    let frames = vec![visibility::medians(&cells), bars(&stacks)];
    Ok(Drawing { figure, frames, facts: Vec::new(), printed: None })
}

/// One stack per rate of a pair.
fn stacks(cells: &[Cell<'_>], pair: &str) -> Vec<Stack> {
    let mut rates: Vec<f64> = cells.iter().filter(|cell| cell.pair == pair).map(|cell| cell.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let at = |variant, rate| cell(cells, pair, variant, rate).and_then(window_interval);
    let stack = |rate| Stack {
        pair: pair.to_owned(),
        rate,
        baseline: at(Variant::Baseline, rate),
        antipode: at(Variant::Antipode, rate),
    };
    rates.into_iter().map(stack).collect()
}

fn panel(stacks: &[Stack], pair: &str, y: &Scale) -> Panel {
    let of_pair: Vec<&Stack> = stacks.iter().filter(|stack| stack.pair == pair).collect();
    // A few bars need not fill the panel.
    let width = (0.14 * of_pair.len() as f64).min(0.5);
    let marks: Vec<Mark> =
        of_pair.iter().enumerate().flat_map(|(i, stack)| stack.marks(i as f64, width, color)).collect();
    let rates = of_pair.iter().map(|stack| short(stack.rate)).collect();
    Panel {
        weight: 1.0,
        x: Axis { label: "Offered load (req/s)".into(), scale: Scale::category(rates) },
        y: Axis { label: "Latency (ms)".into(), scale: y.clone() },
        right: false,
        marks,
    }
}

/// Whole ms as the Python tool drew them, for every rate instead of the first, and never cut off at zero.
fn bars(stacks: &[Stack]) -> Frame {
    let mut frame = Frame::new("bars", &["Regions", "rps", "Original", "Antipode", "Original_ms", "Antipode_ms"]);
    for stack in stacks {
        let (original, antipode) = stack.rounded();
        frame.rows.push(vec![
            json!(stack.pair),
            rate_value(stack.rate),
            json!(original),
            json!(antipode),
            json!(stack.baseline.map(|bar| bar.value)),
            json!(stack.antipode.map(|bar| bar.value)),
        ]);
    }
    frame
}
