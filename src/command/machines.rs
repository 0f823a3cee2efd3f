//! Machines that are made for a deployment: agreed to before anything is made, remembered in its record, looked at again
//! when a run ends, and what they have cost so far.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Context;
use crate::cloud::firewall::Finding;
use crate::cloud::fleet::{Free, Machine};
use crate::cloud::provision::{CloudStep, Fleet, Made, vm_name};
use crate::cloud::region;
use crate::command::filed::Filed;
use crate::command::{Current, firewall, gcp, hosts, target_named};
use crate::error::{Exit, Plain, Result};
use crate::execute::gce::{Cloud, Gce, VmState, of_deployment};
use crate::execute::{Outcome, carry_out};
use crate::experiment::TargetName;
use crate::plan::Plan;
use crate::store::Deployment;
use crate::target::gcp::MACHINES;
use crate::ui;

/// Quota of virtual CPUs, as the API calls it.
const CPUS: &str = "CPUS";
/// Quota of external addresses of running machines.
const ADDRESSES: &str = "IN_USE_ADDRESSES";
/// Keys of a run's record: what its deployment's machines had cost when it ended.
const COST: &str = "cost";

/// What the deployment's record says about its machines.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    /// Those that were made.
    made: Vec<Made>,
    /// Since when.
    since: Timestamp,
    /// What they cost by the dated table, USD per hour.
    usd_per_hour: f64,
    /// The table's date.
    prices_as_of: String,
}

/// A connection that carries out steps in the project, and the site's facts.
///
/// # Errors
/// As `gcp::open`.
pub(crate) async fn cloud(context: &Context) -> Result<(crate::cloud::site::Site, Cloud)> {
    let (site, gce) = gcp::open(context).await?;
    Ok((site, Cloud { gce, owner: gcp::owner() }))
}

/// Shows what is to be made and what it costs, and asks; then makes it. What was made is written into `deployment`.
///
/// # Errors
/// Exit code 2 without consent; 4 for rules that would shut us out, when a quota would not do, or when a machine cannot
/// be had: then what this call made is deleted again.
pub(super) async fn make(context: &Context, fleet: &Fleet, deployment: &mut Deployment) -> Result<()> {
    let (site, cloud) = cloud(context).await?;
    let missing = missing(&cloud.gce, fleet).await?;
    let free = free(&cloud.gce, fleet).await?;
    ui::note(fleet.overview(&free).trim_end());
    lets_in(&firewall::check(&site, &cloud.gce).await?)?;
    let beyond = fleet.beyond(&missing, &free);
    if !beyond.is_empty() {
        let why = format!("the quota would not do: {}", beyond.join("; "));
        let hint = "ask for more quota in the cloud console, or use a smaller placement";
        return Err(Plain::new(Exit::StepFailed, why).with_hint(hint).into());
    }
    if !missing.is_empty() {
        let question = format!("make {} in `{}`?", ui::count(missing.len(), "machine"), fleet.project);
        if !context.yes && !ui::confirm(&question) {
            return Err(Plain::usage("nothing was made: not confirmed").with_hint("without asking: --yes").into());
        }
    }
    let outcomes = carry_out(&cloud, &fleet.plan(&deployment.app)).await?;
    absorb(deployment, &outcomes, fleet)
}

/// Warns of firewall rules that are not as they should be.
///
/// # Errors
/// Exit code 4 when the machines could not be reached, or not reach each other: then none should be made.
fn lets_in(findings: &[Finding]) -> Result<()> {
    let (shut, other): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|finding| finding.shuts_out());
    other.iter().for_each(|finding| ui::warn(format_args!("{finding} (maestro --gcp firewall plan)")));
    let Some(first) = shut.first() else { return Ok(()) };
    shut.iter().skip(1).for_each(ui::warn);
    let hint = if first.foreign { "change or delete that rule yourself" } else { "maestro --gcp firewall apply" };
    Err(Plain::new(Exit::StepFailed, format!("no machine was made: {first}")).with_hint(hint).into())
}

/// What a dry run shows of it.
pub(super) fn show(fleet: &Fleet, app: &str) {
    ui::out_raw(fleet.overview(&BTreeMap::new()));
    ui::out_raw(fleet.plan(app).to_string());
}

/// Makes sure that the machines of a deployment run and are reached where they are now, after they were stopped and
/// started; its record is written anew.
///
/// # Errors
/// When one is gone or does not let us in.
pub(crate) async fn ensure(context: &Context, current: &Current) -> Result<Deployment> {
    let filed = Filed::of(context, current)?;
    let fleet = target_named(current.target)?.fleet(&filed.site(current))?;
    let mut deployment = current.deployment.clone();
    if let Some(fleet) = fleet {
        let (_, cloud) = cloud(context).await?;
        let outcomes = carry_out(&cloud, &fleet.plan(current.app.name)).await?;
        absorb(&mut deployment, &outcomes, &fleet)?;
        context.store.write_deployment(&deployment)?;
    }
    Ok(deployment)
}

/// Whether the record says that machines were made and not deleted again.
pub(super) fn there(deployment: &Deployment) -> bool {
    deployment.other.contains_key(MACHINES)
}

/// Takes out of the record, and writes it, what will not be true any more once the first machine is deleted.
///
/// # Errors
/// When it cannot be written.
pub(super) fn forget(context: &Context, deployment: &mut Deployment) -> Result<()> {
    hosts::forget(deployment);
    deployment.other.shift_remove(MACHINES);
    Ok(context.store.write_deployment(deployment)?)
}

/// The plan for what `clean -strong` was asked to delete beside the machines.
pub(super) fn beside(mut plan: Plan, images: bool) -> Plan {
    if images {
        plan = plan.stage("delete your machine images", vec![crate::plan::Step::Cloud(CloudStep::NoImages)]);
    }
    plan
}

/// Machines of `current` that do not run any more, each with a reason: what was measured meanwhile must not be used.
pub(super) async fn lost(context: &Context, current: &Current) -> Vec<String> {
    let made = crate::target::gcp::made(&current.deployment);
    if made.is_empty() {
        return Vec::new();
    }
    let look = async {
        let (_, gce) = gcp::open(context).await?;
        Ok::<_, crate::error::Error>(of_deployment(&gce, &current.deployment.tag, current.deployment.uid()).await?)
    };
    let there = match look.await {
        Ok(there) => there,
        Err(error) => return vec![format!("it is not known whether all machines still run: {}", error.line())],
    };
    let runs = |made: &&Made| there.iter().any(|vm| vm.name == made.vm && vm.state == VmState::Running);
    let gone = made.iter().filter(|made| !runs(made));
    gone.map(|made| format!("machine `{}` in {} does not run any more (pre-empted?)", made.name, made.zone)).collect()
}

/// What the machines of the deployment have cost until now, as a run's record keeps it.
pub(super) fn spent(deployment: &Deployment, into: &mut IndexMap<String, serde_json::Value>) {
    let Some(record) = record(deployment) else { return };
    let hours = (Timestamp::now().as_second() - record.since.as_second()).max(0) as f64 / 3600.0;
    let round = |value: f64, digits: f64| (value * digits).round() / digits;
    let cost = serde_json::json!({
        "machines": record.made.len(),
        "hours": round(hours, 1000.0),
        "usd_estimate": round(hours * record.usd_per_hour, 100.0),
        "usd_per_hour_estimate": round(record.usd_per_hour, 1000.0),
        "prices_as_of": record.prices_as_of,
    });
    into.insert(COST.to_owned(), cost);
}

/// Says what the machines have cost, before they go.
pub(super) fn tell_cost(deployment: &Deployment) {
    let mut cost = IndexMap::new();
    spent(deployment, &mut cost);
    if let Some(cost) = cost.get(COST) {
        let (hours, usd) = (&cost["hours"], &cost["usd_estimate"]);
        ui::note(format_args!("the machines of `{}` ran for {hours} h: about {usd} USD (an estimate)", deployment.tag));
    }
}

fn record(deployment: &Deployment) -> Option<Record> {
    serde_json::from_value(deployment.other.get(MACHINES)?.clone()).ok()
}

fn absorb(deployment: &mut Deployment, outcomes: &[Outcome], fleet: &Fleet) -> Result<()> {
    let Some(made) = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Machines(made) => Some(made.clone()),
        _ => None,
    }) else {
        return Ok(());
    };
    hosts::moved(deployment, &made, &fleet.key)?;
    let kept = Record {
        since: record(deployment).map_or_else(Timestamp::now, |record| record.since),
        made,
        usd_per_hour: fleet.estimate.usd_per_hour,
        prices_as_of: fleet.estimate.as_of.clone(),
    };
    let value = serde_json::to_value(kept);
    let value = value.map_err(|error| Plain::new(Exit::Bug, format!("cannot write the machines down: {error}")))?;
    deployment.other.insert(MACHINES.to_owned(), value);
    Ok(())
}

/// Those that are not there yet.
async fn missing(gce: &Gce, fleet: &Fleet) -> Result<Vec<Machine>> {
    let there = of_deployment(gce, &fleet.tag, &fleet.uid).await?;
    let absent = |machine: &&Machine| !there.iter().any(|vm| vm.name == vm_name(&fleet.tag, &machine.name));
    Ok(fleet.machines.iter().filter(absent).cloned().collect())
}

/// What is left of each region's quotas.
async fn free(gce: &Gce, fleet: &Fleet) -> Result<BTreeMap<String, Free>> {
    let mut free = BTreeMap::new();
    for machine in &fleet.machines {
        let region = region(&machine.zone);
        if free.contains_key(region) {
            continue;
        }
        let quotas = gce.quotas(region).await?;
        let left = |wanted: &str| {
            let quota = quotas.iter().find(|(metric, ..)| metric == wanted);
            quota.map(|(_, limit, usage)| limit - usage)
        };
        free.insert(region.to_owned(), Free { vcpus: left(CPUS), addresses: left(ADDRESSES) });
    }
    Ok(free)
}

/// Other deployments of this root that still have machines, in words.
pub(super) fn others(context: &Context, tag: &str) -> Result<Vec<String>> {
    let all = context.store.deployments(TargetName::Gcp)?;
    let others = all.iter().filter(|other| other.tag != tag && there(other));
    Ok(others.map(|other| format!("`{}` still has its machines, and they cost money", other.tag)).collect())
}
