//! `maestro gc`: lists or deletes what expired or orphaned deployments left in the project, by maestro's labels only.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;

use crate::Context;
use crate::cloud::leftover::{Kind, Question, Reason, Thing};
use crate::cloud::{UID, label_value};
use crate::command::{Selection, gcp, hosts};
use crate::error::{Exit, Plain, Result};
use crate::execute::gce::Gce;
use crate::experiment::TargetName;
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub check: bool,
    pub all: bool,
}

/// Carries it out.
///
/// # Errors
/// Exit code 2 when nobody confirmed, 4 when something could not be deleted, 5 when `--check` found something.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    gcp::only(&request.selection, "gc")?;
    let (_, gce) = gcp::open(context).await?;
    let looks_only = request.check || context.dry_run;
    // A deployment that another maestro is making just now is not orphaned.
    let _lock = if looks_only { None } else { Some(context.store.lock("gc")?) };
    let question = question(context, request.all)?;
    let rows = look(&gce, &question).await?;
    show(context, &rows, &question);
    let going: Vec<&Thing> = rows.iter().filter(|(_, reason)| reason.is_some()).map(|(thing, _)| thing).collect();
    if request.check && !going.is_empty() {
        let why = format!("{} left in `{}`", ui::count(going.len(), "thing"), gce.project);
        return Err(Plain::new(Exit::RunVoid, why).with_hint(format!("maestro --gcp gc{}", all_flag(&request))).into());
    }
    if looks_only || going.is_empty() {
        return Ok(());
    }
    let asked = format!("delete {} in `{}`?", ui::count(going.len(), "thing"), gce.project);
    if !context.yes && !ui::confirm(&asked) {
        return Err(Plain::usage("nothing was deleted: not confirmed").with_hint("without asking: --yes").into());
    }
    delete(&gce, &going).await?;
    let left = look(&gce, &question).await?.iter().filter(|(_, reason)| reason.is_some()).count();
    if left > 0 {
        let why = format!("{} still there after deleting", ui::count(left, "thing"));
        return Err(Plain::new(Exit::StepFailed, why).with_hint("maestro --gcp gc").into());
    }
    ui::note(format_args!("deleted {}; nothing of that is left", ui::count(going.len(), "thing")));
    Ok(())
}

fn all_flag(request: &Request) -> &'static str {
    if request.all { " --all" } else { "" }
}

/// What is known here about deployments: one without its hosts on record was not made to its end, or its removal began.
fn question(context: &Context, all: bool) -> Result<Question> {
    let deployments = context.store.deployments(TargetName::Gcp)?;
    let half_made = deployments.iter().filter(|deployment| hosts::facts(deployment).is_none());
    let half_made: BTreeSet<(String, String)> =
        half_made.map(|deployment| (label_value(&deployment.tag), deployment.uid().to_owned())).collect();
    Ok(Question { now: Timestamp::now(), owner: gcp::owner(), half_made, all })
}

/// Everything of maestro's in the project, with why it may go.
async fn look(gce: &Gce, question: &Question) -> Result<Vec<(Thing, Option<Reason>)>> {
    let (machines, disks, images) = tokio::try_join!(gce.vms(None), gce.own_disks(), gce.own_images())?;
    let mut things = Vec::new();
    for vm in machines {
        let Some(ownership) = vm.ownership() else { continue };
        let (zone, uid) = (Some(vm.zone), uid(&vm.labels));
        things.push(Thing { kind: Kind::Machine, name: vm.name, zone, ownership, uid, superseded: false });
    }
    for disk in disks.into_iter().filter(|disk| !disk.attached) {
        let Some(ownership) = disk.ownership() else { continue };
        let (zone, uid) = (Some(disk.zone), uid(&disk.labels));
        things.push(Thing { kind: Kind::Disk, name: disk.name, zone, ownership, uid, superseded: false });
    }
    let mut newest: BTreeMap<(String, String), String> = BTreeMap::new();
    let family = |image: &crate::execute::gce::Image| {
        Some((image.ownership()?.owner, image.family.clone().unwrap_or_else(|| image.name.clone())))
    };
    for image in &images {
        let Some(key) = family(image) else { continue };
        let newer = newest.entry(key).or_default();
        *newer = image.created.clone().max(std::mem::take(newer));
    }
    for image in images {
        let (Some(ownership), Some(key)) = (image.ownership(), family(&image)) else { continue };
        let superseded = newest.get(&key).is_some_and(|newest| *newest > image.created);
        let uid = uid(&image.labels);
        things.push(Thing { kind: Kind::Image, name: image.name, zone: None, ownership, uid, superseded });
    }
    Ok(things
        .into_iter()
        .map(|thing| (question.reason(&thing), thing))
        .map(|(reason, thing)| (thing, reason))
        .collect())
}

fn uid(labels: &BTreeMap<String, String>) -> String {
    labels.get(UID).cloned().unwrap_or_default()
}

/// How many things `gc` would take, for a look at the project.
///
/// # Errors
/// What the API or the records say.
pub(crate) async fn leftovers(context: &Context, gce: &Gce) -> Result<usize> {
    let rows = look(gce, &question(context, false)?).await?;
    Ok(rows.iter().filter(|(_, reason)| reason.is_some()).count())
}

/// Deletes side by side; machines first, because they have disks.
async fn delete(gce: &Gce, things: &[&Thing]) -> Result<()> {
    let mut failed = None;
    for kind in [Kind::Machine, Kind::Disk, Kind::Image] {
        let of_kind = things.iter().filter(|thing| thing.kind == kind);
        let done = join_all(of_kind.map(async |thing| {
            let zone = thing.zone.as_deref().unwrap_or_default();
            match kind {
                Kind::Machine => gce.delete_vm(zone, &thing.name).await,
                Kind::Disk => gce.delete_disk(zone, &thing.name).await,
                Kind::Image => gce.delete_image(&thing.name).await,
            }
        }));
        for error in done.await.into_iter().filter_map(Result::err) {
            ui::warn(&error);
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn show(context: &Context, rows: &[(Thing, Option<Reason>)], question: &Question) {
    let until = |thing: &Thing| thing.ownership.expiry.to_string();
    if context.json {
        let rows = rows.iter().map(|(thing, reason)| {
            json!({"kind": thing.kind.word(), "name": thing.name, "zone": thing.zone, "deployment": thing.ownership.deployment,
                   "owner": thing.ownership.owner, "until": until(thing), "goes": reason.map(Reason::words)})
        });
        return ui::out(serde_json::Value::Array(rows.collect()));
    }
    if rows.is_empty() {
        return ui::out("nothing of maestro's is left");
    }
    let header = ["kind", "name", "zone", "deployment", "owner", "until", "goes"].map(str::to_owned).to_vec();
    let row = |(thing, reason): &(Thing, Option<Reason>)| {
        let stays = if thing.ownership.owner == question.owner { "no: in use (--all takes it)" } else { "no: in use" };
        let owner = &thing.ownership;
        [
            thing.kind.word(),
            &thing.name,
            thing.zone.as_deref().unwrap_or("-"),
            &owner.deployment,
            &owner.owner,
            &until(thing),
            reason.map_or(stays, Reason::words),
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let table: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(row)).collect();
    ui::out_raw(ui::table(&table));
}
