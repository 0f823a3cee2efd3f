//! The hosts as one swarm, formed or joined so often that it is one, and labelled so that services find their nodes.

use std::collections::HashMap;
use std::time::Duration;

use super::Hosts;
use super::preflight::is_ours;
use crate::cluster::{JOINED, MAESTRO, SWARM_PORT, TOOL};
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::docker::{Engine, NodeFacts, SwarmFacts};
use crate::execute::ssh::Exec;
use crate::swarm::NODE_LABEL;
use crate::ui;
use crate::wait::{self, Look};

/// Longest wait for nodes to be ready.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// Longest wait for an engine that was told to join a swarm by somebody who has gone.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// One host's engine and what it says about its swarm.
struct Member {
    name: String,
    engine: Engine,
    facts: SwarmFacts,
}

/// Ensures that all hosts are nodes of the manager's swarm.
///
/// # Errors
/// Exit code 3 for hosts in somebody else's swarm (unless `force`), [`wait::TimedOut`] when nodes do not become ready.
pub(super) async fn ensure(hosts: &Hosts, force: bool) -> Result<Outcome> {
    let names = hosts.names();
    let manager_name = hosts.manager()?.to_owned();
    let addresses = hosts.each(&names, async |name| address(hosts, &name).await).await?;
    let addresses: HashMap<String, String> = names.iter().cloned().zip(addresses).collect();
    let members = hosts.each(&names, async |name| member(hosts, name).await).await?;
    refuse_foreign(&members, &manager_name, force).await?;

    let manager = form(&members, &manager_name, &addresses[&manager_name]).await?;
    let token = manager.join_tokens().await?.worker;
    let remote = [format!("{}:{SWARM_PORT}", addresses[&manager_name])];
    let known = manager.nodes().await?;
    let others: Vec<String> = names.iter().filter(|name| **name != manager_name).cloned().collect();
    hosts
        .each(&others, async |name| {
            let member = members.iter().find(|member| member.name == name);
            let Some(member) = member else { return Ok(()) };
            join(member, &known, token.expose(), &remote, &addresses[&name]).await
        })
        .await?;
    let ids = ready(hosts, &manager).await?;
    label(hosts, &manager, &ids).await?;
    Ok(Outcome::Nodes(ids.into_iter().collect()))
}

async fn member(hosts: &Hosts, name: String) -> Result<Member> {
    let engine = hosts.engine(&name).await?;
    // A join that was cut off goes on inside the engine; only then it is known which swarm it is in.
    let what = format!("the end of a join of {name}");
    let facts = wait::until(&what, JOIN_LIMIT, LOOK_INTERVAL, || async {
        match engine.swarm().await {
            Ok(facts) if facts.active && facts.node.is_empty() => Look::NotYet("still joining".to_owned()),
            facts => Look::Ready(facts),
        }
    })
    .await??;
    Ok(Member { name, engine, facts })
}

/// The address that a host gives to the others: where SSH reaches it.
pub(super) async fn address(hosts: &Hosts, name: &str) -> Result<String> {
    let script = "set -- $SSH_CONNECTION; case $3 in 127.*|::1|'') hostname -I | cut -d' ' -f1;; *) echo \"$3\";; esac";
    Ok(hosts.remote(name)?.run_ok(&Exec::script(script, &[])).await?.text())
}

/// The swarm of one of our managers knows its nodes; an engine that none of them knows is in somebody else's.
async fn refuse_foreign(members: &[Member], manager: &str, force: bool) -> Result<()> {
    let mut ours: Vec<String> = Vec::new();
    for member in members.iter().filter(|member| member.facts.manager) {
        if is_ours(&member.engine.swarm_labels().await?) {
            ours.extend(member.engine.nodes().await?.into_iter().map(|node| node.id));
        }
    }
    let main = members.iter().find(|member| member.name == manager);
    let adopted = match main {
        Some(member) if force && member.facts.manager => member.engine.nodes().await?,
        _ => Vec::new(),
    };
    let foreign: Vec<&Member> = members
        .iter()
        .filter(|member| member.facts.active && !ours.contains(&member.facts.node))
        .filter(|member| !adopted.iter().any(|node| node.id == member.facts.node))
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = foreign.iter().map(|member| format!("`{}`", member.name)).collect();
    let names = names.join(", ");
    if !force {
        let (verb, swarm) = if foreign.len() == 1 { ("is", "a swarm") } else { ("are", "swarms") };
        let why = format!("{names} {verb} in {swarm} that maestro did not form");
        let hint = "look with `docker node ls` there; deploy --force leaves it and takes the hosts";
        return Err(Plain::new(Exit::Unreachable, why).with_hint(hint).into());
    }
    for member in foreign {
        ui::warn(format!("{} leaves the swarm that it is in", member.name));
        member.engine.swarm_leave(true).await?;
    }
    Ok(())
}

/// The manager's engine, which is a manager after this.
async fn form(members: &[Member], name: &str, address: &str) -> Result<Engine> {
    let bug = || Plain::new(Exit::Bug, format!("`{name}` is not among the hosts"));
    let member = members.iter().find(|member| member.name == name).ok_or_else(bug)?;
    let engine = member.engine.clone();
    let facts = engine.swarm().await?;
    if facts.manager {
        return Ok(engine);
    }
    if facts.active {
        // A worker of a swarm that maestro formed around another manager.
        engine.swarm_leave(true).await?;
    }
    engine.swarm_init(address, SWARM_PORT, &[(TOOL, MAESTRO)]).await?;
    ui::detail(format_args!("{name} manages a new swarm"));
    Ok(engine)
}

async fn join(member: &Member, known: &[NodeFacts], token: &str, manager: &[String], address: &str) -> Result<()> {
    let facts = member.engine.swarm().await?;
    if facts.active {
        if known.iter().any(|node| node.id == facts.node) {
            return Ok(());
        }
        member.engine.swarm_leave(true).await?;
    }
    member.engine.swarm_join(token, manager, address, SWARM_PORT).await?;
    ui::detail(format_args!("{} joined the swarm", member.name));
    Ok(())
}

/// Waits until the swarm sees every host as ready; the hosts' node ids.
async fn ready(hosts: &Hosts, manager: &Engine) -> Result<HashMap<String, String>> {
    let names = hosts.names();
    let ids = hosts.each(&names, async |name| Ok(hosts.engine(&name).await?.swarm().await?.node)).await?;
    let ids: HashMap<String, String> = names.into_iter().zip(ids).collect();
    let what = format!("the swarm of {}", ui::count(ids.len(), "node"));
    wait::until(&what, READY_LIMIT, LOOK_INTERVAL, || async {
        let nodes = match manager.nodes().await {
            Ok(nodes) => nodes,
            Err(error) => return Look::NotYet(error.to_string()),
        };
        let state = |id: &String| nodes.iter().find(|node| node.id == *id).map_or("absent", |node| node.state.as_str());
        let mut late: Vec<String> = ids
            .iter()
            .filter(|(_, id)| state(id) != "ready")
            .map(|(name, id)| format!("{name} is {}", state(id)))
            .collect();
        late.sort();
        if late.is_empty() { Look::Ready(()) } else { Look::NotYet(late.join(", ")) }
    })
    .await?;
    Ok(ids)
}

/// Every node carries the name of the logical node that it plays, and no other node carries it.
async fn label(hosts: &Hosts, manager: &Engine, ids: &HashMap<String, String>) -> Result<()> {
    let manager_name = hosts.manager()?;
    for node in manager.nodes().await? {
        let host = hosts.all().iter().find(|host| ids.get(&host.name) == Some(&node.id));
        let wanted = host.and_then(|host| host.nodes.first());
        match (wanted, node.labels.get(NODE_LABEL)) {
            (Some(wanted), _) => {
                let mut labels = vec![(NODE_LABEL.to_owned(), wanted.clone())];
                if host.is_some_and(|host| host.name != manager_name) {
                    labels.push((JOINED.to_owned(), "true".to_owned()));
                }
                manager.label_node(&node.id, &labels).await?;
            }
            (None, Some(_)) => manager.unlabel_node(&node.id, &[NODE_LABEL.to_owned()]).await?,
            (None, None) => {}
        }
        if host.is_some_and(|host| host.nodes.is_empty() && host.name != manager_name) {
            manager.label_node(&node.id, &[(JOINED.to_owned(), "true".to_owned())]).await?;
        }
        // A host that was taken down and came back as a new node leaves its old self behind.
        let ghost = host.is_none() && node.state == "down" && node.labels.contains_key(JOINED);
        if ghost {
            manager.remove_node(&node.id, true).await?;
        }
    }
    Ok(())
}
