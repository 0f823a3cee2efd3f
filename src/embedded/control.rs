//! Changes of the replication link's delay: at once, for a time, or by a schedule.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::miniature::Miniature;
use crate::delay::spec::Spec;
use crate::delay::{DelayError, Schedule, Start};

/// No lease is longer, s.
const LONGEST_S: f64 = 7.0 * 24.0 * 3600.0;

/// A rule to be put in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkOrder {
    /// The rule.
    pub rule: Spec,
    /// Seed of its jitter; the sequence goes on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// After this many seconds the rule ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
}

/// A rule that came into force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// When, us since the epoch.
    pub at_us: u64,
    /// Which.
    pub rule: Spec,
}

impl LinkOrder {
    /// Whether the order makes sense.
    ///
    /// # Errors
    /// One sentence saying what does not.
    pub fn check(&self) -> Result<(), String> {
        match self.lease_s {
            Some(lease) if !(0.0..=LONGEST_S).contains(&lease) => {
                Err(format!("lease must be between 0 and {LONGEST_S} s, not {lease}"))
            }
            _ => Ok(()),
        }
    }
}

/// Who changes the link. A new order ends what an earlier one still had in mind.
#[derive(Debug)]
pub struct LinkControl {
    mini: Arc<Miniature>,
    plan: Mutex<Option<AbortHandle>>,
    applied: Mutex<Vec<Applied>>,
}

impl LinkControl {
    /// The control of the miniature's replication link.
    pub fn new(mini: Arc<Miniature>) -> Self {
        LinkControl { mini, plan: Mutex::default(), applied: Mutex::default() }
    }

    /// Puts a rule in force, until its lease ends.
    pub fn set(self: &Arc<Self>, order: LinkOrder) {
        self.replace_plan(order.lease_s.filter(|_| !order.rule.is_zero()).map(|lease| {
            let control = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs_f64(lease)).await;
                control.apply(Spec::zero(), None);
            })
            .abort_handle()
        }));
        self.apply(order.rule, order.seed);
    }

    /// Follows a schedule.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn follow(self: &Arc<Self>, schedule: &Schedule) -> Result<(), DelayError> {
        let (start, steps) = (schedule.start, schedule.check()?);
        let control = self.clone();
        let task = tokio::spawn(async move {
            if start == Start::Load {
                control.mini.load.notified().await;
            }
            let start_us = control.mini.clock.now_us();
            for (at_s, rule) in steps {
                control.mini.clock.sleep_until(start_us + (at_s * 1e6) as u64).await;
                control.apply(rule, None);
            }
        });
        self.replace_plan(Some(task.abort_handle()));
        Ok(())
    }

    /// Every rule that came into force, oldest first.
    pub fn applied(&self) -> Vec<Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace_plan(&self, plan: Option<AbortHandle>) {
        let before = std::mem::replace(&mut *self.plan.lock().unwrap_or_else(PoisonError::into_inner), plan);
        if let Some(before) = before {
            before.abort();
        }
    }

    fn apply(&self, rule: Spec, seed: Option<u64>) {
        self.mini.posts.set_rule(rule, seed);
        let at_us = self.mini.clock.now_us();
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).push(Applied { at_us, rule });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::Step;
    use crate::delay::spec::Asked;
    use crate::embedded::config::Config;
    use crate::embedded::truth::Truth;
    use crate::experiment::Variant;

    fn control() -> Arc<LinkControl> {
        let mini = Miniature::new(Config::with_pair("A->B"), Variant::Baseline, Truth::nowhere());
        Arc::new(LinkControl::new(mini))
    }

    fn asked(delay_ms: f64) -> Asked {
        Asked { delay_ms, ..Asked::default() }
    }

    fn rule(delay_ms: f64) -> Spec {
        Spec::check(asked(delay_ms)).unwrap()
    }

    async fn applied(control: &LinkControl, count: usize) -> Vec<f64> {
        for _ in 0..2000 {
            if control.applied().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        control.applied().iter().map(|applied| applied.rule.asked().delay_ms).collect()
    }

    #[tokio::test]
    async fn a_lease_ends_its_rule_and_a_new_order_ends_the_lease() {
        let control = control();
        control.set(LinkOrder { rule: rule(5.0), seed: None, lease_s: Some(0.02) });
        assert_eq!(applied(&control, 2).await, [5.0, 0.0]);
        control.set(LinkOrder { rule: rule(6.0), seed: None, lease_s: Some(3600.0) });
        control.set(LinkOrder { rule: rule(7.0), seed: Some(1), lease_s: None });
        assert_eq!(control.mini.posts.rule(), rule(7.0));
    }

    #[tokio::test]
    async fn a_schedule_is_followed() {
        let control = control();
        let step = |at_s, delay_ms| Step { at_s, rule: asked(delay_ms) };
        let schedule = Schedule { start: Start::Now, steps: vec![step(0.0, 9.0), step(0.03, 3.0)] };
        control.follow(&schedule).unwrap();
        assert!(control.follow(&Schedule { steps: vec![], ..schedule }).is_err());
        assert_eq!(applied(&control, 2).await, [9.0, 3.0]);
        let times: Vec<u64> = control.applied().iter().map(|applied| applied.at_us).collect();
        assert!(times[1] - times[0] >= 29_000, "{times:?}");
    }
}
