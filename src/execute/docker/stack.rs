//! Stacks on a manager's engine: each step ensures one state and may be carried out again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::spec::{self, Ids};
use super::{DockerError, Engine};
use crate::error::Result;
use crate::swarm::{NAMESPACE, ServiceSpec, StackStep};
use crate::wait::{self, Look};

/// Longest wait for the tasks of removed services to end: their grace period and some.
const GONE_LIMIT: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// Ensures the state that `step` names on the manager `engine`.
///
/// # Errors
/// What the engine refuses ([`DockerError`]), and [`wait::TimedOut`] when something does not go away.
pub async fn ensure(engine: &Engine, step: &StackStep) -> Result<()> {
    match step {
        StackStep::EnsureNetwork(network) => {
            engine.ensure_network(spec::network(network)).await?;
        }
        StackStep::EnsureConfig(file) => {
            engine.ensure_config(spec::config(file)).await?;
        }
        StackStep::EnsureSecret(file) => {
            engine.ensure_secret(spec::secret(file)).await?;
        }
        StackStep::EnsureService(service) => {
            let ids = ids(engine, service).await?;
            engine.ensure_service(spec::service(service, &ids)).await?;
        }
        StackStep::EnsureOnly { stack, services } => only(engine, stack, services).await?,
        StackStep::EnsureGone { stack } => gone(engine, stack).await?,
    }
    Ok(())
}

/// Services refer to networks, configs and secrets by id.
async fn ids(engine: &Engine, service: &ServiceSpec) -> Result<Ids> {
    let mut ids = Ids::default();
    for network in &service.networks {
        if let Some(seen) = engine.network(&network.network).await? {
            ids.networks.insert(network.network.clone(), seen.id);
        }
    }
    for file in &service.container.configs {
        if let Some(id) = engine.config_id(&file.name).await? {
            ids.configs.insert(file.name.clone(), id);
        }
    }
    for file in &service.container.secrets {
        if let Some(id) = engine.secret_id(&file.name).await? {
            ids.secrets.insert(file.name.clone(), id);
        }
    }
    Ok(ids)
}

/// Removes the stack's services that are not among `keep`.
async fn only(engine: &Engine, stack: &str, keep: &[String]) -> Result<()> {
    for service in engine.list_services(&[(NAMESPACE, stack)]).await? {
        if !keep.contains(&service.name) {
            engine.remove_service(&service.name).await?;
        }
    }
    Ok(())
}

/// Removes services, waits for their tasks, then removes what they used.
async fn gone(engine: &Engine, stack: &str) -> Result<()> {
    let label = [(NAMESPACE, stack)];
    for service in engine.list_services(&label).await? {
        engine.remove_service(&service.name).await?;
    }
    wait::until(&format!("end of the tasks of {stack}"), GONE_LIMIT, LOOK_INTERVAL, || async {
        match live_tasks(engine, stack).await {
            Ok(tasks) if tasks.is_empty() => Look::Ready(()),
            Ok(tasks) => Look::NotYet(format!("{} still there", crate::ui::count(tasks.len(), "task"))),
            Err(error) => Look::NotYet(error.to_string()),
        }
    })
    .await?;
    for config in engine.list_configs(&label).await? {
        engine.remove_config(&config).await?;
    }
    for secret in engine.list_secrets(&label).await? {
        engine.remove_secret(&secret).await?;
    }
    for network in engine.list_networks(&label).await? {
        remove_network(engine, &network.id, &network.name).await?;
    }
    Ok(())
}

/// Tasks of the stack whose containers may still run.
async fn live_tasks(engine: &Engine, stack: &str) -> std::result::Result<BTreeSet<String>, DockerError> {
    let tasks = engine.tasks_labelled(&[(NAMESPACE, stack)]).await?;
    let ended = ["complete", "failed", "shutdown", "rejected", "orphaned", "remove"];
    Ok(tasks.into_iter().filter(|task| !ended.contains(&task.state.as_str())).map(|task| task.id).collect())
}

/// A network is in use for a moment after its last task has ended.
async fn remove_network(engine: &Engine, id: &str, name: &str) -> Result<()> {
    wait::until(&format!("removal of network {name}"), GONE_LIMIT, LOOK_INTERVAL, || async {
        match engine.remove_network(id).await {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    })
    .await?;
    Ok(())
}
