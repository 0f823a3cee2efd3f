//! Waiting until the last notifications have arrived, so that the slow ones are not missing from the numbers.

use std::time::{Duration, Instant};

use super::queue::Brokers;
use super::subject::Subject;
use crate::analysis::{Drained, Pending};
use crate::error::Result;
use crate::trace::jaeger::Jaeger;
use crate::ui;

/// Pause between two looks at a trace store, and at a miniature, which answers at once.
const PAUSE: Duration = Duration::from_millis(500);
const SHORT_PAUSE: Duration = Duration::from_millis(50);

/// Looks that must agree before a count is called stable.
const STEADY: u32 = 3;

/// How the wait ended.
pub(super) struct Settled {
    pub(super) facts: Drained,
    pub(super) pending: Pending,
}

/// One look: what is still on its way, if that can be told, and what was seen.
struct Look {
    by: &'static str,
    /// Notifications on their way, as far as that is known.
    waiting: Option<u64>,
    /// Nothing that is on its way can be missing from that number.
    exact: bool,
    /// The number is not older than the end of the load.
    fresh: bool,
    seen: String,
    /// A number that stands still when nothing arrives any more.
    mark: u64,
}

impl Look {
    /// Whether nothing is on its way any more, when the mark has stood still for `steady` looks.
    fn is_quiet(&self, steady: u32) -> bool {
        match self.waiting {
            Some(waiting) if self.exact => waiting == 0,
            Some(waiting) => waiting == 0 && self.fresh && steady >= STEADY,
            None => steady >= STEADY,
        }
    }
}

/// What is looked at.
pub(super) struct Watched<'a> {
    pub(super) jaeger: &'a Jaeger,
    pub(super) subject: &'a Subject,
    pub(super) brokers: Option<Brokers>,
    /// From this instant on the brokers' counts speak of everything that was sent, us since the epoch.
    pub(super) counted_from_us: i64,
}

/// Waits until nothing is on its way, at most `deadline`.
pub(super) fn drain(mut watched: Watched<'_>, deadline: Duration) -> Result<Settled> {
    let start = Instant::now();
    let (mut mark, mut steady) = (None, 0);
    loop {
        let look = watched.look()?;
        steady = if mark == Some(look.mark) { steady + 1 } else { 0 };
        mark = Some(look.mark);
        let (quiet, waited) = (look.is_quiet(steady), start.elapsed());
        if quiet || waited >= deadline {
            // Who does not want to wait knows that.
            if !quiet && !deadline.is_zero() {
                ui::warn(format_args!("not everything had arrived after {deadline:?}; last seen: {}", look.seen));
            }
            return Ok(watched.settled(&look, quiet, waited));
        }
        ui::detail(format_args!("waiting for notifications: {}", look.seen));
        let pause = if look.exact { SHORT_PAUSE } else { PAUSE };
        std::thread::sleep(pause.min(deadline.saturating_sub(waited)));
    }
}

impl Watched<'_> {
    fn look(&mut self) -> Result<Look> {
        if let Some(miniature) = self.subject.miniature() {
            let status = miniature.status()?;
            let waiting = status.in_flight + status.composing;
            let seen =
                format!("{} queued, {waiting} in all on their way, {} handled", status.queue_depth, status.handled);
            let waiting = Some(waiting);
            return Ok(Look { by: "status", waiting, exact: true, fresh: true, seen, mark: status.handled });
        }
        let now = jiff::Timestamp::now();
        let handled =
            self.jaeger.calls_into(self.subject.replication.notified_service, now.as_millisecond())?.unwrap_or(0);
        let waiting = match self.brokers.as_ref().map(Brokers::messages) {
            None => None,
            Some(Ok(messages)) => Some(messages),
            Some(Err(why)) => {
                ui::warn(format_args!("{why}: only spans are counted while notifications arrive"));
                self.brokers = None;
                None
            }
        };
        let seen = match waiting {
            Some(messages) => format!("{messages} in the brokers' queues, {handled} notifications handled"),
            None => format!("{handled} notifications handled"),
        };
        let by = if waiting.is_some() { "queue" } else { "spans" };
        let fresh = now.as_microsecond() >= self.counted_from_us;
        Ok(Look { by, waiting, exact: false, fresh, seen, mark: handled })
    }

    fn settled(&self, look: &Look, quiet: bool, waited: Duration) -> Settled {
        let waited_s = waited.as_secs_f64();
        let last_seen = format!("{} after {waited_s:.1} s", look.seen);
        let all_told = look.exact || self.brokers.as_ref().is_some_and(Brokers::until_handled);
        let pending = match look.waiting {
            Some(0) if all_told && quiet => Pending::None,
            Some(count) if count > 0 && look.exact => Pending::Exactly(count),
            Some(count) if count > 0 => Pending::AtLeast(count),
            _ => Pending::Unknown,
        };
        Settled { facts: Drained { by: look.by, complete: quiet, waited_s, last_seen }, pending }
    }
}
