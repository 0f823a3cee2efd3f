//! `per_inconsistencies`: the share of violations of every run as a box per zone pair (and per variant when both ran).

use serde_json::{Value, json};

use crate::experiment::Variant;
use crate::plot::figure::{Axis, Block, BoxStats, Figure, Mark, Panel, color, pair_label};
use crate::plot::run_data::Run;
use crate::plot::scale::{Scale, short};
use crate::plot::table::{Cell, cells, pairs, rate_value, variant_label, violation_percent};
use crate::plot::{Drawing, Frame, PlotError};

use super::{WIDTH, patch_keys, plural, quality_notes, variants};

/// Draws it.
pub fn build(runs: &[Run]) -> Result<Drawing, PlotError> {
    let cells = cells(runs);
    let (pairs, variants) = (pairs(&cells), variants(&cells));
    let mut boxes = Vec::new();
    for (place, pair) in pairs.iter().enumerate() {
        for variant in [Variant::Baseline, Variant::Antipode] {
            if let Some((stats, count)) = stats(&cells, pair, variant) {
                boxes.push(PairBox { place, pair: (*pair).to_owned(), variant, stats, count });
            }
        }
    }
    let tops = boxes.iter().flat_map(|b| b.stats.outliers.iter().copied().chain([b.stats.high]));
    let panel = Panel {
        weight: 1.0,
        x: Axis { label: String::new(), scale: Scale::category(pairs.iter().map(|pair| pair_label(pair)).collect()) },
        y: Axis { label: "Inconsistencies (%)".into(), scale: Scale::from_zero(tops, 1.08).with_floor() },
        right: false,
        marks: boxes.iter().map(|b| b.mark(variants.len() > 1)).collect(),
    };
    let what = "Box: quartiles over all rates and rounds, whiskers: 1.5 times the box, diamond: mean.";
    let notes = quality_notes(format!("{}. {what}", plural(runs.len(), "run")), &cells);
    let figure = Figure {
        title: "Share of violations per run, by zone pair".into(),
        width: WIDTH,
        panel_height: 180.0,
        columns: 1,
        blocks: vec![Block { title: String::new(), panels: vec![panel] }],
        together: 1,
        alarm: None,
        keys: if variants.len() > 1 { patch_keys(&cells) } else { Vec::new() },
        notes,
    };
    let facts = vec![("boxplot_stats".to_owned(), Value::Object(boxes.iter().map(PairBox::json).collect()))];
    Ok(Drawing { figure, frames: vec![frame(runs)], facts, printed: None })
}

/// A run's percentage with two decimals, as the Python tool tabulated it.
fn rounded(run: &Run) -> Option<f64> {
    violation_percent(run).map(|percent| (percent * 100.0).round_ties_even() / 100.0)
}

fn stats(cells: &[Cell<'_>], pair: &str, variant: Variant) -> Option<(BoxStats, usize)> {
    let of = cells.iter().filter(|cell| cell.pair == pair && cell.variant == variant);
    let values: Vec<f64> = of.flat_map(|cell| cell.values(rounded)).collect();
    BoxStats::of(&values).map(|stats| (stats, values.len()))
}

/// The box of one pair and variant.
struct PairBox {
    place: usize,
    pair: String,
    variant: Variant,
    stats: BoxStats,
    count: usize,
}

impl PairBox {
    fn mark(&self, beside: bool) -> Mark {
        let shift = match (beside, self.variant) {
            (false, _) => 0.0,
            (true, Variant::Baseline) => -0.2,
            (true, Variant::Antipode) => 0.2,
        };
        let hover = format!(
            "{} {}: median {} %, quartiles {}\u{2013}{} %, {}",
            pair_label(&self.pair),
            variant_label(self.variant),
            short(self.stats.median),
            short(self.stats.q1),
            short(self.stats.q3),
            plural(self.count, "run")
        );
        let x = self.place as f64 + shift;
        Mark::Box { x, width: 0.3, stats: self.stats.clone(), color: color(self.variant), hover }
    }

    fn json(&self) -> (String, Value) {
        let name = match self.variant {
            Variant::Baseline => self.pair.clone(),
            Variant::Antipode => format!("{} Antipode", self.pair),
        };
        let BoxStats { low, q1, median, q3, high, mean, outliers } = &self.stats;
        let value = json!({
            "mean": mean, "whishi": high, "whislo": low, "fliers": outliers, "q1": q1, "med": median, "q3": q3,
        });
        (name, value)
    }
}

fn frame(runs: &[Run]) -> Frame {
    let mut df =
        Frame::new("df", &["zone_pair", "type", "rps", "per_inconsistencies", "violations", "observations", "dir"]);
    for run in runs {
        let counts = run.traces.as_ref().map(|traces| (traces.violations, traces.observations));
        df.rows.push(vec![
            json!(run.pair),
            json!(run.variant.as_str()),
            rate_value(run.rate),
            json!(rounded(run)),
            json!(counts.map(|(k, _)| k)),
            json!(counts.map(|(_, n)| n)),
            json!(run.dir),
        ]);
    }
    df
}
