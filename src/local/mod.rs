//! From a compose file to containers of one engine, as a plan: names, labels, order, the variant's environment, ports.
//!
//! Pure. The labels are those of Docker Compose, so that `docker compose ls`, `ps` and `logs` show the deployment, and
//! maestro's own ([`TOOL`], [`DEPLOYMENT`]), by which `clean` finds what it may remove.

mod step;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::app::{App, Canary, Door};
use crate::compose::{self, MountKind, Port};
use crate::error::{Exit, Fault};
use crate::experiment::Variant;
use crate::plan::{Plan, Step};

pub use step::{ContainerSpec, ContainerStep, NetworkUse, ReadySpec};

/// Label of everything that maestro makes on an engine; its value is `maestro`.
pub const TOOL: &str = "dev.maestro.tool";
/// Label with the project that a thing belongs to.
pub const DEPLOYMENT: &str = "dev.maestro.deployment";
/// Label of a helper that delays a service's traffic; its value is the project that it belongs to.
pub const DELAY: &str = "dev.maestro.delay";
/// The image of such a helper, without its tag: each build of this program has its own, named after its content.
pub const HELPER_IMAGE: &str = "maestro-delay";
/// Label with the app's name.
pub const APP: &str = "dev.maestro.app";
/// Label with the deployment's tag.
pub const TAG: &str = "dev.maestro.tag";
/// Compose's label for the service.
pub const SERVICE: &str = "com.docker.compose.service";
/// Compose's label for the directory of the project, here the deployment's.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// Compose's label for the description's hash.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";

/// Why a compose file cannot become containers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalPlanError {
    /// The app needs services that the file does not have.
    #[error("the compose file of `{app}` has no service {}", names(.missing))]
    Missing {
        /// The app.
        app: String,
        /// The services.
        missing: Vec<String>,
    },
    /// A service has nothing to run.
    #[error("service `{0}` has no image")]
    NoImage(String),
    /// Services wait for each other.
    #[error("{0}")]
    Circle(String),
    /// `--ports` cannot be understood.
    #[error("cannot use ports `{0}`")]
    Ports(String),
    /// `--ports` names more or fewer than the app has doors.
    #[error("`{app}` has {} ({}), and {given} ports are given", crate::ui::count(.doors.len(), "door"), names(.doors))]
    Doors {
        /// The app.
        app: String,
        /// The services that are its doors.
        doors: Vec<String>,
        /// How many ports were given.
        given: usize,
    },
}

impl Fault for LocalPlanError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            LocalPlanError::Ports(_) => {
                Some("give the ports of the front ends and the trace API (`8080,8082,16686`), or `auto`".into())
            }
            LocalPlanError::Doors { .. } => Some("give one port for each of them, or `auto`".into()),
            _ => None,
        }
    }
}

fn names(list: &[String]) -> String {
    list.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A deployment as compose sees it.
#[derive(Clone, Copy, Debug)]
pub struct Project<'a> {
    /// Its name: lower-case letters, digits, `-` and `_`.
    pub name: &'a str,
    /// The app.
    pub app: &'static App,
    /// The deployment's tag.
    pub tag: &'a str,
    /// The deployment's directory, absolute.
    pub dir: &'a Path,
}

/// Where ports are published that only this machine is to reach.
pub(crate) const LOOPBACK: &str = "127.0.0.1";

/// The project of the deployment `tag` of `app`; `uid` tells it from one of the same tag in another root.
pub fn project_name(app: &str, tag: &str, uid: &str) -> String {
    let parts = [app, tag, uid].into_iter().filter(|part| !part.is_empty());
    let name = parts.collect::<Vec<_>>().join("-").to_lowercase();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// The ports of the front ends and of the trace API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// As in the compose file.
    #[default]
    AsWritten,
    /// Any free ones, for everything that is published.
    Auto,
    /// These, for the front ends (the origin's first) and the trace API.
    Given(Vec<u16>),
}

impl Ports {
    /// Reads `auto` or `8080,8082,16686`.
    ///
    /// # Errors
    /// [`LocalPlanError::Ports`].
    pub fn parse(text: Option<&str>) -> Result<Self, LocalPlanError> {
        let Some(text) = text else { return Ok(Ports::AsWritten) };
        if text == "auto" {
            return Ok(Ports::Auto);
        }
        let bad = || LocalPlanError::Ports(text.to_owned());
        let given: Vec<u16> =
            text.split(',').map(|port| port.trim().parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
        let different: BTreeSet<u16> = given.iter().copied().collect();
        let fits = (2..=3).contains(&given.len()) && different.len() == given.len() && !given.contains(&0);
        if fits { Ok(Ports::Given(given)) } else { Err(bad()) }
    }
}

/// What `run` is to bring about.
#[derive(Clone, Debug)]
pub struct RunOrder {
    /// Baseline or antipode.
    pub variant: Variant,
    /// Ports of the doors.
    pub ports: Ports,
    /// Ports for which the file names no address are published on all of them, not on the loopback only.
    pub open: bool,
    /// Longest wait for readiness.
    pub timeout: Duration,
}

/// The plan that makes sure of the images of an app whose service `own` runs this very binary.
pub fn build(app: &App, file: &compose::File, own: &str, again: bool) -> Plan {
    let own = file.services.get(own).and_then(|service| service.image.as_deref());
    let ensure = |image: &&str| {
        let (image, is_own) = ((*image).to_owned(), own == Some(*image));
        step(if is_own {
            ContainerStep::EnsureOwnImage { image, again }
        } else {
            ContainerStep::EnsurePublicImage { image, again }
        })
    };
    let steps = file.images().iter().map(ensure).collect();
    Plan::new(format!("build the images of {}", app.name)).stage("have the images", steps)
}

/// Refuses a file that lacks services of the app.
///
/// # Errors
/// [`LocalPlanError::Missing`] with all of them.
pub fn check(app: &App, file: &compose::File) -> Result<(), LocalPlanError> {
    let absent = |name: &&str| !file.services.contains_key(*name);
    let missing: Vec<String> = app.services.iter().map(|s| s.name).filter(absent).map(str::to_owned).collect();
    if missing.is_empty() { Ok(()) } else { Err(LocalPlanError::Missing { app: app.name.to_owned(), missing }) }
}

/// `file` with every path of this machine absolute, so that it means the same in another directory.
pub fn rooted(file: &compose::File) -> compose::File {
    let mut rooted = file.clone();
    for service in rooted.services.values_mut() {
        for mount in &mut service.mounts {
            if let MountKind::Bind { source, .. } = &mut mount.kind {
                *source = file.host_path(source).display().to_string();
            }
        }
        if let Some(build) = &mut service.build {
            build.context = file.host_path(&build.context).display().to_string();
        }
    }
    for object in rooted.configs.values_mut().chain(rooted.secrets.values_mut()) {
        if let Some(source) = &mut object.file {
            *source = file.host_path(source).display().to_string();
        }
    }
    rooted
}

/// The plan that starts the services of `file` in dependency order and waits until they answer.
///
/// # Errors
/// [`LocalPlanError`].
pub fn run(project: &Project<'_>, file: &compose::File, order: &RunOrder) -> Result<Plan, LocalPlanError> {
    let mut file = rooted(file);
    file.services.retain(|_, service| service.profiles.is_empty() && service.deploy.replicas != Some(0));
    set_variant(project.app, &mut file, order.variant)?;
    set_ports(project.app, &mut file, &order.ports)?;
    if !order.open {
        close(&mut file);
    }
    let images = file.images().into_iter().map(str::to_owned).collect();
    let title = format!("run {} ({}) on local", project.app.name, order.variant);
    let alone = ContainerStep::EnsureAlone {
        app: project.app.name.to_owned(),
        project: project.name.to_owned(),
        deployments: project.dir.parent().unwrap_or(project.dir).to_owned(),
    };
    let mut plan = Plan::new(title)
        .stage("have the images", vec![step(ContainerStep::EnsureImages { images })])
        .stage("end other deployments of this root", vec![step(alone)]);
    plan = plan.stage("make networks and volumes", places(project, &file));
    let waves = file.waves().map_err(LocalPlanError::Circle)?;
    let all = waves.len();
    for (index, wave) in waves.into_iter().enumerate() {
        let started: Result<Vec<Step>, _> =
            wave.iter().map(|service| container(project, &file, service, order)).collect();
        plan = plan.stage(format!("start wave {} of {all}", index + 1), started?);
    }
    let ready = ContainerStep::EnsureReady(Box::new(readiness(project, &file, order)));
    let until = match project.app.canary {
        Canary::Post => "wait until a canary post is visible in the replica",
        Canary::Reads(_) => "wait until the front end answers",
    };
    Ok(plan.stage(until, vec![step(ready)]))
}

fn step(step: ContainerStep) -> Step {
    Step::Container(step)
}

fn set_variant(app: &App, file: &mut compose::File, variant: Variant) -> Result<(), LocalPlanError> {
    for (name, service) in &mut file.services {
        if let Some((variable, value)) = app.toggled(name, variant) {
            service.environment.insert(variable.to_owned(), Some(value.to_owned()));
        }
    }
    let wanted = app.toggle.map_or(&[][..], |toggle| toggle.services);
    let absent = wanted.iter().filter(|name| !file.services.contains_key(**name));
    let missing: Vec<String> = absent.map(|name| (*name).to_owned()).collect();
    if missing.is_empty() { Ok(()) } else { Err(LocalPlanError::Missing { app: app.name.to_owned(), missing }) }
}

/// The front ends, the origin's first, and the trace API.
fn doors(app: &App) -> Vec<Door> {
    [Some(app.origin), app.replica, Some(app.jaeger)].into_iter().flatten().collect()
}

/// The published port of a service that is a door: the one with the door's number, else its first.
fn door_port<'a>(ports: &'a mut [Port], door: &Door) -> Option<&'a mut Port> {
    let at = ports.iter().position(|port| port.published == Some(door.port)).unwrap_or(0);
    ports.get_mut(at)
}

fn set_ports(app: &App, file: &mut compose::File, ports: &Ports) -> Result<(), LocalPlanError> {
    match ports {
        Ports::AsWritten => {}
        Ports::Auto => {
            for port in file.services.values_mut().flat_map(|service| &mut service.ports) {
                port.published = None;
            }
        }
        Ports::Given(given) => {
            let doors = doors(app);
            if doors.len() != given.len() {
                let services = doors.iter().map(|door| door.service.to_owned()).collect();
                return Err(LocalPlanError::Doors { app: app.name.to_owned(), doors: services, given: given.len() });
            }
            for (door, wanted) in doors.iter().zip(given) {
                let service = file.services.get_mut(door.service);
                if let Some(port) = service.and_then(|service| door_port(&mut service.ports, door)) {
                    port.published = Some(*wanted);
                }
            }
        }
    }
    Ok(())
}

/// The stores and brokers of an application have no passwords, or known ones: nobody else is to reach them by accident.
fn close(file: &mut compose::File) {
    for port in file.services.values_mut().flat_map(|service| &mut service.ports) {
        port.host_ip.get_or_insert_with(|| LOOPBACK.to_owned());
    }
}

/// Labels of everything that belongs to the project.
fn labels(project: &Project<'_>) -> IndexMap<String, String> {
    let labels = [
        (TOOL, "maestro"),
        (DEPLOYMENT, project.name),
        (APP, project.app.name),
        (TAG, project.tag),
        ("com.docker.compose.project", project.name),
    ];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn network_name(project: &Project<'_>, file: &compose::File, short: &str) -> String {
    match file.networks.get(short) {
        Some(compose::Network { name: Some(name), .. }) => name.clone(),
        Some(network) if network.external => short.to_owned(),
        _ => format!("{}_{short}", project.name),
    }
}

fn volume_name(project: &Project<'_>, file: &compose::File, short: &str) -> String {
    match file.volumes.get(short) {
        Some(compose::Volume { name: Some(name), .. }) => name.clone(),
        Some(volume) if volume.external => short.to_owned(),
        _ => format!("{}_{short}", project.name),
    }
}

/// The networks of a service by their short names.
fn network_keys(service: &compose::Service) -> Vec<&str> {
    match (&service.network_mode, service.networks.is_empty()) {
        (Some(_), _) => Vec::new(),
        (None, true) => vec!["default"],
        (None, false) => service.networks.keys().map(String::as_str).collect(),
    }
}

/// Networks and volumes that the services use and that nobody else makes.
fn places(project: &Project<'_>, file: &compose::File) -> Vec<Step> {
    let used: BTreeSet<&str> = file.services.values().flat_map(network_keys).collect();
    let mut steps = Vec::new();
    for short in used {
        let network = file.networks.get(short).cloned().unwrap_or_default();
        if network.external {
            continue;
        }
        let mut labels = labels(project);
        labels.insert("com.docker.compose.network".into(), short.into());
        labels.extend(network.labels.clone());
        steps.push(step(ContainerStep::EnsureNetwork { name: network_name(project, file, short), network, labels }));
    }
    for (short, volume) in file.volumes.iter().filter(|(_, volume)| !volume.external) {
        let mut labels = labels(project);
        labels.insert("com.docker.compose.volume".into(), short.clone());
        labels.extend(volume.labels.clone());
        let name = volume_name(project, file, short);
        steps.push(step(ContainerStep::EnsureVolume { name, volume: volume.clone(), labels }));
    }
    steps
}

fn container_name(project: &Project<'_>, file: &compose::File, service: &str) -> String {
    let given = file.services.get(service).and_then(|service| service.container_name.clone());
    given.unwrap_or_else(|| format!("{}-{service}-1", project.name))
}

fn container(
    project: &Project<'_>,
    file: &compose::File,
    name: &str,
    order: &RunOrder,
) -> Result<Step, LocalPlanError> {
    let no_image = || LocalPlanError::NoImage(name.to_owned());
    let mut config = file.services.get(name).cloned().ok_or_else(no_image)?;
    let image = config.image.clone().ok_or_else(no_image)?;
    for mount in &mut config.mounts {
        if let MountKind::Volume { name: Some(short), .. } = &mut mount.kind {
            *short = volume_name(project, file, short);
        }
    }
    if let Some(other) = config.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:")) {
        config.network_mode = Some(format!("container:{}", container_name(project, file, other)));
    }
    config.mounts.extend(file_mounts(file, &config));
    let networks = networks(project, file, name, &config);
    let needs = config.depends_on.iter().filter(|(_, condition)| **condition != compose::Condition::Started);
    let needs = needs.map(|(other, condition)| (container_name(project, file, other), *condition)).collect();
    let hash = config_hash(&config, &networks);
    let spec = ContainerSpec {
        project: project.name.to_owned(),
        service: name.to_owned(),
        name: container_name(project, file, name),
        image,
        labels: container_labels(project, name, &config, hash),
        config,
        networks,
        toggled: project.app.toggled(name, order.variant).map(|(variable, value)| format!("{variable}={value}")),
        any_ports: !matches!(order.ports, Ports::Given(_)),
        needs,
        timeout: order.timeout,
    };
    Ok(step(ContainerStep::EnsureContainer(Box::new(spec))))
}

/// Hash of everything that makes a container another one, its host ports and their addresses aside.
fn config_hash(config: &compose::Service, networks: &[NetworkUse]) -> String {
    let mut config = config.clone();
    for port in &mut config.ports {
        (port.published, port.host_ip) = (None, None);
    }
    hex(&Sha256::digest(format!("{config:?} {networks:?}")))
}

fn container_labels(
    project: &Project<'_>,
    name: &str,
    config: &compose::Service,
    hash: String,
) -> IndexMap<String, String> {
    let mut labels = labels(project);
    labels.extend(config.labels.clone());
    let depends = config.depends_on.keys().map(|other| format!("{other}:service_started:false"));
    let own = [
        (SERVICE, name.to_owned()),
        ("com.docker.compose.container-number", "1".into()),
        ("com.docker.compose.oneoff", "False".into()),
        (CONFIG_HASH, hash),
        ("com.docker.compose.depends_on", depends.collect::<Vec<_>>().join(",")),
        (WORKING_DIR, project.dir.display().to_string()),
        ("com.docker.compose.project.config_files", project.dir.join("docker-compose.yml").display().to_string()),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value)));
    labels
}

fn networks(project: &Project<'_>, file: &compose::File, name: &str, config: &compose::Service) -> Vec<NetworkUse> {
    let links: Vec<String> = config
        .links
        .iter()
        .filter(|(service, alias)| service != alias)
        .map(|(service, alias)| format!("{}:{alias}", container_name(project, file, service)))
        .collect();
    let one = |short: &str| {
        let attachment = config.networks.get(short).cloned().unwrap_or_default();
        let mut aliases = vec![name.to_owned()];
        aliases.extend(attachment.aliases.into_iter().filter(|alias| alias != name));
        let name = network_name(project, file, short);
        NetworkUse { name, aliases, links: links.clone(), ipv4_address: attachment.ipv4_address }
    };
    network_keys(config).into_iter().map(one).collect()
}

/// Configs and secrets that are files of this machine, as read-only mounts.
fn file_mounts(file: &compose::File, config: &compose::Service) -> Vec<compose::Mount> {
    let mount = |source: &str, target: String| compose::Mount {
        kind: MountKind::Bind { source: source.to_owned(), propagation: None },
        target,
        read_only: true,
    };
    let mut mounts = Vec::new();
    for (objects, uses, dir) in [(&file.configs, &config.configs, ""), (&file.secrets, &config.secrets, "/run/secrets")]
    {
        for used in uses {
            let source = objects.get(&used.source).and_then(|object| object.file.as_deref());
            let target = used.target.clone().unwrap_or_else(|| format!("{dir}/{}", used.source));
            mounts.extend(source.map(|source| mount(source, target)));
        }
    }
    mounts
}

fn readiness(project: &Project<'_>, file: &compose::File, order: &RunOrder) -> ReadySpec {
    let app = project.app;
    let inner = |door: &Door| {
        let mut ports = file.services.get(door.service).map(|service| service.ports.clone()).unwrap_or_default();
        let port = door_port(&mut ports, door).map_or(door.port, |port| port.target);
        (door.service.to_owned(), port)
    };
    ReadySpec {
        project: project.name.to_owned(),
        setup: app.services.iter().filter(|service| service.setup).map(|service| service.name.to_owned()).collect(),
        setup_check: app.containers.setup_check.iter().map(|&word| word.to_owned()).collect(),
        sync_file: app.containers.sync_file.map(|(service, path)| (service.to_owned(), path.to_owned())),
        doors: [app.origin, app.readers_door(), app.jaeger].each_ref().map(inner),
        canary: app.canary,
        timeout: order.timeout,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
