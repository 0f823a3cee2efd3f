//! The plans themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{ClusterState, ClusterStep, Doors, ImageUse, NETWORK, Needs, PortUse, Readiness, SWARM_PORT};
use crate::app::{App, Door};
use crate::compose::{EndpointMode, Protocol, PublishMode};
use crate::error::{Plain, Result};
use crate::inventory::Inventory;
use crate::placement::Placement;
use crate::plan::{Plan, Step};
use crate::swarm::{NetworkSpec, ServiceSpec, Stack, StackStep};

/// What is planned for.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The app.
    pub app: &'a App,
    /// The target's name, for titles.
    pub target: &'a str,
    /// The deployment's tag.
    pub tag: &'a str,
    /// The placement.
    pub placement: &'a Placement,
    /// The hosts.
    pub inventory: &'a Arc<Inventory>,
    /// The stack.
    pub stack: &'a Stack,
}

impl Order<'_> {
    fn step(&self, state: ClusterState) -> Step {
        Step::Cluster(ClusterStep { inventory: Arc::clone(self.inventory), state })
    }

    /// The host of a logical node.
    fn host_of_node(&self, node: &str) -> Option<String> {
        self.inventory.host_of_node(node).map(|host| host.name.clone())
    }

    fn service(&self, name: &str) -> Option<&ServiceSpec> {
        self.stack.services.iter().find(|spec| spec.service == name)
    }

    /// Where a door of the app is: the host that its service is placed on, and its published port.
    fn door(&self, door: Door) -> Result<(String, u16)> {
        let spec = self.service(door.service);
        let found = spec.and_then(|spec| {
            let published = || spec.ports.iter().filter_map(|port| port.published);
            let port = published().find(|port| *port == door.port).or_else(|| published().next())?;
            Some((self.host_of_node(&spec.node)?, port))
        });
        found.ok_or_else(|| {
            let why = format!("`{}` publishes no port, so nobody could reach it", door.service);
            Plain::usage(why).into()
        })
    }

    fn doors(&self) -> Result<Doors> {
        Ok(Doors {
            origin: self.door(self.app.origin)?,
            replica: self.door(self.app.readers_door())?,
            jaeger: self.door(self.app.jaeger)?,
        })
    }

    /// Images and the hosts of the services that run from them.
    fn images(&self) -> Vec<ImageUse> {
        let mut images: Vec<ImageUse> = Vec::new();
        for spec in &self.stack.services {
            let index = match images.iter().position(|image| image.name == spec.container.image) {
                Some(index) => index,
                None => {
                    images.push(ImageUse { name: spec.container.image.clone(), hosts: Vec::new() });
                    images.len() - 1
                }
            };
            for host in self.hosts_of(spec) {
                if !images[index].hosts.contains(&host) {
                    images[index].hosts.push(host);
                }
            }
        }
        images
    }

    /// The hosts that a service may run on: one, or all where it is tied to none.
    fn hosts_of(&self, spec: &ServiceSpec) -> Vec<String> {
        match self.host_of_node(&spec.node) {
            Some(host) => vec![host],
            None => self.inventory.hosts.iter().map(|host| host.name.clone()).collect(),
        }
    }

    fn needs(&self, force: bool) -> Needs {
        let mut ports = vec![PortUse { host: String::new(), port: 7946, udp: false, service: "the swarm".into() }];
        if let Some(manager) = self.inventory.manager() {
            let (host, service) = (manager.name.clone(), "the swarm".to_owned());
            ports.push(PortUse { host, port: SWARM_PORT, udp: false, service });
        }
        let mut virtual_addresses = false;
        for spec in &self.stack.services {
            virtual_addresses |= spec.endpoint_mode != Some(EndpointMode::Dnsrr);
            for port in &spec.ports {
                let mesh = port.mode != Some(PublishMode::Host);
                virtual_addresses |= mesh;
                let Some(published) = port.published else { continue };
                let hosts = if mesh { vec![String::new()] } else { self.hosts_of(spec) };
                ports.extend(hosts.into_iter().map(|host| PortUse {
                    host,
                    port: published,
                    udp: port.protocol == Protocol::Udp,
                    service: spec.service.clone(),
                }));
            }
        }
        Needs { ports, virtual_addresses, machine: std::env::consts::ARCH.to_owned(), force }
    }
}

/// What `deploy` does: from hosts to a swarm that has everything the services need.
pub fn deploy(order: &Order<'_>, force: bool, cache: &Path) -> Plan {
    let Order { app, target, tag, .. } = order;
    let network = NetworkSpec {
        name: NETWORK.to_owned(),
        driver: "overlay".to_owned(),
        attachable: true,
        labels: [(super::TOOL.to_owned(), super::MAESTRO.to_owned())].into(),
        ..NetworkSpec::default()
    };
    let images = ClusterState::Images { images: order.images(), cache: cache.to_owned() };
    let mut plan = Plan::new(format!("deploy {} on {target} as `{tag}`", app.name))
        .stage("look at the hosts", vec![order.step(ClusterState::Usable(order.needs(force)))])
        .stage("give the hosts this program", vec![order.step(ClusterState::Tool)])
        .stage("give the hosts their images", vec![order.step(images)])
        .stage("form the swarm and label its nodes", vec![order.step(ClusterState::Swarm { force })])
        .stage("make the network", vec![order.step(ClusterState::Stack(StackStep::EnsureNetwork(network)))]);
    if !order.stack.shipments.is_empty() {
        let files = ClusterState::Files(order.stack.shipments.clone());
        plan = plan.stage("ship mounted files", vec![order.step(files)]);
    }
    plan
}

/// What `run` does: the services as the stack says, and a wait until a post goes all the way.
///
/// # Errors
/// When a front end publishes no port.
pub fn run(order: &Order<'_>, timeout: Duration) -> Result<Plan> {
    let plan = Plan::new(format!("run {} on {}", order.app.name, order.target));
    with_services(order, plan, timeout)
}

/// What `clean -restart` does: the same services anew and empty.
///
/// # Errors
/// As [`run`].
pub fn restart(order: &Order<'_>, timeout: Duration) -> Result<Plan> {
    let gone = StackStep::EnsureGone { stack: order.stack.name.clone() };
    let plan = Plan::new(format!("restart {} on {}", order.app.name, order.target))
        .stage("end the load", vec![order.step(ClusterState::NoLoad { tag: order.tag.to_owned() })])
        .stage("remove the services", vec![order.step(ClusterState::Stack(gone))]);
    with_services(order, plan, timeout)
}

fn with_services(order: &Order<'_>, mut plan: Plan, timeout: Duration) -> Result<Plan> {
    for (name, steps) in order.stack.stages() {
        let steps = steps.into_iter().map(|step| order.step(ClusterState::Stack(step))).collect();
        plan = plan.stage(name, steps);
    }
    let setup = order.app.services.iter().filter(|service| service.setup);
    let setup = setup.filter_map(|service| order.service(service.name)).map(|spec| spec.name.clone()).collect();
    let sync_file = order
        .app
        .containers
        .sync_file
        .and_then(|(service, file)| order.service(service).map(|spec| (spec.name.clone(), file.to_owned())));
    let ready = Readiness {
        stack: order.stack.name.clone(),
        services: order.stack.services.iter().map(|spec| spec.name.clone()).collect(),
        setup,
        setup_check: order.app.containers.setup_check.iter().map(|word| (*word).to_owned()).collect(),
        sync_file,
        doors: order.doors()?,
        canary: order.app.canary,
        links: Vec::new(),
        timeout,
    };
    Ok(plan.stage("wait until it answers", vec![order.step(ClusterState::Ready(Box::new(ready)))]))
}

/// What `clean` does. Services go before nodes leave; with `strong` also files, images and this program's copies.
pub fn clean(order: &Order<'_>, strong: bool, shipped: &Path) -> Plan {
    let gone = StackStep::EnsureGone { stack: order.stack.name.clone() };
    let folder: PathBuf = shipped.to_owned();
    let plan = Plan::new(format!("clean {} on {}", order.app.name, order.target))
        .stage("end the load", vec![order.step(ClusterState::NoLoad { tag: order.tag.to_owned() })])
        .stage("remove the services", vec![order.step(ClusterState::Stack(gone))])
        .stage("remove the network", vec![order.step(ClusterState::NoNetwork(NETWORK.to_owned()))])
        .stage("dissolve the swarm", vec![order.step(ClusterState::NoSwarm)])
        .stage("remove shipped files", vec![order.step(ClusterState::NoFiles { folder })]);
    if !strong {
        return plan;
    }
    let images = order.stack.images().into_iter().map(str::to_owned).collect();
    plan.stage("remove images", vec![order.step(ClusterState::NoImages { images })])
}
