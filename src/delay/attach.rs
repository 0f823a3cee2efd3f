//! Helpers as containers: each enters one service's network namespace and carries labels by which `clean` and a later
//! `delay` find it. The engine starts it anew when it dies, and does not after it has ended in order.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerSummary, HostConfig, RestartPolicy, RestartPolicyNameEnum};

use super::DelayError;
use super::wire::{Probed, Reply, Request, Status};
use crate::error::Result;
use crate::execute::docker::{DockerError, Engine};
use crate::local::{DELAY, TOOL};
use crate::wait::{Look, until};

/// Label with the service whose namespace it is in.
const SERVICE: &str = "dev.maestro.delay.service";
/// Label with the id of that service's container.
const CONTAINER: &str = "dev.maestro.delay.container";

/// Where a helper keeps its state, inside its own container.
const DIR: &str = "/run/maestro-delay";

/// Longest wait for a helper to answer for the first time.
const START: Duration = Duration::from_secs(30);

/// A running container of a service, and the engine it runs on.
#[derive(Clone)]
pub(crate) struct Place {
    /// The service.
    pub service: String,
    /// How messages name the engine's host.
    pub host: String,
    /// The engine.
    pub engine: Engine,
    /// The container's id.
    pub container: String,
    /// The names by which it is known in other services' namespaces. On a swarm those of its tasks as well: the
    /// service's own name may be a virtual address, which packets of the peer do not carry.
    pub names: Vec<String>,
}

/// A helper in some service's network namespace.
#[derive(Clone)]
pub(crate) struct Attached {
    /// The service.
    pub service: String,
    /// How messages name the engine's host.
    pub host: String,
    /// Its own container's name.
    pub name: String,
    engine: Engine,
}

impl Attached {
    /// Starts a helper for `deployment` in the namespace of `place`, from `image` (this very binary).
    ///
    /// # Errors
    /// What the engine refuses, and [`crate::wait::TimedOut`] when the helper does not answer.
    pub(crate) async fn start(place: &Place, image: &str, deployment: &str, lease: Duration) -> Result<Self> {
        let short: String = place.container.chars().take(12).collect();
        let attached = Attached {
            service: place.service.clone(),
            host: place.host.clone(),
            name: format!("maestro-delay-{short}"),
            engine: place.engine.clone(),
        };
        attached.engine.remove_container(&attached.name).await?;
        attached.engine.create_container(&attached.name, body(place, image, deployment, lease)).await?;
        if let Err(error) = attached.engine.start_container(&attached.name).await {
            attached.engine.remove_container(&attached.name).await?;
            return Err(error.into());
        }
        let what = format!("the delay helper of {}", place.service);
        until(&what, START, Duration::from_millis(50), || async {
            match attached.ask(&Request::Status).await {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::NotYet(error.line()),
            }
        })
        .await?;
        Ok(attached)
    }

    /// Every helper of `deployment` on `engine`, whatever its state.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub(crate) async fn of(engine: &Engine, host: &str, deployment: &str) -> Result<Vec<Self>, DockerError> {
        let read = |seen: ContainerSummary| {
            let labels = seen.labels.unwrap_or_default();
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let name = seen.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            Attached {
                service: label(SERVICE),
                host: host.to_owned(),
                name: name.trim_start_matches('/').to_owned(),
                engine: engine.clone(),
            }
        };
        let mut found: Vec<Self> =
            engine.list_containers(&[(DELAY, deployment)]).await?.into_iter().map(read).collect();
        found.sort_by(|a, b| a.service.cmp(&b.service));
        Ok(found)
    }

    /// Asks the helper.
    ///
    /// # Errors
    /// [`DelayError::Helper`] with its words when it refuses, and what the engine says.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply> {
        let text = serde_json::to_string(request).map_err(|error| self.garbled(error))?;
        let argv = ["/maestro", "delay-helper", "ask", "--dir", DIR, &text];
        let output = self.engine.exec(&self.name, &argv).await?;
        if output.code != 0 {
            // A helper that was killed takes what asks on its behalf with it, which then says nothing.
            let line = output.stderr.lines().next().unwrap_or("the delay helper went away while it was asked");
            let message = format!("{} ({})", line.trim_start_matches("maestro: "), self.service);
            return Err(DelayError::Helper { message, exit: output.code as i32 }.into());
        }
        Ok(serde_json::from_str(&output.stdout).map_err(|error| self.garbled(error))?)
    }

    /// How it stands.
    ///
    /// # Errors
    /// As [`Attached::ask`].
    pub(crate) async fn status(&self) -> Result<Status> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(status),
            other => Err(self.garbled(format!("{other:?}")).into()),
        }
    }

    /// What a probe measures.
    ///
    /// # Errors
    /// As [`Attached::ask`].
    pub(crate) async fn probe(&self, request: &Request) -> Result<Probed> {
        match self.ask(request).await? {
            Reply::Probed(probed) => Ok(probed),
            other => Err(self.garbled(format!("{other:?}")).into()),
        }
    }

    /// Whether the kernel has netem, and whether it can redirect.
    ///
    /// # Errors
    /// As [`Attached::ask`].
    pub(crate) async fn kernel(&self) -> Result<(bool, bool)> {
        match self.ask(&Request::Kernel).await? {
            Reply::Kernel { netem, redirect } => Ok((netem, redirect)),
            other => Err(self.garbled(format!("{other:?}")).into()),
        }
    }

    /// Takes its rules back and removes it. One that does not answer is removed all the same: the kernel removes the
    /// proxy's rules with it, and netem's are removed by a helper that takes its place for that moment.
    ///
    /// # Errors
    /// What the engine refuses.
    pub(crate) async fn remove(&self) -> Result<()> {
        let off = self.ask(&Request::Off).await;
        if off.is_err() {
            tracing::debug!("{} did not answer: {:?}", self.name, off.err());
            self.restart_to_clear().await;
        }
        self.engine.remove_container(&self.name).await?;
        Ok(())
    }

    /// A helper removes what it finds in its namespace when it starts: one that was killed gets that chance.
    async fn restart_to_clear(&self) {
        if self.engine.start_container(&self.name).await.is_ok() {
            // Its container may have lost its namespace for good; then nothing of the rules is left either.
            let cleared = until("the helper", Duration::from_secs(5), Duration::from_millis(50), || async {
                self.ask(&Request::Off).await.map_or_else(|e| Look::NotYet(e.line()), |_| Look::Ready(()))
            });
            if let Err(error) = cleared.await {
                tracing::debug!("{error}");
            }
        }
    }

    fn garbled(&self, why: impl std::fmt::Display) -> DelayError {
        let message = format!("the delay helper `{}` answers what this maestro does not understand: {why}", self.name);
        DelayError::Helper { message, exit: 4 }
    }
}

fn body(place: &Place, image: &str, deployment: &str, lease: Duration) -> ContainerCreateBody {
    let lease = lease.as_secs_f64().to_string();
    let argv = ["/maestro", "delay-helper", "serve", "--dir", DIR, "--lease", &lease];
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>());
    let labels = [(TOOL, "maestro"), (DELAY, deployment), (SERVICE, &place.service), (CONTAINER, &place.container)];
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: words(&argv),
        cmd: Some(Vec::new()),
        user: Some("0:0".to_owned()),
        labels: Some(
            labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<HashMap<_, _>>(),
        ),
        stop_timeout: Some(5),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", place.container)),
            cap_drop: words(&["ALL"]),
            // The rules and the marks of sockets; running in time on a busy host.
            cap_add: words(&["NET_ADMIN", "SYS_NICE"]),
            security_opt: words(&["no-new-privileges"]),
            // Woken before the application's own processes, which the benchmark keeps busy.
            cpu_shares: Some(65_536),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ON_FAILURE),
                maximum_retry_count: Some(100),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
