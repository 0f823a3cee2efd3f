//! `maestro run`: starts the deployed application in one variant and waits until it answers.

use std::time::Duration;

use crate::Context;
use crate::app::App;
use crate::command::filed::Filed;
use crate::command::{Current, Selection, hosts};
use crate::error::{Error, Plain, Result};
use crate::execute::docker::{Engine, LogRequest};
use crate::execute::{Live, Outcome, carry_out, carry_out_until, local, until_interrupted};
use crate::experiment::Variant;
use crate::plan::Plan;
use crate::store::Deployment;
use crate::target::{self, RunOptions, Runtime};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub variant: Variant,
    pub prometheus: bool,
    pub portainer: bool,
    pub attached: bool,
    pub ports: Option<String>,
    pub open: bool,
    pub timeout: Duration,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = super::target(&request.selection)?;
    if request.attached && target.runtime() != Runtime::Containers {
        return Err(Plain::usage(format!("-attached works with --local, not with --{}", target.name())).into());
    }
    if request.open && target.runtime() != Runtime::Containers {
        return Err(Plain::usage(format!("--open works with --local, not with --{}", target.name())).into());
    }
    let mut current = super::current(context, &request.selection)?;
    current.app.check_variant(request.variant)?;
    match request.open {
        true => drop(current.deployment.other.insert(OPEN.to_owned(), true.into())),
        false => drop(current.deployment.other.shift_remove(OPEN)),
    }
    let options = RunOptions {
        variant: request.variant,
        prometheus: request.prometheus,
        portainer: request.portainer,
        ports: request.ports,
        open: open(&current.deployment),
        timeout: request.timeout,
    };
    let filed = Filed::of(context, &current)?;
    let site = filed.site(&current);
    let plan = target.run(&site, &options)?;
    if context.dry_run {
        ui::out_raw(plan.to_string());
        return Ok(());
    }
    let _lock = context.store.lock("run")?;
    let undo = target.undo(&site);
    let outcomes = match carry_out_until(&Live, &plan, until_interrupted()).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let undone = take_back(undo, &error).await;
            absorb(&mut current.deployment, &undone);
            context.store.write_deployment(&current.deployment)?;
            return Err(error);
        }
    };
    absorb(&mut current.deployment, &outcomes);
    current.deployment.variant = Some(request.variant);
    context.store.write_deployment(&current.deployment)?;
    current.state.antipode = Some(request.variant.is_antipode());
    current.state.portainer = Some(request.portainer);
    current.state.prometheus = Some(request.prometheus);
    current.state.cleaned = Some(false);
    context.store.write_state(current.target, &current.state)?;
    announce(current.app, &current.deployment);
    if request.attached {
        follow(&current).await?;
    }
    Ok(())
}

/// The key of a deployment's record that says that `--open` was asked for.
const OPEN: &str = "open";

/// Whether containers listen on all addresses: when the run asked for it, and on an engine that is elsewhere, whose own
/// loopback nobody could reach from here.
pub(super) fn open(deployment: &Deployment) -> bool {
    let asked = deployment.other.get(OPEN).and_then(serde_json::Value::as_bool).unwrap_or(false);
    asked || Engine::local().is_ok_and(|engine| !local::is_here(&local::host_of(engine.address())))
}

/// Shows the logs of all services until ^C; the services go on.
async fn follow(current: &Current) -> Result<()> {
    let project = target::local::project(current.app, &current.deployment);
    let engine = Engine::local()?;
    let request = LogRequest { follow: true, ..LogRequest::default() };
    let showing = local::logs(&engine, &project, &[], request, |number, service, line| {
        ui::service_line(number, service, &line.text);
    });
    tokio::select! {
        shown = showing => shown,
        () = until_interrupted() => {
            ui::note("detached; the services go on. Stop them with `maestro clean`.");
            Ok(())
        }
    }
}

/// After a failed run: what it had started goes again, and the failure itself is what is reported.
async fn take_back(undo: Option<Plan>, error: &Error) -> Vec<Outcome> {
    let Some(undo) = undo else { return Vec::new() };
    match carry_out(&Live, &undo).await {
        Ok(outcomes) => outcomes,
        Err(left) => {
            if left.line() != error.line() {
                ui::warn(format_args!("what this run started is still there: {left}"));
            }
            Vec::new()
        }
    }
}

/// Takes what the steps found out into the deployment's record.
pub(super) fn absorb(deployment: &mut Deployment, outcomes: &[Outcome]) {
    for outcome in outcomes {
        match outcome {
            Outcome::Done => {}
            Outcome::Hosts(_) | Outcome::Tool(_) | Outcome::Images(_) | Outcome::Nodes(_) | Outcome::Machines(_) => {}
            Outcome::Serving { origin_url, replica_url, jaeger_url, pid } => {
                if deployment.pid != *pid {
                    // Another process than before: delay injected into that one has gone with it.
                    deployment.delay = None;
                }
                deployment.origin_url = Some(hosts::outside(deployment, origin_url));
                deployment.replica_url = Some(hosts::outside(deployment, replica_url));
                deployment.jaeger_url = Some(hosts::outside(deployment, jaeger_url));
                deployment.pid = *pid;
            }
            Outcome::Stopped => {
                deployment.variant = None;
                deployment.origin_url = None;
                deployment.replica_url = None;
                deployment.jaeger_url = None;
                deployment.pid = None;
                deployment.delay = None;
            }
        }
    }
}

fn announce(app: &App, deployment: &Deployment) {
    let variant = deployment.variant.map_or("", Variant::as_str);
    ui::note(format_args!("{} ({variant}) answers:", deployment.app));
    for (name, url) in deployment.front_ends().into_iter().chain([("traces", &deployment.jaeger_url)]) {
        if let Some(url) = url {
            ui::note(format_args!("  {name:<8} {url}"));
        }
    }
    if let Some(endpoint) = app.endpoints.first() {
        let (target, app, endpoint) = (deployment.target, app.name, endpoint.name);
        ui::note(format_args!("next: maestro --{target} {app} wkld -E {endpoint} -r 100 -d 20 -c 4"));
    }
}
