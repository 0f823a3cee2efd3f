//! What all targets share whose services run as a swarm on hosts: they differ in where the inventory comes from and in
//! nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DeployOptions, RunOptions, Site};
use crate::cluster::{self, APP, MAESTRO, NETWORK, Order, SHIPPED, STACK, TAG, TOOL};
use crate::compose::{EndpointMode, PublishMode};
use crate::error::{Plain, Result};
use crate::experiment::Variant;
use crate::inventory::Inventory;
use crate::placement::Placement;
use crate::plan::{Plan, Stage, Step};
use crate::swarm::{self, Binds, Input, Options, Stack};

/// A deployment on hosts: what its files say, read and checked.
pub(super) struct Hosted<'a> {
    site: &'a Site<'a>,
    placement: Placement,
    inventory: Arc<Inventory>,
}

impl<'a> Hosted<'a> {
    pub(super) fn new(site: &'a Site<'a>, placement: Placement, inventory: Inventory) -> Self {
        Hosted { site, placement, inventory: Arc::new(inventory) }
    }

    pub(super) fn deploy(&self) -> Result<Plan> {
        let stack = self.stack(Variant::Baseline)?;
        let mut plan = cluster::deploy(&self.order(&stack), self.site.options.force, &self.cache());
        if let Some(file) = self.site.compose {
            let path = self.site.dir.join("docker-compose.yml");
            let filed = Step::EnsureFile { path, content: file.to_yaml(), private: true };
            plan.stages.insert(0, Stage { name: "file the compose file".into(), steps: vec![filed] });
        }
        Ok(plan)
    }

    pub(super) fn run(&self, options: &RunOptions) -> Result<Plan> {
        let stack = self.stack(options.variant)?;
        cluster::run(&self.order(&stack), options.timeout)
    }

    pub(super) fn restart(&self, options: &RunOptions) -> Result<Plan> {
        let stack = self.stack(options.variant)?;
        cluster::restart(&self.order(&stack), options.timeout)
    }

    /// With `strong` also what was installed on the hosts.
    pub(super) fn clean(&self, strong: bool) -> Result<Plan> {
        let stack = self.stack(Variant::Baseline)?;
        Ok(cluster::clean(&self.order(&stack), strong, &self.shipped()))
    }

    fn order<'b>(&'b self, stack: &'b Stack) -> Order<'b> {
        Order {
            app: self.site.app,
            target: self.site.deployment.target.as_str(),
            tag: &self.site.deployment.tag,
            placement: &self.placement,
            inventory: &self.inventory,
            stack,
        }
    }

    /// Where archives of images are kept: they belong to no deployment.
    fn cache(&self) -> PathBuf {
        // deploy/gsd/<app>/<tag> -> deploy/gsd/.images
        self.site.dir.ancestors().nth(2).unwrap_or(Path::new(".")).join(".images")
    }

    /// Where the deployment's shipped files lie on hosts.
    fn shipped(&self) -> PathBuf {
        Path::new(SHIPPED).join(&self.site.deployment.tag)
    }

    fn stack(&self, variant: Variant) -> Result<Stack> {
        let site = self.site;
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
            binds: Binds::Shipped(self.shipped()),
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..Options::new(STACK, NETWORK, variant)
        };
        let (placement, read) = (&self.placement, &site.read);
        let name = "docker-compose.yml";
        Ok(swarm::stack(&Input { app: site.app, file, file_name: name, placement, options: &options, read })?)
    }
}
