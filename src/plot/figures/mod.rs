//! One file per figure; here what they share: layout by zone pair, keys of the variants and the small print.

pub mod inconsistencies;
pub mod latency;
pub mod spectrum;
mod stack;
pub mod storage;
pub mod timeline;
pub mod violations;
pub mod visibility;
pub mod visibility_overhead;
pub mod window;
pub mod window_cdf;

use crate::experiment::Variant;
use crate::stats::Interval;
use crate::store::Status;

use super::figure::{Axis, Block, Figure, Key, KeyKind, Mark, Marker, Panel, Point, color, marker, pair_label};
use super::run_data::Run;
use super::scale::{Kind, Scale, short};
use super::table::{Cell, pairs, peak, variant_label, window_interval};

pub use stack::Stack;

/// Width of a picture with one column of blocks, points.
pub const WIDTH: f64 = 440.0;
/// Width with two columns.
pub const WIDE: f64 = 800.0;

/// (width, columns, height of a panel) for blocks of one zone pair each below each other.
fn grid(blocks: usize) -> (f64, usize, f64) {
    match blocks {
        0 | 1 => (WIDTH, 1, 190.0),
        2 => (WIDTH, 1, 105.0),
        3 => (WIDTH, 1, 100.0),
        _ => (WIDE, 2, 100.0),
    }
}

/// A figure with one block per zone pair, in the order of `pairs`; keys and notes are still to be filled in.
pub fn by_pair(title: &str, pairs: &[&str], panels: impl Fn(&str) -> Vec<Panel>) -> Figure {
    let (width, columns, panel_height) = grid(pairs.len());
    let block = |pair: &&str| Block { title: pair_label(pair), panels: panels(pair) };
    Figure {
        title: title.to_owned(),
        width,
        panel_height,
        columns,
        blocks: pairs.iter().map(block).collect(),
        together: 1,
        keys: Vec::new(),
        alarm: None,
        notes: Vec::new(),
    }
}

/// The variants that occur, antipode first as in the published figures.
pub fn variants(cells: &[Cell<'_>]) -> Vec<Variant> {
    let occurs = |variant: &Variant| cells.iter().any(|cell| cell.variant == *variant);
    [Variant::Antipode, Variant::Baseline].into_iter().filter(occurs).collect()
}

/// Keys of lines with markers.
pub fn line_keys(cells: &[Cell<'_>]) -> Vec<Key> {
    let key = |variant: Variant| Key {
        label: variant_label(variant).to_owned(),
        color: color(variant),
        kind: KeyKind::Line(marker(variant)),
    };
    variants(cells).into_iter().map(key).collect()
}

/// Keys of filled marks.
pub fn patch_keys(cells: &[Cell<'_>]) -> Vec<Key> {
    let key = |variant: Variant| Key {
        label: variant_label(variant).to_owned(),
        color: color(variant),
        kind: KeyKind::Patch,
    };
    variants(cells).into_iter().map(key).collect()
}

/// Curves of the variants, one panel per zone pair.
pub struct Curves<'f> {
    /// For people who cannot see it.
    pub title: &'static str,
    /// Along x.
    pub x: (&'static str, Kind),
    /// Along y.
    pub y: (&'static str, Kind),
    /// A cell's point; `None` when it has none.
    pub point: &'f dyn Fn(&Cell<'_>) -> Option<Point>,
    /// Whether y starts at 0.
    pub from_zero: bool,
}

impl Curves<'_> {
    /// The figure; x is shared by all pairs.
    pub fn figure(&self, cells: &[Cell<'_>]) -> Figure {
        let x = Scale::around(self.x.1.clone(), cells.iter().filter_map(|cell| (self.point)(cell)).map(|p| p.x));
        let panels = |pair: &str| vec![self.panel(cells, pair, x.clone())];
        Figure { keys: line_keys(cells), notes: source_notes(cells), ..by_pair(self.title, &pairs(cells), panels) }
    }

    /// The panel of one pair.
    pub fn panel(&self, cells: &[Cell<'_>], pair: &str, x: Scale) -> Panel {
        let line = |variant: Variant| {
            let of_variant = cells.iter().filter(|cell| cell.pair == pair && cell.variant == variant);
            Mark::Line {
                points: of_variant.filter_map(|cell| (self.point)(cell)).collect(),
                color: color(variant),
                width: 3.0,
                marker: marker(variant),
                dashed: false,
            }
        };
        let marks: Vec<Mark> = variants(cells).into_iter().map(line).collect();
        let extent = |point: &Point| point.interval.map_or([point.y, point.y], |(low, high)| [low, high]);
        let lines =
            marks.iter().filter_map(|mark| if let Mark::Line { points, .. } = mark { Some(points) } else { None });
        let values: Vec<f64> = lines.flatten().flat_map(extent).collect();
        let y = if self.from_zero {
            Scale::from_zero(values, 1.08).with_floor()
        } else {
            Scale::around(self.y.1.clone(), values)
        };
        Panel {
            weight: 1.0,
            x: Axis { label: self.x.0.into(), scale: x },
            y: Axis { label: self.y.0.into(), scale: y },
            right: false,
            marks,
        }
    }
}

/// `US→EU Baseline at 160 req/s`: how every hover text begins.
pub fn cell_name(cell: &Cell<'_>) -> String {
    format!("{} {} at {} req/s", pair_label(cell.pair), variant_label(cell.variant), short(cell.rate))
}

/// `72.1 (70–74.5)`.
pub fn interval_text(interval: Interval) -> String {
    if interval.low == interval.high {
        return short(interval.value);
    }
    format!("{} ({}\u{2013}{})", short(interval.value), short(interval.low), short(interval.high))
}

/// What a reader must know about where the numbers come from.
pub fn source_notes(cells: &[Cell<'_>]) -> Vec<String> {
    let runs: usize = cells.iter().map(|cell| cell.runs.len()).sum();
    let most = cells.iter().map(|cell| cell.runs.len()).max().unwrap_or(0);
    let least = cells.iter().map(|cell| cell.runs.len()).min().unwrap_or(0);
    let rounds = if most == 1 {
        let within = cells.iter().filter_map(window_interval).any(|window| window.low < window.high);
        let what = if within { "; whiskers: 95 % interval of the window within the run" } else { "" };
        format!("{}, one round{what}.", plural(runs, "run"))
    } else {
        let rounds = if least == most { format!("{most}") } else { format!("{least}\u{2013}{most}") };
        format!("{}; medians of {rounds} rounds, whiskers: 95 % bootstrap interval across rounds.", plural(runs, "run"))
    };
    quality_notes(rounds, cells)
}

/// `first` with how complete the data is, and what is flagged.
pub fn quality_notes(first: String, cells: &[Cell<'_>]) -> Vec<String> {
    let runs: Vec<&Run> = cells.iter().flat_map(|cell| cell.runs.iter().copied()).collect();
    let first = complete_note(&runs).map(|complete| format!("{first} {complete}")).unwrap_or(first);
    std::iter::once(first).chain(flag_note(&runs)).collect()
}

fn complete_note(runs: &[&Run]) -> Option<String> {
    let complete: Vec<f64> = runs.iter().filter_map(|run| run.completeness).collect();
    let least = complete.iter().copied().reduce(f64::min)?;
    let most = complete.iter().copied().fold(least, f64::max);
    // Rounded down: 99.97 % is not 100 %.
    let percent = |share: f64| short((share * 1000.0).floor() / 10.0);
    Some(if percent(least) == percent(most) {
        format!("Traces complete: {} %.", percent(least))
    } else {
        format!("Traces complete: {}\u{2013}{} %.", percent(least), percent(most))
    })
}

/// Where the windows end, which is not the same for both variants.
pub fn window_note(cells: &[Cell<'_>]) -> String {
    let has = |variant| variants(cells).contains(&variant);
    let meaning = "Windows end at the replica's read attempt";
    match (has(Variant::Baseline), has(Variant::Antipode)) {
        (true, false) => format!("{meaning}."),
        (false, true) => "Windows end when the post is visible at the replica.".into(),
        _ => format!("{meaning}; with Antipode that is when the post is visible there."),
    }
}

fn flag_note(runs: &[&Run]) -> Option<String> {
    let flagged: Vec<&&Run> =
        runs.iter().filter(|run| !matches!(run.status, Status::Complete | Status::Void)).collect();
    let first = flagged.first()?;
    let why = first.reasons.first().map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("Flagged or incomplete: {} of {}{why}.", flagged.len(), plural(runs.len(), "run")))
}

/// "1 run", "2 runs".
pub fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The cells at the rate that each pair's variants are compared at.
pub fn at_peak<'a>(cells: &[Cell<'a>]) -> Vec<Cell<'a>> {
    cells.iter().filter(|cell| peak(cells, cell.pair) == Some(cell.rate)).cloned().collect()
}

/// Keys of curves without markers.
pub fn plain_keys(cells: &[Cell<'_>]) -> Vec<Key> {
    let plain = |key: Key| Key { kind: KeyKind::Line(Marker::None), ..key };
    line_keys(cells).into_iter().map(plain).collect()
}

/// Which runs a figure of single curves shows.
pub fn curve_notes(shown: &[Cell<'_>]) -> Vec<String> {
    let runs: usize = shown.iter().map(|cell| cell.runs.len()).sum();
    let mut rates: Vec<String> = Vec::new();
    for cell in shown {
        let text = format!("{} at {} req/s", pair_label(cell.pair), short(cell.rate));
        if !rates.contains(&text) {
            rates.push(text);
        }
    }
    quality_notes(format!("{}, one curve each: {}.", plural(runs, "run"), rates.join(", ")), shown)
}
