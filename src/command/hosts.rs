//! The hosts of the current deployment, for commands that work on them: what `deploy` found out is kept in its record.

use std::path::Path;
use std::sync::Arc;

use crate::cloud::provision::Made;
use crate::cluster::Facts;
use crate::command::filed::Filed;
use crate::command::{Current, target_named, unavailable};
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::cluster::Hosts;
use crate::inventory::{Direct, Inventory};
use crate::store::Deployment;
use crate::target::{Runtime, gcp};

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
    facts.map_or(Ok(()), |facts| write(deployment, &facts))
}

/// What `deploy` found out about the hosts; `None` when it did not come that far, or the target has no hosts.
pub(crate) fn facts(deployment: &Deployment) -> Option<Facts> {
    serde_json::from_value(deployment.other.get(CLUSTER)?.clone()).ok()
}

/// Forgets what `deploy` found out: the deployment is not whole any more.
pub(super) fn forget(deployment: &mut Deployment) {
    deployment.other.shift_remove(CLUSTER);
}

/// Machines have (other) addresses: what is known about the hosts follows.
///
/// # Errors
/// Exit code 1 when it cannot be written down.
pub(super) fn moved(deployment: &mut Deployment, made: &[Made], key: &Path) -> Result<()> {
    let Some(mut facts) = facts(deployment) else { return Ok(()) };
    for host in &mut facts.inventory.hosts {
        if let Some(made) = made.iter().find(|made| made.name == host.name) {
            host.direct = Some(Direct { host_name: made.external.clone(), port: 22, identity: key.to_owned() });
        }
    }
    write(deployment, &facts)
}

/// `url` as somebody outside the hosts' own network reaches it.
pub(super) fn outside(deployment: &Deployment, url: &str) -> String {
    let made = gcp::made(deployment);
    rehosted(url, made.iter().map(|made| (made.internal.as_str(), made.external.as_str())))
}

/// `url` as the hosts among themselves reach it.
pub(super) fn inside(deployment: &Deployment, url: &str) -> String {
    let made = gcp::made(deployment);
    rehosted(url, made.iter().map(|made| (made.external.as_str(), made.internal.as_str())))
}

/// `http://FROM:PORT` with the other address of the machine that it names.
fn rehosted<'a>(url: &str, mut addresses: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
    let Some((scheme, (host, port))) = parts else { return url.to_owned() };
    match addresses.find(|(from, _)| *from == host) {
        Some((_, to)) => format!("{scheme}://{to}:{port}"),
        None => url.to_owned(),
    }
}

fn write(deployment: &mut Deployment, facts: &Facts) -> Result<()> {
    let value = serde_json::to_value(facts);
    let value = value.map_err(|error| Plain::new(Exit::Bug, format!("cannot write the hosts down: {error}")))?;
    deployment.other.insert(CLUSTER.to_owned(), value);
    Ok(())
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
        None => {
            let filed = Filed::of(context, current)?;
            let found = target_named(current.target)?.inventory(&filed.site(current))?;
            found.ok_or_else(|| no_hosts(current))?
        }
    };
    let inventory = Arc::new(inventory);
    let hosts = Hosts::of(&inventory)?;
    Ok((inventory, hosts))
}

/// Why there is nobody to connect to.
fn no_hosts(current: &Current) -> crate::error::Error {
    if !target_named(current.target).is_ok_and(|target| target.runtime() == Runtime::Swarm) {
        return unavailable(&format!("hosts of --{}", current.target));
    }
    let why = format!("the deployment `{}` has no machines (any more)", current.deployment.tag);
    let hint =
        format!("maestro --{} {} deploy -config {}", current.target, current.app.name, current.deployment.config);
    Plain::usage(why).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_url_gets_the_other_address_of_its_machine_and_keeps_its_port() {
        let addresses = [("10.0.0.2", "192.0.2.2"), ("10.0.0.3", "192.0.2.3")];
        let rehosted = |url: &str| super::rehosted(url, addresses.into_iter());
        assert_eq!(rehosted("http://10.0.0.3:8080"), "http://192.0.2.3:8080");
        assert_eq!(rehosted("http://10.0.0.30:8080"), "http://10.0.0.30:8080");
        assert_eq!(rehosted("nonsense"), "nonsense");
    }
}
