//! What the project has of each deployment, as labels tell: also for a root whose records are lost.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cloud::site::Site;
use crate::cloud::{Ownership, UID, label_value};
use crate::error::Result;
use crate::execute::gce::{Gce, Vm};
use crate::store::Deployment;

/// A deployment that has machines or disks in the project.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its tag, as the label has it.
    pub tag: String,
    /// What tells it from one of the same tag in another root; empty where that is not labelled.
    pub uid: String,
    /// Who made it.
    pub owner: String,
    /// When the last of its things may be deleted.
    pub expiry: Timestamp,
    /// Its machines.
    pub machines: Vec<Vm>,
    /// Disks that no machine has.
    pub disks: usize,
}

/// Asks for everything that carries maestro's labels, sorted by tag.
///
/// # Errors
/// What the API says.
pub(crate) async fn look(gce: &Gce) -> Result<Vec<Found>> {
    let (machines, disks) = tokio::try_join!(gce.vms(None), gce.own_disks())?;
    let mut all = BTreeMap::new();
    for vm in machines {
        let Some(ownership) = vm.ownership() else { continue };
        entry(&mut all, ownership, &vm.labels).machines.push(vm);
    }
    for disk in disks.into_iter().filter(|disk| !disk.attached) {
        let Some(ownership) = disk.ownership() else { continue };
        entry(&mut all, ownership, &disk.labels).disks += 1;
    }
    Ok(all.into_values().collect())
}

/// Tag, uid and owner.
type Key = (String, String, String);

fn entry<'a>(
    all: &'a mut BTreeMap<Key, Found>,
    ownership: Ownership,
    labels: &BTreeMap<String, String>,
) -> &'a mut Found {
    let Ownership { deployment: tag, owner, expiry } = ownership;
    let uid = labels.get(UID).cloned().unwrap_or_default();
    let key = (tag.clone(), uid.clone(), owner.clone());
    let found = all.entry(key).or_insert(Found { tag, uid, owner, expiry, machines: Vec::new(), disks: 0 });
    found.expiry = found.expiry.max(expiry);
    found
}

impl Found {
    /// Whether `deployment` is the record of it.
    pub(crate) fn is(&self, deployment: &Deployment) -> bool {
        self.tag == label_value(&deployment.tag) && self.uid == label_value(deployment.uid())
    }

    /// How long its oldest machine has been there, hours.
    pub(crate) fn hours(&self, now: Timestamp) -> f64 {
        self.machines.iter().map(|vm| hours_of(vm, now)).fold(0.0, f64::max)
    }

    /// What its machines have cost since they were made, USD, by the site's prices: an estimate. Types without a price
    /// count as 0.
    pub(crate) fn usd(&self, site: &Site, now: Timestamp) -> f64 {
        let prices = site.prices.clone().unwrap_or_default();
        let of_one = |vm: &Vm| prices.of_one(&vm.zone, &vm.machine_type, site.disk_gb, site.spot).unwrap_or(0.0);
        self.machines.iter().map(|vm| of_one(vm) * hours_of(vm, now)).sum()
    }
}

fn hours_of(vm: &Vm, now: Timestamp) -> f64 {
    vm.created.map_or(0.0, |created| (now.as_second() - created.as_second()).max(0) as f64 / 3600.0)
}
