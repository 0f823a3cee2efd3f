//! Traces -> observations -> summary. Pure: nothing here reads a clock, a file or a socket.
//!
//! Windows and lags are integers in microseconds; sums are exact.

pub mod describe;
pub mod intervals;
mod ledger;
mod summary;
mod tables;
mod verdict;

pub use ledger::{Excluded, losses};
pub use summary::{
    Clock, Completeness, Drained, Estimate, Second, Series, SourceFacts, Summary, Violations, WindowKind,
};
pub use tables::{Totals, traces_csv, traces_info, windows_csv};
pub use verdict::verdict;

use crate::store::{Ledger, LoadCounts};
use crate::trace::{Seen, Shape, Tally, Trace};

/// How far the clock of one host is ahead of another's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Offset {
    /// Ahead by this, us.
    pub us: f64,
    /// The truth is within +- this, us.
    pub bound_us: f64,
}

/// What is known about notifications that had no end when the traces were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    /// Nobody could tell: a written post without a fan-out may still be on its way.
    #[default]
    Unknown,
    /// Nothing was on its way: such a post has lost its span.
    None,
    /// So many were, and no more.
    Exactly(u64),
    /// At least this many were.
    AtLeast(u64),
}

/// The conditions under which traces become observations.
#[derive(Clone, Debug)]
pub struct Conditions<'a> {
    /// Where the application's traces keep what.
    pub shape: &'a Shape,
    /// Begin and end of what belongs to the run, us since the epoch; everything when absent.
    pub run_us: Option<(i64, i64)>,
    /// Hosts disagree about the time: a trace that begins this much before the run is still the run's, us.
    pub slack_us: i64,
    /// Warm-up to cut, us from the begin of the run (or from the first trace).
    pub warmup_us: i64,
    /// With the barrier a window ends in visibility, without it in an attempt.
    pub kind: WindowKind,
    /// Clock of the replica's worker against that of the origin's post storage, where it was measured.
    pub window_clock: Option<Offset>,
    /// Clock of the replica's worker against that of the host that queues.
    pub lag_clock: Option<Offset>,
    /// What was still on its way.
    pub pending: Pending,
    /// When the traces were read, us since the epoch: open windows are at least that old.
    pub read_at_us: Option<i64>,
    /// The load generator's counts.
    pub load: Option<&'a LoadCounts>,
    /// Notifications counted by the trace store.
    pub notified: Option<u64>,
}

/// What a trace is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A complete observation.
    Observation,
    /// Written, but without an end: its window is at least as long as [`Sorted::open_us`] says.
    Open,
    /// Incomplete.
    Lost,
    /// Not part of the measured run.
    Excluded(Excluded),
}

/// Traces with what each of them is good for, in the order in which they came.
pub struct Sorted<'a> {
    /// The traces.
    pub traces: &'a [Trace],
    /// What each is good for.
    pub uses: Vec<Use>,
    /// The instant from which seconds are counted, us since the epoch.
    pub zero_us: i64,
    /// The instant up to which the traces were looked at, us since the epoch.
    pub horizon_us: i64,
}

impl<'a> Sorted<'a> {
    /// How long the window of `trace` has been open, us; `None` when nothing was written.
    pub fn open_us(&self, trace: &Trace) -> Option<i64> {
        age_us(trace, self.horizon_us)
    }

    /// The complete observations.
    pub fn observations(&self) -> impl Iterator<Item = &'a Trace> + Clone + '_ {
        self.traces.iter().zip(&self.uses).filter(|(_, used)| **used == Use::Observation).map(|(trace, _)| trace)
    }
}

/// Decides for each trace what it is good for.
pub fn sort<'a>(traces: &'a [Trace], conditions: &Conditions<'_>) -> Sorted<'a> {
    let first = traces.iter().filter_map(Trace::about_us).min().unwrap_or(0);
    let zero_us = conditions.run_us.map_or(first, |(begin, _)| begin);
    let horizon_us = conditions.read_at_us.unwrap_or_else(|| last_instant(traces));
    let twice = repeated(traces);
    let mut next_twice = twice.iter().peekable();
    let mut uses: Vec<Use> = traces
        .iter()
        .enumerate()
        .map(|(index, trace)| {
            if next_twice.next_if(|&&twice| twice as usize == index).is_some() {
                return Use::Excluded(Excluded::Repeated);
            }
            if let Some(excluded) = excluded(trace, conditions, zero_us) {
                return Use::Excluded(excluded);
            }
            if trace.is_complete() {
                return Use::Observation;
            }
            if is_open(trace, conditions) { Use::Open } else { Use::Lost }
        })
        .collect();
    if let Pending::Exactly(count) = conditions.pending {
        keep_youngest(traces, &mut uses, count, horizon_us);
    }
    Sorted { traces, uses, zero_us, horizon_us }
}

/// Of the windows without an end only `count` can be open; the others have lost their span. Notifications are handled
/// about in the order in which they come, so it is the oldest that are not on their way any more.
fn keep_youngest(traces: &[Trace], uses: &mut [Use], count: u64, horizon_us: i64) {
    let all = traces.iter().zip(uses.iter()).enumerate().filter(|(_, (_, used))| **used == Use::Open);
    let mut open: Vec<(Option<i64>, usize)> = all.map(|(i, (trace, _))| (age_us(trace, horizon_us), i)).collect();
    open.sort_unstable();
    for (_, index) in open.into_iter().skip(usize::try_from(count).unwrap_or(usize::MAX)) {
        uses[index] = Use::Lost;
    }
}

fn excluded(trace: &Trace, conditions: &Conditions<'_>, zero_us: i64) -> Option<Excluded> {
    let at = trace.about_us()?;
    if conditions.run_us.is_some_and(|(begin, end)| !(begin - conditions.slack_us..=end).contains(&at)) {
        return Some(Excluded::OutsideTheRun);
    }
    (conditions.warmup_us > 0 && at < zero_us + conditions.warmup_us).then_some(Excluded::WarmUp)
}

/// Whether a trace is a window without an end, as far as it is not known that nothing was on its way.
fn is_open(trace: &Trace, conditions: &Conditions<'_>) -> bool {
    use crate::trace::Field::{Found, Read, Received};
    let unseen = || [Received, Read, Found].iter().all(|&field| trace.seen(field) == Seen::NoSpan);
    conditions.pending != Pending::None && trace.written_ms().is_some() && trace.start_us().is_some() && unseen()
}

/// From the write to `horizon_us`, us.
fn age_us(trace: &Trace, horizon_us: i64) -> Option<i64> {
    Some((horizon_us - trace.written_ms()? * 1000).max(0))
}

/// The last instant that any trace speaks of, us since the epoch.
fn last_instant(traces: &[Trace]) -> i64 {
    let last = |trace: &Trace| {
        let ms = [trace.written_ms(), trace.queued_ms(), trace.received_ms(), trace.read_ms()];
        ms.into_iter().flatten().map(|ms| ms * 1000).chain(trace.start_us()).max()
    };
    traces.iter().filter_map(last).max().unwrap_or(0)
}

/// Indices, ascending, of traces whose id came earlier already.
fn repeated(traces: &[Trace]) -> Vec<u32> {
    let value = |index: u32| traces[index as usize].id().map(|id| id.value());
    let mut order: Vec<u32> = (0..traces.len() as u32).filter(|&index| value(index).is_some()).collect();
    order.sort_unstable_by_key(|&index| (value(index), index));
    let mut twice: Vec<u32> =
        order.windows(2).filter(|pair| value(pair[0]) == value(pair[1])).map(|pair| pair[1]).collect();
    twice.sort_unstable();
    twice
}

/// The window of a trace, us: corrected for the clocks where that is known.
pub fn window_us(trace: &Trace, clock: Option<Offset>) -> Option<i64> {
    Some((trace.read_ms()? - trace.written_ms()?) * 1000 - clock.map_or(0, |offset| offset.us.round() as i64))
}

/// The notification lag of a trace, us: corrected as the window.
pub fn lag_us(trace: &Trace, clock: Option<Offset>) -> Option<i64> {
    Some((trace.received_ms()? - trace.queued_ms()?) * 1000 - clock.map_or(0, |offset| offset.us.round() as i64))
}

/// Everything that is said about a run, from its traces.
pub fn summarise(sorted: &Sorted<'_>, conditions: &Conditions<'_>, tally: &Tally, source: SourceFacts) -> Summary {
    let ledger: Ledger = ledger::ledger(sorted, conditions, tally);
    summary::summary(sorted, conditions, ledger, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trace_is_good_for_takes_two_bytes() {
        assert!(size_of::<Use>() <= 2, "{}: there is one for each of a million traces", size_of::<Use>());
    }
}
