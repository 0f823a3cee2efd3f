//! `clean -strong` of a deployment that this root has no record of, or not as the current one: its labels are enough.

use super::Request;
use crate::Context;
use crate::cloud::label_value;
use crate::cloud::provision::CloudStep;
use crate::command::project::{self, Found};
use crate::command::{firewall, gcp, machines};
use crate::error::{Plain, Result};
use crate::execute::carry_out;
use crate::execute::gce::Cloud;
use crate::experiment::TargetName;
use crate::plan::{Plan, Step};
use crate::store::{Deployment, State};
use crate::ui;

/// Whether what is asked for has to be looked for in the cloud.
///
/// # Errors
/// Exit code 2 for a tag where nothing has labels.
pub(super) fn wanted(context: &Context, request: &Request, target: TargetName, state: &State) -> Result<bool> {
    if target != TargetName::Gcp {
        return match &request.tag {
            Some(_) => Err(Plain::usage(format!("`-tag` is about Google Cloud, not about `--{target}`")).into()),
            None => Ok(false),
        };
    }
    let known = context.store.deployments(target)?;
    let recorded = state.tag.as_ref().is_some_and(|tag| known.iter().any(|known| known.tag == *tag));
    let other = request.tag.is_some() && request.tag != state.tag;
    Ok(other || (!recorded && context.store.site_facts(target)?.is_some()))
}

/// Finds it, asks, and deletes it. Without a tag nothing is deleted, only told: it may be in use from another root.
///
/// # Errors
/// Exit code 2 when it cannot be told which one is meant, it is somebody else's, or nobody confirmed.
pub(super) async fn run(context: &Context, request: &Request) -> Result<()> {
    let (_, cloud) = machines::cloud(context).await?;
    let known = context.store.deployments(TargetName::Gcp)?;
    let found = project::look(&cloud.gce).await?;
    let Some(tag) = &request.tag else { return tell(&cloud, &found) };
    let Some(found) = one(found, tag, &cloud.owner, &known)? else {
        ui::note(format_args!("nothing in `{}` is labelled `{tag}`: nothing to clean", cloud.gce.project));
        return Ok(());
    };
    delete(context, request, &cloud, &found, &known).await
}

/// What of the caller's is there, when no tag was given.
fn tell(cloud: &Cloud, found: &[Found]) -> Result<()> {
    let mine = found.iter().filter(|found| found.owner == cloud.owner && !found.uid.is_empty());
    let tags: Vec<&str> = mine.map(|found| found.tag.as_str()).collect();
    let Some(first) = tags.first() else {
        ui::note(format_args!("nothing is deployed on `gcp`, and nothing in `{}` is yours", cloud.gce.project));
        return Ok(());
    };
    let why = format!("nothing is recorded here, but in `{}` there is yours: {}", cloud.gce.project, tags.join(", "));
    Err(Plain::usage(why).with_hint(format!("maestro --gcp clean -strong -tag {first}")).into())
}

/// The caller's deployment of this tag; where this root has a record of it, that one.
fn one(all: Vec<Found>, tag: &str, owner: &str, known: &[Deployment]) -> Result<Option<Found>> {
    let record = known.iter().find(|known| known.tag == tag);
    let of_tag = |found: &Found| found.tag == label_value(tag) && !found.uid.is_empty();
    let mut all: Vec<Found> = all.into_iter().filter(of_tag).collect();
    if let Some(record) = record {
        all.retain(|found| found.is(record));
    }
    let others = all.iter().find(|found| found.owner != owner).map(|found| found.owner.clone());
    all.retain(|found| found.owner == owner);
    match (all.len(), others) {
        (0, Some(other)) => {
            let hint = "`maestro --gcp gc` takes it once it has expired";
            Err(Plain::usage(format!("`{tag}` belongs to `{other}`, not to `{owner}`")).with_hint(hint).into())
        }
        (0 | 1, _) => Ok(all.pop()),
        (count, _) => {
            let why = format!("{count} deployments of yours are labelled `{tag}`, from different roots");
            Err(Plain::usage(why).with_hint("everything of yours: maestro --gcp gc --all").into())
        }
    }
}

async fn delete(
    context: &Context,
    request: &Request,
    cloud: &Cloud,
    found: &Found,
    known: &[Deployment],
) -> Result<()> {
    let step = Step::Cloud(CloudStep::NoMachines { tag: found.tag.clone(), uid: found.uid.clone() });
    let plan = Plan::new(format!("clean `{}` on gcp", found.tag))
        .stage("delete the machines, all at once, and look whether any is left", vec![step]);
    let plan = machines::beside(plan, request.images);
    if context.dry_run {
        ui::out_raw(plan.to_string());
        return Ok(());
    }
    let (machines, disks) = (ui::count(found.machines.len(), "machine"), ui::count(found.disks, "lone disk"));
    let question = format!("delete `{}` in `{}`: {machines}, {disks}?", found.tag, cloud.gce.project);
    if !context.yes && !ui::confirm(&question) {
        return Err(Plain::usage("nothing was deleted: not confirmed").with_hint("without asking: --yes").into());
    }
    let _lock = context.store.lock("clean")?;
    if let Some(record) = known.iter().find(|known| found.is(known)) {
        machines::forget(context, &mut record.clone())?;
    }
    carry_out(cloud, &plan).await?;
    if request.firewall {
        let removed = firewall::remove(&cloud.gce).await?;
        ui::note(format_args!("deleted {}", ui::count(removed.len(), "firewall rule")));
    }
    ui::note(format_args!("cleaned `{}` of {}", found.tag, gcp::owner()));
    Ok(())
}
