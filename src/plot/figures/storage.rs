//! `storage_overhead`: what lineage costs in the post store and in the notifications, in total and per object.

use serde_json::{Value, json};

use crate::experiment::Variant;
use crate::plot::figure::{Axis, Block, Figure, Mark, Panel, color};
use crate::plot::run_data::{Run, Sizes};
use crate::plot::scale::{Scale, short};
use crate::plot::table::{cells, variant_label};
use crate::plot::{Drawing, Frame, PlotError};
use crate::stats;

use super::{WIDTH, plural};

/// A store with its two sizes.
struct Storage {
    /// As in the Python tool's table.
    name: &'static str,
    /// What lies in it.
    title: &'static str,
    total: fn(&Sizes) -> f64,
    average: fn(&Sizes) -> f64,
}

static STORAGES: [Storage; 2] = [
    Storage { name: "mongo", title: "Posts", total: |s| s.post_total, average: |s| s.post_average },
    Storage {
        name: "rabbitmq",
        title: "Notifications",
        total: |s| s.notification_total,
        average: |s| s.notification_average,
    },
];

/// Medians of one size, bytes, rounded to whole bytes.
#[derive(Clone, Copy)]
struct Pair {
    baseline: Option<f64>,
    antipode: Option<f64>,
}

impl Pair {
    fn of(runs: &[Run], size: fn(&Sizes) -> f64) -> Self {
        let median = |variant: Variant| {
            let of = runs.iter().filter(|run| run.variant == variant);
            let values: Vec<f64> = of.filter_map(|run| run.sizes.as_ref().map(size)).collect();
            stats::median(&values).map(f64::round_ties_even)
        };
        Pair { baseline: median(Variant::Baseline), antipode: median(Variant::Antipode) }
    }

    fn overhead(&self) -> Option<f64> {
        Some(self.antipode? - self.baseline?)
    }

    fn percent(&self) -> Option<f64> {
        self.baseline.filter(|baseline| *baseline > 0.0).and_then(|baseline| Some(self.overhead()? / baseline * 100.0))
    }
}

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let blocks = STORAGES.iter().map(|storage| Block {
        title: storage.title.to_owned(),
        panels: vec![panel(Pair::of(runs, storage.total), "Total"), panel(Pair::of(runs, storage.average), "Average")],
    });
    let count = |variant: Variant| runs.iter().filter(|run| run.variant == variant).count();
    let (baseline, antipode) = (count(Variant::Baseline), count(Variant::Antipode));
    let pairs = super::super::table::pairs(&cells(runs)).len();
    let figure = Figure {
        title: "Storage of posts and notifications without and with lineage".into(),
        width: WIDTH,
        panel_height: 110.0,
        columns: 1,
        blocks: blocks.collect(),
        together: 1,
        alarm: None,
        keys: Vec::new(),
        notes: vec![format!(
            "Medians over {} of the baseline and {} of antipode ({}, all rates). Totals include indexes and grow with \
             the number of requests.",
            plural(baseline, "run"),
            plural(antipode, "run"),
            plural(pairs, "zone pair")
        )],
    };
    let frame = frame(runs);
    let printed = Some(printed(&frame));
    Ok(Drawing { figure, frames: vec![frame], facts: Vec::new(), printed })
}

/// The unit that keeps `bytes` readable: its name and its size.
fn unit(bytes: f64) -> (&'static str, f64) {
    match bytes {
        b if b >= 1e9 => ("GB", 1e9),
        b if b >= 1e6 => ("MB", 1e6),
        b if b >= 1e4 => ("kB", 1e3),
        _ => ("bytes", 1.0),
    }
}

fn panel(pair: Pair, what: &str) -> Panel {
    let present: Vec<(Variant, f64)> = [(Variant::Baseline, pair.baseline), (Variant::Antipode, pair.antipode)]
        .into_iter()
        .filter_map(|(variant, value)| Some((variant, value?)))
        .collect();
    let (name, size) = unit(present.iter().map(|(_, value)| *value).fold(0.0, f64::max));
    let marks = present.iter().enumerate().map(|(place, (variant, value))| {
        let text = match (variant, pair.percent()) {
            (Variant::Antipode, Some(percent)) => {
                let sign = if percent < 0.0 { "" } else { "+" };
                format!("{sign}{} %", short(percent))
            }
            _ => short(value / size),
        };
        Mark::Bar {
            x: place as f64,
            width: 0.55,
            from: 0.0,
            to: value / size,
            color: color(*variant),
            over: false,
            interval: None,
            text,
            hover: format!("{}: {} {name} ({value} bytes)", variant_label(*variant), short(value / size)),
        }
    });
    let names = present.iter().map(|(variant, _)| variant_label(*variant).to_owned()).collect();
    Panel {
        weight: 1.0,
        marks: marks.collect(),
        x: Axis { label: String::new(), scale: Scale::category(names) },
        y: Axis {
            label: format!("{what} ({name})"),
            scale: Scale::from_zero(present.iter().map(|(_, value)| value / size), 1.12),
        },
        right: false,
    }
}

fn frame(runs: &[Run]) -> Frame {
    let columns = [
        "storage",
        "baseline_total",
        "antipode_total",
        "baseline_avg",
        "antipode_avg",
        "overhead_total",
        "por_overhead_total",
        "overhead_avg",
        "por_overhead_avg",
    ];
    let mut df = Frame::new("df", &columns);
    for storage in &STORAGES {
        let (total, average) = (Pair::of(runs, storage.total), Pair::of(runs, storage.average));
        let mut row = vec![json!(storage.name)];
        let numbers = [
            total.baseline,
            total.antipode,
            average.baseline,
            average.antipode,
            total.overhead(),
            total.percent(),
            average.overhead(),
            average.percent(),
        ];
        row.extend(numbers.iter().map(|number| json!(number)));
        df.rows.push(row);
    }
    df
}

/// The table for the terminal.
fn printed(frame: &Frame) -> Vec<Vec<String>> {
    let heads = [
        "storage",
        "baseline total B",
        "antipode total B",
        "baseline avg B",
        "antipode avg B",
        "overhead total B",
        "%",
        "overhead avg B",
        "%",
    ];
    let cell = |(c, value): (usize, &Value)| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        number if c == 6 || c == 8 => number.as_f64().map_or_else(String::new, |percent| format!("{percent:.2}")),
        number => number.as_f64().map_or_else(String::new, |bytes| format!("{bytes:.0}")),
    };
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(frame.rows.iter().map(|row| row.iter().enumerate().map(cell).collect()));
    rows
}
