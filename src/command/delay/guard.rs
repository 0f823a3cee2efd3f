//! A run under a delay: its schedule starts with the load, its lease outlives it, and a rule that did not hold to the
//! end makes the run void.

use std::time::Duration;

use super::containers::{deployment_label, helpers, sites};
use crate::Context;
use crate::command::Current;
use crate::delay::attach::Attached;
use crate::delay::{Request, Status};
use crate::error::{Exit, Plain, Result};
use crate::target::Runtime;

/// Beyond the load's own duration: drain, gather, and whatever comes between.
const MARGIN: Duration = Duration::from_secs(900);

/// The delay that a run relies on.
pub(crate) struct Guard {
    helpers: Vec<(Attached, Status)>,
}

impl Guard {
    /// Makes sure that the delay in the deployment's record is in force and stays so for `duration` and a while
    /// longer. Nothing to guard where there is none, or where the miniature looks after it itself.
    ///
    /// # Errors
    /// Exit code 4 when the record tells of a delay that is in force no more.
    pub(crate) async fn start(context: &Context, current: &Current, duration: Duration) -> Result<Self> {
        let mut guard = Guard { helpers: Vec::new() };
        let in_process = crate::command::target_named(current.target)?.runtime() == Runtime::InProcess;
        if in_process || current.deployment.delay.is_none() {
            return Ok(guard);
        }
        let wanted = duration + MARGIN;
        for helper in helpers(&sites(context, current).await?, &deployment_label(current)).await? {
            let Ok(status) = helper.status().await else { continue };
            if status.lease_left_s < wanted.as_secs_f64() {
                helper.ask(&Request::Renew { seconds: wanted.as_secs_f64() }).await?;
            }
            helper.ask(&Request::Begin).await?;
            guard.helpers.push((helper, status));
        }
        if guard.helpers.iter().all(|(_, status)| status.rules.is_empty()) {
            let (target, app) = (current.target, current.app.name);
            return Err(Plain::new(Exit::StepFailed, "the delay on record is not in force any more")
                .with_hint(format!(
                    "its lease ended or its containers were replaced; `maestro --{target} {app} delay ...` puts it in \
                     force again, `delay --off` forgets it"
                ))
                .into());
        }
        Ok(guard)
    }

    /// Why the delay did not hold to the end; empty when it did.
    pub(crate) async fn end(self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (helper, before) in &self.helpers {
            match helper.status().await {
                Ok(after) => reasons.extend(broken(&helper.service, before, &after)),
                Err(error) => reasons.push(format!("the delay at {} was lost during the run: {error}", helper.service)),
            }
        }
        reasons
    }
}

/// What happened to the rules between two looks.
fn broken(service: &str, before: &Status, after: &Status) -> Vec<String> {
    let mut reasons = Vec::new();
    if after.started_us != before.started_us || after.applied_us != before.applied_us {
        reasons.push(format!("the delay at {service} was interrupted during the run: its helper started anew"));
    }
    for (rule, earlier) in after.rules.iter().zip(&before.rules) {
        if rule.address_changes != earlier.address_changes {
            reasons.push(format!("the peer of {} changed its address during the run", rule.name));
        }
        let drops = rule.netem_drops.unwrap_or(0).saturating_sub(earlier.netem_drops.unwrap_or(0));
        if drops > 0 && !rule.to_peer.contains("loss") {
            reasons.push(format!("netem dropped {drops} packets of {} for want of room", rule.name));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::RuleStatus;

    #[test]
    fn a_rule_that_did_not_hold_is_named() {
        let rule = RuleStatus { name: "a -> b".to_owned(), netem_drops: Some(1), ..RuleStatus::default() };
        let before = Status { started_us: 1, applied_us: 2, rules: vec![rule.clone()], ..Status::default() };
        assert!(broken("b", &before, &before).is_empty());
        let restarted = Status { started_us: 9, ..before.clone() };
        assert!(broken("b", &before, &restarted)[0].contains("at b was interrupted"));
        let moved = RuleStatus { address_changes: 1, netem_drops: Some(4), ..rule };
        let moved = Status { rules: vec![moved], ..before.clone() };
        assert_eq!(
            broken("b", &before, &moved),
            [
                "the peer of a -> b changed its address during the run",
                "netem dropped 3 packets of a -> b for want of room"
            ]
        );
    }
}
