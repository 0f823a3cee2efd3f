//! `--gsd`: the services as a Docker swarm on hosts of the SSH configuration.

use std::path::Path;

use serde::Deserialize;

use super::hosted::Hosted;
use super::{CleanMode, RunOptions, Runtime, Site, Target};
use crate::app::App;
use crate::error::{Plain, Result};
use crate::experiment::TargetName;
use crate::inventory::{Access, Inventory, Sudo};
use crate::placement::Placement;
use crate::plan::Plan;
use crate::store::parse_yaml;

/// The row of the table.
pub(super) struct Gsd;

/// `gsd/config.yml`: this lab's facts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteFile {
    /// The SSH configuration that knows the hosts.
    ssh_config_filepath: Option<String>,
    /// The user where it names none.
    default_ssh_user: Option<String>,
    /// A directory that all hosts share.
    nas_path: Option<String>,
    /// When root's rights are asked for.
    #[serde(default)]
    sudo: Sudo,
}

impl Target for Gsd {
    fn name(&self) -> TargetName {
        TargetName::Gsd
    }

    fn runtime(&self) -> Runtime {
        Runtime::Swarm
    }

    fn check_placement(&self, app: &'static App, name: &str, text: &str) -> Result<()> {
        Placement::parse(TargetName::Gsd, app, name, text)?;
        Ok(())
    }

    fn inventory(&self, site: &Site<'_>) -> Result<Option<Inventory>> {
        let placement = Placement::parse(TargetName::Gsd, site.app, &site.deployment.config, site.placement)?;
        Ok(Some(Inventory::of_placement(&placement, access(site.facts, site.options.strict)?)))
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
        hosted(site)?.clean(mode == CleanMode::Strong)
    }
}

fn hosted<'a>(site: &'a Site<'a>) -> Result<Hosted<'a>> {
    let placement = Placement::parse(TargetName::Gsd, site.app, &site.deployment.config, site.placement)?;
    let inventory = Inventory::of_placement(&placement, access(site.facts, site.options.strict)?);
    Ok(Hosted::new(site, placement, inventory))
}

fn access(facts: Option<&str>, strict: bool) -> Result<Access> {
    let file: SiteFile = match facts {
        Some(text) => parse_yaml(Path::new("gsd/config.yml"), text)?,
        None => SiteFile::default(),
    };
    if let Some(path) = file.nas_path.as_deref().filter(|path| !path.starts_with('/')) {
        return Err(Plain::usage(format!("`gsd/config.yml`: nas_path `{path}` is not an absolute path")).into());
    }
    Ok(Access {
        ssh_config: file.ssh_config_filepath,
        default_user: file.default_ssh_user,
        shared_path: file.nas_path,
        sudo: file.sudo,
        strict,
    })
}

/// The hosts that the placement `text` of file `config` names; `facts` is the site's file.
///
/// # Errors
/// Exit code 2 for a placement or a site file that cannot be used.
pub fn inventory_of(app: &'static App, config: &str, text: &str, facts: Option<&str>) -> Result<Inventory> {
    let placement = Placement::parse(TargetName::Gsd, app, config, text)?;
    Ok(Inventory::of_placement(&placement, access(facts, false)?))
}
