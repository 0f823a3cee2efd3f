//! `maestro extend`: a deployment's machines live longer. Compute Engine changes the time limit of stopped machines only, so
//! those whose limit comes too early are stopped, changed and started.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::Context;
use crate::cloud::EXPIRY;
use crate::cloud::site::is_time_limit;
use crate::command::{self, Selection, gcp, hosts, machines};
use crate::error::{Plain, Result};
use crate::execute::gce::{Gce, GceError, Vm, VmState, of_deployment};
use crate::experiment::TargetName;
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub ttl: Duration,
}

/// Carries it out.
///
/// # Errors
/// Exit code 2 when there is nothing to prolong or nobody confirmed, 4 when a machine could not be changed.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    gcp::only(&request.selection, "extend")?;
    if !is_time_limit(request.ttl) {
        return Err(Plain::usage("--ttl: Compute Engine takes 30 s to 120 days").into());
    }
    let selection = Selection { target: Some(TargetName::Gcp), app: request.selection.app };
    let current = command::current(context, &selection)?;
    let (_, gce) = gcp::open(context).await?;
    let tag = &current.deployment.tag;
    let vms = of_deployment(&gce, tag, current.deployment.uid()).await?;
    if vms.is_empty() {
        return Err(Plain::usage(format!("no machine of `{tag}` is there")).with_hint("deploy makes them").into());
    }
    let until = Timestamp::now().checked_add(request.ttl).unwrap_or(Timestamp::MAX);
    let short: Vec<&Vm> = vms.iter().filter(|vm| !lives(vm, until)).collect();
    show(&vms, &short, until);
    if context.dry_run {
        return Ok(());
    }
    let question = format!("stop and start {} of `{tag}`?", ui::count(short.len(), "machine"));
    if !short.is_empty() && !context.yes && !ui::confirm(&question) {
        return Err(Plain::usage("nothing was changed: not confirmed").with_hint("without asking: --yes").into());
    }
    let _lock = context.store.lock("extend")?;
    // The labels first: what is stopped and not started again is then found by `gc` after the new expiry.
    let labels = BTreeMap::from([(EXPIRY.to_owned(), until.as_second().to_string())]);
    first_failure(join_all(vms.iter().map(|vm| gce.add_labels(&vm.zone, &vm.name, &labels))).await)?;
    first_failure(join_all(short.iter().map(|vm| prolong(&gce, vm, request.ttl))).await)?;
    if !short.is_empty() && hosts::facts(&current.deployment).is_some() {
        machines::ensure(context, &current).await?;
        ui::note(format_args!("the services start again with their machines: maestro --gcp {} run", current.app.name));
    }
    ui::note(format_args!("{} of `{tag}` may live until {until:.0}", ui::count(vms.len(), "machine")));
    Ok(())
}

/// Whether Compute Engine lets it live until then.
fn lives(vm: &Vm, until: Timestamp) -> bool {
    vm.state == VmState::Running && vm.ends.is_some_and(|end| end >= until)
}

fn show(vms: &[Vm], short: &[&Vm], until: Timestamp) {
    let header = ["machine", "zone", "deleted at", "to live until "].map(|word| word.trim().to_owned()).to_vec();
    let row = |vm: &Vm| {
        let ends = vm.ends.map_or_else(|| "not while it is stopped".to_owned(), |end| format!("{end:.0}"));
        let how =
            if short.iter().any(|short| short.name == vm.name) { "stop, change, start" } else { "change its label" };
        vec![vm.name.clone(), vm.zone.clone(), ends, format!("{until:.0}: {how}")]
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(vms.iter().map(row)).collect();
    ui::out_raw(ui::table(&rows));
}

/// Stops it unless it is, changes its limit, starts it.
async fn prolong(gce: &Gce, vm: &Vm, ttl: Duration) -> Result<(), GceError> {
    if vm.state != VmState::Stopped {
        gce.stop_vm(&vm.zone, &vm.name).await?;
    }
    gce.set_time_limit(&vm.zone, &vm.name, ttl).await?;
    gce.start_vm(&vm.zone, &vm.name).await
}

fn first_failure(results: Vec<Result<(), GceError>>) -> Result<(), GceError> {
    let mut failed = results.into_iter().filter_map(Result::err);
    let Some(first) = failed.next() else { return Ok(()) };
    failed.for_each(ui::warn);
    Err(first)
}
