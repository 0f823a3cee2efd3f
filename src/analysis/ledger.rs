//! due -> sent -> answered 2xx -> traced -> complete -> used, and a name for every loss on the way.

use indexmap::IndexMap;

use super::{Conditions, Sorted, Use};
use crate::store::Ledger;
use crate::trace::{Field, Seen, Shape, Tally, Trace};

/// Why a trace is not part of what is measured, although nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Excluded {
    /// It began outside the run: another workload's.
    OutsideTheRun,
    /// It began in the warm-up.
    WarmUp,
    /// The same trace came before.
    Repeated,
}

impl Excluded {
    /// The words used in `summary.json` and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Excluded::OutsideTheRun => "outside the run",
            Excluded::WarmUp => "in the warm-up",
            Excluded::Repeated => "read twice",
        }
    }
}

/// Adds `count` to the losses under `cause`.
fn lose(lost: &mut IndexMap<String, u64>, cause: &str, count: u64) {
    if count > 0 {
        *lost.entry(cause.to_owned()).or_default() += count;
    }
}

/// The first thing that an incomplete trace lacks, in words: the operation or the tag.
pub fn losses(trace: &Trace, shape: &Shape) -> Option<String> {
    let lacking = Field::ALL.into_iter().filter(|&field| trace.seen(field) != Seen::Here);
    if Field::ALL.iter().all(|&field| trace.seen(field) == Seen::NoSpan) {
        return Some("none of the spans".to_owned());
    }
    // A missing span says more than the tag that is missing with it.
    let field = lacking.min_by_key(|&field| trace.seen(field) != Seen::NoSpan)?;
    let (operation, tag) = shape.place(field);
    let what = tag.unwrap_or("startTime");
    Some(match trace.seen(field) {
        Seen::NoSpan => format!("no span {operation}"),
        Seen::NoTag => format!("no tag {what} in {operation}"),
        Seen::WrongType => format!("tag {what} in {operation} has the wrong type"),
        Seen::OutOfRange => format!("tag {what} in {operation} is out of range"),
        Seen::Here => return None,
    })
}

/// Counts the stages and names the losses between them.
pub(super) fn ledger(sorted: &Sorted<'_>, conditions: &Conditions<'_>, tally: &Tally) -> Ledger {
    let mut ledger = Ledger::default();
    let mut lost = IndexMap::new();
    for (trace, used) in sorted.traces.iter().zip(&sorted.uses) {
        match used {
            Use::Observation => ledger.complete += 1,
            Use::Open => lose(&mut lost, "no end seen (kept as a lower bound)", 1),
            Use::Lost => lose(&mut lost, &losses(trace, conditions.shape).unwrap_or_default(), 1),
            Use::Excluded(_) => continue,
        }
        ledger.traced += 1;
    }
    for (loss, count) in &tally.lost {
        ledger.traced += count;
        lose(&mut lost, &loss.to_string(), *count);
    }
    ledger.used = ledger.complete;
    if let Some(load) = conditions.load {
        (ledger.due, ledger.sent, ledger.ok) = (load.due, load.sent, load.ok);
        lose(&mut ledger.lost, "not sent", load.due.saturating_sub(load.sent));
        for (kind, count) in &load.errors {
            lose(&mut ledger.lost, &format!("failed: {kind}"), *count);
        }
        let failed: u64 = load.errors.values().sum();
        lose(&mut ledger.lost, "no answer", load.sent.saturating_sub(load.ok + failed));
        lose(&mut ledger.lost, "not traced", load.ok.saturating_sub(ledger.traced));
    }
    lost.sort_by(|name, count, other, others| others.cmp(count).then_with(|| name.cmp(other)));
    ledger.lost.extend(lost);
    ledger
}
