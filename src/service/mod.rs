//! The processes of `socialNetworkMini`: one binary in many roles (`maestro service ROLE`).
//!
//! A miniature of the social network with real stores: posts in a Redis primary and its replica, notifications over
//! two federated RabbitMQ brokers, timelines and the social graph in Redis. The services speak HTTP/JSON among
//! themselves, names, spans and tags are those of the full application, so that everything downstream of the traces
//! works unchanged.
//!
//! ```text
//! front-end ──> compose-post ──> post-storage (eu) ──> Redis eu ~~replication~~> Redis us
//!                    │  └──────> user-timeline                                      ↑ barrier, read
//!                    └──> RabbitMQ eu ~~federation~~> RabbitMQ us ──> write-home-timeline (us) ──> Redis home timeline
//! front-end (us) ──> home-timeline ──> post-storage (us)
//! ```

mod broker;
mod compose_post;
mod front_end;
mod home_timeline;
mod jaeger;
mod post_storage;
mod rabbitmq_setup;
mod rpc;
mod settings;
mod social_graph;
mod span;
mod stores;
mod user_timeline;
mod wire;
mod write_home_timeline;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::error::{Exit, Fault, Result};
use crate::wait::{Look, TimedOut, until};
use settings::Settings;

/// How long a role waits for what it depends on, unless `MAESTRO_WAIT_S` says otherwise.
const WAIT_S: u64 = 300;

/// What can go wrong in a role.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no such role.
    #[error("unknown role `{0}`")]
    UnknownRole(String),
    /// A role does not take these arguments.
    #[error("`service {role}` does not take `{extra}`")]
    Arguments {
        /// The role.
        role: String,
        /// What was given.
        extra: String,
    },
    /// An environment variable is missing.
    #[error("`{0}` is not set")]
    Unset(&'static str),
    /// An environment variable cannot be used.
    #[error("`{name}` is `{value}`: {why}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: String,
    },
    /// The role's port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A store's address cannot be used.
    #[error("cannot use the store `{store}`")]
    Store {
        /// The store's service name.
        store: String,
        /// Why.
        source: redis::RedisError,
    },
    /// A broker did not do what it was asked.
    #[error("broker `{broker}`: {why}")]
    Broker {
        /// The broker's service name.
        broker: &'static str,
        /// Why.
        why: String,
    },
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl Fault for ServiceError {
    fn exit(&self) -> Exit {
        match self {
            ServiceError::UnknownRole(_)
            | ServiceError::Arguments { .. }
            | ServiceError::Unset(_)
            | ServiceError::Setting { .. } => Exit::Usage,
            ServiceError::Listen { .. } | ServiceError::Store { .. } | ServiceError::Write { .. } => Exit::Unreachable,
            ServiceError::Broker { .. } => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ServiceError::UnknownRole(_) => Some(format!("roles: {}", ROLES.join(", "))),
            _ => None,
        }
    }
}

/// Every role.
pub const ROLES: &[&str] = &[
    "compose-post",
    "front-end",
    "home-timeline",
    "jaeger",
    "post-storage",
    "probe",
    "rabbitmq-setup",
    "social-graph",
    "user-timeline",
    "write-home-timeline",
];

/// Serves `role` until the process is told to end. `probe ADDRESS` instead tells by its exit code whether ADDRESS takes
/// connections.
///
/// # Errors
/// [`ServiceError`] for a role, an environment or a port that cannot be used; [`TimedOut`] when something that the
/// role depends on does not come up.
pub async fn serve(role: &str, args: &[String]) -> Result<()> {
    let settings = Settings::from_environment()?;
    match (role, args) {
        ("probe", [address]) => return Ok(wait_for_port(address, Duration::ZERO).await?),
        (_, []) => {}
        (_, extra) => return Err(ServiceError::Arguments { role: role.to_owned(), extra: extra.join(" ") }.into()),
    }
    match role {
        "compose-post" => compose_post::serve(settings).await,
        "front-end" => front_end::serve(settings).await,
        "home-timeline" => home_timeline::serve(settings).await,
        "jaeger" => jaeger::serve(settings).await,
        "post-storage" => post_storage::serve(settings).await,
        "rabbitmq-setup" => rabbitmq_setup::serve(settings).await,
        "social-graph" => social_graph::serve(settings).await,
        "user-timeline" => user_timeline::serve(settings).await,
        "write-home-timeline" => write_home_timeline::serve(settings).await,
        other => Err(ServiceError::UnknownRole(other.to_owned()).into()),
    }
}

/// Waits until every one of `ports` (service, port) takes connections.
///
/// # Errors
/// [`TimedOut`], naming the first that does not.
async fn wait_for_ports(settings: &Settings, ports: &[(&str, u16)]) -> Result<()> {
    let limit = Duration::from_secs(settings.number("MAESTRO_WAIT_S", WAIT_S)?);
    let started = std::time::Instant::now();
    for (service, port) in ports {
        let address = settings.address(service, *port);
        let left = limit.saturating_sub(started.elapsed());
        wait_for_port(&address, left).await?;
    }
    Ok(())
}

async fn wait_for_port(address: &str, limit: Duration) -> Result<(), TimedOut> {
    until(address, limit, Duration::from_millis(100), || async {
        match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
            Ok(Ok(_)) => Look::Ready(()),
            Ok(Err(error)) => Look::NotYet(error.to_string()),
            Err(_) => Look::NotYet("no answer to a connection attempt".into()),
        }
    })
    .await
}
