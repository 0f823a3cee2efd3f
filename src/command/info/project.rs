//! `info` about a cloud's project: which deployments have machines there, whether or not this root knows of them.

use jiff::Timestamp;
use serde_json::json;

use crate::Context;
use crate::cloud::site::Site;
use crate::cloud::{NODE, ROLE};
use crate::command::gcp;
use crate::command::project::{self, Found};
use crate::error::Result;
use crate::execute::gce::Vm;
use crate::experiment::TargetName;
use crate::store::Deployment;
use crate::ui;

/// What was found, and when.
pub(super) struct Project {
    site: Site,
    owner: String,
    now: Timestamp,
    found: Vec<Found>,
}

/// Asks the cloud; `None` for a target without one, and where no site file says which project it is.
///
/// # Errors
/// What the API or the credentials say.
pub(super) async fn look(context: &Context, target: TargetName) -> Result<Option<Project>> {
    if target != TargetName::Gcp || context.store.site_facts(target)?.is_none() {
        return Ok(None);
    }
    let site = match gcp::site(context) {
        Ok(site) => site,
        Err(error) => {
            ui::warn(format_args!("no project was looked at: {}", error.line()));
            return Ok(None);
        }
    };
    let gce = gcp::connect(context, &site).await?;
    let found = project::look(&gce).await?;
    Ok(Some(Project { site, owner: gcp::owner(), now: Timestamp::now(), found }))
}

/// A project that could not be looked at is a warning beside records, and an error where there are none: then nobody
/// knows whether something is there.
///
/// # Errors
/// As `looked`, without records.
pub(super) fn for_certain(looked: Result<Option<Project>>, known: &[Deployment]) -> Result<Option<Project>> {
    match looked {
        Err(error) if !known.is_empty() => {
            ui::warn(format_args!("the project could not be looked at: {}", error.line()));
            Ok(None)
        }
        other => other,
    }
}

impl Project {
    /// Deployments, then their machines, then the next move for those that are recorded nowhere here.
    pub(super) fn show(&self, known: &[Deployment]) {
        if self.found.is_empty() {
            return ui::out(format_args!("project `{}` has no machine of maestro's", self.site.project_id));
        }
        let header = ["in the project", "owner", "machines", "disks", "until", "hours", "about USD", "recorded here"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.found.iter().map(|found| self.row(found, known)));
        ui::out("");
        ui::out_raw(ui::table(&rows));
        let header = ["machine", "deployment", "node", "role", "zone", "type", "state", "address", "inside"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for found in &self.found {
            rows.extend(found.machines.iter().map(|vm| machine(found, vm)));
        }
        if rows.len() > 1 {
            ui::out("");
            ui::out_raw(ui::table(&rows));
        }
        self.next(known);
    }

    fn row(&self, found: &Found, known: &[Deployment]) -> Vec<String> {
        vec![
            found.tag.clone(),
            found.owner.clone(),
            found.machines.len().to_string(),
            found.disks.to_string(),
            found.expiry.to_string(),
            format!("{:.2}", found.hours(self.now)),
            format!("{:.2}", found.usd(&self.site, self.now)),
            if recorded(found, known) { "yes" } else { "no" }.to_owned(),
        ]
    }

    fn next(&self, known: &[Deployment]) {
        for found in self.found.iter().filter(|found| !recorded(found, known) && found.owner == self.owner) {
            let (tag, expired) = (&found.tag, found.expiry <= self.now);
            let next = match expired || found.uid.is_empty() {
                true => "maestro --gcp gc".to_owned(),
                false => format!("maestro --gcp clean -strong -tag {tag}"),
            };
            ui::out(format_args!("`{tag}` is yours and not recorded here; to delete it: {next}"));
        }
    }

    /// The same for programs.
    pub(super) fn as_json(&self, known: &[Deployment]) -> serde_json::Value {
        let machine = |vm: &Vm| {
            json!({"name": vm.name, "node": vm.labels.get(NODE), "role": vm.labels.get(ROLE), "zone": vm.zone,
                   "machine_type": vm.machine_type, "state": vm.state.word(), "external": vm.external_ip,
                   "internal": vm.internal_ip})
        };
        let deployments = self.found.iter().map(|found| {
            let machines: Vec<_> = found.machines.iter().map(machine).collect();
            json!({"tag": found.tag, "uid": found.uid, "owner": found.owner, "until": found.expiry.to_string(),
                   "hours": found.hours(self.now), "usd_estimate": found.usd(&self.site, self.now),
                   "recorded": recorded(found, known), "disks": found.disks, "machines": machines})
        });
        json!({"project": self.site.project_id, "deployments": deployments.collect::<Vec<_>>()})
    }
}

fn recorded(found: &Found, known: &[Deployment]) -> bool {
    known.iter().any(|deployment| found.is(deployment))
}

fn machine(found: &Found, vm: &Vm) -> Vec<String> {
    let label = |key: &str| vm.labels.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    let address = |address: &Option<String>| address.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        vm.name.clone(),
        found.tag.clone(),
        label(NODE),
        label(ROLE),
        vm.zone.clone(),
        vm.machine_type.clone(),
        vm.state.word().to_owned(),
        address(&vm.external_ip),
        address(&vm.internal_ip),
    ]
}
