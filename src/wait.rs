//! Bounded waiting: every wait has a deadline and says what it last saw.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Exit, Fault};

/// A wait that reached its deadline.
#[derive(Debug, thiserror::Error)]
#[error("{what} not ready after {after:?}; last seen: {last_seen}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub after: Duration,
    /// The last observation.
    pub last_seen: String,
}

impl Fault for TimedOut {
    fn exit(&self) -> Exit {
        Exit::StepFailed
    }
}

/// What one look at the world said.
pub enum Look<T> {
    /// It is there.
    Ready(T),
    /// Not yet; the text says what was seen instead.
    NotYet(String),
}

/// Looks every `interval` until the answer is `Ready` or `deadline` has passed.
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, interval: Duration, mut look: F) -> Result<T, TimedOut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Look<T>>,
{
    let start = Instant::now();
    loop {
        let last_seen = match look().await {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(seen) => seen,
        };
        if start.elapsed() >= deadline {
            return Err(TimedOut { what: what.to_owned(), after: deadline, last_seen });
        }
        tokio::time::sleep(interval.min(deadline.saturating_sub(start.elapsed()))).await;
    }
}
