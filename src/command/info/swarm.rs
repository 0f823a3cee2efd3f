//! `info` about a swarm and its hosts: who they are, what runs on them, and what it says.

use futures_util::StreamExt;

use super::Request;
use crate::Context;
use crate::cluster::{Facts, STACK};
use crate::command::{Current, hosts};
use crate::error::{Plain, Result};
use crate::execute::cluster::Hosts;
use crate::execute::docker::{Engine, LogRequest};
use crate::execute::until_interrupted;
use crate::inventory::{Inventory, Role};
use crate::swarm::NAMESPACE;
use crate::ui;

/// `-hosts`, `-groups`, `-ps` or `-logs`.
///
/// # Errors
/// When the manager cannot be asked, or there is no such service.
pub(super) async fn show(context: &Context, request: &Request, current: &Current) -> Result<()> {
    if request.groups {
        show_groups(context, &hosts::known(current)?.inventory);
        return Ok(());
    }
    if request.hosts {
        show_hosts(context, &hosts::known(current)?);
        return Ok(());
    }
    let (_, connections) = hosts::connect(context, current)?;
    let manager = connections.engine(connections.manager()?).await?;
    match &request.logs {
        Some(service) => show_log(&manager, service, request.follow).await,
        None => show_services(context, &manager, &connections).await,
    }
}

fn show_groups(context: &Context, inventory: &Inventory) {
    let names = |role: Role| inventory.with(role).map(|host| host.name.as_str()).collect::<Vec<_>>();
    if context.json {
        let groups = Role::ALL.map(|role| (role.as_str().to_owned(), serde_json::json!(names(role))));
        ui::out(serde_json::Value::Object(groups.into_iter().collect()));
        return;
    }
    for role in Role::ALL {
        ui::out(format_args!("{role}: {}", names(role).join(" ")));
    }
}

fn show_hosts(context: &Context, facts: &Facts) {
    if context.json {
        let hosts = facts.hosts.iter().map(|host| {
            let roles = facts.inventory.find(&host.name).map(|host| &host.roles);
            serde_json::json!({ "roles": roles, "facts": host })
        });
        ui::out(hosts.collect::<serde_json::Value>());
        return;
    }
    let header = ["host", "roles", "nodes", "address", "engine", "kernel", "cpus", "memory", "cpu"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for host in &facts.hosts {
        let known = facts.inventory.find(&host.name);
        let roles = known.map_or(&[][..], |known| &known.roles);
        rows.push(vec![
            host.name.clone(),
            roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(","),
            known.map_or_else(String::new, |known| known.nodes.join(",")),
            host.address.clone(),
            host.engine.clone(),
            host.kernel.clone(),
            host.cpus.to_string(),
            format!("{:.1} GB", host.memory_bytes as f64 / 1e9),
            host.cpu.clone(),
        ]);
    }
    ui::out_raw(ui::table(&rows));
}

/// A service of the stack and where it runs.
struct Row {
    service: String,
    state: String,
    host: String,
    replicas: String,
}

async fn show_services(context: &Context, manager: &Engine, hosts: &Hosts) -> Result<()> {
    let rows = rows(manager, hosts).await?;
    if context.json {
        let rows = rows.iter().map(|row| {
            serde_json::json!({
                "service": row.service, "state": row.state, "host": row.host, "replicas": row.replicas,
            })
        });
        ui::out(rows.collect::<serde_json::Value>());
        return Ok(());
    }
    if rows.is_empty() {
        ui::note("nothing runs");
        return Ok(());
    }
    let mut table = vec![["service", "state", "replicas", "host"].map(str::to_owned).to_vec()];
    table.extend(rows.into_iter().map(|row| vec![row.service, row.state, row.replicas, row.host]));
    ui::out_raw(ui::table(&table));
    Ok(())
}

/// The services of the stack, sorted; none without a swarm.
async fn rows(manager: &Engine, hosts: &Hosts) -> Result<Vec<Row>> {
    if !manager.swarm().await?.manager {
        return Ok(Vec::new());
    }
    let label = [(NAMESPACE, STACK)];
    let tasks = manager.tasks_labelled(&label).await?;
    let names = hosts.names();
    let nodes = hosts.each(&names, async |name| Ok(hosts.engine(&name).await?.swarm().await?.node)).await?;
    let mut rows = Vec::new();
    for service in manager.list_services(&label).await? {
        // The task that is meant to run, else the newest one that did.
        let mine = || tasks.iter().filter(|task| task.service == service.id);
        let task = mine().find(|task| task.wanted == "running").or_else(|| mine().next_back());
        let host = task.and_then(|task| nodes.iter().position(|node| *node == task.node)).map(|at| names[at].clone());
        let state = task.map_or("none".to_owned(), |task| {
            if task.error.is_empty() { task.state.clone() } else { format!("{}: {}", task.state, task.error) }
        });
        rows.push(Row {
            service: short(&service.name).to_owned(),
            state,
            host: host.unwrap_or_default(),
            replicas: format!("{}/{}", service.running, service.wanted),
        });
    }
    rows.sort_by(|a, b| a.service.cmp(&b.service));
    Ok(rows)
}

/// A service's name without that of its stack.
fn short(name: &str) -> &str {
    name.strip_prefix(STACK).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name)
}

async fn show_log(manager: &Engine, service: &str, follow: bool) -> Result<()> {
    let services = match manager.swarm().await?.manager {
        true => manager.list_services(&[(NAMESPACE, STACK)]).await?,
        false => Vec::new(),
    };
    let Some(found) = services.iter().find(|found| short(&found.name) == service) else {
        let mut known: Vec<&str> = services.iter().map(|service| short(&service.name)).collect();
        known.sort_unstable();
        let plain = Plain::usage(format!("no service `{service}` runs here"));
        return Err(match known.as_slice() {
            [] => plain.into(),
            known => plain.with_hint(format!("services: {}", known.join(", "))).into(),
        });
    };
    let request = LogRequest { follow, ..LogRequest::default() };
    let mut lines = std::pin::pin!(manager.service_log(&found.name, request));
    let showing = async {
        while let Some(line) = lines.next().await {
            ui::out(line?.text);
        }
        Ok::<(), crate::error::Error>(())
    };
    tokio::select! {
        shown = showing => shown,
        () = until_interrupted() => Ok(()),
    }
}
