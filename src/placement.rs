//! Placements: which service runs on which machine. A file of `configs/<target>/<app>/` becomes a checked
//! [`Placement`]; everything that is wrong with it is said at once.
//!
//! ```yaml
//! replication_pair: US->EU          # label of the compared zones, primary first; left out where nothing is replicated
//! services: {jaeger: node01, ...}   # every service of the app, once
//! manager: host                     # gsd: a host of the SSH configuration
//! clients: [host, ...]              #      the hosts that the load comes from
//! manager: {name, hostname, zone, machine_type}             # gcp: machines to be made
//! clients: {zone, machine_type}
//! nodes: {node01: {hostname, zone, machine_type}, ...}
//! endpoint_mode: vip | dnsrr        # optional: how service names resolve (vip)
//! ports: ingress | host             # optional: how ports are published (ingress)
//! ```

use std::path::Path;

use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::app::App;
use crate::compose::{EndpointMode, PublishMode};
use crate::error::{Exit, Fault};
use crate::experiment::TargetName;
use crate::store::{StoreError, parse_yaml};

/// A placement that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// No YAML of the right form.
    #[error(transparent)]
    Form(#[from] StoreError),
    /// Keys that this target cannot do without.
    #[error("`{file}`: the {} missing", keys(.missing))]
    Missing {
        /// The file.
        file: String,
        /// The keys.
        missing: Vec<&'static str>,
    },
    /// Everything that is wrong with its content.
    #[error("`{file}`: {}", .problems.join("; "))]
    Content {
        /// The file.
        file: String,
        /// One fragment each, with the line where it is known.
        problems: Vec<String>,
    },
}

impl Fault for PlacementError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            PlacementError::Missing { missing, .. } if missing.contains(&"manager") => {
                Some("name the swarm's manager (`manager: HOST`) and the load's hosts (`clients: [HOST, ...]`)".into())
            }
            _ => None,
        }
    }
}

fn keys(missing: &[&str]) -> String {
    let quoted: Vec<String> = missing.iter().map(|key| format!("`{key}`")).collect();
    match quoted.as_slice() {
        [one] => format!("key {one} is"),
        [first @ .., last] => format!("keys {} and {last} are", first.join(", ")),
        [] => "keys are".into(),
    }
}

/// A machine of a placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// How the placement calls it: a logical node, or a host of the SSH configuration.
    pub name: String,
    /// Host name that its operating system is to have; the name itself where hosts exist already.
    pub hostname: String,
    /// Zone, where machines are made.
    pub zone: Option<String>,
    /// Machine type, where machines are made.
    pub machine_type: Option<String>,
}

/// Where the load comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// From this machine.
    Here,
    /// From these hosts.
    Hosts(Vec<String>),
    /// From machines to be made; how many is for `deploy -clients` to say.
    Made {
        /// Their zone.
        zone: String,
        /// Their type.
        machine_type: String,
    },
}

/// A checked placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The file as typed.
    pub file: String,
    /// `US->EU`: label of the compared zones, primary first; empty where nothing is replicated.
    pub pair: String,
    /// Service to node; empty where there is only one machine.
    pub services: IndexMap<String, String>,
    /// The machines that run services, in the order of their first mention.
    pub nodes: IndexMap<String, Machine>,
    /// The swarm's manager.
    pub manager: Option<Machine>,
    /// Where the load comes from.
    pub clients: Clients,
    /// How service names resolve; `vip` unless the file says otherwise.
    pub endpoint_mode: Option<EndpointMode>,
    /// How ports are published; `ingress` unless the file says otherwise.
    pub ports: Option<PublishMode>,
    /// Oddities that do no harm.
    pub warnings: Vec<String>,
}

/// A file of any target; what each needs is checked afterwards, so that everything missing is named at once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<M, C> {
    replication_pair: Option<String>,
    services: Option<IndexMap<String, Spanned<String>>>,
    manager: Option<M>,
    clients: Option<C>,
    nodes: Option<IndexMap<String, RawNode>>,
    endpoint_mode: Option<RawEndpoint>,
    ports: Option<RawPorts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Option<String>,
    hostname: String,
    zone: String,
    machine_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClients {
    zone: String,
    machine_type: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawEndpoint {
    Vip,
    Dnsrr,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPorts {
    Ingress,
    Host,
}

impl Placement {
    /// Reads and checks a placement for `app` on `target`. `file` is how messages name it.
    ///
    /// # Errors
    /// [`PlacementError`]: not the form of this target, keys missing, services that are unknown, missing or placed on
    /// undefined nodes (all of them at once).
    pub fn parse(target: TargetName, app: &App, file: &str, text: &str) -> Result<Self, PlacementError> {
        let path = Path::new(file);
        match target {
            TargetName::Gcp => made(app, file, parse_yaml(path, text)?),
            TargetName::Gsd => hosts(app, file, parse_yaml(path, text)?),
            TargetName::Local | TargetName::Embedded => here(app, file, parse_yaml(path, text)?),
        }
    }

    /// The machine that runs `service`.
    pub fn machine_of(&self, service: &str) -> Option<&Machine> {
        self.services.get(service).and_then(|node| self.nodes.get(node))
    }

    /// The services that run on `node`, in the file's order.
    pub fn services_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a str> {
        self.services.iter().filter(move |(_, other)| other.as_str() == node).map(|(service, _)| service.as_str())
    }
}

/// `gcp`: the machines are made from the file.
fn made(app: &App, file: &str, raw: Raw<RawNode, RawClients>) -> Result<Placement, PlacementError> {
    let pair = pair(app, raw.replication_pair);
    let missing = missing(&[
        ("replication_pair", pair.is_some()),
        ("services", raw.services.is_some()),
        ("manager", raw.manager.is_some()),
        ("clients", raw.clients.is_some()),
        ("nodes", raw.nodes.is_some()),
    ]);
    let (Some(pair), Some(services), Some(manager), Some(clients), Some(nodes)) =
        (pair, raw.services, raw.manager, raw.clients, raw.nodes)
    else {
        return Err(PlacementError::Missing { file: file.into(), missing });
    };
    let mut problems = check_services(app, &services);
    for (service, node) in &services {
        if !nodes.contains_key(&node.value) {
            problems.push(format!(
                "`{service}` is placed on `{}`, which `nodes` does not define{}",
                node.value,
                line(node)
            ));
        }
    }
    let machine = |name: String, node: RawNode| Machine {
        name,
        hostname: node.hostname,
        zone: Some(node.zone),
        machine_type: Some(node.machine_type),
    };
    let manager = machine(manager.name.clone().unwrap_or_else(|| "manager".into()), manager);
    let nodes: IndexMap<String, Machine> =
        nodes.into_iter().map(|(name, node)| (name.clone(), machine(name, node))).collect();
    problems.extend(shared_hostnames(nodes.values().chain([&manager])));
    let used: IndexSet<&str> = services.values().map(|node| node.value.as_str()).collect();
    let idle = nodes.keys().filter(|node| !used.contains(node.as_str()));
    let warnings = idle.map(|node| format!("`{file}`: no service is placed on node `{node}`")).collect();
    if !problems.is_empty() {
        return Err(PlacementError::Content { file: file.into(), problems });
    }
    Ok(Placement {
        file: file.into(),
        pair,
        services: plain(services),
        nodes,
        manager: Some(manager),
        clients: Clients::Made { zone: clients.zone, machine_type: clients.machine_type },
        endpoint_mode: raw.endpoint_mode.map(Into::into),
        ports: raw.ports.map(Into::into),
        warnings,
    })
}

/// `gsd`: the hosts exist.
fn hosts(app: &App, file: &str, raw: Raw<String, Vec<String>>) -> Result<Placement, PlacementError> {
    let pair = pair(app, raw.replication_pair);
    let missing = missing(&[
        ("replication_pair", pair.is_some()),
        ("services", raw.services.is_some()),
        ("manager", raw.manager.is_some()),
        ("clients", raw.clients.is_some()),
    ]);
    let (Some(pair), Some(services), Some(manager), Some(clients)) = (pair, raw.services, raw.manager, raw.clients)
    else {
        return Err(PlacementError::Missing { file: file.into(), missing });
    };
    let mut problems = check_services(app, &services);
    if clients.is_empty() {
        problems.push("`clients` names no host".into());
    }
    if raw.nodes.is_some() {
        problems.push("`nodes` has no meaning here: services are placed on hosts of the SSH configuration".into());
    }
    let named = services.values().map(|node| node.value.as_str()).chain([manager.as_str()]);
    for host in named.chain(clients.iter().map(String::as_str)) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':');
        let problem = format!("`{}` cannot be a host", host.escape_debug());
        if (host.is_empty() || host.starts_with('-') || !host.chars().all(plain)) && !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return Err(PlacementError::Content { file: file.into(), problems });
    }
    let machine = |host: &str| Machine { name: host.into(), hostname: host.into(), zone: None, machine_type: None };
    let nodes = services.values().map(|node| (node.value.clone(), machine(&node.value))).collect();
    Ok(Placement {
        file: file.into(),
        pair,
        services: plain(services),
        nodes,
        manager: Some(machine(&manager)),
        clients: Clients::Hosts(clients),
        endpoint_mode: raw.endpoint_mode.map(Into::into),
        ports: raw.ports.map(Into::into),
        warnings: Vec::new(),
    })
}

/// One machine: the pair is all that is left to say.
fn here(app: &App, file: &str, raw: Raw<String, Vec<String>>) -> Result<Placement, PlacementError> {
    let Some(pair) = pair(app, raw.replication_pair) else {
        return Err(PlacementError::Missing { file: file.into(), missing: vec!["replication_pair"] });
    };
    let given = [
        ("services", raw.services.is_some()),
        ("manager", raw.manager.is_some()),
        ("clients", raw.clients.is_some()),
        ("nodes", raw.nodes.is_some()),
    ];
    let idle = given.iter().filter(|(_, given)| *given);
    let warnings = idle.map(|(key, _)| format!("`{file}`: `{key}` has no effect on a single machine")).collect();
    Ok(Placement {
        file: file.into(),
        pair,
        services: IndexMap::new(),
        nodes: IndexMap::new(),
        manager: None,
        clients: Clients::Here,
        endpoint_mode: raw.endpoint_mode.map(Into::into),
        ports: raw.ports.map(Into::into),
        warnings,
    })
}

/// The label of the compared zones, which only an app that replicates nothing can do without.
fn pair(app: &App, given: Option<String>) -> Option<String> {
    given.or_else(|| app.replication.is_none().then(String::new))
}

fn missing(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    keys.iter().filter(|(_, given)| !given).map(|(key, _)| *key).collect()
}

/// Services that the app does not have, and services of the app that are not placed.
fn check_services(app: &App, placed: &IndexMap<String, Spanned<String>>) -> Vec<String> {
    let unknown = placed.iter().filter(|(name, _)| !app.services.iter().any(|service| service.name == name.as_str()));
    let unknown: Vec<String> = unknown.map(|(name, node)| format!("`{name}`{}", line(node))).collect();
    let absent = app.services.iter().filter(|service| !placed.contains_key(service.name));
    let absent: Vec<String> = absent.map(|service| format!("`{}`", service.name)).collect();
    let mut problems = Vec::new();
    if !unknown.is_empty() {
        problems.push(format!("{} has no {}", app.name, unknown.join(", ")));
    }
    if !absent.is_empty() {
        problems.push(format!("not placed: {}", absent.join(", ")));
    }
    problems
}

fn shared_hostnames<'a>(machines: impl Iterator<Item = &'a Machine>) -> Vec<String> {
    let mut first: IndexMap<&str, &str> = IndexMap::new();
    let mut problems = Vec::new();
    for machine in machines {
        if let Some(other) = first.insert(&machine.hostname, &machine.name) {
            problems.push(format!("`{other}` and `{}` share the host name `{}`", machine.name, machine.hostname));
        }
    }
    problems
}

fn line(node: &Spanned<String>) -> String {
    match node.referenced.line() {
        0 => String::new(),
        line => format!(" (line {line})"),
    }
}

fn plain(services: IndexMap<String, Spanned<String>>) -> IndexMap<String, String> {
    services.into_iter().map(|(service, node)| (service, node.value)).collect()
}

impl From<RawEndpoint> for EndpointMode {
    fn from(raw: RawEndpoint) -> Self {
        match raw {
            RawEndpoint::Vip => EndpointMode::Vip,
            RawEndpoint::Dnsrr => EndpointMode::Dnsrr,
        }
    }
}

impl From<RawPorts> for PublishMode {
    fn from(raw: RawPorts) -> Self {
        match raw {
            RawPorts::Ingress => PublishMode::Ingress,
            RawPorts::Host => PublishMode::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> &'static App {
        App::find("socialNetwork").unwrap()
    }

    fn shipped(target: TargetName, name: &str) -> (String, String) {
        let file = format!("configs/{target}/socialNetwork/{name}.yml");
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
        (file, text)
    }

    fn parse(target: TargetName, name: &str) -> Result<Placement, PlacementError> {
        let (file, text) = shipped(target, name);
        Placement::parse(target, app(), &file, &text)
    }

    #[test]
    fn every_shipped_placement_is_usable() {
        for name in ["us-eu", "us-sg", "us-br", "colocated", "singlenode"] {
            let placement = parse(TargetName::Gcp, name).unwrap();
            assert_eq!((placement.services.len(), placement.warnings.len()), (42, 0), "{name}");
        }
        let spread = parse(TargetName::Gcp, "us-eu").unwrap();
        assert_eq!(spread.nodes.len(), 12);
        let remote = spread.machine_of("post-storage-mongodb-us").unwrap();
        assert_eq!(
            (remote.hostname.as_str(), remote.zone.as_deref()),
            ("post-storage-us.pluribus", Some("europe-west3-a"))
        );
        let lab = parse(TargetName::Gsd, "singlenode").unwrap();
        assert_eq!((lab.nodes.len(), &lab.clients), (1, &Clients::Hosts(vec!["angainor".into()])));
        assert_eq!(parse(TargetName::Local, "debug").unwrap().pair, "US->EU");
    }

    #[test]
    fn the_old_files_without_manager_and_clients_are_told_so() {
        for name in ["socialNetwork-gsd-20201115", "socialNetwork-gsd-split-cluster"] {
            let error = parse(TargetName::Gsd, name).unwrap_err();
            let expected =
                format!("`configs/gsd/socialNetwork/{name}.yml`: the keys `manager` and `clients` are missing");
            assert_eq!(error.to_string(), expected);
            assert!(error.hint().unwrap().contains("manager: HOST"));
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_lines() {
        let (_, text) = shipped(TargetName::Gcp, "us-eu");
        let text = text
            .replace("  jaeger: admin-tracing\n", "  jagger: admin-tracing\n")
            .replace("  text-service: compose-post\n", "  text-service: nowhere\n")
            .replace("  xtrace-server: admin-tracing\n", "");
        let error = Placement::parse(TargetName::Gcp, app(), "f.yml", &text).unwrap_err().to_string();
        let line = |key: &str| text.lines().position(|l| l.trim_start().starts_with(key)).unwrap() + 1;
        assert_eq!(
            error,
            format!(
                "`f.yml`: socialNetwork has no `jagger` (line {}); not placed: `jaeger`, `xtrace-server`; \
                 `text-service` is placed on `nowhere`, which `nodes` does not define (line {})",
                line("jagger"),
                line("text-service")
            )
        );
    }

    #[test]
    fn twice_placed_unknown_keys_and_wrong_words_are_refused() {
        let refused = |change: &dyn Fn(String) -> String| {
            let (_, text) = shipped(TargetName::Gsd, "singlenode");
            Placement::parse(TargetName::Gsd, app(), "f.yml", &change(text)).unwrap_err().to_string()
        };
        assert!(refused(&|t| t.replace("  jaeger: saturn2\n", "  jaeger: a\n  jaeger: b\n")).contains("jaeger"));
        assert!(refused(&|t| t + "managers: x\n").contains("managers"));
        assert!(refused(&|t| t + "endpoint_mode: best\n").contains("best"));
        assert!(refused(&|t| t.replace("manager: angainor", "manager: -oProxyCommand=x")).contains("cannot be a host"));
        assert!(refused(&|t| t.replace("clients:\n  - angainor", "clients: []")).contains("names no host"));
    }

    #[test]
    fn modes_are_read() {
        let (file, text) = shipped(TargetName::Gsd, "singlenode");
        let text = text + "endpoint_mode: dnsrr\nports: host\n";
        let placement = Placement::parse(TargetName::Gsd, app(), &file, &text).unwrap();
        assert_eq!((placement.endpoint_mode, placement.ports), (Some(EndpointMode::Dnsrr), Some(PublishMode::Host)));
    }
}
