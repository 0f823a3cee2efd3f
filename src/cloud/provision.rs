//! The machines of a deployment: which ones a placement asks for, what they are called, how a plan tells of them before
//! anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fleet::{Free, Machine, MachineRole, needs};
use super::price::Estimate;
use super::site::Site;
use super::startup::BASE_FAMILY;
use crate::inventory::{Direct, Host, Inventory, Role};
use crate::placement::{self, Clients, Placement};
use crate::plan::{Plan, Step};
use crate::ui;

/// Longest name of a machine. Source: Compute Engine documentation, "Naming resources" (RFC 1035).
const LONGEST_NAME: usize = 63;

/// Everything that has to be known to make a deployment's machines.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// The deployment's tag.
    pub tag: String,
    /// What tells it from a deployment of the same tag in another root.
    pub uid: String,
    /// The project.
    pub project: String,
    /// The machines, the manager first, clients last.
    pub machines: Vec<Machine>,
    /// Boot disk, GB.
    pub disk_gb: u32,
    /// Network.
    pub network: String,
    /// Login.
    pub user: String,
    /// Spot machines.
    pub spot: bool,
    /// They delete themselves after this time.
    pub ttl: Duration,
    /// The deployment's private key on this machine; the public one lies beside it, and so do the known hosts.
    pub key: PathBuf,
    /// What they cost.
    pub estimate: Estimate,
}

/// A machine that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its name in the placement.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its name in the project.
    pub vm: String,
    /// Zone.
    pub zone: String,
    /// Machine type.
    pub machine_type: String,
    /// Address among the machines.
    pub internal: String,
    /// Address from outside.
    pub external: String,
}

/// States of machines to ensure.
#[derive(Clone, Debug, PartialEq)]
pub enum CloudStep {
    /// A key pair that only this deployment uses.
    Key {
        /// The private key.
        path: PathBuf,
    },
    /// The machines run and let the deployment's key in.
    Machines(Box<Fleet>),
    /// No machine and no disk of the deployment is left in any zone.
    NoMachines {
        /// The deployment's tag.
        tag: String,
        /// Its uid.
        uid: String,
    },
    /// No machine image that the caller made with maestro is left.
    NoImages,
}

/// The machines that `placement` asks for, with `clients` of those that send load.
///
/// # Errors
/// Why they cannot be made, in one fragment.
pub fn machines(placement: &Placement, tag: &str, clients: u32) -> Result<Vec<Machine>, String> {
    let mut machines = Vec::new();
    if let Some(manager) = &placement.manager {
        machines.push(machine(manager, MachineRole::Manager)?);
    }
    for node in placement.nodes.values() {
        machines.push(machine(node, MachineRole::Node)?);
    }
    if let Clients::Made { zone, machine_type } = &placement.clients {
        for number in 0..clients {
            let name = format!("client{number:02}");
            let (hostname, zone, machine_type) = (name.clone(), zone.clone(), machine_type.clone());
            machines.push(Machine { name, role: MachineRole::Client, hostname, zone, machine_type });
        }
    }
    let mut names = BTreeSet::new();
    for machine in &machines {
        let name = vm_name(tag, &machine.name);
        if name.len() > LONGEST_NAME {
            return Err(format!("`{name}` is longer than the {LONGEST_NAME} characters of a machine's name"));
        }
        if !names.insert(name.clone()) {
            return Err(format!("two machines would be called `{name}`"));
        }
    }
    Ok(machines)
}

fn machine(of: &placement::Machine, role: MachineRole) -> Result<Machine, String> {
    let missing = |what: &str| format!("machine `{}` has no {what}", of.name);
    Ok(Machine {
        name: of.name.clone(),
        role,
        hostname: of.hostname.clone(),
        zone: of.zone.clone().ok_or_else(|| missing("zone"))?,
        machine_type: of.machine_type.clone().ok_or_else(|| missing("machine type"))?,
    })
}

/// The name of a machine in the project: lower-case letters, digits and `-`, a letter first.
pub fn vm_name(tag: &str, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = format!("maestro-{tag}-{name}").chars().map(plain).collect();
    text.trim_end_matches('-').to_owned()
}

impl MachineRole {
    /// What a machine of this role is among the hosts.
    pub fn host_role(self) -> Role {
        match self {
            MachineRole::Manager => Role::Manager,
            MachineRole::Node => Role::Cluster,
            MachineRole::Client => Role::Client,
        }
    }
}

/// The hosts that `machines` are; with their addresses where they are `made`.
pub fn inventory(machines: &[Machine], made: &[Made], key: &std::path::Path, user: &str) -> Inventory {
    let hosts = machines.iter().map(|machine| {
        let nodes = if machine.role == MachineRole::Node { vec![machine.name.clone()] } else { Vec::new() };
        let made = made.iter().find(|made| made.name == machine.name);
        let direct = made.map(|made| Direct { host_name: made.external.clone(), port: 22, identity: key.to_owned() });
        Host { name: machine.name.clone(), roles: vec![machine.role.host_role()], nodes, direct }
    });
    let access = crate::inventory::Access {
        default_user: Some(user.to_owned()),
        // Host keys come over the cloud's own API before the first connection.
        strict: true,
        ..crate::inventory::Access::default()
    };
    Inventory { hosts: hosts.collect(), access }
}

impl Fleet {
    /// What `machines` are and cost at `site`.
    ///
    /// # Errors
    /// When the site's time limit cannot be used.
    pub fn new(site: &Site, (tag, uid): (&str, &str), machines: Vec<Machine>, key: PathBuf) -> Result<Fleet, String> {
        let prices = site.prices.clone().unwrap_or_default();
        Ok(Fleet {
            tag: tag.to_owned(),
            uid: uid.to_owned(),
            project: site.project_id.clone(),
            estimate: prices.estimate(&machines, site.disk_gb, site.spot),
            machines,
            disk_gb: site.disk_gb,
            network: site.network.clone(),
            user: site.default_ssh_user.clone(),
            spot: site.spot,
            ttl: site.ttl()?,
            key,
        })
    }

    /// What `deploy` does before the machines are hosts.
    pub fn plan(&self, app: &str) -> Plan {
        let key = Step::Cloud(CloudStep::Key { path: self.key.clone() });
        let machines = Step::Cloud(CloudStep::Machines(Box::new(self.clone())));
        Plan::new(format!("make the machines of {app} as `{}`", self.tag))
            .stage("make a key for this deployment", vec![key])
            .stage("make the machines, all at once, and wait until they let us in", vec![machines])
    }

    /// What a person is asked to agree to. `free` tells what is left of a region's quotas, where that is known.
    pub fn overview(&self, free: &BTreeMap<String, Free>) -> String {
        let kind = if self.spot { "spot " } else { "" };
        let mut text = format!(
            "{kind}{} in project `{}`: newest image of family `{BASE_FAMILY}`, {} GB disks, network `{}`\n",
            ui::count(self.machines.len(), "machine"),
            self.project,
            self.disk_gb,
            self.network
        );
        let mut rows = vec![["machine", "role", "zone", "type", "network tags"].map(str::to_owned).to_vec()];
        for machine in &self.machines {
            let tags = machine.role.network_tags().join(" ");
            let role = machine.role.as_str().to_owned();
            rows.push(vec![machine.name.clone(), role, machine.zone.clone(), machine.machine_type.clone(), tags]);
        }
        text.push_str(&ui::table(&rows));
        let needs = needs(&self.machines);
        let left = |region: &str| free.get(region).copied().unwrap_or_default();
        let of = |region: &str, need: u32, free: Option<f64>| match free {
            Some(free) => format!("{region} {need} of {free:.0} free"),
            None => format!("{region} {need}"),
        };
        let vcpus = needs.iter().map(|(region, need)| of(region, need.vcpus, left(region).vcpus));
        text.push_str(&format!("vCPUs of the regions' quotas: {}\n", vcpus.collect::<Vec<_>>().join(", ")));
        let addresses = needs.iter().map(|(region, need)| of(region, need.addresses, left(region).addresses));
        text.push_str(&format!("addresses of the regions' quotas: {}\n", addresses.collect::<Vec<_>>().join(", ")));
        let hours = self.ttl.as_secs_f64() / 3600.0;
        text.push_str(&format!("time limit: {hours} h, then every machine deletes itself\n"));
        text.push_str(&self.estimate.line(hours));
        text
    }

    /// Regions whose quota would not do, in words.
    pub fn beyond(&self, machines: &[Machine], free: &BTreeMap<String, Free>) -> Vec<String> {
        let mut beyond = Vec::new();
        for (region, need) in needs(machines) {
            let free = free.get(&region).copied().unwrap_or_default();
            for (what, need, free) in [("vCPUs", need.vcpus, free.vcpus), ("addresses", need.addresses, free.addresses)]
            {
                if let Some(free) = free.filter(|free| f64::from(need) > *free) {
                    beyond.push(format!("{region} needs {need} {what} and has {free:.0} left"));
                }
            }
        }
        beyond
    }
}

impl Estimate {
    /// In words, for `hours`.
    fn line(&self, hours: f64) -> String {
        let unknown = match self.unknown.as_slice() {
            [] => String::new(),
            types => format!("; no price is known for {}", types.join(", ")),
        };
        format!(
            "estimate: {:.2} USD per hour, {:.2} USD until then (prices of {}, not a promise{unknown})\n",
            self.usd_per_hour,
            self.usd_per_hour * hours,
            self.as_of
        )
    }
}

impl fmt::Display for CloudStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloudStep::Key { path } => write!(f, "EnsureKey {} (ed25519, mode 0600)", path.display()),
            CloudStep::Machines(fleet) => {
                let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
                fleet.machines.iter().for_each(|machine| *zones.entry(&machine.zone).or_default() += 1);
                let zones: Vec<String> = zones.iter().map(|(zone, count)| format!("{count} in {zone}")).collect();
                let hours = fleet.ttl.as_secs_f64() / 3600.0;
                write!(f, "EnsureMachines {}; each deletes itself after {hours} h", zones.join(", "))
            }
            CloudStep::NoMachines { tag, .. } => write!(f, "EnsureGone machines and disks of `{tag}` in all zones"),
            CloudStep::NoImages => f.write_str("EnsureGone your machine images that maestro made"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::experiment::TargetName;

    fn placement() -> Placement {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/gcp/socialNetwork/us-eu.yml");
        let text = std::fs::read_to_string(path).unwrap();
        Placement::parse(TargetName::Gcp, App::find("socialNetwork").unwrap(), "us-eu.yml", &text).unwrap()
    }

    #[test]
    fn the_documents_placement_is_fourteen_machines() {
        let machines = machines(&placement(), "20261128", 1).unwrap();
        assert_eq!(machines.len(), 14);
        assert_eq!((machines[0].name.as_str(), machines[0].role), ("manager-dsb", MachineRole::Manager));
        let client = machines.last().unwrap();
        assert_eq!((client.name.as_str(), client.zone.as_str()), ("client00", "us-central1-a"));
        assert_eq!(needs(&machines).len(), 2);
    }

    #[test]
    fn names_fit_the_cloud_and_stay_apart() {
        assert_eq!(vm_name("My_Tag.1", "post-storage-eu"), "maestro-my-tag-1-post-storage-eu");
        let long = "x".repeat(60);
        assert!(machines(&placement(), &long, 1).unwrap_err().contains("longer than the 63"));
        let mut twice = placement();
        let mut node = twice.nodes["social-graph"].clone();
        node.name = "social_graph".into();
        twice.nodes.insert("social_graph".into(), node);
        assert!(machines(&twice, "t", 1).unwrap_err().contains("two machines"));
    }

    #[test]
    fn hosts_have_addresses_once_they_are_made() {
        let machines = machines(&placement(), "t", 2).unwrap();
        let made = [Made {
            name: "manager-dsb".into(),
            role: Role::Manager,
            vm: "maestro-t-manager-dsb".into(),
            zone: "us-central1-a".into(),
            machine_type: "e2-standard-2".into(),
            internal: "10.0.0.1".into(),
            external: "192.0.2.1".into(),
        }];
        let inventory = inventory(&machines, &made, std::path::Path::new("/d/ssh/id"), "root");
        assert_eq!(inventory.manager().unwrap().direct.as_ref().unwrap().host_name, "192.0.2.1");
        assert_eq!(inventory.host_of_node("frontend-us").unwrap().direct, None);
        assert_eq!(inventory.with(Role::Client).count(), 2);
        assert!(inventory.access.strict);
    }

    #[test]
    fn a_region_beyond_its_quota_is_named() {
        let site: Site = serde_saphyr::from_str("project_id: p\n").unwrap();
        let machines = machines(&placement(), "t", 1).unwrap();
        let fleet = Fleet::new(&site, ("t", "u"), machines.clone(), "k".into()).unwrap();
        let free = BTreeMap::from([
            ("us-central1".to_owned(), Free { vcpus: Some(24.0), addresses: Some(29.0) }),
            ("europe-west3".to_owned(), Free { vcpus: Some(72.0), addresses: Some(2.0) }),
        ]);
        let beyond = fleet.beyond(&machines, &free);
        assert!(beyond.len() == 2 && beyond[1].starts_with("us-central1 needs"), "{beyond:?}");
        assert_eq!(beyond[0], "europe-west3 needs 3 addresses and has 2 left");
        assert!(fleet.overview(&free).contains("of 24 free"));
    }
}
