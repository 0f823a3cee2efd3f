//! Brings about that containers, networks and volumes are there as described, or are gone.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::models::{ContainerSummary, NetworkConnectRequest, NetworkCreateRequest, PortMap, VolumeCreateRequest};
use futures_util::future::join_all;
use indexmap::IndexMap;

use super::LocalError;
use super::body::{body, endpoint, port_bindings};
use super::images::{made_from, remove_helpers};
use crate::compose::{self, Condition};
use crate::error::Result;
use crate::execute::docker::{DockerError, Engine};
use crate::local::{APP, CONFIG_HASH, ContainerSpec, DELAY, DEPLOYMENT, HELPER_IMAGE, TOOL, WORKING_DIR};
use crate::ui;
use crate::wait::{Look, until};

/// Label with the run of maestro that made a container, so that a failed run takes back only what it made.
const MADE_BY: &str = "dev.maestro.made-by";
/// Whether this run has made anything on an engine.
static MADE: AtomicBool = AtomicBool::new(false);
/// How long an engine that went away in the middle of a run is waited for, so that nothing of the run stays on it.
const BACK: Duration = Duration::from_secs(60);
/// How long nothing new may appear before a project counts as gone.
const SETTLE: Duration = Duration::from_millis(400);
/// How often a dependency is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// This very process, as the label names it.
fn this_run() -> String {
    static RUN: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("{}-{:08x}", std::process::id(), rand::random::<u32>()));
    RUN.clone()
}

/// Makes sure that the engine has all `images`.
///
/// # Errors
/// [`LocalError::NoImages`] with all that are missing.
pub(super) async fn ensure_images(engine: &Engine, images: &[String]) -> Result<()> {
    let seen = join_all(images.iter().map(|image| engine.image(image))).await;
    let mut missing = Vec::new();
    for (image, seen) in images.iter().zip(seen) {
        if seen?.is_none() {
            missing.push(image.clone());
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(LocalError::NoImages { images: missing }.into()) }
}

/// Makes sure that the network is there and is the project's own.
///
/// # Errors
/// [`LocalError::Foreign`] for one of that name that somebody else made; what the engine refuses.
pub(super) async fn ensure_network(
    engine: &Engine,
    name: &str,
    network: &compose::Network,
    labels: &IndexMap<String, String>,
) -> Result<()> {
    if let Some(present) = engine.network(name).await? {
        return if present.labels.get(DEPLOYMENT) == labels.get(DEPLOYMENT) {
            Ok(())
        } else {
            Err(LocalError::Foreign { what: "network", name: name.to_owned() }.into())
        };
    }
    let ipam = network.subnets.iter().map(|(subnet, gateway)| bollard::models::IpamConfig {
        subnet: Some(subnet.clone()),
        gateway: gateway.clone(),
        ..Default::default()
    });
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some(network.driver.clone().unwrap_or_else(|| "bridge".into())),
        options: some_map(&network.driver_opts),
        internal: Some(network.internal),
        attachable: Some(network.attachable),
        labels: some_map(labels),
        ipam: (!network.subnets.is_empty())
            .then(|| bollard::models::Ipam { config: Some(ipam.collect()), ..Default::default() }),
        ..Default::default()
    };
    MADE.store(true, Ordering::Relaxed);
    engine.ensure_network(request).await?;
    Ok(())
}

fn some_map(map: &IndexMap<String, String>) -> Option<HashMap<String, String>> {
    Some(map.clone().into_iter().collect())
}

/// Makes sure that the volume is there.
///
/// # Errors
/// What the engine refuses.
pub(super) async fn ensure_volume(
    engine: &Engine,
    name: &str,
    volume: &compose::Volume,
    labels: &IndexMap<String, String>,
) -> Result<()> {
    let request = VolumeCreateRequest {
        name: Some(name.to_owned()),
        driver: volume.driver.clone(),
        driver_opts: some_map(&volume.driver_opts),
        labels: some_map(labels),
        ..Default::default()
    };
    MADE.store(true, Ordering::Relaxed);
    Ok(engine.ensure_volume(request).await?)
}

/// Makes sure that one container runs as described: left alone when it does, started when it only stopped, made anew
/// when its description or its image has changed.
///
/// # Errors
/// [`LocalError::Foreign`] when somebody else's container has the name; what the engine refuses.
pub(super) async fn ensure_container(engine: &Engine, spec: &ContainerSpec) -> Result<()> {
    for (other, condition) in &spec.needs {
        wait_for(engine, other, *condition, spec.timeout).await?;
    }
    match present(engine, spec).await? {
        Present::AsDescribed { running: true } => Ok(()),
        Present::AsDescribed { running: false } => Ok(engine.start_container(&spec.name).await?),
        Present::Different => {
            ui::detail(format_args!("{} has changed: making it anew", spec.service));
            engine.remove_container(&spec.name).await?;
            create(engine, spec).await
        }
        Present::No => create(engine, spec).await,
    }
}

/// What is there already under a container's name.
enum Present {
    No,
    AsDescribed { running: bool },
    Different,
}

async fn present(engine: &Engine, spec: &ContainerSpec) -> Result<Present> {
    let seen = match engine.inspect_container(&spec.name).await {
        Ok(seen) => seen,
        Err(error) if error.is_not_found() => return Ok(Present::No),
        Err(error) => return Err(error.into()),
    };
    let labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
    if labels.get(DEPLOYMENT) != Some(&spec.project) {
        return Err(LocalError::Foreign { what: "container", name: spec.name.clone() }.into());
    }
    let image = engine.image(&spec.image).await?.map(|image| image.id);
    let bound = seen.host_config.and_then(|host| host.port_bindings).unwrap_or_default();
    let same_ports = spec.any_ports || host_ports(&bound) == host_ports(&port_bindings(&spec.config));
    if labels.get(CONFIG_HASH) != spec.labels.get(CONFIG_HASH) || image != seen.image || !same_ports {
        return Ok(Present::Different);
    }
    let running = seen.state.and_then(|state| state.running).unwrap_or(false);
    Ok(Present::AsDescribed { running })
}

/// Container ports with the host ports they are bound to.
fn host_ports(bindings: &PortMap) -> BTreeSet<(&str, &str)> {
    let each = bindings.iter().flat_map(|(inner, bound)| bound.iter().flatten().map(move |one| (inner, one)));
    each.map(|(inner, one)| (inner.as_str(), one.host_port.as_deref().unwrap_or_default())).collect()
}

async fn create(engine: &Engine, spec: &ContainerSpec) -> Result<()> {
    let mut body = body(spec);
    body.labels.get_or_insert_default().insert(MADE_BY.to_owned(), this_run());
    MADE.store(true, Ordering::Relaxed);
    let (id, warnings) = engine.create_container(&spec.name, body).await?;
    for warning in warnings {
        ui::warn(format_args!("{}: {warning}", spec.service));
    }
    for place in spec.networks.iter().skip(1) {
        let request = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint(place)) };
        let joined = engine.api().connect_network(&place.name, request).await;
        joined.map_err(|e| engine.fault(format!("connect `{}` to network `{}`", spec.name, place.name), e))?;
    }
    Ok(engine.start_container(&spec.name).await?)
}

async fn wait_for(engine: &Engine, name: &str, condition: Condition, timeout: Duration) -> Result<()> {
    let seen = until(name, timeout, LOOK, || async {
        match engine.container_state(name).await {
            Err(error) => Look::Ready(Err(error)),
            Ok(None) => Look::NotYet("no such container".into()),
            Ok(Some(state)) => match condition {
                Condition::Started => Look::Ready(Ok(())),
                Condition::Healthy if state.health == "healthy" => Look::Ready(Ok(())),
                Condition::Completed if !state.running && state.status == "exited" && state.exit_code == 0 => {
                    Look::Ready(Ok(()))
                }
                _ => Look::NotYet(format!("{} {}", state.status, state.health).trim().to_owned()),
            },
        }
    });
    Ok(seen.await??)
}

/// The containers of `project`.
pub(super) async fn of_project(engine: &Engine, project: &str) -> Result<Vec<ContainerSummary>, DockerError> {
    engine.list_containers(&[(DEPLOYMENT, project)]).await
}

/// Removes every container, network and volume that carries the project's label, and those of `images` that maestro
/// made. Returns how many containers went.
///
/// # Errors
/// What the engine refuses; everything that could go has gone by then.
pub(super) async fn remove_project(engine: &Engine, project: &str, images: &[String]) -> Result<usize> {
    // Helpers first: they live in the network namespaces of the others.
    remove_containers(engine, engine.list_containers(&[(DELAY, project)]).await?).await?;
    let mut count = 0;
    loop {
        let containers = of_project(engine, project).await?;
        count += containers.len();
        if containers.is_empty() && settled(engine, project).await? {
            break;
        }
        remove_containers(engine, containers).await?;
    }
    remove_places(engine, project).await?;
    for image in images {
        if image == HELPER_IMAGE {
            remove_helpers(engine).await?;
            continue;
        }
        if made_from(engine, image).await?.is_none() {
            continue;
        }
        match engine.remove_image(image).await {
            Ok(true) => ui::detail(format_args!("removed image {image}")),
            Ok(false) => {}
            Err(error) if error.is_conflict() => ui::warn(format_args!("image `{image}` stays: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

/// Whether the project stays without containers: an engine goes on creating what a killed maestro had asked for.
async fn settled(engine: &Engine, project: &str) -> Result<bool> {
    tokio::time::sleep(SETTLE).await;
    Ok(of_project(engine, project).await?.is_empty())
}

/// Removes the other deployments of `app` whose directories are in `deployments`: at most one runs per root.
///
/// # Errors
/// What the engine refuses.
pub(super) async fn end_others(engine: &Engine, app: &str, project: &str, deployments: &Path) -> Result<()> {
    let all = engine.list_containers(&[(TOOL, "maestro"), (APP, app)]).await?;
    let other = |seen: ContainerSummary| {
        let mut labels = seen.labels.unwrap_or_default();
        let beside = labels.get(WORKING_DIR).and_then(|dir| Path::new(dir).parent()) == Some(deployments);
        labels.remove(DEPLOYMENT).filter(|other| beside && other != project)
    };
    let others: BTreeSet<String> = all.into_iter().filter_map(other).collect();
    for other in others {
        let count = remove_project(engine, &other, &[]).await?;
        ui::note(format_args!("removed {} of the deployment before ({other})", ui::count(count, "container")));
    }
    Ok(())
}

/// Removes what this run of maestro made of `project`: after a failure nothing of it stays behind. An engine that is
/// being restarted is waited for.
///
/// # Errors
/// What the engine refuses.
pub(super) async fn take_back(engine: &Engine, project: &str) -> Result<usize> {
    if !MADE.load(Ordering::Relaxed) {
        return Ok(0);
    }
    await_engine(engine).await?;
    let run = this_run();
    let all = of_project(engine, project).await?;
    let (ours, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|seen| seen.labels.as_ref().and_then(|l| l.get(MADE_BY)) == Some(&run));
    let count = ours.len();
    remove_containers(engine, ours).await?;
    if others.is_empty() {
        remove_places(engine, project).await?;
    }
    Ok(count)
}

/// Waits until the engine answers, if it is only being restarted.
async fn await_engine(engine: &Engine) -> Result<()> {
    let seen = until("the Docker engine", BACK, LOOK, || async {
        match engine.version().await {
            Err(error) if error.is_transient() => Look::NotYet(error.to_string()),
            answer => Look::Ready(answer),
        }
    });
    seen.await??;
    Ok(())
}

async fn remove_containers(engine: &Engine, containers: Vec<ContainerSummary>) -> Result<()> {
    let ids = containers.into_iter().filter_map(|seen| seen.id);
    let removed = join_all(ids.map(|id| async move { engine.remove_container(&id).await })).await;
    removed.into_iter().collect::<Result<Vec<bool>, _>>()?;
    Ok(())
}

async fn remove_places(engine: &Engine, project: &str) -> Result<()> {
    for network in engine.list_networks(&[(DEPLOYMENT, project)]).await? {
        engine.remove_network(&network.id).await?;
    }
    for volume in engine.list_volumes(&[(DEPLOYMENT, project)]).await? {
        engine.remove_volume(&volume).await?;
    }
    Ok(())
}
