//! One Docker engine, reached over a Unix socket, TCP, or any stream that a connector gives (an SSH channel).
//!
//! [`Engine`] is a thin wrapper around bollard: it names what it was doing in every error, classifies what can go
//! wrong into [`DockerError`], and never sends back a specification that it read from the engine (bollard drops
//! what it does not know, health checks among it; our own specs are the source of truth).

pub mod build;
pub mod bundle;
mod containers;
mod error;
pub mod feed;
mod files;
mod images;
mod networks;
mod pull;
mod push;
mod services;
pub mod spec;
pub mod stack;
mod swarm;
mod transport;

use std::time::Duration;

use bollard::Docker;
use bollard::models::{SystemInfo, SystemVersion};

pub use containers::{ContainerState, ExecOutput, LogLine, LogRequest, Stream};
pub use error::DockerError;
pub(crate) use images::split_tag;
pub use images::{BuildEvent, BuildImage, ImageFacts, LayerProgress, RemoteImage};
pub use networks::NetworkFacts;
pub use push::Login;
pub use services::{ServiceCounts, TaskFacts};
pub use swarm::{JoinTokens, NodeFacts, SwarmFacts};
pub use transport::{Dial, Wire, dial};

/// Engine API versions below this lack what the swarm and build calls need (Docker 20.10 speaks 1.41).
const MINIMUM_API: (usize, usize) = (1, 40);

/// Longest wait for the head of an answer; streams (logs, builds) may then go on for as long as they like.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Longest wait for the head of an answer that comes only after a large upload.
const UPLOAD_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// A connection to one engine. Clones share the connection pool.
#[derive(Clone)]
pub struct Engine {
    api: Docker,
    address: String,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.address)
    }
}

/// Facts about an engine that decide whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFacts {
    /// Version of the engine (`20.10.24`).
    pub version: String,
    /// Its newest API version (`1.41`).
    pub api: String,
    /// Architecture in the words of images (`amd64`, `arm64`).
    pub architecture: String,
    /// Operating system in the words of images (`linux`).
    pub os: String,
    /// Host name of the machine it runs on.
    pub name: String,
    /// Storage driver (`overlay2`).
    pub storage: String,
    /// Default logging driver.
    pub log_driver: String,
    /// CPUs it sees.
    pub cpus: u64,
    /// Memory it sees, bytes.
    pub memory: u64,
}

impl Engine {
    /// The engine of this machine: `DOCKER_HOST` (`unix://`, `tcp://`) or the usual sockets. Nothing is sent yet.
    ///
    /// # Errors
    /// [`DockerError::Address`] for a `DOCKER_HOST` that cannot be used.
    pub fn local() -> Result<Self, DockerError> {
        Engine::at(&transport::default_address())
    }

    /// The engine at `address`: `unix:///path`, `tcp://host:port` or an absolute path. Nothing is sent yet.
    ///
    /// # Errors
    /// [`DockerError::Address`].
    pub fn at(address: &str) -> Result<Self, DockerError> {
        Engine::over(address, transport::dial(address)?)
    }

    /// The engine behind `dial`, which opens one stream to it per call; `address` is how messages name it.
    /// Connections are pooled.
    ///
    /// # Errors
    /// [`DockerError::Address`] when the library refuses the transport.
    pub fn over(address: &str, dial: Dial) -> Result<Self, DockerError> {
        let api = transport::client(dial, ANSWER_LIMIT)
            .map_err(|e| DockerError::Address { address: address.to_owned(), why: e.to_string() })?;
        Ok(Engine { api, address: address.to_owned() })
    }

    /// How messages name this engine.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The library's client, for calls that have no method here. Errors go through [`Engine::fault`].
    pub fn api(&self) -> &Docker {
        &self.api
    }

    /// The same client for calls whose answer begins only after a long upload.
    fn patient(&self) -> Docker {
        self.api.clone().with_timeout(UPLOAD_LIMIT)
    }

    /// What `error` means, said with what was being done (`create container x`).
    pub fn fault(&self, doing: impl Into<String>, error: bollard::errors::Error) -> DockerError {
        DockerError::classify(&self.address, doing.into(), error)
    }

    /// Whether the engine answers, and its version; refuses engines that are too old.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`], [`DockerError::NoPermission`], [`DockerError::TooOld`].
    pub async fn version(&self) -> Result<SystemVersion, DockerError> {
        let version = self.api.version().await.map_err(|e| self.fault("ask for its version", e))?;
        let api = version.api_version.clone().unwrap_or_default();
        let parts: Vec<usize> = api.split('.').filter_map(|part| part.parse().ok()).collect();
        match parts[..] {
            [major, minor] if (major, minor) >= MINIMUM_API => Ok(version),
            _ => Err(DockerError::TooOld {
                address: self.address.clone(),
                api,
                needed: format!("{}.{}", MINIMUM_API.0, MINIMUM_API.1),
            }),
        }
    }

    /// Everything the engine says about itself and its machine.
    ///
    /// # Errors
    /// As [`Engine::version`].
    pub async fn info(&self) -> Result<SystemInfo, DockerError> {
        self.api.info().await.map_err(|e| self.fault("ask for its state", e))
    }

    /// What decides whether this engine can be used.
    ///
    /// # Errors
    /// As [`Engine::version`].
    pub async fn facts(&self) -> Result<EngineFacts, DockerError> {
        let version = self.version().await?;
        let info = self.info().await?;
        Ok(EngineFacts {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
            os: version.os.unwrap_or_default(),
            name: info.name.unwrap_or_default(),
            storage: info.driver.unwrap_or_default(),
            log_driver: info.logging_driver.unwrap_or_default(),
            cpus: u64::try_from(info.ncpu.unwrap_or_default()).unwrap_or(0),
            memory: u64::try_from(info.mem_total.unwrap_or_default()).unwrap_or(0),
        })
    }
}

/// Turns labels into the `label=key=value` filter that list calls take.
pub(crate) fn label_filter(labels: &[(&str, &str)]) -> std::collections::HashMap<String, Vec<String>> {
    let wanted =
        labels.iter().map(|(key, value)| if value.is_empty() { (*key).to_owned() } else { format!("{key}={value}") });
    std::iter::once(("label".to_owned(), wanted.collect())).collect()
}
