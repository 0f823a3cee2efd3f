//! `throughput_visibility_latency`: the p90 of read - written over the throughput per zone pair; every point carries
//! its offered rate.

use serde_json::json;

use crate::plot::figure::Point;
use crate::plot::run_data::Run;
use crate::plot::scale::{Kind, short};
use crate::plot::table::{Cell, cells, rate_value, throughput, window_interval, window_p90};
use crate::plot::{Drawing, Frame, PlotError};

use super::{Curves, cell_name, interval_text, window_note};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let curves = Curves {
        title: "p90 visibility latency over throughput per zone pair",
        x: ("Throughput (req/s)", Kind::Linear),
        y: ("Visibility Latency (ms)", Kind::Linear),
        point: &point,
        from_zero: true,
    };
    let mut figure = curves.figure(&cells);
    figure.notes.push(format!("{} Labels: offered req/s.", window_note(&cells)));
    Ok(Drawing { figure, frames: vec![medians(&cells)], facts: Vec::new(), printed: None })
}

fn point(cell: &Cell<'_>) -> Option<Point> {
    let (window, throughput) = (window_interval(cell)?, cell.median(throughput)?);
    let name = cell_name(cell);
    let hover = format!("{name}: {} req/s answered, p90 window {} ms", short(throughput), interval_text(window));
    let label = short(cell.rate);
    Some(Point { interval: Some((window.low, window.high)), hover, label, ..Point::new(throughput, window.value) })
}

/// Medians of throughput and p90 window, baseline first: the table of two figures.
pub fn medians(cells: &[Cell<'_>]) -> Frame {
    let columns = ["rps", "zone_pair", "type", "latency_90", "throughput", "low_ms", "high_ms", "rounds"];
    let mut df = Frame::new("df", &columns);
    for cell in cells {
        let window = window_interval(cell);
        df.rows.push(vec![
            rate_value(cell.rate),
            json!(cell.pair),
            json!(cell.variant.as_str()),
            json!(cell.median(window_p90)),
            json!(cell.median(throughput)),
            json!(window.map(|w| w.low)),
            json!(window.map(|w| w.high)),
            json!(cell.runs.len()),
        ]);
    }
    df
}
