//! `timeline`: throughput, p99 latency and violations second by second, per zone pair; the first round of each variant
//! at the rate that the variants are compared at.

use serde_json::json;

use crate::plot::figure::{Axis, Block, Figure, Mark, Marker, Panel, Point, color, pair_label};
use crate::plot::run_data::{Run, Second};
use crate::plot::scale::{Kind, Scale, short};
use crate::plot::table::{Cell, cells, pairs, rate_value};
use crate::plot::{Drawing, Frame, PlotError};

use super::{WIDE, WIDTH, at_peak, cell_name, plain_keys, plural, quality_notes};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let all = cells(runs);
    let shown = at_peak(&all);
    let pairs = pairs(&shown);
    let seconds = shown.iter().filter_map(|cell| cell.runs.first()).flat_map(|run| &run.timeline);
    let last = seconds.map(|second| second.second).fold(1.0, f64::max);
    let step = ((last + 1.0) / MOST_POINTS).ceil().max(1.0);
    let x = Scale { kind: Kind::Linear, low: 0.0, high: last + 1.0 };
    let blocks = pairs.iter().flat_map(|pair| blocks(&shown, pair, (&x, step))).collect();
    let columns = if pairs.len() > 1 { 2 } else { 1 };
    let what = "The first round of each variant at the highest rate that both have, without the warm-up.";
    let what = if step > 1.0 {
        format!("{what} One point per {step} s: mean throughput, highest p99, share of violations.")
    } else {
        what.to_owned()
    };
    let notes = quality_notes(format!("{}. {what}", plural(shown.len(), "run")), &shown);
    let figure = Figure {
        title: "Throughput, p99 latency and violations second by second".into(),
        width: if columns == 1 { WIDTH } else { WIDE },
        panel_height: 62.0,
        columns,
        blocks,
        together: 3,
        alarm: None,
        keys: plain_keys(&shown),
        notes,
    };
    Ok(Drawing { figure, frames: vec![frame(&shown)], facts: Vec::new(), printed: None })
}

/// More points than this on one curve cannot be told apart.
const MOST_POINTS: f64 = 300.0;

/// Points with a value to show when pointed at, on one curve.
const MOST_HOVERS: usize = 60;

/// One value of some seconds of a run.
type Value = fn(&Run, &[Second]) -> Option<f64>;

/// Seconds after the last due request, when late answers still come in, are not part of the throughput.
fn answered(_: &Run, seconds: &[Second]) -> Option<f64> {
    if seconds.iter().all(|second| second.due == 0.0) {
        return None;
    }
    Some(seconds.iter().map(|second| second.ok).sum::<f64>() / seconds.len() as f64)
}

fn p99(_: &Run, seconds: &[Second]) -> Option<f64> {
    seconds.iter().filter_map(|second| second.p99_ms).reduce(f64::max)
}

/// Violations among the requests that began in these seconds, percent.
fn violations(run: &Run, seconds: &[Second]) -> Option<f64> {
    let (first, last) = (seconds.first()?.second, seconds.last()?.second);
    let counted = run.traces.as_ref()?.seconds.iter();
    let within = counted.filter(|counts| (first..=last).contains(&(counts.second as f64)));
    let (k, n) = within.fold((0, 0), |(k, n), counts| (k + counts.violations, n + counts.complete));
    (n > 0).then(|| 100.0 * k as f64 / n as f64)
}

/// Three panels below each other.
fn blocks(shown: &[Cell<'_>], pair: &str, x: (&Scale, f64)) -> Vec<Block> {
    let rows: [(&str, Value, bool); 3] =
        [("Requests/s", answered, false), ("p99 (ms)", p99, true), ("Violations (%)", violations, false)];
    let block = |(row, (label, value, log)): (usize, (&str, Value, bool))| Block {
        title: if row == 0 { pair_label(pair) } else { String::new() },
        panels: vec![panel(shown, pair, x, (label, value, log))],
    };
    rows.into_iter().enumerate().map(block).collect()
}

fn panel(shown: &[Cell<'_>], pair: &str, (x, step): (&Scale, f64), (label, value, log): (&str, Value, bool)) -> Panel {
    let mut marks = Vec::new();
    let mut values = Vec::new();
    for cell in shown.iter().filter(|cell| cell.pair == pair) {
        let Some(run) = cell.runs.first() else { continue };
        let mut points = Vec::new();
        let steps: Vec<&[Second]> = run.timeline.chunks(step as usize).collect();
        let every = steps.len().div_ceil(MOST_HOVERS).max(1);
        for (i, seconds) in steps.into_iter().enumerate() {
            let (Some(first), Some(y)) = (seconds.first(), value(run, seconds)) else { continue };
            values.push(y);
            let mut point = Point::new(first.second + step / 2.0, y);
            if i % every == 0 {
                point.hover = format!("{}, second {}: {label} {}", cell_name(cell), short(first.second), short(y));
            }
            points.push(point);
        }
        marks.push(Mark::Line { points, color: color(cell.variant), width: 1.2, marker: Marker::None, dashed: false });
    }
    let scale = if log { Scale::around(Kind::Log, values) } else { Scale::from_zero(values, 1.1).with_floor() };
    Panel {
        weight: 1.0,
        x: Axis { label: "Time (s)".into(), scale: x.clone() },
        y: Axis { label: label.to_owned(), scale },
        right: false,
        marks,
    }
}

fn frame(shown: &[Cell<'_>]) -> Frame {
    let columns =
        ["zone_pair", "type", "rps", "dir", "second", "due", "ok", "errors", "p50_ms", "p99_ms", "violations_percent"];
    let mut df = Frame::new("df", &columns);
    for cell in shown {
        let Some(run) = cell.runs.first() else { continue };
        for second in &run.timeline {
            df.rows.push(vec![
                json!(cell.pair),
                json!(cell.variant.as_str()),
                rate_value(cell.rate),
                json!(run.dir),
                json!(second.second),
                json!(second.due),
                json!(second.ok),
                json!(second.errors),
                json!(second.p50_ms),
                json!(second.p99_ms),
                json!(violations(run, std::slice::from_ref(second))),
            ]);
        }
    }
    df
}
