//! One monotonic clock for everything the miniature stamps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the epoch, read from the monotonic clock: the wall clock is looked at once, at the start, so
/// that two stamps of this process never contradict each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    epoch_us: u64,
}

impl Clock {
    /// A clock that agrees with the wall clock now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { anchor: Instant::now(), epoch_us: since_epoch.as_micros() as u64 }
    }

    /// Now, us since the epoch.
    pub fn now_us(&self) -> u64 {
        self.epoch_us + self.anchor.elapsed().as_micros() as u64
    }

    /// The instant of `us` (us since the epoch); never before the clock's start.
    fn instant(&self, us: u64) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.anchor + Duration::from_micros(us.saturating_sub(self.epoch_us)))
    }

    /// Sleeps until `us` (us since the epoch). The timer ticks in milliseconds: it wakes up to 1 ms late, never early.
    pub async fn sleep_until(&self, us: u64) {
        tokio::time::sleep_until(self.instant(us)).await;
    }
}
