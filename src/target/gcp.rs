//! `--gcp`: the services as a Docker swarm on machines of Google Cloud that the placement asks for.

use std::path::{Path, PathBuf};

use super::hosted::Hosted;
use super::{CleanMode, RunOptions, Runtime, Site, Target};
use crate::app::App;
use crate::cloud;
use crate::cloud::provision::{CloudStep, Fleet, Made, inventory, machines};
use crate::error::{Plain, Result};
use crate::experiment::TargetName;
use crate::inventory::Inventory;
use crate::placement::Placement;
use crate::plan::{Plan, Step};
use crate::store::{Deployment, parse_yaml};

/// The row of the table.
pub(super) struct Gcp;

/// Key of the deployment's record: its machines.
pub(crate) const MACHINES: &str = "machines";

/// The site file, as messages name it.
const SITE: &str = "gcp/config.yml";

impl Target for Gcp {
    fn name(&self) -> TargetName {
        TargetName::Gcp
    }

    fn runtime(&self) -> Runtime {
        Runtime::Swarm
    }

    fn check_placement(&self, app: &'static App, name: &str, text: &str) -> Result<()> {
        Placement::parse(TargetName::Gcp, app, name, text)?;
        Ok(())
    }

    fn fleet(&self, site: &Site<'_>) -> Result<Option<Fleet>> {
        let lab = facts(site)?;
        let deployment = site.deployment;
        let placement = placement(site)?;
        let machines = machines(&placement, &deployment.tag, deployment.clients).map_err(Plain::usage)?;
        let fleet = Fleet::new(&lab, (&deployment.tag, deployment.uid()), machines, key(site));
        Ok(Some(fleet.map_err(Plain::usage)?))
    }

    fn inventory(&self, site: &Site<'_>) -> Result<Option<Inventory>> {
        if made(site.deployment).is_empty() {
            return Ok(None);
        }
        hosts(site).map(Some)
    }

    fn deploy(&self, site: &Site<'_>) -> Result<Plan> {
        hosted(site)?.deploy()
    }

    fn run(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        hosted(site)?.run(options)
    }

    fn restart(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        hosted(site)?.restart(options)
    }

    fn clean(&self, site: &Site<'_>, mode: CleanMode) -> Result<Plan> {
        match mode {
            CleanMode::Services => hosted(site)?.clean(false),
            // The machines go with everything on them.
            CleanMode::Strong => {
                let (tag, uid) = (site.deployment.tag.clone(), site.deployment.uid().to_owned());
                Ok(Plan::new(format!("clean {} on gcp", site.app.name)).stage(
                    "delete the machines, all at once, and look whether any is left",
                    vec![Step::Cloud(CloudStep::NoMachines { tag, uid })],
                ))
            }
        }
    }
}

fn hosted<'a>(site: &'a Site<'a>) -> Result<Hosted<'a>> {
    Ok(Hosted::new(site, placement(site)?, hosts(site)?))
}

fn placement(site: &Site<'_>) -> Result<Placement> {
    Ok(Placement::parse(TargetName::Gcp, site.app, &site.deployment.config, site.placement)?)
}

/// The hosts; those that are not made yet have no address.
fn hosts(site: &Site<'_>) -> Result<Inventory> {
    let deployment = site.deployment;
    let machines = machines(&placement(site)?, &deployment.tag, deployment.clients).map_err(Plain::usage)?;
    Ok(inventory(&machines, &made(deployment), &key(site), &facts(site)?.default_ssh_user))
}

fn facts(site: &Site<'_>) -> Result<cloud::site::Site> {
    let text = site.facts.ok_or_else(|| {
        Plain::usage(format!("no `{SITE}`")).with_hint("write one; its shortest form: `project_id: YOUR-PROJECT`")
    })?;
    let lab: cloud::site::Site = parse_yaml(Path::new(SITE), text)?;
    match lab.problem() {
        Some(why) => Err(Plain::usage(format!("`{SITE}`: {why}")).into()),
        None => Ok(lab),
    }
}

/// The deployment's private key.
fn key(site: &Site<'_>) -> PathBuf {
    site.dir.join("ssh").join("id")
}

/// The machines that were made, as the deployment's record has them.
pub(crate) fn made(deployment: &Deployment) -> Vec<Made> {
    let value = deployment.other.get(MACHINES).and_then(|machines| machines.get("made")).cloned();
    value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}
