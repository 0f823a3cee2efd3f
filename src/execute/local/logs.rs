//! What runs, what it says, and where it is reached.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::LocalError;
use super::containers::of_project;
use crate::app::{PostSizes, StoreSizes};
use crate::error::Result;
use crate::execute::docker::{DockerError, Engine, LogLine, LogRequest};
use crate::local::SERVICE;

/// A container of a deployment, as `info -ps` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its service.
    pub service: String,
    /// Its name on the engine.
    pub container: String,
    /// Its image.
    pub image: String,
    /// `running`, `exited`, ...
    pub state: String,
    /// In the engine's words (`Up 3 minutes`).
    pub status: String,
    /// Published ports: host, container, transport.
    pub ports: Vec<(u16, u16, String)>,
}

/// The containers of `project`, sorted by service.
///
/// # Errors
/// [`DockerError`].
pub async fn running(engine: &Engine, project: &str) -> Result<Vec<Running>, DockerError> {
    let mut rows = Vec::new();
    for seen in of_project(engine, project).await? {
        let container = seen.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let ports = seen.ports.unwrap_or_default();
        let published = ports.iter().filter(|port| !port.ip.as_deref().is_some_and(|ip| ip.contains(':')));
        let published = published.filter_map(|port| {
            let kind = port.typ.map(|kind| kind.to_string()).unwrap_or_default();
            Some((port.public_port?, port.private_port, kind))
        });
        rows.push(Running {
            service: seen.labels.unwrap_or_default().remove(SERVICE).unwrap_or_default(),
            container: container.trim_start_matches('/').to_owned(),
            image: seen.image.unwrap_or_default(),
            state: seen.state.map(|state| state.to_string()).unwrap_or_default(),
            status: seen.status.unwrap_or_default(),
            ports: published.collect(),
        });
    }
    rows.sort_by(|a, b| a.service.cmp(&b.service));
    Ok(rows)
}

/// The logs of `services` (all when empty) of `project`, merged as lines come in; each goes to `show` with its
/// service and the service's number. Ends when all logs have ended, which with `follow` is when the containers do.
///
/// # Errors
/// [`LocalError::NoSuchService`], [`DockerError`].
pub async fn logs(
    engine: &Engine,
    project: &str,
    services: &[String],
    request: LogRequest,
    mut show: impl FnMut(usize, &str, LogLine),
) -> Result<()> {
    let all: BTreeMap<String, String> =
        running(engine, project).await?.into_iter().map(|row| (row.service, row.container)).collect();
    if let Some(unknown) = services.iter().find(|service| !all.contains_key(*service)) {
        let known = all.into_keys().collect();
        return Err(LocalError::NoSuchService { service: unknown.clone(), known }.into());
    }
    let wanted = all.iter().enumerate().filter(|(_, (service, _))| services.is_empty() || services.contains(service));
    let streams = wanted.map(|(number, (service, container))| {
        engine.container_log(container, request).map(move |line| (number, service.as_str(), line)).boxed()
    });
    let mut lines = select_all(streams);
    while let Some((number, service, line)) = lines.next().await {
        show(number, service, line?);
    }
    Ok(())
}

/// How much the posts take in their store, by asking inside the store's container.
///
/// # Errors
/// [`LocalError::Sizes`], [`DockerError`].
pub async fn post_sizes(engine: &Engine, container: &str, ask: &PostSizes) -> Result<StoreSizes> {
    let failed = |why: String| LocalError::Sizes { service: ask.service.to_owned(), why };
    let output = engine.exec(container, ask.command).await?;
    if output.code != 0 {
        let text = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
        let line = text.trim().lines().last().unwrap_or_default();
        return Err(failed(format!("`{}` ended with code {}: {line}", ask.command[0], output.code)).into());
    }
    (ask.parse)(&output.stdout).ok_or_else(|| failed(format!("`{}` is no answer", output.stdout.trim())).into())
}
