//! `violation_rate`: the share of violations over the offered rate per zone pair, with 95 % Wilson intervals. No
//! violation seen is an upper bound, not zero.

use serde_json::json;

use crate::plot::figure::Point;
use crate::plot::run_data::Run;
use crate::plot::scale::{Kind, short};
use crate::plot::table::{Cell, cells, rate_value};
use crate::plot::{Drawing, Frame, PlotError};
use crate::stats::wilson;

use super::{Curves, cell_name, plural, quality_notes};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let curves = Curves {
        title: "Share of violations over the offered rate per zone pair",
        x: ("Offered load (req/s)", Kind::Linear),
        y: ("Violations (%)", Kind::Linear),
        point: &point,
        from_zero: true,
    };
    let mut figure = curves.figure(&cells);
    let what = "Rounds pooled; whiskers: 95 % Wilson interval, also where none was seen.";
    figure.notes = quality_notes(format!("{}. {what}", plural(runs.len(), "run")), &cells);
    Ok(Drawing { figure, frames: vec![frame(&cells)], facts: Vec::new(), printed: None })
}

fn point(cell: &Cell<'_>) -> Option<Point> {
    let (k, n) = cell.violations();
    if n == 0 {
        return None;
    }
    let share = wilson(k, n);
    let (value, low, high) = (share.value * 100.0, share.low * 100.0, share.high * 100.0);
    let hover =
        format!("{}: {k} of {n}, {} % ({}\u{2013}{} %)", cell_name(cell), short(value), short(low), short(high));
    Some(Point { interval: Some((low, high)), hover, ..Point::new(cell.rate, value) })
}

fn frame(cells: &[Cell<'_>]) -> Frame {
    let columns = ["zone_pair", "type", "rps", "violations", "observations", "percent", "low_percent", "high_percent"];
    let mut df = Frame::new("df", &columns);
    for cell in cells {
        let (k, n) = cell.violations();
        let share = wilson(k, n);
        df.rows.push(vec![
            json!(cell.pair),
            json!(cell.variant.as_str()),
            rate_value(cell.rate),
            json!(k),
            json!(n),
            json!(share.value * 100.0),
            json!(share.low * 100.0),
            json!(share.high * 100.0),
        ]);
    }
    df
}
