//! Changes of the replication link's delay: at once, for a time, or by a schedule.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::link::LinkRule;
use super::miniature::Miniature;

/// No schedule is longer, s.
const LONGEST_S: f64 = 7.0 * 24.0 * 3600.0;

/// A rule to be put in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkOrder {
    /// The rule.
    pub rule: LinkRule,
    /// Seed of its jitter; the sequence goes on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// After this many seconds the rule ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
}

/// When a schedule's clock starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleStart {
    /// With the next post that is composed.
    #[default]
    Load,
    /// At once.
    Now,
}

/// One change of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleStep {
    /// Seconds from the schedule's start.
    pub at_s: f64,
    /// What is in force from then on.
    pub rule: LinkRule,
}

/// Changes over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSchedule {
    /// When its clock starts.
    #[serde(default)]
    pub start: ScheduleStart,
    /// The changes, earliest first.
    pub steps: Vec<ScheduleStep>,
}

/// A rule that came into force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// When, us since the epoch.
    pub at_us: u64,
    /// Which.
    pub rule: LinkRule,
}

fn check_seconds(name: &str, value: f64) -> Result<(), String> {
    if value.is_finite() && (0.0..=LONGEST_S).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name} must be between 0 and {LONGEST_S} s, not {value}"))
    }
}

impl LinkOrder {
    /// Whether the order makes sense.
    ///
    /// # Errors
    /// One sentence saying what does not.
    pub fn check(&self) -> Result<(), String> {
        self.rule.check()?;
        self.lease_s.map_or(Ok(()), |lease| check_seconds("lease", lease))
    }
}

impl LinkSchedule {
    /// Whether the schedule makes sense.
    ///
    /// # Errors
    /// One sentence naming the step.
    pub fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() {
            return Err("a schedule needs at least one step".into());
        }
        for (i, step) in self.steps.iter().enumerate() {
            let named = |why: String| format!("step {}: {why}", i + 1);
            check_seconds("at_s", step.at_s).map_err(named)?;
            step.rule.check().map_err(named)?;
            if i > 0 && step.at_s < self.steps[i - 1].at_s {
                return Err(named(format!("at_s {} is before the step above", step.at_s)));
            }
        }
        Ok(())
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
        self.replace_plan(order.lease_s.filter(|_| !order.rule.is_off()).map(|lease| {
            let control = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs_f64(lease)).await;
                control.apply(LinkRule::default(), None);
            })
            .abort_handle()
        }));
        self.apply(order.rule, order.seed);
    }

    /// Follows a schedule.
    pub fn follow(self: &Arc<Self>, schedule: LinkSchedule) {
        let control = self.clone();
        let task = tokio::spawn(async move {
            if schedule.start == ScheduleStart::Load {
                control.mini.load.notified().await;
            }
            let start_us = control.mini.clock.now_us();
            for step in schedule.steps {
                control.mini.clock.sleep_until(start_us + (step.at_s * 1e6) as u64).await;
                control.apply(step.rule, None);
            }
        });
        self.replace_plan(Some(task.abort_handle()));
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

    fn apply(&self, rule: LinkRule, seed: Option<u64>) {
        self.mini.posts.set_rule(rule, seed);
        let at_us = self.mini.clock.now_us();
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).push(Applied { at_us, rule });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::config::Config;
    use crate::embedded::truth::Truth;
    use crate::experiment::Variant;

    fn control() -> Arc<LinkControl> {
        let mini = Miniature::new(Config::with_pair("A->B"), Variant::Baseline, Truth::nowhere());
        Arc::new(LinkControl::new(mini))
    }

    fn rule(delay_ms: f64) -> LinkRule {
        LinkRule { delay_ms, ..LinkRule::default() }
    }

    async fn applied(control: &LinkControl, count: usize) -> Vec<f64> {
        for _ in 0..2000 {
            if control.applied().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        control.applied().iter().map(|applied| applied.rule.delay_ms).collect()
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
        let step = |at_s, delay_ms| ScheduleStep { at_s, rule: rule(delay_ms) };
        let schedule = LinkSchedule { start: ScheduleStart::Now, steps: vec![step(0.0, 9.0), step(0.03, 3.0)] };
        schedule.check().unwrap();
        control.follow(schedule);
        assert_eq!(applied(&control, 2).await, [9.0, 3.0]);
        let times: Vec<u64> = control.applied().iter().map(|applied| applied.at_us).collect();
        assert!(times[1] - times[0] >= 29_000, "{times:?}");
    }

    #[test]
    fn senseless_schedules_are_refused() {
        let step = |at_s, delay_ms| ScheduleStep { at_s, rule: rule(delay_ms) };
        let refused = |steps| LinkSchedule { start: ScheduleStart::Load, steps }.check().unwrap_err();
        assert!(refused(vec![]).contains("at least one step"));
        assert!(refused(vec![step(2.0, 1.0), step(1.0, 1.0)]).contains("step 2: at_s 1"));
        assert!(refused(vec![step(0.0, -1.0)]).contains("step 1: delay"));
        assert!(refused(vec![step(f64::NAN, 1.0)]).contains("step 1: at_s"));
    }
}
