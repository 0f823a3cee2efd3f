//! `delay` where services are containers: helpers in their network namespaces, through the engines' API alone.

use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::Request;
use crate::Context;
use crate::app::{App, Lacking, Protocol};
use crate::cluster::STACK;
use crate::command::{self, Current};
use crate::delay::attach::{Attached, Place};
use crate::delay::enact::{self, Obtained, Order};
use crate::delay::spec::Spec;
use crate::delay::{Backend, Matrix, Pair, Schedule};
use crate::error::{Exit, Plain, Result};
use crate::execute::docker::Engine;
use crate::execute::local::ensure_helper;
use crate::execute::until_interrupted;
use crate::experiment::TargetName;
use crate::inventory::{Host, Role};
use crate::local::{DEPLOYMENT, SERVICE};
use crate::store::{DelayRecord, Deployment, read_yaml};
use crate::target::Runtime;
use crate::ui;

/// Where the deployment's record keeps what was ordered, for `clean -restart`.
const ORDER: &str = "delay_order";

/// How long nothing new may appear before the helpers count as gone.
const SETTLE: Duration = Duration::from_millis(400);

/// An engine on which services of the deployment run.
pub(crate) struct Site {
    pub(super) host: String,
    pub(super) engine: Engine,
    runtime: Runtime,
}

/// What was ordered, as the deployment's record keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    pairs: Vec<Pair>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<Schedule>,
    backend: Backend,
    lease_s: f64,
    seed: u64,
}

/// Carries it out.
pub(super) async fn run(context: &Context, request: &Request) -> Result<()> {
    let mut current = command::current(context, &request.selection)?;
    let order = if request.off || request.show { None } else { Some(order(request, &current)?) };
    if context.dry_run {
        ui::out(planned(request, order.as_ref()));
        return Ok(());
    }
    let _lock = if request.show { None } else { Some(context.store.lock("delay")?) };
    let sites = sites(context, &current).await?;
    if request.show {
        return super::show::run(context, &current, &sites).await;
    }
    let removed = remove_all(&sites, &deployment_label(&current)).await?;
    forget(&mut current.deployment);
    context.store.write_deployment(&current.deployment)?;
    let Some(order) = order else {
        ui::note(if removed == 0 { "no delay was in force" } else { "the delay is removed" });
        return Ok(());
    };
    let obtained = bring_about(&order, &current, &sites).await?;
    keep(&mut current.deployment, &order, &obtained)?;
    context.store.write_deployment(&current.deployment)?;
    tell(context, &order, &obtained, current.deployment.delay.as_ref());
    Ok(())
}

/// Puts the delay that was in force before a restart in force again. The containers are new ones, so nothing of it is
/// left.
///
/// # Errors
/// As `delay` itself.
pub(crate) async fn again(context: &Context, current: &mut Current, kept: Option<serde_json::Value>) -> Result<()> {
    let Some(kept) = kept else { return Ok(()) };
    let kept: Kept = serde_json::from_value(kept)
        .map_err(|error| Plain::new(Exit::Usage, format!("the deployment's record: {ORDER}: {error}")))?;
    let order = Order {
        redis: redis(current.app, &kept.pairs),
        pairs: kept.pairs,
        schedule: kept.schedule,
        backend: kept.backend,
        lease: Duration::from_secs_f64(kept.lease_s.clamp(1.0, 1e9)),
        seed: kept.seed,
        deployment: deployment_label(current),
    };
    let sites = sites(context, current).await?;
    remove_all(&sites, &order.deployment).await?;
    let obtained = bring_about(&order, current, &sites).await?;
    keep(&mut current.deployment, &order, &obtained)?;
    context.store.write_deployment(&current.deployment)?;
    tell(context, &order, &obtained, current.deployment.delay.as_ref());
    Ok(())
}

/// What was ordered for the deployment and is in force, for [`again`].
pub(crate) fn standing(deployment: &Deployment) -> Option<serde_json::Value> {
    deployment.delay.as_ref().and_then(|_| deployment.other.get(ORDER).cloned())
}

async fn bring_about(order: &Order, current: &Current, sites: &[Site]) -> Result<Vec<Obtained>> {
    let places = find_all(current, sites, &order.pairs).await?;
    let mut image = String::new();
    for site in sites {
        if places.values().any(|place| place.host == site.host) {
            image = ensure_helper(&site.engine).await?;
            ui::detail(format_args!("{}: image {image}", site.host));
        }
    }
    tokio::select! {
        obtained = enact::put(order, &places, &image) => obtained,
        () = until_interrupted() => {
            // The engine may still be starting what it was asked for.
            loop {
                tokio::time::sleep(SETTLE).await;
                if remove_all(sites, &order.deployment).await? == 0 {
                    break;
                }
            }
            Err(Plain::new(Exit::Interrupted, "interrupted; no delay is in force").into())
        }
    }
}

/// The engines of the deployment: this one, or those of all hosts that carry services, through their SSH connections.
pub(crate) async fn sites(context: &Context, current: &Current) -> Result<Vec<Site>> {
    let runtime = command::target_named(current.target)?.runtime();
    if runtime == Runtime::Containers {
        let engine = Engine::local()?;
        engine.version().await?;
        return Ok(vec![Site { host: "this engine".to_owned(), engine, runtime }]);
    }
    let (inventory, hosts) = command::hosts::connect(context, current)?;
    let carries = |host: &&Host| host.is(Role::Manager) || host.is(Role::Cluster);
    let names: Vec<String> = inventory.hosts.iter().filter(carries).map(|host| host.name.clone()).collect();
    let engines = hosts.each(&names, async |name| hosts.engine(&name).await).await?;
    Ok(names.into_iter().zip(engines).map(|(host, engine)| Site { host, engine, runtime }).collect())
}

/// How labels name the deployment.
pub(super) fn deployment_label(current: &Current) -> String {
    match current.target {
        TargetName::Local => crate::target::local::project(current.app, &current.deployment),
        _ => format!("{STACK}-{}", current.deployment.tag),
    }
}

/// Removes what `delay` left on the hosts of a swarm, before its services go. (On one engine `clean` finds it by
/// itself, by the project's label.)
pub(crate) async fn clear(context: &Context, current: &Current) -> Result<()> {
    if command::target_named(current.target)?.runtime() == Runtime::Swarm {
        remove_all(&sites(context, current).await?, &deployment_label(current)).await?;
    }
    Ok(())
}

/// Every helper of the deployment.
pub(super) async fn helpers(sites: &[Site], deployment: &str) -> Result<Vec<Attached>> {
    let mut all = Vec::new();
    for site in sites {
        all.extend(Attached::of(&site.engine, &site.host, deployment).await?);
    }
    Ok(all)
}

async fn remove_all(sites: &[Site], deployment: &str) -> Result<usize> {
    let all = helpers(sites, deployment).await?;
    enact::take_back(all.iter()).await;
    Ok(all.len())
}

/// Where the services of `pairs` run.
async fn find_all(current: &Current, sites: &[Site], pairs: &[Pair]) -> Result<IndexMap<String, Place>> {
    let mut places = IndexMap::new();
    for service in pairs.iter().flat_map(|pair| [&pair.from, &pair.to]) {
        if !places.contains_key(service) {
            places.insert(service.clone(), find(current, sites, service).await?);
        }
    }
    Ok(places)
}

/// The container of `service`, on whichever engine of `sites` it runs.
///
/// # Errors
/// When it runs on none.
pub(crate) async fn find(current: &Current, sites: &[Site], service: &str) -> Result<Place> {
    let project = deployment_label(current);
    let of_swarm = format!("{STACK}_{service}");
    for site in sites {
        let labels = match site.runtime {
            Runtime::Swarm => vec![("com.docker.swarm.service.name", of_swarm.as_str())],
            _ => vec![(DEPLOYMENT, project.as_str()), (SERVICE, service)],
        };
        for seen in site.engine.list_containers(&labels).await? {
            let running = seen.state.is_some_and(|state| state.to_string() == "running");
            if let (Some(container), true) = (seen.id, running) {
                let names = match site.runtime {
                    Runtime::Swarm => vec![format!("tasks.{service}"), service.to_owned()],
                    _ => vec![service.to_owned()],
                };
                let (service, host, engine) = (service.to_owned(), site.host.clone(), site.engine.clone());
                return Ok(Place { service, host, engine, container, names });
            }
        }
    }
    let (target, app) = (current.target, current.app.name);
    Err(Plain::new(Exit::Unreachable, format!("service `{service}` does not run on `{target}`"))
        .with_hint(format!("first: maestro --{target} {app} run"))
        .into())
}

/// What the options and files ask for, checked.
fn order(request: &Request, current: &Current) -> Result<Order> {
    let pairs = match &request.matrix {
        Some(path) => read_yaml::<Matrix>(path)?
            .pairs()
            .map_err(|error| Plain::usage(format!("`{}`: {error}", path.display())))?
            .into_iter()
            .map(|pair| with_port(current.app, pair))
            .collect(),
        None => vec![pair(request, current.app)?],
    };
    for service in pairs.iter().flat_map(|pair| [&pair.from, &pair.to]) {
        if !current.app.services.iter().any(|known| known.name == service) {
            return Err(unknown(current.app, service));
        }
    }
    Ok(Order {
        redis: redis(current.app, &pairs),
        pairs,
        schedule: request.schedule()?,
        backend: Backend::parse(&request.backend).unwrap_or_default(),
        lease: request.lease,
        seed: request.seed,
        deployment: deployment_label(current),
    })
}

/// The one pair that the options describe.
fn pair(request: &Request, app: &App) -> Result<Pair> {
    let spec = request.spec()?;
    let (from, to) = match (&request.from, &request.to, app.stores()) {
        (Some(from), Some(to), _) => (from.clone(), to.clone()),
        (_, _, None) => return Err(Lacking::Stores(app.name).into()),
        (from, to, Some(stores)) => {
            (from.clone().unwrap_or_else(|| stores.0.to_owned()), to.clone().unwrap_or_else(|| stores.1.to_owned()))
        }
    };
    if from == to {
        return Err(Plain::usage(format!("`{from}` does not replicate to itself")).into());
    }
    Ok(with_port(app, Pair { from, to, port: None, spec, both: request.both }))
}

/// Between the app's own stores only their port is delayed, so that heartbeats of other kinds and probes stay as fast
/// as they were.
fn with_port(app: &App, pair: Pair) -> Pair {
    let (from, to) = (pair.from.as_str(), pair.to.as_str());
    let between = app.replication.filter(|it| it.stores == (from, to) || it.stores == (to, from));
    let port = pair.port.or_else(|| between.map(|replication| replication.store_protocol.port()));
    Pair { port, ..pair }
}

/// The pair whose replication can be measured by writing and reading.
fn redis(app: &App, pairs: &[Pair]) -> Option<(usize, u16)> {
    let replication = app.replication?;
    let index = pairs.iter().position(|pair| replication.stores == (pair.from.as_str(), pair.to.as_str()))?;
    (replication.store_protocol == Protocol::Redis).then(|| (index, replication.store_protocol.port()))
}

fn unknown(app: &App, service: &str) -> crate::error::Error {
    let like = |known: &&str| known.contains(service) || service.split('-').next().is_some_and(|w| known.contains(w));
    let near: Vec<&str> = app.services.iter().map(|known| known.name).filter(like).collect();
    let names = if near.is_empty() { app.services.iter().map(|known| known.name).collect() } else { near };
    Plain::usage(format!("`{}` has no service `{service}`", app.name))
        .with_hint(format!("services: {}", names.join(", ")))
        .into()
}

fn planned(request: &Request, order: Option<&Order>) -> String {
    let Some(order) = order else {
        return if request.show { "plan: show the delay" } else { "plan: remove every delay" }.to_owned();
    };
    let mut lines = vec![format!(
        "plan: delay by {}, proved before and after, for {}",
        order.backend.as_str(),
        in_words(order.lease)
    )];
    for pair in &order.pairs {
        let port = pair.port.map_or("every TCP port".to_owned(), |port| format!("TCP port {port}"));
        lines.push(format!("   - {pair}: {} ({port})", pair.spec));
    }
    for step in order.schedule.iter().flat_map(|schedule| &schedule.steps) {
        let spec = Spec::check(step.rule).map(|spec| spec.to_string()).unwrap_or_default();
        lines.push(format!("   - at {} s: {spec}", step.at_s));
    }
    lines.join("\n")
}

fn forget(deployment: &mut Deployment) {
    deployment.delay = None;
    deployment.other.shift_remove(ORDER);
}

/// Notes in the deployment's record what was ordered and what was obtained.
fn keep(deployment: &mut Deployment, order: &Order, obtained: &[Obtained]) -> Result<()> {
    let mut records = obtained.iter().map(|one| record(order, one));
    deployment.delay = records.next();
    if let Some(first) = &mut deployment.delay {
        first.others = records.collect();
    }
    let kept = Kept {
        pairs: order.pairs.clone(),
        schedule: order.schedule.clone(),
        backend: order.backend,
        lease_s: order.lease.as_secs_f64(),
        seed: order.seed,
    };
    let kept = serde_json::to_value(kept).map_err(|error| Plain::new(Exit::Bug, format!("{ORDER}: {error}")))?;
    deployment.other.insert(ORDER.to_owned(), kept);
    Ok(())
}

fn record(order: &Order, obtained: &Obtained) -> DelayRecord {
    let Obtained { pair, spec, backend, path, visible, rule, applied_us } = obtained;
    let asked = match &order.schedule {
        Some(schedule) => {
            let step = |step: &crate::delay::Step| {
                let spec = Spec::check(step.rule).map(|spec| spec.to_string()).unwrap_or_default();
                format!("{} s: {spec}", step.at_s)
            };
            schedule.steps.iter().map(step).collect::<Vec<_>>().join("; ")
        }
        None => spec.to_string(),
    };
    DelayRecord {
        asked,
        backend: backend.as_str().to_owned(),
        obtained_p50_ms: path.obtained_p50_ms,
        obtained_p99_ms: path.obtained_p99_ms,
        pair: Some(pair.to_string()),
        before_p50_ms: Some(path.before_p50_ms),
        expected_p50_ms: Some(path.expected_p50_ms),
        expected_p99_ms: Some(path.expected_p99_ms),
        visible_p50_ms: visible.as_ref().map(|v| v.before_p50_ms + v.obtained_p50_ms),
        visible_before_p50_ms: visible.as_ref().map(|v| v.before_p50_ms),
        ks_p: path.ks_p,
        lost: Some(path.lost),
        dropped: rule.netem_drops,
        queued_peak_bytes: rule.proxy.as_ref().map(|proxy| proxy.queued_peak_bytes),
        applied_us: Some(*applied_us),
        others: Vec::new(),
    }
}

fn tell(context: &Context, order: &Order, obtained: &[Obtained], record: Option<&DelayRecord>) {
    if context.json {
        ui::out(serde_json::json!(record));
        return;
    }
    for one in obtained {
        ui::note(report(one));
    }
    if let Some(schedule) = &order.schedule {
        let start = if schedule.start == crate::delay::Start::Load { "with the next load" } else { "now" };
        ui::note(format_args!("{} of the schedule start {start}", ui::count(schedule.steps.len(), "step")));
    }
    let lease = in_words(order.lease);
    ui::note(format_args!("it ends by itself in {lease} unless it is renewed; `delay --off` ends it now"));
}

fn in_words(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 3600.0 => format!("{} h", (s / 360.0).round() / 10.0),
        s if s >= 60.0 => format!("{} min", (s / 6.0).round() / 10.0),
        s => format!("{s} s"),
    }
}

fn report(one: &Obtained) -> String {
    let Obtained { pair, spec, backend, path, visible, rule, .. } = one;
    let mut lines = vec![
        format!("{pair}: {spec}, by {}", backend.as_str()),
        format!("  asked      p50 {:8.2} ms   p99 {:8.2} ms", path.expected_p50_ms, path.expected_p99_ms),
        format!(
            "  obtained   p50 {:8.2} ms   p99 {:8.2} ms   ({} round trips, {} lost, {:.2} ms without it)",
            path.obtained_p50_ms, path.obtained_p99_ms, path.samples, path.lost, path.before_p50_ms
        ),
    ];
    if let Some(p) = path.ks_p {
        lines.push(format!("  its distribution against the one asked for: p = {p:.3} (Kolmogorov-Smirnov)"));
    }
    if let Some(visible) = visible {
        lines.push(format!(
            "  a write is visible after p50 {:.2} ms ({:.2} ms without it, {} writes)",
            visible.before_p50_ms + visible.obtained_p50_ms,
            visible.before_p50_ms,
            visible.samples
        ));
    }
    if let Some(proxy) = &rule.proxy {
        lines.push(format!(
            "  proxy: {} cut over to it, {} refused, at most {} bytes held at once, passed on {:.2} ms late at p99",
            ui::count(rule.cut_over as usize, "open connection"),
            proxy.refused,
            proxy.queued_peak_bytes,
            proxy.late_p99_us / 1e3
        ));
    }
    if let Some(drops) = rule.netem_drops {
        lines.push(format!("  netem: {} dropped", ui::count(drops as usize, "packet")));
    }
    if rule.left_alone > 0 {
        let open = ui::count(rule.left_alone as usize, "connection");
        lines.push(format!("  {open} stayed open past it and keep their old speed until they reconnect"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_port_is_known_and_others_are_not() {
        let app = App::find("socialNetworkMini").unwrap();
        let (from, to) = app.stores().unwrap();
        let spec = Spec::zero();
        let pair = |from: &str, to: &str| {
            with_port(app, Pair { from: from.to_owned(), to: to.to_owned(), port: None, spec, both: false })
        };
        assert_eq!(pair(from, to).port, Some(6379));
        assert_eq!(pair(to, from).port, Some(6379));
        assert_eq!(pair("nginx-thrift", to).port, None);
        assert_eq!(redis(app, &[pair("nginx-thrift", to), pair(from, to)]), Some((1, 6379)));
        assert_eq!(redis(App::find("socialNetwork").unwrap(), &[pair(from, to)]), None);
    }
}
