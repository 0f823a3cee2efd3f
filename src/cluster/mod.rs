//! A swarm on hosts reached over SSH, as plans: what `deploy`, `run`, a restart and `clean` ensure there. Pure; shared by
//! every target whose services run as a swarm. `execute/cluster` acts on it.

mod plan;
mod step;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::Canary;
use crate::inventory::Inventory;
use crate::swarm::{Shipment, StackStep};

pub use plan::{Order, clean, deploy, restart, run};

/// Label of everything that maestro makes on engines and swarms; its value is [`MAESTRO`].
pub const TOOL: &str = "dev.maestro.tool";
/// The value of [`TOOL`].
pub const MAESTRO: &str = "maestro";
/// Label of the deployment's tag.
pub const TAG: &str = "dev.maestro.tag";
/// Label of the app.
pub const APP: &str = "dev.maestro.app";
/// Label of a node that maestro brought into a swarm: `clean` takes it out again.
pub const JOINED: &str = "dev.maestro.joined";

/// The stack's name, as the Python tool called it.
pub const STACK: &str = "deathstarbench";
/// The overlay network that every service joins, and containers may.
pub const NETWORK: &str = "deathstarbench_network";
/// TCP port of the swarm's managers.
pub const SWARM_PORT: u16 = 2377;

/// Folder of the hosts below which shipped files lie, one folder per deployment.
pub const SHIPPED: &str = "/var/tmp/maestro";

/// One state of a cluster to ensure.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterStep {
    /// The hosts.
    pub inventory: Arc<Inventory>,
    /// The state.
    pub state: ClusterState,
}

/// States of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterState {
    /// Every host can be reached and used.
    Usable(Needs),
    /// Every host has a copy of this program.
    Tool,
    /// Hosts have the images that their services run from.
    Images {
        /// The images.
        images: Vec<ImageUse>,
        /// Where archives of images are kept on this machine.
        cache: PathBuf,
    },
    /// The hosts are one swarm, and each carries the labels of its logical nodes.
    Swarm {
        /// Take over, and leave, swarms that maestro did not form.
        force: bool,
    },
    /// Files lie where services mount them.
    Files(Vec<Shipment>),
    /// A state of the stack, on the manager.
    Stack(StackStep),
    /// The application answers.
    Ready(Box<Readiness>),
    /// No load of the deployment is being sent from the clients.
    NoLoad {
        /// The deployment's tag.
        tag: String,
    },
    /// The overlay network is gone.
    NoNetwork(String),
    /// The hosts have left the swarm that maestro formed.
    NoSwarm,
    /// Shipped files of the deployment are gone from the hosts.
    NoFiles {
        /// Their folder.
        folder: PathBuf,
    },
    /// Images and the program's copies are gone from the hosts.
    NoImages {
        /// The images' names.
        images: Vec<String>,
    },
}

/// What the hosts must offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Ports that services publish on single hosts: host, port, protocol, service.
    pub ports: Vec<PortUse>,
    /// Names resolve to virtual addresses, or ports go through the routing mesh: the kernel must have IPVS.
    pub virtual_addresses: bool,
    /// Architecture of this program, in the words of `uname -m`.
    pub machine: String,
    /// Go on in spite of what is doubtful.
    pub force: bool,
}

/// A port that a host must have free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// The host; empty for every one.
    pub host: String,
    /// The port.
    pub port: u16,
    /// UDP instead of TCP.
    pub udp: bool,
    /// Who wants it.
    pub service: String,
}

/// An image and the hosts that need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// Its name with tag.
    pub name: String,
    /// Hosts whose services run from it.
    pub hosts: Vec<String>,
}

/// What has to be seen before an application counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The stack.
    pub stack: String,
    /// Full names of the services that must run, setup jobs included.
    pub services: Vec<String>,
    /// Full names of setup jobs, and the command that tells inside their containers whether they are done.
    pub setup: Vec<String>,
    /// That command.
    pub setup_check: Vec<String>,
    /// Full name of a service, and the file that appears in its container when it is about to serve.
    pub sync_file: Option<(String, String)>,
    /// The front ends and the trace query API.
    pub doors: Doors,
    /// What the front ends must do.
    pub canary: Canary,
    /// Other addresses worth showing: name, host, port.
    pub links: Vec<(String, String, u16)>,
    /// Longest wait.
    pub timeout: Duration,
}

/// Where an application is reached: host and published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doors {
    /// The origin's front end.
    pub origin: (String, u16),
    /// The replica's front end; the only one again where there is none.
    pub replica: (String, u16),
    /// The trace query API.
    pub jaeger: (String, u16),
}

/// What deploying found out about the hosts: written into the deployment's record, read by every later command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The hosts and how they are reached.
    pub inventory: Inventory,
    /// What is known about each, in the inventory's order.
    pub hosts: Vec<HostFacts>,
    /// SHA-256 of this program's copies there, hex; empty where they could not be used.
    #[serde(default)]
    pub tool: String,
    /// Images and their ids.
    #[serde(default)]
    pub images: Vec<(String, String)>,
}

/// What is known about a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name in the inventory.
    pub name: String,
    /// Its address among the hosts.
    pub address: String,
    /// The name its operating system has.
    pub hostname: String,
    /// Architecture (`x86_64`).
    pub machine: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Logical CPUs.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Clock source.
    pub clock_source: String,
    /// Whether the kernel says that its clock is synchronised.
    pub clock_synchronised: bool,
    /// Docker engine version.
    pub engine: String,
    /// Its node's id in the swarm.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The engine is reached through sudo.
    #[serde(default)]
    pub sudo: bool,
}

impl Facts {
    /// What is known about the host called `name`.
    pub fn host(&self, name: &str) -> Option<&HostFacts> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The address of a host among the hosts; its name when nothing is known.
    pub fn address<'a>(&'a self, name: &'a str) -> &'a str {
        self.host(name).map_or(name, |host| host.address.as_str())
    }
}
