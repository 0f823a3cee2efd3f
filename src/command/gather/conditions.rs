//! The conditions under which a run's traces are read as observations.

use super::subject::Subject;
use super::{Readings, Request};
use crate::Context;
use crate::analysis::{Conditions, Offset, WindowKind};
use crate::store::{ClockHosts, ClockOffset};

/// A trace may begin this much before the first due instant or after the end of the load, us: hosts disagree about
/// the time.
pub(super) const SLACK_US: i64 = 2_000_000;

/// From what was asked, recorded and read.
pub(super) fn conditions<'a>(
    _context: &Context,
    request: &Request,
    subject: &'a Subject,
    readings: &Readings,
) -> Conditions<'a> {
    let recorded = subject.record.as_ref().map_or(0.0, |record| record.workload.warmup_s);
    let warmup_s = request.warmup.map_or(recorded, |warmup| warmup.as_secs_f64());
    let run_us = subject.load_us().map(|(begin, end)| (begin, end.map_or(i64::MAX, |end| end + SLACK_US)));
    Conditions {
        shape: &subject.replication.shape,
        run_us,
        slack_us: SLACK_US,
        warmup_us: (warmup_s * 1e6) as i64,
        kind: if subject.variant().is_antipode() { WindowKind::Visibility } else { WindowKind::Attempt },
        window_clock: clock(subject, |hosts| (&hosts.written, &hosts.read)),
        lag_clock: clock(subject, |hosts| (&hosts.queued, &hosts.read)),
        pending: readings.pending,
        read_at_us: readings.read_at_us,
        load: subject.record.as_ref().and_then(|record| record.load.as_ref()),
        notified: readings.notified,
    }
}

/// The clock of one of the run's hosts against that of another, where it was measured.
fn clock(subject: &Subject, pair: impl Fn(&ClockHosts) -> (&String, &String)) -> Option<Offset> {
    let record = subject.record.as_ref()?;
    let (from, to) = pair(record.clock_hosts.as_ref()?);
    between(&record.clock_offsets, from, to)
}

/// How far the clock of `to` was ahead of that of `from` during a run: the middle of what was measured before and after
/// it, and a bound that holds at both ends and, for clocks that drift steadily, in between.
pub(super) fn between(measured: &[ClockOffset], from: &str, to: &str) -> Option<Offset> {
    if from == to && !from.is_empty() {
        return Some(Offset::default());
    }
    let ends = || measured.iter().filter(|offset| offset.a == from && offset.b == to);
    let low = ends().map(|offset| offset.offset_us - offset.bound_us).reduce(f64::min)?;
    let high = ends().map(|offset| offset.offset_us + offset.bound_us).reduce(f64::max)?;
    Some(Offset { us: (low + high) / 2.0, bound_us: (high - low) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::between;
    use crate::analysis::Offset;
    use crate::store::ClockOffset;

    fn offset(a: &str, b: &str, offset_us: f64, bound_us: f64) -> ClockOffset {
        ClockOffset { a: a.into(), b: b.into(), offset_us, bound_us, at_us: 0 }
    }

    #[test]
    fn the_bound_covers_what_was_measured_before_and_after() {
        let measured = [offset("a", "b", 100.0, 10.0), offset("a", "c", 5.0, 1.0), offset("a", "b", 140.0, 20.0)];
        assert_eq!(between(&measured, "a", "b"), Some(Offset { us: 125.0, bound_us: 35.0 }));
        assert_eq!(between(&measured, "a", "c"), Some(Offset { us: 5.0, bound_us: 1.0 }));
        assert_eq!(between(&measured, "a", "a"), Some(Offset::default()), "a clock agrees with itself");
        assert_eq!(between(&measured, "b", "c"), None);
        assert_eq!(between(&measured, "", ""), None, "nobody knows who");
    }
}
