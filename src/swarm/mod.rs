//! From a compose file to the services of a Docker swarm, as `docker stack deploy` would make them. Pure: the app, its
//! file, a placement and a variant go in; a [`Stack`] comes out, complete and checked, before any engine is asked.
//!
//! ```text
//! (App, compose::File, Placement, Variant) ──rewrite──> compose::File ──spec──> Stack
//! ```
//! The rewritten file can also be written out: `docker stack deploy -c` makes the same services of it.

mod checks;
mod rewrite;
mod spec;
mod step;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::app::App;
use crate::compose::{
    EndpointMode, File, Healthcheck, Logging, Placement as TaskPlacement, Port, PublishMode, Resources, RestartPolicy,
    Rollout, Ulimit,
};
use crate::error::{Exit, Fault};
use crate::experiment::Variant;
use crate::placement::Placement;

pub use rewrite::rewrite;
pub use step::StackStep;

/// Label that names the stack on everything that belongs to it; `docker stack` commands look for it.
pub const NAMESPACE: &str = "com.docker.stack.namespace";

/// Label with the image as written, as `docker stack deploy` sets it.
pub const IMAGE: &str = "com.docker.stack.image";

/// Label of swarm nodes: which logical node of the placement a machine plays.
pub const NODE_LABEL: &str = "maestro.node";

/// A stack that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwarmError {
    /// The compose file and the placement do not hold the same services.
    #[error("{}", mismatch(.file, .placement, .unplaced, .unknown))]
    Mismatch {
        /// The compose file.
        file: String,
        /// The placement.
        placement: String,
        /// Services of the file without a node.
        unplaced: Vec<String>,
        /// Services of the placement that the file does not have.
        unknown: Vec<String>,
    },
    /// The variant is set on a service that the file does not have.
    #[error("the variant's `{variable}` belongs to {}, which `{file}` does not have", .services.join(", "))]
    Toggle {
        /// The compose file.
        file: String,
        /// The environment variable.
        variable: &'static str,
        /// The services.
        services: Vec<String>,
    },
    /// Services that ask for what a swarm cannot give.
    #[error("{}", .0.join("; "))]
    Impossible(Vec<String>),
}

impl Fault for SwarmError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            SwarmError::Mismatch { .. } => Some("make the placement's `services:` and the compose file agree".into()),
            _ => None,
        }
    }
}

fn mismatch(file: &str, placement: &str, unplaced: &[String], unknown: &[String]) -> String {
    let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !unplaced.is_empty() {
        parts.push(format!("`{placement}` does not place {} of `{file}`", quoted(unplaced)));
    }
    if !unknown.is_empty() {
        parts.push(format!("`{placement}` places {}, which `{file}` does not have", quoted(unknown)));
    }
    parts.join("; ")
}

/// By what a service is tied to its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tie {
    /// `node.labels.maestro.node == <logical node>`: the deployment labels the nodes.
    #[default]
    Label,
    /// `node.hostname == <host name>`, as the Python tool did.
    Hostname,
}

/// Where bind mounts come from on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binds {
    /// From the same absolute path as on this machine.
    #[default]
    Here,
    /// The compose file's folder is shipped to this folder of the nodes; what lies below it is mounted from there.
    Shipped(PathBuf),
}

/// What the file, the placement and the variant leave open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The stack's name.
    pub stack: String,
    /// The attachable overlay network, made before the services, that every service joins.
    pub network: String,
    /// Baseline or antipode.
    pub variant: Variant,
    /// How service names resolve; before what the placement and the file say.
    pub endpoint_mode: Option<EndpointMode>,
    /// How ports are published; before what the placement says.
    pub publish: Option<PublishMode>,
    /// By what a service is tied to its node.
    pub tie: Tie,
    /// Where bind mounts come from.
    pub binds: Binds,
    /// Labels of everything, beside the stack's own.
    pub labels: BTreeMap<String, String>,
}

impl Options {
    /// The options of a stack called `stack` on `network` with everything else as usual.
    pub fn new(stack: impl Into<String>, network: impl Into<String>, variant: Variant) -> Self {
        Options {
            stack: stack.into(),
            network: network.into(),
            variant,
            endpoint_mode: None,
            publish: None,
            tie: Tie::default(),
            binds: Binds::default(),
            labels: BTreeMap::new(),
        }
    }
}

/// What a stack is made from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The app.
    pub app: &'a App,
    /// Its compose file.
    pub file: &'a File,
    /// The compose file as messages name it.
    pub file_name: &'a str,
    /// The placement.
    pub placement: &'a Placement,
    /// The rest.
    pub options: &'a Options,
    /// Reads a file of this machine that a config or secret is made from; the error is one fragment.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>, String>,
}

/// Everything that the engine is to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// Networks to be made first.
    pub networks: Vec<NetworkSpec>,
    /// Configs to be made before the services.
    pub configs: Vec<FileSpec>,
    /// Secrets to be made before the services.
    pub secrets: Vec<FileSpec>,
    /// The services, in the file's order.
    pub services: Vec<ServiceSpec>,
    /// Files and folders that must be on nodes before tasks can start there.
    pub shipments: Vec<Shipment>,
    /// What the file says and a swarm does not do.
    pub notes: Vec<String>,
}

/// An overlay network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name on the engine.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// Its options.
    pub driver_opts: IndexMap<String, String>,
    /// Containers outside the swarm may join.
    pub attachable: bool,
    /// No way out.
    pub internal: bool,
    /// Address ranges (CIDR) with their gateway.
    pub subnets: Vec<(String, Option<String>)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A config or a secret. Its name ends in a digest of its content, because neither can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSpec {
    /// Its name on the engine.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A file or folder that bind mounts need on nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// Where it is on this machine.
    pub source: PathBuf,
    /// Where it must be on the nodes.
    pub target: PathBuf,
    /// The logical nodes whose services need it.
    pub nodes: Vec<String>,
}

/// One service as the engine is to have it: complete, so that it can be sent again as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceSpec {
    /// Its full name (`<stack>_<service>`).
    pub name: String,
    /// Its short name.
    pub service: String,
    /// The logical node that it is tied to; empty for one that runs everywhere.
    pub node: String,
    /// Labels of the service.
    pub labels: BTreeMap<String, String>,
    /// Its containers.
    pub container: ContainerSpec,
    /// Limits and reservations.
    pub resources: Resources,
    /// When a task is started again; the engine's default (always) when absent.
    pub restart: Option<RestartPolicy>,
    /// Constraints and preferences.
    pub placement: TaskPlacement,
    /// The networks it joins.
    pub networks: Vec<NetworkUse>,
    /// Where output goes.
    pub log: Option<Logging>,
    /// One task on every node.
    pub global: bool,
    /// Tasks, unless global.
    pub replicas: u64,
    /// How a change is rolled out.
    pub update: Option<Rollout>,
    /// How it is rolled back.
    pub rollback: Option<Rollout>,
    /// How its name resolves.
    pub endpoint_mode: Option<EndpointMode>,
    /// Its ports; every one has a mode.
    pub ports: Vec<Port>,
}

/// A service's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// The network's name on the engine.
    pub network: String,
    /// Names of the service there.
    pub aliases: Vec<String>,
}

/// The containers of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSpec {
    /// The image.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The entry point (`entrypoint:`).
    pub command: Option<Vec<String>>,
    /// Its arguments (`command:`).
    pub args: Option<Vec<String>>,
    /// Host name.
    pub hostname: Option<String>,
    /// `K=V`, sorted.
    pub env: Vec<String>,
    /// Working directory.
    pub dir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Mounts.
    pub mounts: Vec<SpecMount>,
    /// Configs.
    pub configs: Vec<FileUse>,
    /// Secrets.
    pub secrets: Vec<FileUse>,
    /// Signal that ends it.
    pub stop_signal: Option<String>,
    /// Time it is given to end.
    pub stop_grace_period: Option<std::time::Duration>,
    /// Health check.
    pub healthcheck: Option<Healthcheck>,
    /// Further lines of `/etc/hosts`: `address name`.
    pub hosts: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// An init process.
    pub init: Option<bool>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities more.
    pub cap_add: Vec<String>,
    /// Capabilities less.
    pub cap_drop: Vec<String>,
    /// Limits of its processes.
    pub ulimits: IndexMap<String, Ulimit>,
    /// No writing to its own file system.
    pub read_only: bool,
    /// A terminal.
    pub tty: bool,
    /// Standard input stays open.
    pub open_stdin: bool,
}

/// A mount as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecMount {
    /// What is mounted.
    pub kind: SpecMountKind,
    /// Where.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
}

/// Kinds of mounts of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecMountKind {
    /// A file or folder of the node.
    Bind {
        /// Absolute path on the node.
        source: PathBuf,
        /// `rprivate`, ...
        propagation: Option<String>,
    },
    /// A volume of the node, made when the first task needs it.
    Volume {
        /// Its name on the engine; anonymous when absent.
        name: Option<String>,
        /// Not filled from the image.
        no_copy: bool,
        /// The driver; the engine's default when absent.
        driver: Option<String>,
        /// The driver's options.
        driver_opts: IndexMap<String, String>,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Permissions.
        mode: Option<u32>,
    },
}

/// A config or secret in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// Its name on the engine.
    pub name: String,
    /// Where it appears.
    pub target: String,
    /// Owner.
    pub uid: String,
    /// Group.
    pub gid: String,
    /// Permissions.
    pub mode: u32,
}

/// The stack of `input`.
///
/// # Errors
/// [`SwarmError`]: the file and the placement differ, the variant names services that are not there, ports collide,
/// configs cannot be read.
pub fn stack(input: &Input<'_>) -> Result<Stack, SwarmError> {
    let file = rewrite(input)?;
    let stack = spec::stack(input, &file)?;
    checks::ports(&stack)?;
    Ok(stack)
}

impl Stack {
    /// Tasks that run when everything runs, setup jobs of `app` left out: what readiness counts.
    pub fn expected_tasks(&self, app: &App) -> u64 {
        let setup = |spec: &&ServiceSpec| app.services.iter().any(|s| s.setup && s.name == spec.service);
        self.services.iter().filter(|spec| !setup(spec)).map(|spec| if spec.global { 1 } else { spec.replicas }).sum()
    }

    /// The images that the services run from, each once.
    pub fn images(&self) -> Vec<&str> {
        let mut images: Vec<&str> = Vec::new();
        for spec in &self.services {
            if !images.contains(&spec.container.image.as_str()) {
                images.push(&spec.container.image);
            }
        }
        images
    }
}

impl std::fmt::Display for ServiceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.name, self.container.image)?;
        if !self.node.is_empty() {
            write!(f, " on {}", self.node)?;
        }
        if self.global {
            write!(f, " (every node)")?;
        } else if self.replicas != 1 {
            write!(f, " x{}", self.replicas)?;
        }
        for port in &self.ports {
            let mode = if port.mode == Some(PublishMode::Host) { "host" } else { "ingress" };
            let published = port.published.map_or_else(|| "any".to_owned(), |port| port.to_string());
            write!(f, ", {published}->{}/{} ({mode})", port.target, port.protocol.as_str())?;
        }
        Ok(())
    }
}
