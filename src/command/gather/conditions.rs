//! The conditions under which a run's traces are read as observations.

use super::subject::Subject;
use super::{Readings, Request};
use crate::Context;
use crate::analysis::{Conditions, WindowKind};

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
        shape: &subject.app.shape,
        run_us,
        slack_us: SLACK_US,
        warmup_us: (warmup_s * 1e6) as i64,
        kind: if subject.variant().is_antipode() { WindowKind::Visibility } else { WindowKind::Attempt },
        window_clock: None,
        lag_clock: None,
        pending: readings.pending,
        read_at_us: readings.read_at_us,
        load: subject.record.as_ref().and_then(|record| record.load.as_ref()),
        notified: readings.notified,
    }
}
