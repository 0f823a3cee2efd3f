//! `--gsd`: the services as a Docker swarm on hosts of the SSH configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{CleanMode, DeployOptions, RunOptions, Runtime, Site, Target};
use crate::app::App;
use crate::cluster::{self, APP, MAESTRO, NETWORK, Order, SHIPPED, STACK, TAG, TOOL};
use crate::compose::{EndpointMode, PublishMode};
use crate::error::{Plain, Result};
use crate::experiment::{TargetName, Variant};
use crate::inventory::{Access, Inventory, Sudo};
use crate::placement::Placement;
use crate::plan::{Plan, Step};
use crate::store::parse_yaml;
use crate::swarm::{self, Binds, Input, Options, Stack};

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

    fn deploy(&self, site: &Site<'_>) -> Result<Plan> {
        let made = Made::of(site, Variant::Baseline)?;
        let mut plan = cluster::deploy(&made.order(site), site.options.force, &cache(site));
        if let Some(file) = site.compose {
            let path = site.dir.join("docker-compose.yml");
            let filed = Step::EnsureFile { path, content: file.to_yaml() };
            plan.stages.insert(0, crate::plan::Stage { name: "file the compose file".into(), steps: vec![filed] });
        }
        Ok(plan)
    }

    fn run(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        let made = Made::of(site, options.variant)?;
        cluster::run(&made.order(site), options.timeout)
    }

    fn restart(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        let made = Made::of(site, options.variant)?;
        cluster::restart(&made.order(site), options.timeout)
    }

    fn clean(&self, site: &Site<'_>, mode: CleanMode) -> Result<Plan> {
        let made = Made::of(site, Variant::Baseline)?;
        Ok(cluster::clean(&made.order(site), mode == CleanMode::Strong, &shipped(site)))
    }
}

/// Where archives of images are kept: they belong to no deployment.
fn cache(site: &Site<'_>) -> PathBuf {
    // deploy/gsd/<app>/<tag> -> deploy/gsd/.images
    site.dir.ancestors().nth(2).unwrap_or(Path::new(".")).join(".images")
}

/// Where the deployment's shipped files lie on hosts.
fn shipped(site: &Site<'_>) -> PathBuf {
    Path::new(SHIPPED).join(&site.deployment.tag)
}

/// What a deployment's files say, read and checked.
struct Made {
    placement: Placement,
    inventory: Arc<Inventory>,
    stack: Stack,
}

impl Made {
    fn of(site: &Site<'_>, variant: Variant) -> Result<Self> {
        let placement = Placement::parse(TargetName::Gsd, site.app, &site.deployment.config, site.placement)?;
        let inventory = Arc::new(Inventory::of_placement(&placement, access(site.facts, site.options.strict)?));
        let stack = stack(site, &placement, variant)?;
        Ok(Made { placement, inventory, stack })
    }

    fn order<'a>(&'a self, site: &'a Site<'_>) -> Order<'a> {
        Order {
            app: site.app,
            target: TargetName::Gsd.as_str(),
            tag: &site.deployment.tag,
            placement: &self.placement,
            inventory: &self.inventory,
            stack: &self.stack,
        }
    }
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

/// The hosts of a deployment.
///
/// # Errors
/// Exit code 2 for a placement or a site file that cannot be used.
pub(crate) fn inventory(site: &Site<'_>) -> Result<Inventory> {
    let placement = Placement::parse(TargetName::Gsd, site.app, &site.deployment.config, site.placement)?;
    Ok(Inventory::of_placement(&placement, access(site.facts, site.options.strict)?))
}

/// The hosts that the placement `text` of file `config` names; `facts` is the site's file.
///
/// # Errors
/// As [`inventory`].
pub(crate) fn inventory_of(app: &'static App, config: &str, text: &str, facts: Option<&str>) -> Result<Inventory> {
    let placement = Placement::parse(TargetName::Gsd, app, config, text)?;
    Ok(Inventory::of_placement(&placement, access(facts, false)?))
}

fn stack(site: &Site<'_>, placement: &Placement, variant: Variant) -> Result<Stack> {
    let file = site.compose.ok_or_else(|| Plain::usage(format!("`{}` has no compose file", site.app.name)))?;
    let DeployOptions { endpoint_mode, publish, .. } = &site.options;
    let labels = [(TOOL, MAESTRO), (TAG, &site.deployment.tag), (APP, site.app.name)];
    let options = Options {
        endpoint_mode: endpoint_mode.as_deref().map(|mode| match mode {
            "dnsrr" => EndpointMode::Dnsrr,
            _ => EndpointMode::Vip,
        }),
        publish: publish.as_deref().map(|mode| match mode {
            "host" => PublishMode::Host,
            _ => PublishMode::Ingress,
        }),
        binds: Binds::Shipped(shipped(site)),
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ..Options::new(STACK, NETWORK, variant)
    };
    let name = "docker-compose.yml";
    let input = Input { app: site.app, file, file_name: name, placement, options: &options, read: &site.read };
    Ok(swarm::stack(&input)?)
}
