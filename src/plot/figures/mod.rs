//! One file per figure; here what they share: layout by zone pair, keys of the variants and the small print.

pub mod window;

use crate::experiment::Variant;
use crate::store::Status;

use super::figure::{Key, KeyKind, color, marker};
use super::run_data::Run;
use super::scale::short;
use super::table::{Cell, variant_label};

/// Width of a picture with one column of blocks, points.
pub const WIDTH: f64 = 440.0;
/// Width with two columns.
pub const WIDE: f64 = 800.0;

/// (width, columns, height of a panel) for blocks of one zone pair each below each other.
pub fn grid(blocks: usize) -> (f64, usize, f64) {
    match blocks {
        0 | 1 => (WIDTH, 1, 190.0),
        2 => (WIDTH, 1, 105.0),
        3 => (WIDTH, 1, 100.0),
        _ => (WIDE, 2, 100.0),
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

/// What a reader must know about where the numbers come from.
pub fn source_notes(cells: &[Cell<'_>]) -> Vec<String> {
    let runs: Vec<&Run> = cells.iter().flat_map(|cell| cell.runs.iter().copied()).collect();
    let most = cells.iter().map(|cell| cell.runs.len()).max().unwrap_or(0);
    let least = cells.iter().map(|cell| cell.runs.len()).min().unwrap_or(0);
    let mut parts = vec![if most == 1 {
        format!("{}, one round.", plural(runs.len(), "run"))
    } else {
        let rounds = if least == most { format!("{most}") } else { format!("{least}\u{2013}{most}") };
        format!(
            "{}; medians of {rounds} rounds, whiskers: 95 % bootstrap interval across rounds.",
            plural(runs.len(), "run")
        )
    }];
    let complete: Vec<f64> = runs.iter().filter_map(|run| run.completeness).collect();
    if let Some(least) = complete.iter().copied().reduce(f64::min) {
        let most = complete.iter().copied().fold(least, f64::max);
        let percent = |share: f64| short((share * 1000.0).floor() / 10.0);
        let range = if percent(least) == percent(most) {
            percent(least)
        } else {
            format!("{}\u{2013}{}", percent(least), percent(most))
        };
        parts.push(format!("Traces complete: {range} %."));
    }
    let mut notes = vec![parts.join(" ")];
    notes.extend(flag_note(&runs));
    notes
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
