//! Waiting until the last notifications have arrived, so that the slow ones are not missing from the numbers.

use std::time::{Duration, Instant};

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
    pending: Option<u64>,
    seen: String,
    /// A number that stands still when nothing arrives any more.
    mark: u64,
}

/// Waits until nothing is on its way, at most `deadline`.
pub(super) fn drain(jaeger: &Jaeger, subject: &Subject, deadline: Duration) -> Result<Settled> {
    let start = Instant::now();
    let (mut mark, mut steady) = (None, 0);
    loop {
        let look = look(jaeger, subject)?;
        steady = if mark == Some(look.mark) { steady + 1 } else { 0 };
        mark = Some(look.mark);
        let quiet = match look.pending {
            Some(pending) => pending == 0,
            None => steady >= STEADY,
        };
        let waited = start.elapsed();
        if quiet || waited >= deadline {
            let seen = format!("{} after {:.1} s", look.seen, waited.as_secs_f64());
            if !quiet {
                ui::warn(format_args!("not everything had arrived after {deadline:?}; last seen: {}", look.seen));
            }
            let facts = Drained { by: look.by, complete: quiet, waited_s: waited.as_secs_f64(), last_seen: seen };
            let pending = match look.pending {
                Some(0) => Pending::None,
                Some(count) => Pending::Some(count),
                None => Pending::Unknown,
            };
            return Ok(Settled { facts, pending });
        }
        ui::detail(format_args!("waiting for notifications: {}", look.seen));
        let pause = if look.by == "queue" { SHORT_PAUSE } else { PAUSE };
        std::thread::sleep(pause.min(deadline.saturating_sub(waited)));
    }
}

fn look(jaeger: &Jaeger, subject: &Subject) -> Result<Look> {
    if let Some(miniature) = subject.miniature() {
        let status = miniature.status()?;
        let pending = status.in_flight + status.composing;
        let seen =
            format!("{} queued, {} in all on their way, {} handled", status.queue_depth, pending, status.handled);
        return Ok(Look { by: "queue", pending: Some(pending), seen, mark: status.handled });
    }
    let now = jiff::Timestamp::now().as_millisecond();
    let notified = jaeger.calls_into(subject.app.notified_service, now)?.unwrap_or(0);
    Ok(Look {
        by: "spans",
        pending: None,
        seen: format!("{notified} notifications handled, no more coming"),
        mark: notified,
    })
}
