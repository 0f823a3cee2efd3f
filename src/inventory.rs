//! Hosts of a deployment: who they are, what each is for, and how they are reached.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::placement::{Clients, Placement};

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Manages the swarm.
    Manager,
    /// Runs services.
    Cluster,
    /// Sends load.
    Client,
}

impl Role {
    /// All roles, as groups of hosts may be named.
    pub const ALL: [Role; 3] = [Role::Manager, Role::Cluster, Role::Client];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Manager => "manager",
            Role::Cluster => "cluster",
            Role::Client => "client",
        }
    }

    /// The role that a group's name means: the word, its plural, or the Python tool's names.
    pub fn from_group(name: &str) -> Option<Role> {
        match name {
            "manager" | "managers" | "swarm_manager" => Some(Role::Manager),
            "cluster" | "nodes" => Some(Role::Cluster),
            "client" | "clients" => Some(Role::Client),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When root's rights are asked for on hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sudo {
    /// Where the user may not open the engine's socket.
    #[default]
    Auto,
    /// Never.
    Never,
    /// For the engine, always.
    Always,
}

/// A host with an address of its own, where it is not the SSH configuration that knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direct {
    /// Name or address to connect to.
    pub host_name: String,
    /// TCP port.
    pub port: u16,
    /// The user's private key.
    pub identity: PathBuf,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name: in the placement, in messages and, unless `direct` is given, in the SSH configuration.
    pub name: String,
    /// What it is for.
    pub roles: Vec<Role>,
    /// Logical nodes of the placement that it plays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// How to reach it without the SSH configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
}

impl Host {
    /// Whether it has the role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// How the hosts of a site are reached and used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The SSH configuration; the user's own when absent. `~` is the home directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_config: Option<String>,
    /// The user where the configuration names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_user: Option<String>,
    /// A directory that all hosts share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_path: Option<String>,
    /// When root's rights are asked for.
    #[serde(default)]
    pub sudo: Sudo,
    /// Refuse hosts whose key is not known.
    #[serde(default)]
    pub strict: bool,
}

/// The hosts of a deployment, the manager first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Every host once, whatever its roles.
    pub hosts: Vec<Host>,
    /// How they are reached.
    pub access: Access,
}

impl Inventory {
    /// The hosts that `placement` names: the manager, then those of services, then those of clients.
    pub fn of_placement(placement: &Placement, access: Access) -> Self {
        let mut inventory = Inventory { hosts: Vec::new(), access };
        if let Some(manager) = &placement.manager {
            inventory.add(&manager.name, Role::Manager);
        }
        for node in placement.nodes.values() {
            inventory.add(&node.name, Role::Cluster).nodes.push(node.name.clone());
        }
        if let Clients::Hosts(clients) = &placement.clients {
            for client in clients {
                inventory.add(client, Role::Client);
            }
        }
        inventory
    }

    /// The host called `name`, made if it is new, with `role` among its roles.
    fn add(&mut self, name: &str, role: Role) -> &mut Host {
        let index = match self.hosts.iter().position(|host| host.name == name) {
            Some(index) => index,
            None => {
                self.hosts.push(Host { name: name.to_owned(), roles: Vec::new(), nodes: Vec::new(), direct: None });
                self.hosts.len() - 1
            }
        };
        let host = &mut self.hosts[index];
        if !host.roles.contains(&role) {
            host.roles.push(role);
        }
        host
    }

    /// The host called `name`.
    pub fn find(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Hosts with the role, in order.
    pub fn with(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.is(role))
    }

    /// The swarm's manager.
    pub fn manager(&self) -> Option<&Host> {
        self.with(Role::Manager).next()
    }

    /// The host that plays the logical node `node`.
    pub fn host_of_node(&self, node: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.nodes.iter().any(|other| other == node))
    }

    /// The hosts that are meant by names and groups together, in the inventory's order; all when nothing is named.
    ///
    /// # Errors
    /// The names that mean nothing here.
    pub fn select(&self, hosts: &[String], groups: &[String]) -> Result<Vec<&Host>, Vec<String>> {
        let strange_host = |name: &&String| self.find(name).is_none();
        let strange_group = |name: &&String| name.as_str() != "all" && Role::from_group(name).is_none();
        let strange: Vec<String> =
            hosts.iter().filter(strange_host).chain(groups.iter().filter(strange_group)).cloned().collect();
        if !strange.is_empty() {
            return Err(strange);
        }
        let all = hosts.is_empty() && groups.is_empty();
        let meant = |host: &&Host| {
            let by_group = |name: &String| name == "all" || Role::from_group(name).is_some_and(|role| host.is(role));
            all || hosts.contains(&host.name) || groups.iter().any(by_group)
        };
        Ok(self.hosts.iter().filter(meant).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Inventory, Role};
    use crate::app::App;
    use crate::experiment::TargetName;
    use crate::placement::Placement;

    fn inventory() -> Inventory {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/gsd/socialNetwork/singlenode.yml");
        let text = std::fs::read_to_string(path).unwrap();
        let app = App::find("socialNetwork").unwrap();
        let placement = Placement::parse(TargetName::Gsd, app, "singlenode.yml", &text).unwrap();
        Inventory::of_placement(&placement, Access::default())
    }

    #[test]
    fn a_host_with_several_roles_is_one_host() {
        let inventory = inventory();
        let seen: Vec<(&str, &[Role])> =
            inventory.hosts.iter().map(|host| (host.name.as_str(), host.roles.as_slice())).collect();
        assert_eq!(seen, [("angainor", &[Role::Manager, Role::Client][..]), ("saturn2", &[Role::Cluster][..])]);
        assert_eq!(inventory.host_of_node("saturn2").unwrap().name, "saturn2");
        assert_eq!(inventory.manager().unwrap().name, "angainor");
    }

    #[test]
    fn hosts_and_groups_add_up() {
        let inventory = inventory();
        let names = |hosts: &[&str], groups: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            inventory
                .select(&owned(hosts), &owned(groups))
                .map(|found| found.iter().map(|host| host.name.clone()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&[], &[]).unwrap(), "angainor saturn2");
        assert_eq!(names(&["saturn2"], &[]).unwrap(), "saturn2");
        assert_eq!(names(&["saturn2"], &["clients"]).unwrap(), "angainor saturn2");
        assert_eq!(names(&[], &["cluster"]).unwrap(), "saturn2");
        assert_eq!(names(&["x"], &["y", "all"]).unwrap_err(), ["x", "y"]);
    }
}
