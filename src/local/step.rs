//! What a plan says about containers of one engine.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use crate::app::Canary;
use crate::compose;

/// States of containers, and of what they need.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerStep {
    /// The engine has an image of this very binary.
    EnsureOwnImage {
        /// Its name.
        image: String,
        /// Make it anew in any case.
        again: bool,
    },
    /// The engine has this public image: it had it, it is pulled, or a stand-in is made.
    EnsurePublicImage {
        /// Its name.
        image: String,
        /// Get it anew in any case.
        again: bool,
    },
    /// The engine has all of these images.
    EnsureImages {
        /// Their names.
        images: Vec<String>,
    },
    /// A network of the project.
    EnsureNetwork {
        /// Its name on the engine.
        name: String,
        /// What the compose file says about it.
        network: compose::Network,
        /// Its labels.
        labels: IndexMap<String, String>,
    },
    /// A volume of the project.
    EnsureVolume {
        /// Its name on the engine.
        name: String,
        /// What the compose file says about it.
        volume: compose::Volume,
        /// Its labels.
        labels: IndexMap<String, String>,
    },
    /// A file with a random password that only its owner may read.
    EnsureSecret {
        /// Where.
        path: PathBuf,
    },
    /// One container runs, as it is described.
    EnsureContainer(Box<ContainerSpec>),
    /// The whole application answers.
    EnsureReady(Box<ReadySpec>),
    /// No other deployment of the app in this root runs.
    EnsureAlone {
        /// The app.
        app: String,
        /// The project that may stay.
        project: String,
        /// The directory of the app's deployments in this root.
        deployments: PathBuf,
    },
    /// Nothing of the project is left on the engine, nor of other deployments of the app in this root.
    EnsureGone {
        /// The app.
        app: String,
        /// The project.
        project: String,
        /// The directory of the app's deployments in this root.
        deployments: PathBuf,
        /// Images that go, too.
        images: Vec<String>,
    },
    /// Nothing is left of what this very run of maestro made of the project.
    TakeBack {
        /// The project.
        project: String,
    },
}

/// One container in full.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// The project it belongs to.
    pub project: String,
    /// Its service.
    pub service: String,
    /// Its name on the engine.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The service; sources of mounts are absolute or names on the engine.
    pub config: compose::Service,
    /// The networks it joins; the first one first.
    pub networks: Vec<NetworkUse>,
    /// All its labels.
    pub labels: IndexMap<String, String>,
    /// What makes it this variant's (`ANTIPODE=1`); for people.
    pub toggled: Option<String>,
    /// Whether one that runs may keep the host ports it has.
    pub any_ports: bool,
    /// Containers that must be further than started before this one is.
    pub needs: Vec<(String, compose::Condition)>,
    /// Longest wait for them.
    pub timeout: Duration,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// The network's name on the engine.
    pub name: String,
    /// The container's names in it.
    pub aliases: Vec<String>,
    /// `container:alias` for others.
    pub links: Vec<String>,
    /// Fixed address.
    pub ipv4_address: Option<String>,
}

/// What has to be seen before an application counts as ready.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadySpec {
    /// The project.
    pub project: String,
    /// Setup jobs, and the command that tells inside their containers whether they are done.
    pub setup: Vec<String>,
    /// That command.
    pub setup_check: Vec<String>,
    /// The service and the file that appears in its container when it is about to serve.
    pub sync_file: Option<(String, String)>,
    /// Service and container port of the origin's front end, the replica's (or the same), and the trace query API.
    pub doors: [(String, u16); 3],
    /// What the front ends must do.
    pub canary: Canary,
    /// Longest wait for all of it.
    pub timeout: Duration,
}

impl fmt::Display for ContainerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContainerStep::EnsureOwnImage { image, .. } => write!(f, "EnsureOwnImage {image} from this program"),
            ContainerStep::EnsurePublicImage { image, .. } => {
                write!(f, "EnsurePublicImage {image}: present, pulled, or made from Debian's packages")
            }
            ContainerStep::EnsureImages { images } => write!(f, "EnsureImages {}", images.join(", ")),
            ContainerStep::EnsureNetwork { name, network, .. } => {
                write!(f, "EnsureNetwork {name} ({})", network.driver.as_deref().unwrap_or("bridge"))
            }
            ContainerStep::EnsureVolume { name, .. } => write!(f, "EnsureVolume {name}"),
            ContainerStep::EnsureSecret { path } => write!(f, "EnsureSecret {} (mode 0600)", path.display()),
            ContainerStep::EnsureContainer(spec) => spec.fmt(f),
            ContainerStep::EnsureReady(ready) => ready.fmt(f),
            ContainerStep::EnsureAlone { deployments, .. } => {
                write!(f, "EnsureAlone among the deployments in {}", deployments.display())
            }
            ContainerStep::EnsureGone { project, images, .. } => {
                write!(f, "EnsureGone containers, networks and volumes of {project}")?;
                if images.is_empty() { Ok(()) } else { write!(f, "; images made here of {}", images.join(", ")) }
            }
            ContainerStep::TakeBack { project } => write!(f, "TakeBack what this run made of {project}"),
        }
    }
}

impl fmt::Display for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnsureContainer {} from {}", self.service, self.image)?;
        for port in &self.config.ports {
            let host = port.published.map_or_else(|| "any".to_owned(), |port| port.to_string());
            // The usual address is not worth a word.
            let at = port
                .host_ip
                .as_deref()
                .filter(|ip| *ip != super::LOOPBACK)
                .map(|ip| format!("{ip}:"))
                .unwrap_or_default();
            write!(f, ", {at}{host} -> {}/{}", port.target, port.protocol.as_str())?;
        }
        if let Some(toggled) = &self.toggled {
            write!(f, ", {toggled}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ReadySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnsureReady within {} s: all run", self.timeout.as_secs_f64())?;
        for job in &self.setup {
            write!(f, "; {job} is done")?;
        }
        if let Some((service, path)) = &self.sync_file {
            write!(f, "; {path} in {service}")?;
        }
        let [(origin, _), (replica, _), _] = &self.doors;
        write!(f, "; {}", self.canary.promise(origin, replica))
    }
}
