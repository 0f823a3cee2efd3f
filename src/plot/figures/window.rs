//! `throughput_latency_with_consistency_window`: per zone pair the p90 latency over the throughput, and beside it the
//! p90 consistency window of the baseline with what antipode adds, at the highest rate that both have.

use serde_json::json;

use crate::experiment::Variant;
use crate::plot::figure::{Axis, Figure, Panel, Point, color, pair_label};
use crate::plot::run_data::Run;
use crate::plot::scale::{Kind, Scale, short};
use crate::plot::table::{
    Cell, cell, cells, latency_p90, latency_p90_rounded, pairs, peak, rate_value, throughput, variant_label,
    window_interval, window_p90,
};
use crate::plot::{Drawing, Frame, PlotError};

use super::{Curves, Stack, by_pair, cell_name, interval_text, line_keys, source_notes, variants, window_note};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let pairs = pairs(&cells);
    let bars: Vec<Stack> = pairs.iter().map(|pair| stack(&cells, pair)).collect();
    let x = x_scale(&cells);
    let window = Scale::from_zero(bars.iter().map(Stack::top), 1.15);
    let title = "p90 latency over throughput, and p90 consistency window at the highest rate, per zone pair";
    let panels = |pair: &str| {
        let windows = bars.iter().find(|bars| bars.pair == pair).map(|bars| window_panel(bars, &window));
        std::iter::once(latency_panel(&cells, pair, &x)).chain(windows).collect()
    };
    let figure = Figure { keys: line_keys(&cells), notes: notes(&cells, &bars), ..by_pair(title, &pairs, panels) };
    Ok(Drawing { figure, frames: frames(runs, &cells, &bars), facts: facts(&cells, &bars), printed: None })
}

/// The windows of one pair at its peak.
fn stack(cells: &[Cell<'_>], pair: &str) -> Stack {
    let rate = peak(cells, pair).unwrap_or(0.0);
    let at = |variant| cell(cells, pair, variant, rate).and_then(window_interval);
    Stack { pair: pair.to_owned(), rate, baseline: at(Variant::Baseline), antipode: at(Variant::Antipode) }
}

/// Shared by all pairs, so that their curves compare.
fn x_scale(cells: &[Cell<'_>]) -> Scale {
    let values: Vec<f64> = cells.iter().filter_map(|cell| cell.median(throughput)).collect();
    let mut scale = Scale::around(Kind::Linear, values.iter().copied());
    scale.high = scale.high.max(values.iter().copied().fold(0.0, f64::max) * 1.03);
    scale
}

fn latency_panel(cells: &[Cell<'_>], pair: &str, x: &Scale) -> Panel {
    let curves = Curves {
        title: "",
        x: ("Throughput (req/s)", Kind::Linear),
        y: ("Latency (ms)", Kind::Log),
        point: &latency_point,
        from_zero: false,
    };
    Panel { weight: 4.0, ..curves.panel(cells, pair, x.clone()) }
}

fn latency_point(cell: &Cell<'_>) -> Option<Point> {
    let (latency, throughput) = (cell.interval(latency_p90)?, cell.median(throughput)?);
    let name = cell_name(cell);
    let hover = format!("{name}: {} req/s answered, p90 latency {} ms", short(throughput), interval_text(latency));
    let interval = Some((latency.low, latency.high));
    Some(Point { interval, hover, ..Point::new(throughput, latency.value) })
}

fn window_panel(bars: &Stack, y: &Scale) -> Panel {
    Panel {
        weight: 1.0,
        x: Axis { label: String::new(), scale: Scale::category(vec![format!("\u{2248}{}", short(bars.rate))]) },
        y: Axis { label: "Consistency Window (ms)".into(), scale: y.clone() },
        right: true,
        marks: bars.marks(0.0, 0.4, color),
    }
}

fn notes(cells: &[Cell<'_>], bars: &[Stack]) -> Vec<String> {
    let mut notes = source_notes(cells);
    let has = |variant| variants(cells).contains(&variant);
    notes.push(window_note(cells));
    for bars in bars {
        let only = match (bars.baseline, bars.antipode) {
            (Some(_), None) if has(Variant::Antipode) => "Antipode",
            (None, Some(_)) if has(Variant::Baseline) => "Baseline",
            _ => continue,
        };
        notes.push(format!("{}: no {only} run at {} req/s.", pair_label(&bars.pair), short(bars.rate)));
    }
    notes
}

/// The tables as the Python tool drew them (`df`, one `bars__<pair>` each), with the unrounded numbers besides.
fn frames(runs: &[Run], cells: &[Cell<'_>], bars: &[Stack]) -> Vec<Frame> {
    let mut df = Frame::new(
        "df",
        &[
            "zone_pair",
            "type",
            "rps",
            "latency_90",
            "consistency_window_90",
            "throughput",
            "latency_90_ms",
            "latency_90_low_ms",
            "latency_90_high_ms",
            "window_90_low_ms",
            "window_90_high_ms",
            "rounds",
        ],
    );
    let mut ordered: Vec<&Cell<'_>> = cells.iter().collect();
    ordered.sort_by(|a, b| {
        let by_name = a.pair.cmp(b.pair).then(variant_label(a.variant).cmp(variant_label(b.variant)));
        by_name.then(a.rate.total_cmp(&b.rate))
    });
    for cell in ordered {
        let (latency, window) = (cell.interval(latency_p90), window_interval(cell));
        df.rows.push(vec![
            json!(cell.pair),
            json!(variant_label(cell.variant)),
            rate_value(cell.rate),
            json!(cell.median(latency_p90_rounded)),
            json!(cell.median(window_p90)),
            json!(cell.median(throughput)),
            json!(latency.map(|l| l.value)),
            json!(latency.map(|l| l.low)),
            json!(latency.map(|l| l.high)),
            json!(window.map(|w| w.low)),
            json!(window.map(|w| w.high)),
            json!(cell.runs.len()),
        ]);
    }
    let mut frames = vec![df, parsed(runs)];
    for bars in bars {
        let columns = ["Throughput", "Original", "Antipode", "Original_ms", "Antipode_ms"];
        let mut frame = Frame::new(format!("bars__{}", bars.pair), &columns);
        let (original, antipode) = bars.rounded();
        frame.rows.push(vec![
            rate_value(bars.rate),
            json!(original),
            json!(antipode),
            json!(bars.baseline.map(|bar| bar.value)),
            json!(bars.antipode.map(|bar| bar.value)),
        ]);
        frames.push(frame);
    }
    frames
}

/// One row per run.
fn parsed(runs: &[Run]) -> Frame {
    let columns = ["rps", "zone_pair", "type", "latency_90", "consistency_window_90", "throughput", "dir"];
    let mut frame = Frame::new("parsed_data", &columns);
    for run in runs {
        frame.rows.push(vec![
            rate_value(run.rate),
            json!(run.pair),
            json!(variant_label(run.variant)),
            json!(latency_p90_rounded(run)),
            json!(window_p90(run)),
            json!(throughput(run)),
            json!(run.dir),
        ]);
    }
    frame
}

fn facts(cells: &[Cell<'_>], bars: &[Stack]) -> Vec<(String, serde_json::Value)> {
    let peak = cells.iter().map(|cell| cell.rate).fold(0.0, f64::max);
    let right = cells.iter().filter_map(|cell| cell.median(throughput)).fold(0.0, f64::max) * 1.03;
    let tallest = |bars: &Stack| match bars.rounded() {
        (Some(original), overhead) => original + overhead.unwrap_or(0.0).max(0.0),
        (None, antipode) => antipode.unwrap_or(0.0),
    };
    let top = bars.iter().map(tallest).fold(0.0, f64::max) * 1.075;
    vec![("peak_rps".into(), rate_value(peak)), ("cw_ylim".into(), json!(top)), ("tl_xlim_right".into(), json!(right))]
}
