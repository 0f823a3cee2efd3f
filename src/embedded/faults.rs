//! Faults that can be switched on, in the placement file or live, so that the tools around the miniature can be tested.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What goes wrong, and how often. A share is 0..1 and is spread evenly: 0.25 hits every fourth time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Share of composes answered with 500 before anything is stored.
    pub compose_errors: f64,
    /// Share of posts that are not stored although the client gets its 200.
    pub store_failures: f64,
    /// Share of notifications that get lost between queue and consumer.
    pub lost_notifications: f64,
    /// Share of handled notifications that leave no `FanoutHomeTimelines` span.
    pub missing_fanout: f64,
    /// Share of spans from which `missing_tag` is left out.
    pub missing_tags: f64,
    /// The tag concerned (default `poststorage_read_notification_ts`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_tag: Option<String>,
    /// How far the replica's clock is ahead of the origin's, ms; negative makes windows look shorter than they were.
    pub clock_skew_ms: i64,
    /// `/api/dependencies` answers with no edge.
    pub empty_dependencies: bool,
    /// How long after the ready file composes go on failing, ms.
    pub late_ready_ms: u64,
    /// How much later the setup port opens, and with it everything that waits for it, ms.
    pub setup_delay_ms: u64,
}

impl Faults {
    /// Whether all shares are shares; the error names the field.
    ///
    /// # Errors
    /// `field: what is wrong`.
    pub fn check(&self) -> Result<(), String> {
        for (name, share) in [
            ("compose_errors", self.compose_errors),
            ("store_failures", self.store_failures),
            ("lost_notifications", self.lost_notifications),
            ("missing_fanout", self.missing_fanout),
            ("missing_tags", self.missing_tags),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name}: a share is between 0 and 1, not {share}"));
            }
        }
        if self.clock_skew_ms.abs() > 86_400_000 {
            return Err(format!("clock_skew_ms: more than a day ({})", self.clock_skew_ms));
        }
        for (name, value) in [("late_ready_ms", self.late_ready_ms), ("setup_delay_ms", self.setup_delay_ms)] {
            if value > 3_600_000 {
                return Err(format!("{name}: more than an hour ({value})"));
            }
        }
        Ok(())
    }
}

/// The switches with their counters.
#[derive(Debug)]
pub struct Switches {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    /// What each share has left over since its last hit.
    owed: [f64; 5],
}

/// Something that happens to a share of occasions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chance {
    ComposeError,
    StoreFailure,
    LostNotification,
    MissingFanout,
    MissingTag,
}

impl Switches {
    /// Switches set as in `faults`.
    pub fn new(faults: Faults) -> Self {
        Switches { state: Mutex::new(State { faults, owed: [0.0; 5] }) }
    }

    /// The faults in force.
    pub fn get(&self) -> Faults {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).faults.clone()
    }

    /// Replaces the faults in force.
    pub fn set(&self, faults: Faults) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { faults, owed: [0.0; 5] };
    }

    /// Whether `chance` strikes this time.
    pub(super) fn strikes(&self, chance: Chance) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let share = match chance {
            Chance::ComposeError => state.faults.compose_errors,
            Chance::StoreFailure => state.faults.store_failures,
            Chance::LostNotification => state.faults.lost_notifications,
            Chance::MissingFanout => state.faults.missing_fanout,
            Chance::MissingTag => state.faults.missing_tags,
        };
        let owed = &mut state.owed[chance as usize];
        *owed += share;
        // A hair of slack, or ten times 0.1 would not make a whole.
        let hit = *owed >= 1.0 - 1e-9;
        if hit {
            *owed -= 1.0;
        }
        hit
    }

    /// The tag to leave out of a span that `carries` it, if its turn has come.
    pub(super) fn missing_tag(&self, carries: impl Fn(&str) -> bool) -> Option<String> {
        let tag = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.faults.missing_tags == 0.0 {
                return None;
            }
            state.faults.missing_tag.clone()
        };
        let tag = tag.unwrap_or_else(|| "poststorage_read_notification_ts".to_owned());
        (carries(&tag) && self.strikes(Chance::MissingTag)).then_some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_hit_exactly_as_often_as_asked() {
        let switches = Switches::new(Faults { compose_errors: 0.25, store_failures: 0.1, ..Faults::default() });
        let hits = |chance| (0..100).filter(|_| switches.strikes(chance)).count();
        assert_eq!([hits(Chance::ComposeError), hits(Chance::StoreFailure), hits(Chance::MissingFanout)], [25, 10, 0]);
    }
}
