//! `maestro clean`: stops and removes what this deployment started; `-restart` starts it again, empty.

mod by_label;

use std::time::Duration;

use crate::Context;
use crate::command::filed::Filed;
use crate::command::{self, Current, Selection, machines};
use crate::error::Result;
use crate::execute::{Live, carry_out};
use crate::experiment::Variant;
use crate::plan::Plan;
use crate::target::{CleanMode, RunOptions};
use crate::ui;

/// How long `-restart` waits for readiness.
const RESTART_TIMEOUT: Duration = Duration::from_secs(300);

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub strong: bool,
    pub tag: Option<String>,
    pub restart: bool,
    pub images: bool,
    pub firewall: bool,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = super::target(&request.selection)?;
    let state = context.store.read_state(target.name())?;
    if request.strong && by_label::wanted(context, &request, target.name(), &state)? {
        return by_label::run(context, &request).await;
    }
    if state.tag.is_none() {
        ui::note(format_args!("nothing is deployed on `{}`: nothing to clean", target.name()));
        return Ok(());
    }
    let mut current = super::current(context, &request.selection)?;
    let filed = Filed::of(context, &current)?;
    let site = filed.site(&current);
    if request.strong && target.fleet(&site)?.is_some() {
        let plan = target.clean(&site, CleanMode::Strong)?;
        return delete_machines(context, &request, current, plan).await;
    }
    let restarted = current.deployment.variant.filter(|_| request.restart);
    let plan = match restarted {
        Some(variant) => target.restart(&site, &same_options(&current, variant))?,
        None => target.clean(&site, if request.strong { CleanMode::Strong } else { CleanMode::Services })?,
    };
    if context.dry_run {
        ui::out_raw(plan.to_string());
        return Ok(());
    }
    let _lock = context.store.lock("clean")?;
    let delayed = restarted.and_then(|_| command::delay::standing(&current.deployment));
    command::delay::clear(context, &current).await?;
    let outcomes = carry_out(&Live, &plan).await?;
    command::run::absorb(&mut current.deployment, &outcomes);
    current.deployment.variant = restarted;
    context.store.write_deployment(&current.deployment)?;
    if !request.restart {
        cleaned(context, &mut current)?;
    }
    command::delay::again(context, &mut current, delayed).await?;
    let done = if request.restart { "restarted" } else { "cleaned" };
    ui::note(format_args!("{done} {} on {}", current.app.name, current.target));
    Ok(())
}

/// `-strong` where machines were made: they go with everything on them, whether they answer or not.
async fn delete_machines(context: &Context, request: &Request, mut current: Current, plan: Plan) -> Result<()> {
    let plan = machines::beside(plan, request.images);
    if context.dry_run {
        ui::out_raw(plan.to_string());
        if request.firewall {
            ui::out("then delete the firewall rules that maestro made");
        }
        return Ok(());
    }
    let _lock = context.store.lock("clean")?;
    let (_, cloud) = machines::cloud(context).await?;
    machines::tell_cost(&current.deployment);
    machines::forget(context, &mut current.deployment)?;
    let outcomes = carry_out(&cloud, &plan).await?;
    if request.firewall {
        let removed = command::firewall::remove(&cloud.gce).await?;
        ui::note(format_args!("deleted {}", ui::count(removed.len(), "firewall rule")));
    }
    command::run::absorb(&mut current.deployment, &outcomes);
    context.store.write_deployment(&current.deployment)?;
    cleaned(context, &mut current)?;
    ui::note(format_args!("cleaned {} on {}", current.app.name, current.target));
    Ok(())
}

/// Nothing runs any more.
fn cleaned(context: &Context, current: &mut Current) -> Result<()> {
    current.state.cleaned = Some(true);
    current.state.portainer = Some(false);
    current.state.prometheus = Some(false);
    Ok(context.store.write_state(current.target, &current.state)?)
}

/// The options of the run that is to be repeated.
fn same_options(current: &Current, variant: Variant) -> RunOptions {
    RunOptions {
        variant,
        prometheus: current.state.prometheus.unwrap_or(false),
        portainer: current.state.portainer.unwrap_or(false),
        ports: same_ports(&current.deployment),
        open: command::run::open(&current.deployment),
        timeout: RESTART_TIMEOUT,
    }
}

/// The ports in use, so that a restart keeps its addresses.
fn same_ports(deployment: &crate::store::Deployment) -> Option<String> {
    let port = |url: &Option<String>| url.as_deref()?.rsplit(':').next().map(str::to_owned);
    let mut ports = vec![port(&deployment.origin_url)?, port(&deployment.replica_url)?, port(&deployment.jaeger_url)?];
    // One front end stands for both sides.
    ports.dedup();
    Some(ports.join(","))
}
