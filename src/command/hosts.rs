//! The hosts of the current deployment, for commands that work on them: what `deploy` found out is kept in its record.

use std::sync::Arc;

use crate::cluster::Facts;
use crate::command::filed::Filed;
use crate::command::{Current, unavailable};
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::cluster::Hosts;
use crate::experiment::TargetName;
use crate::inventory::Inventory;
use crate::store::Deployment;
use crate::target::gsd;

/// Key of the deployment's record.
const CLUSTER: &str = "cluster";

/// Takes what the steps found out about hosts into the deployment's record.
///
/// # Errors
/// Exit code 1 when it cannot be written down.
pub(super) fn absorb(deployment: &mut Deployment, outcomes: &[Outcome]) -> Result<()> {
    let mut facts: Option<Facts> = None;
    for outcome in outcomes {
        match (outcome, &mut facts) {
            (Outcome::Hosts(found), _) => facts = Some((**found).clone()),
            (Outcome::Tool(sha256), Some(facts)) => facts.tool.clone_from(sha256),
            (Outcome::Images(ids), Some(facts)) => facts.images.clone_from(ids),
            (Outcome::Nodes(ids), Some(facts)) => {
                for host in &mut facts.hosts {
                    let id = ids.iter().find(|(name, _)| *name == host.name);
                    host.node = id.map(|(_, id)| id.clone()).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    if let Some(facts) = facts {
        let value = serde_json::to_value(facts);
        let value = value.map_err(|error| Plain::new(Exit::Bug, format!("cannot write the hosts down: {error}")))?;
        deployment.other.insert(CLUSTER.to_owned(), value);
    }
    Ok(())
}

/// What `deploy` found out about the hosts; `None` when it did not come that far, or the target has no hosts.
pub(crate) fn facts(deployment: &Deployment) -> Option<Facts> {
    serde_json::from_value(deployment.other.get(CLUSTER)?.clone()).ok()
}

/// What is known about the hosts of a deployment that was made to its end.
///
/// # Errors
/// Exit code 2 when it was not.
pub(crate) fn known(current: &Current) -> Result<Facts> {
    facts(&current.deployment).ok_or_else(|| {
        let why = format!("the deployment `{}` was not made to its end", current.deployment.tag);
        let hint = format!(
            "run it again, it continues: maestro --{} {} deploy -config {} -clients {}",
            current.target, current.app.name, current.deployment.config, current.deployment.clients
        );
        Plain::usage(why).with_hint(hint).into()
    })
}

/// The connections to the hosts of a deployment: those of its record, else those that its placement names.
///
/// # Errors
/// Exit code 2 when the target has no hosts.
pub(crate) fn connect(context: &crate::Context, current: &Current) -> Result<(Arc<Inventory>, Arc<Hosts>)> {
    let inventory = match facts(&current.deployment) {
        Some(facts) => facts.inventory,
        None if current.target == TargetName::Gsd => {
            let filed = Filed::of(context, current)?;
            gsd::inventory(&filed.site(current))?
        }
        None => return Err(unavailable(&format!("hosts of --{}", current.target))),
    };
    let inventory = Arc::new(inventory);
    let hosts = Hosts::of(&inventory)?;
    Ok((inventory, hosts))
}
