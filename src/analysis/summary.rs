//! What is said about a run: the `consistency` section of `summary.json`
//! (its form: docs/schema/summary-consistency.json).

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Serialize;

use super::intervals::{Survival, quantile_ends};
use super::ledger::{Excluded, losses};
use super::{Conditions, Offset, Pending, Sorted, Use, lag_us, window_us};
use crate::stats::{quantile, wilson};
use crate::store::Ledger;
use crate::trace::Trace;

/// Stamps are whole milliseconds: a difference of two is off by less than this, ms.
const STAMP_MS: f64 = 1.0;

/// Points of a distribution function that are kept.
const CDF_POINTS: usize = 400;

/// Below this share a run is flagged.
const COMPLETE_ENOUGH: f64 = 0.99;

/// What a window ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// The barrier has made sure that the post is visible.
    Visibility,
    /// The read is attempted, whether the post is visible or not.
    Attempt,
}

/// An estimate with its 95 % interval; absent parts are not bounded by what was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: Option<f64>,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A quantity of the observations, ms.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// Always `ms`.
    pub unit: &'static str,
    /// Values seen.
    pub count: u64,
    /// Values that had not come to be when the traces were read: windows are known as lower bounds, of other
    /// quantities nothing is known.
    pub censored: u64,
    /// Values below zero: the clocks differ by more than the quantity.
    pub negative: u64,
    /// Exact sum of the values, us.
    pub sum_us: i64,
    /// `order statistics`, or `Kaplan-Meier` for windows some of which are censored.
    pub estimator: &'static str,
    /// Mean of the values seen (no interval when something is censored).
    pub mean: Estimate,
    /// Standard deviation (n - 1) of the values seen.
    pub std: Option<f64>,
    /// Smallest.
    pub min: Option<f64>,
    /// Median.
    pub p50: Estimate,
    /// 90th percentile.
    pub p90: Estimate,
    /// 99th percentile.
    pub p99: Estimate,
    /// Largest.
    pub max: Option<f64>,
}

/// Observations that did not find their post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Violations {
    /// Not found.
    pub k: u64,
    /// Observations.
    pub n: u64,
    /// k / n.
    pub share: Option<f64>,
    /// Wilson's 95 % interval of the share.
    pub wilson95: Option<[f64; 2]>,
}

/// How much of what was asked for is in the numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Completeness {
    /// Observations used.
    pub used: u64,
    /// What they are a share of.
    pub of: u64,
    /// What that is: `requests answered 2xx`, `notifications` or `traces`.
    pub basis: &'static str,
    /// used / of, at most 1.
    pub share: Option<f64>,
    /// At least 99 %.
    pub enough: bool,
}

/// How the clocks of the hosts were taken into account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Clock {
    /// Whether an offset was measured and subtracted.
    pub corrected: bool,
    /// Subtracted from every window, ms.
    pub window_offset_ms: f64,
    /// Subtracted from every notification lag, ms.
    pub lag_offset_ms: f64,
    /// Resolution of the stamps, ms: part of every interval.
    pub resolution_ms: f64,
}

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Seconds from the begin of the run.
    pub second: i64,
    /// Traces that began in it.
    pub traced: u64,
    /// Of these, complete.
    pub complete: u64,
    /// Of these, not found.
    pub violations: u64,
    /// Of the incomplete ones, those kept as lower bounds.
    pub censored: u64,
    /// Losses by cause.
    pub lost: IndexMap<String, u64>,
    /// Median window, ms.
    pub window_p50_ms: Option<f64>,
    /// Longest window, ms.
    pub window_max_ms: Option<f64>,
}

/// What waiting for the notifications to arrive ended with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Drained {
    /// How it was seen: `status`, `queue`, `spans` or `none` (a saved answer).
    pub by: &'static str,
    /// Whether everything had arrived before the deadline.
    pub complete: bool,
    /// How long it took, s.
    pub waited_s: f64,
    /// What was seen last.
    pub last_seen: String,
}

/// Where the traces came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SourceFacts {
    /// URL or file names.
    pub from: Vec<String>,
    /// Answers read.
    pub answers: u64,
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// What was wrong with an answer, if anything.
    pub damage: Option<String>,
    /// The wait before reading.
    pub drained: Drained,
}

/// The `consistency` section of `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Version of this section's form.
    pub format: u32,
    /// What a window ends with.
    pub window_ends_with: WindowKind,
    /// Not found, out of all.
    pub violations: Violations,
    /// read - written.
    pub window: Series,
    /// received - queued.
    pub notification_lag: Series,
    /// Time in the barrier.
    pub barrier: Series,
    /// Time of the replica's read.
    pub replica_read: Series,
    /// Distribution function of the windows: `[ms, share that ended by then]`.
    pub cdf: Vec<(f64, f64)>,
    /// Part of every interval that comes from the clocks, ms; absent when their offset was not measured.
    pub clock_bound_ms: Option<f64>,
    /// The clocks.
    pub clock: Clock,
    /// Share of what was asked for that is in the numbers: `complete.share`.
    pub completeness: Option<f64>,
    /// What that share is made of.
    pub complete: Completeness,
    /// Stages and losses.
    pub ledger: Ledger,
    /// Notifications counted by the trace store.
    pub notified: Option<u64>,
    /// Traces left out although nothing is wrong with them, by reason.
    pub excluded: IndexMap<&'static str, u64>,
    /// Traces in which an operation occurred more than once.
    pub doubled: u64,
    /// Observations whose `found` was a word in quotes.
    pub spelled: u64,
    /// Cut from the begin of the run, s.
    pub warmup_s: f64,
    /// What a reader must know, one sentence each; empty when nothing is the matter.
    pub flags: Vec<String>,
    /// Per second of the run.
    pub timeline: Vec<Second>,
    /// Where the traces came from.
    pub source: SourceFacts,
}

/// Builds the summary.
pub(super) fn summary(
    sorted: &Sorted<'_>,
    conditions: &Conditions<'_>,
    ledger: Ledger,
    source: SourceFacts,
) -> Summary {
    let open: Vec<i64> = open_windows(sorted);
    let stamps = |clock: Option<Offset>| STAMP_MS + clock.map_or(0.0, |offset| offset.bound_us / 1000.0);
    let mut windows: Vec<i64> = gathered(sorted, |trace| window_us(trace, conditions.window_clock));
    let window = series(&mut windows, Open::Longer(&open), stamps(conditions.window_clock));
    let cdf = cdf(&windows, &open);
    drop(windows);
    // How far an open notification has come is not known, so of its other quantities nothing is.
    let unseen = Open::Unseen(open.len());
    let lag = series(
        &mut gathered(sorted, |trace| lag_us(trace, conditions.lag_clock)),
        unseen,
        stamps(conditions.lag_clock),
    );
    let us = |ms: f64| (ms * 1000.0).round() as i64;
    let barrier = series(&mut gathered(sorted, |trace| trace.barrier_ms().map(us)), unseen, 0.0);
    let replica_read = series(&mut gathered(sorted, |trace| trace.replica_read_ms().map(us)), unseen, 0.0);
    let complete = completeness(&ledger, conditions);
    let mut summary = Summary {
        format: 1,
        window_ends_with: conditions.kind,
        violations: violations(sorted),
        window,
        notification_lag: lag,
        barrier,
        replica_read,
        cdf,
        clock_bound_ms: conditions.window_clock.map(|offset| offset.bound_us / 1000.0),
        clock: clock(conditions),
        completeness: complete.share,
        complete,
        ledger,
        notified: conditions.notified,
        excluded: excluded(sorted),
        doubled: count(sorted, Trace::is_doubled),
        spelled: count(sorted, Trace::is_found_spelled),
        warmup_s: conditions.warmup_us as f64 / 1e6,
        flags: Vec::new(),
        timeline: timeline(sorted, conditions),
        source,
    };
    summary.flags = flags(&summary, conditions);
    summary
}

fn gathered(sorted: &Sorted<'_>, of: impl Fn(&Trace) -> Option<i64>) -> Vec<i64> {
    let mut values = Vec::with_capacity(sorted.uses.iter().filter(|used| **used == Use::Observation).count());
    values.extend(sorted.observations().filter_map(of));
    values
}

fn open_windows(sorted: &Sorted<'_>) -> Vec<i64> {
    let all = sorted.traces.iter().zip(&sorted.uses).filter(|(_, used)| **used == Use::Open);
    let mut open: Vec<i64> = all.filter_map(|(trace, _)| sorted.open_us(trace)).collect();
    open.sort_unstable();
    open
}

fn count(sorted: &Sorted<'_>, of: impl Fn(&Trace) -> bool) -> u64 {
    let counted = |(trace, used): &(&Trace, &Use)| !matches!(used, Use::Excluded(_)) && of(trace);
    sorted.traces.iter().zip(&sorted.uses).filter(counted).count() as u64
}

fn violations(sorted: &Sorted<'_>) -> Violations {
    let n = sorted.observations().count() as u64;
    let k = sorted.observations().filter(|trace| trace.found() == Some(false)).count() as u64;
    let share = wilson(k, n);
    let seen = n > 0;
    Violations { k, n, share: seen.then_some(share.value), wilson95: seen.then_some([share.low, share.high]) }
}

/// What is known of values that had not come to be when the traces were read.
#[derive(Clone, Copy)]
enum Open<'a> {
    /// They are larger than these, us, sorted.
    Longer(&'a [i64]),
    /// So many, and nothing more.
    Unseen(usize),
}

impl Open<'_> {
    fn count(self) -> usize {
        match self {
            Open::Longer(bounds) => bounds.len(),
            Open::Unseen(count) => count,
        }
    }
}

/// Describes `values` (us), which it sorts. `slack_ms` widens the intervals of quantiles by what the instruments add.
fn series(values: &mut [i64], open: Open<'_>, slack_ms: f64) -> Series {
    values.sort_unstable();
    let values: &[i64] = values;
    let ms = |us: i64| us as f64 / 1000.0;
    let sum_us: i64 = values.iter().sum();
    let n = values.len() as f64;
    let mean = (!values.is_empty()).then(|| sum_us as f64 / n / 1000.0);
    let std = mean
        .filter(|_| values.len() > 1)
        .map(|mean| (values.iter().map(|&us| (ms(us) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    let half = std.filter(|_| open.count() == 0).map(|std| 1.959_963_984_540_054 * std / n.sqrt());
    let clocks = (slack_ms - STAMP_MS).max(0.0);
    let mean = Estimate {
        value: mean,
        low: mean.zip(half).map(|(mean, half)| mean - half - clocks),
        high: mean.zip(half).map(|(mean, half)| mean + half + clocks),
    };
    let (estimator, quantiles) = match open {
        Open::Longer(bounds) if !bounds.is_empty() => {
            let curve = Survival::new(values, bounds);
            ("Kaplan-Meier", [0.5, 0.9, 0.99].map(|q| censored(&curve, q, slack_ms)))
        }
        _ => ("order statistics", [0.5, 0.9, 0.99].map(|q| empirical(values, open.count(), q, slack_ms))),
    };
    let [p50, p90, p99] = quantiles;
    Series {
        unit: "ms",
        count: values.len() as u64,
        censored: open.count() as u64,
        negative: values.iter().take_while(|&&us| us < 0).count() as u64,
        sum_us,
        estimator,
        mean,
        std,
        min: values.first().map(|&us| ms(us)),
        p50,
        p90,
        p99,
        max: values.last().map(|&us| ms(us)),
    }
}

/// A quantile of the values seen; its interval allows for the `unseen` ones.
fn empirical(sorted_us: &[i64], unseen: usize, q: f64, slack_ms: f64) -> Estimate {
    let ms = |us: i64| us as f64 / 1000.0;
    let (low, high) = quantile_ends(sorted_us, unseen, q);
    Estimate {
        value: quantile_us(sorted_us, q),
        low: low.map(|us| ms(us) - slack_ms),
        high: high.map(|us| ms(us) + slack_ms),
    }
}

/// The quantile by linear interpolation, ms, without a copy of the values.
fn quantile_us(sorted_us: &[i64], q: f64) -> Option<f64> {
    let last = sorted_us.len().checked_sub(1)?;
    let below = ((q * last as f64).floor() as usize).min(last);
    let pair = [sorted_us[below] as f64 / 1000.0, sorted_us[(below + 1).min(last)] as f64 / 1000.0];
    quantile(&pair, q * last as f64 - below as f64)
}

fn censored(curve: &Survival, q: f64, slack_ms: f64) -> Estimate {
    let ms = |us: i64| us as f64 / 1000.0;
    let (low, high) = curve.quantile_interval(q);
    Estimate {
        value: curve.quantile(q).map(ms),
        low: low.map(|us| ms(us) - slack_ms),
        high: high.map(|us| ms(us) + slack_ms),
    }
}

/// The distribution function, thinned to [`CDF_POINTS`] steps of about equal height; the first and the last are kept.
fn cdf(sorted_us: &[i64], open: &[i64]) -> Vec<(f64, f64)> {
    let curve = Survival::new(sorted_us, open);
    let last = curve.ended_by().len().saturating_sub(1);
    let mut points = Vec::new();
    let mut due = 0.0;
    for (index, (us, share)) in curve.ended_by().enumerate() {
        if index == 0 || index == last || share >= due {
            points.push((us as f64 / 1000.0, share));
            due = share + 1.0 / CDF_POINTS as f64;
        }
    }
    points
}

fn clock(conditions: &Conditions<'_>) -> Clock {
    let offset = |clock: Option<Offset>| clock.map_or(0.0, |offset| offset.us / 1000.0);
    Clock {
        corrected: conditions.window_clock.is_some(),
        window_offset_ms: offset(conditions.window_clock),
        lag_offset_ms: offset(conditions.lag_clock),
        resolution_ms: STAMP_MS,
    }
}

fn completeness(ledger: &Ledger, conditions: &Conditions<'_>) -> Completeness {
    let (of, basis) = match (conditions.load, conditions.notified) {
        (Some(load), _) => (load.ok.max(ledger.traced), "requests answered 2xx"),
        (None, Some(notified)) if notified >= ledger.traced => (notified, "notifications"),
        _ => (ledger.traced, "traces"),
    };
    let share = (of > 0).then(|| (ledger.used as f64 / of as f64).min(1.0));
    Completeness { used: ledger.used, of, basis, share, enough: share.is_some_and(|share| share >= COMPLETE_ENOUGH) }
}

fn excluded(sorted: &Sorted<'_>) -> IndexMap<&'static str, u64> {
    let mut counts = IndexMap::new();
    for reason in [Excluded::OutsideTheRun, Excluded::WarmUp, Excluded::Repeated] {
        let count = sorted.uses.iter().filter(|used| **used == Use::Excluded(reason)).count() as u64;
        if count > 0 {
            counts.insert(reason.as_str(), count);
        }
    }
    counts
}

fn timeline(sorted: &Sorted<'_>, conditions: &Conditions<'_>) -> Vec<Second> {
    let mut seconds: BTreeMap<i64, (Second, Vec<i64>)> = BTreeMap::new();
    for (trace, used) in sorted.traces.iter().zip(&sorted.uses) {
        let Some(at) = trace.about_us().filter(|_| !matches!(used, Use::Excluded(_))) else { continue };
        let second = (at - sorted.zero_us).div_euclid(1_000_000);
        let (counts, windows) =
            seconds.entry(second).or_insert_with(|| (Second { second, ..Second::default() }, Vec::new()));
        counts.traced += 1;
        counts.censored += u64::from(*used == Use::Open);
        if let Some(cause) = losses(trace, conditions.shape).filter(|_| *used != Use::Observation) {
            *counts.lost.entry(cause).or_default() += 1;
        }
        if *used == Use::Observation {
            counts.complete += 1;
            counts.violations += u64::from(trace.found() == Some(false));
            windows.extend(window_us(trace, conditions.window_clock));
        }
    }
    let finish = |(mut second, mut windows): (Second, Vec<i64>)| {
        windows.sort_unstable();
        second.window_p50_ms = quantile_us(&windows, 0.5);
        second.window_max_ms = windows.last().map(|&us| us as f64 / 1000.0);
        second
    };
    seconds.into_values().map(finish).collect()
}

/// What a reader must know.
fn flags(summary: &Summary, conditions: &Conditions<'_>) -> Vec<String> {
    let mut flags = Vec::new();
    let complete = &summary.complete;
    if let Some(share) = complete.share.filter(|_| !complete.enough) {
        flags.push(format!(
            "only {:.2} % complete ({} of {} {})",
            share * 100.0,
            complete.used,
            complete.of,
            complete.basis
        ));
    }
    if summary.window.negative > 0 {
        flags.push(format!(
            "{} of {} windows are negative: the clocks differ",
            summary.window.negative, summary.window.count
        ));
    }
    if let (Some(bound), Some(median)) = (summary.clock_bound_ms, summary.window.p50.value)
        && median.abs() < bound
    {
        flags.push(format!("the median window ({median:.1} ms) is smaller than the clock bound ({bound:.1} ms)"));
    }
    if let Pending::Exactly(pending) | Pending::AtLeast(pending) = conditions.pending {
        flags.push(format!("{pending} notifications were still on their way when the traces were read"));
    }
    if let Some(damage) = &summary.source.damage {
        flags.push(format!("an answer was damaged: {damage}"));
    }
    if summary.doubled > 0 {
        flags.push(format!("{} traces hold an operation twice; the last complete one counted", summary.doubled));
    }
    if summary.spelled > 0 {
        flags.push(format!("`found` came as a quoted word in {} traces and was read as one", summary.spelled));
    }
    flags
}
