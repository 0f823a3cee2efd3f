//! `throughput_latency`: p90 latency over throughput per zone pair. Of the rounds of a cell the one in the middle by
//! (throughput, latency) is shown, with the interval across rounds.

use serde_json::json;

use crate::experiment::Variant;
use crate::plot::figure::Point;
use crate::plot::run_data::Run;
use crate::plot::scale::{Kind, short};
use crate::plot::table::{Cell, cells, latency_p90, rate_value};
use crate::plot::{Drawing, Frame, PlotError};

use super::{Curves, cell_name, interval_text};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let curves = Curves {
        title: "p90 latency over throughput per zone pair",
        x: ("Throughput (req/s)", Kind::Linear),
        y: ("Latency (ms)", Kind::Log),
        point: &point,
        from_zero: false,
    };
    let mut figure = curves.figure(&cells);
    if cells.iter().any(|cell| cell.runs.len() > 1) {
        figure.notes.insert(0, "Each point is its cell's middle round by throughput, then latency.".into());
    }
    Ok(Drawing { figure, frames: vec![frame(&cells)], facts: Vec::new(), printed: None })
}

/// (throughput, p90 latency) of the middle round.
fn middle(cell: &Cell<'_>) -> Option<(f64, f64)> {
    let loads = cell.runs.iter().filter_map(|run| run.load);
    let mut rounds: Vec<(f64, f64)> = loads.map(|load| (load.throughput, load.p90_ms)).collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    rounds.get(rounds.len() / 2).copied()
}

fn point(cell: &Cell<'_>) -> Option<Point> {
    let ((throughput, latency), spread) = (middle(cell)?, cell.interval(latency_p90)?);
    let name = cell_name(cell);
    let hover = format!("{name}: {} req/s answered, p90 latency {} ms", short(throughput), interval_text(spread));
    Some(Point { interval: Some((spread.low, spread.high)), hover, ..Point::new(throughput, latency) })
}

fn frame(cells: &[Cell<'_>]) -> Frame {
    let mut df = Frame::new("df", &["rps", "zone_pair", "type", "latency_90", "throughput", "latency_90_ms", "rounds"]);
    for cell in cells {
        let label = if cell.variant == Variant::Antipode { "Antipode" } else { "Original" };
        let middle = middle(cell);
        df.rows.push(vec![
            rate_value(cell.rate),
            json!(cell.pair),
            json!(label),
            json!(middle.map(|(_, latency)| latency.round_ties_even())),
            json!(middle.map(|(throughput, _)| throughput)),
            json!(middle.map(|(_, latency)| latency)),
            json!(cell.runs.len()),
        ]);
    }
    df
}
