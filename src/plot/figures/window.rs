//! `throughput_latency_with_consistency_window`: per zone pair the p90 latency over the throughput, and beside it the
//! p90 consistency window of the baseline with what antipode adds, at the highest rate that both have.

use serde_json::json;

use crate::experiment::Variant;
use crate::plot::figure::{Axis, Block, Figure, Mark, Panel, Point, color, marker, pair_label};
use crate::plot::run_data::Run;
use crate::plot::scale::{Kind, Scale, short};
use crate::plot::table::{
    Cell, cell, cells, latency_p90, latency_p90_rounded, pairs, peak, rate_value, throughput, variant_label, window_p90,
};
use crate::plot::{Drawing, Frame, PlotError};

use super::{grid, line_keys, source_notes, variants};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let pairs = pairs(&cells);
    let bars: Vec<Bars> = pairs.iter().map(|pair| Bars::of(&cells, pair)).collect();
    let x = x_scale(&cells);
    let window = Scale::from_zero(bars.iter().map(Bars::top), 1.075 + 0.075);
    let (width, columns, panel_height) = grid(pairs.len());
    let block = |(pair, bars): (&&str, &Bars)| Block {
        title: pair_label(pair),
        panels: vec![latency_panel(&cells, pair, &x), window_panel(bars, &window)],
    };
    let figure = Figure {
        title: "p90 latency over throughput, and p90 consistency window at the highest rate, per zone pair".into(),
        width,
        panel_height,
        columns,
        blocks: pairs.iter().zip(&bars).map(block).collect(),
        keys: line_keys(&cells),
        notes: notes(&cells, &bars),
    };
    Ok(Drawing { figure, frames: frames(runs, &cells, &bars), facts: facts(&cells, &bars) })
}

/// The bars of one pair.
struct Bars {
    pair: String,
    rate: f64,
    baseline: Option<crate::stats::Interval>,
    antipode: Option<crate::stats::Interval>,
}

impl Bars {
    fn of(cells: &[Cell<'_>], pair: &str) -> Self {
        let rate = peak(cells, pair).unwrap_or(0.0);
        let at = |variant| cell(cells, pair, variant, rate).and_then(|cell| cell.interval(window_p90));
        Bars { pair: pair.to_owned(), rate, baseline: at(Variant::Baseline), antipode: at(Variant::Antipode) }
    }

    fn top(&self) -> f64 {
        [self.baseline, self.antipode].into_iter().flatten().map(|bar| bar.high).fold(0.0, f64::max)
    }

    /// (baseline, antipode - baseline), each rounded to whole ms before the difference is taken, as the Python tool
    /// tabulated them; but a negative overhead stays negative.
    fn rounded(&self) -> (Option<f64>, Option<f64>) {
        let whole = |bar: Option<crate::stats::Interval>| bar.map(|bar| bar.value.round_ties_even());
        let (baseline, antipode) = (whole(self.baseline), whole(self.antipode));
        (baseline, antipode.map(|antipode| antipode - baseline.unwrap_or(0.0)))
    }
}

/// Shared by all pairs, so that their curves compare.
fn x_scale(cells: &[Cell<'_>]) -> Scale {
    let values: Vec<f64> = cells.iter().filter_map(|cell| cell.median(throughput)).collect();
    let mut scale = Scale::around(Kind::Linear, values.iter().copied());
    scale.high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max).mul_add(1.03, 0.0).max(scale.low + 1e-9);
    scale
}

fn latency_panel(cells: &[Cell<'_>], pair: &str, x: &Scale) -> Panel {
    let of_pair: Vec<&Cell<'_>> = cells.iter().filter(|cell| cell.pair == pair).collect();
    let line = |variant: Variant| Mark::Line {
        points: of_pair.iter().filter(|cell| cell.variant == variant).filter_map(|cell| latency_point(cell)).collect(),
        color: color(variant),
        width: 3.0,
        marker: marker(variant),
        dashed: false,
    };
    let marks: Vec<Mark> = variants(cells).into_iter().map(line).collect();
    let latencies = of_pair.iter().filter_map(|cell| cell.interval(latency_p90)).flat_map(|l| [l.low, l.high]);
    Panel {
        weight: 4.0,
        x: Axis { label: "Throughput (req/s)".into(), scale: x.clone() },
        y: Axis { label: "Latency (ms)".into(), scale: Scale::around(Kind::Log, latencies) },
        right: false,
        marks,
    }
}

fn latency_point(cell: &Cell<'_>) -> Option<Point> {
    let (latency, throughput) = (cell.interval(latency_p90)?, cell.median(throughput)?);
    let hover = format!(
        "{} {} at {} req/s: {} req/s answered, p90 latency {} ms ({}\u{2013}{})",
        pair_label(cell.pair),
        variant_label(cell.variant),
        short(cell.rate),
        short(throughput),
        short(latency.value),
        short(latency.low),
        short(latency.high)
    );
    let interval = Some((latency.low, latency.high));
    Some(Point { interval, hover, ..Point::new(throughput, latency.value) })
}

fn window_panel(bars: &Bars, y: &Scale) -> Panel {
    let mut marks = Vec::new();
    let base = bars.baseline.map_or(0.0, |bar| bar.value);
    let bar = |variant: Variant, from: f64, of: crate::stats::Interval, over: bool, text: String| Mark::Bar {
        x: 0.0,
        width: 0.4,
        from,
        to: of.value,
        color: color(variant),
        over,
        interval: Some((of.low, of.high)),
        text,
        hover: hover(bars, variant, of),
    };
    if let Some(baseline) = bars.baseline {
        marks.push(bar(Variant::Baseline, 0.0, baseline, false, ms_text(baseline.value)));
    }
    if let Some(antipode) = bars.antipode {
        let overhead = antipode.value - base;
        let text = match bars.baseline {
            None => ms_text(antipode.value),
            Some(_) => overhead_text(bars, overhead),
        };
        marks.push(bar(Variant::Antipode, base, antipode, overhead < 0.0, text));
    }
    Panel {
        weight: 1.0,
        x: Axis { label: String::new(), scale: Scale::category(vec![format!("\u{2248}{}", short(bars.rate))]) },
        y: Axis { label: "Consistency Window (ms)".into(), scale: y.clone() },
        right: true,
        marks,
    }
}

/// Whole ms where that says enough.
fn ms_text(ms: f64) -> String {
    if ms >= 10.0 { format!("{}", ms.round_ties_even()) } else { short(ms) }
}

fn overhead_text(bars: &Bars, overhead: f64) -> String {
    let text = match bars.rounded() {
        (Some(baseline), Some(rounded)) if baseline >= 10.0 => short(rounded.abs()),
        _ => short(overhead.abs()),
    };
    if overhead < 0.0 { format!("\u{2212} {text}") } else { format!("+ {text}") }
}

fn hover(bars: &Bars, variant: Variant, of: crate::stats::Interval) -> String {
    format!(
        "{} {} at {} req/s: p90 window {} ms ({}\u{2013}{})",
        pair_label(&bars.pair),
        variant_label(variant),
        short(bars.rate),
        short(of.value),
        short(of.low),
        short(of.high)
    )
}

fn notes(cells: &[Cell<'_>], bars: &[Bars]) -> Vec<String> {
    let mut notes = source_notes(cells);
    let has = |variant| variants(cells).contains(&variant);
    let meaning = "Windows end at the replica's read attempt";
    notes.push(match (has(Variant::Baseline), has(Variant::Antipode)) {
        (true, false) => format!("{meaning}."),
        (false, true) => "With Antipode the window ends when the post is visible at the replica.".into(),
        _ => format!("{meaning}; with Antipode that is when the post is visible there."),
    });
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
fn frames(runs: &[Run], cells: &[Cell<'_>], bars: &[Bars]) -> Vec<Frame> {
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
        let (latency, window) = (cell.interval(latency_p90), cell.interval(window_p90));
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

fn facts(cells: &[Cell<'_>], bars: &[Bars]) -> Vec<(String, serde_json::Value)> {
    let peak = cells.iter().map(|cell| cell.rate).fold(0.0, f64::max);
    let right = cells.iter().filter_map(|cell| cell.median(throughput)).fold(0.0, f64::max) * 1.03;
    let tallest = |bars: &Bars| match bars.rounded() {
        (Some(original), overhead) => original + overhead.unwrap_or(0.0).max(0.0),
        (None, antipode) => antipode.unwrap_or(0.0),
    };
    let top = bars.iter().map(tallest).fold(0.0, f64::max) * 1.075;
    vec![("peak_rps".into(), rate_value(peak)), ("cw_ylim".into(), json!(top)), ("tl_xlim_right".into(), json!(right))]
}
