//! The machines of a deployment.

use std::collections::BTreeMap;

use super::region;

/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineRole {
    /// The swarm's manager.
    Manager,
    /// Runs services.
    Node,
    /// Sends load.
    Client,
}

impl MachineRole {
    /// The value of the `role` label.
    pub fn as_str(self) -> &'static str {
        match self {
            MachineRole::Manager => "manager",
            MachineRole::Node => "node",
            MachineRole::Client => "client",
        }
    }

    /// Network tags that the firewall rules refer to.
    pub fn network_tags(self) -> [&'static str; 2] {
        match self {
            MachineRole::Manager => ["swarm", "portainer"],
            MachineRole::Node | MachineRole::Client => ["swarm", "nodes"],
        }
    }
}

/// One machine to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The name in the placement (`post-storage-eu`, `manager-dsb`, `client00`).
    pub name: String,
    /// What for.
    pub role: MachineRole,
    /// Its host name inside the deployment.
    pub hostname: String,
    /// Zone.
    pub zone: String,
    /// Machine type.
    pub machine_type: String,
}

/// vCPUs of a predefined machine type; `None` for names that do not end in a number.
/// Source: Compute Engine documentation, "General-purpose machine family": the shared-core E2 types have 2 vCPUs.
pub fn vcpus(machine_type: &str) -> Option<u32> {
    match machine_type {
        "e2-micro" | "e2-small" | "e2-medium" => Some(2),
        other => other.rsplit('-').next()?.parse().ok(),
    }
}

/// What machines take of a region's quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// vCPUs; machine types without a known size are left out.
    pub vcpus: u32,
    /// External addresses: one per machine.
    pub addresses: u32,
}

/// What is left of a region's quotas; `None` where the API does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Free {
    /// vCPUs.
    pub vcpus: Option<f64>,
    /// External addresses.
    pub addresses: Option<f64>,
}

/// What `machines` need per region, for the quota check.
pub fn needs(machines: &[Machine]) -> BTreeMap<String, Need> {
    let mut regions: BTreeMap<String, Need> = BTreeMap::new();
    for machine in machines {
        let need = regions.entry(region(&machine.zone).to_owned()).or_default();
        need.vcpus += vcpus(&machine.machine_type).unwrap_or(0);
        need.addresses += 1;
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(zone: &str, machine_type: &str) -> Machine {
        Machine {
            name: "m".into(),
            role: MachineRole::Node,
            hostname: "m".into(),
            zone: zone.into(),
            machine_type: machine_type.into(),
        }
    }

    #[test]
    fn quota_is_counted_per_region() {
        let machines = [
            machine("us-central1-a", "e2-standard-4"),
            machine("us-central1-b", "e2-medium"),
            machine("europe-west3-a", "e2-standard-8"),
        ];
        let needed = needs(&machines);
        assert_eq!(needed["us-central1"], Need { vcpus: 6, addresses: 2 });
        assert_eq!(needed["europe-west3"], Need { vcpus: 8, addresses: 1 });
    }
}
