//! Takes back what deploying and running made on hosts, and nothing else.

use std::path::Path;
use std::time::{Duration, Instant};

use super::preflight::is_ours;
use super::{Hosts, images, load, tool};
use crate::cluster::{JOINED, MAESTRO, SHIPPED, TOOL};
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::docker::Engine;
use crate::execute::local::remove_helpers;
use crate::execute::ssh::{Exec, local_facts};
use crate::inventory::Role;
use crate::swarm::{NAMESPACE, NODE_LABEL};
use crate::ui;
use crate::wait::{self, Look};

/// Longest wait for a network or a node to go.
const GONE_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for containers that are being stopped: twice what the engine gives them before it kills them.
const STOPPING_LIMIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Ends generators of the deployment that an earlier `wkld` left behind on clients. Each wrote down its process id; it is
/// ended only if that process still is a generator.
pub(super) async fn no_load(hosts: &Hosts, tag: &str) -> Result<Outcome> {
    let clients: Vec<String> =
        hosts.all().iter().filter(|host| host.is(Role::Client)).map(|host| host.name.clone()).collect();
    let note = tool::load_note(tag);
    hosts.each(&clients, async |name| Ok(hosts.remote(&name)?.run(&Exec::script(load::END, &[&note])).await?)).await?;
    Ok(Outcome::Done)
}

/// Waits until the containers of removed services have ended on every host, so that their ports and images are free.
/// Those that nobody ends any more (their engine has lost the swarm that they came from) are removed.
pub(super) async fn no_containers(hosts: &Hosts, stack: &str) -> Result<()> {
    let names = hosts.names();
    let label = [(NAMESPACE, stack), (TOOL, MAESTRO)];
    hosts
        .each(&names, async |name| {
            let engine = hosts.engine(&name).await?;
            let begun = Instant::now();
            loop {
                let left = engine.list_containers(&label).await?;
                if left.is_empty() {
                    return Ok(());
                }
                if begun.elapsed() > STOPPING_LIMIT {
                    for id in left.into_iter().filter_map(|container| container.id) {
                        ui::detail(format_args!("{name}: removing container {id}, which nobody ends"));
                        engine.remove_container(&id).await?;
                    }
                    return Ok(());
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        })
        .await
        .map(drop)
}

/// Removes the overlay network, which stays in use for a moment after its last task.
pub(super) async fn no_network(hosts: &Hosts, name: &str) -> Result<Outcome> {
    let engine = hosts.engine(hosts.manager()?).await?;
    if !engine.swarm().await?.manager {
        return Ok(Outcome::Done);
    }
    match engine.network(name).await? {
        Some(network) if !is_ours(&network.labels) => {
            ui::warn(format!("network {name} stays: maestro did not make it"));
            return Ok(Outcome::Done);
        }
        Some(_) => {}
        None => return Ok(Outcome::Done),
    }
    wait::until(&format!("removal of network {name}"), GONE_LIMIT, LOOK_INTERVAL, || async {
        match engine.remove_network(name).await {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    })
    .await?;
    Ok(Outcome::Done)
}

/// Workers leave first, then the manager forgets them, then it leaves. In a swarm that maestro did not form only the
/// nodes that it brought leave.
pub(super) async fn no_swarm(hosts: &Hosts) -> Result<Outcome> {
    let manager_name = hosts.manager()?.to_owned();
    let manager = hosts.engine(&manager_name).await?;
    if !manager.swarm().await?.manager {
        return Ok(Outcome::Done);
    }
    let formed = is_ours(&manager.swarm_labels().await?);
    let nodes = manager.nodes().await?;
    let names: Vec<String> = hosts.names().into_iter().filter(|name| *name != manager_name).collect();
    let left = hosts
        .each(&names, async |name| {
            let engine = hosts.engine(&name).await?;
            let facts = engine.swarm().await?;
            let node = nodes.iter().find(|node| node.id == facts.node);
            match node {
                Some(node) if formed || node.labels.contains_key(JOINED) => {
                    engine.swarm_leave(true).await?;
                    Ok(Some(node.id.clone()))
                }
                _ => Ok(None),
            }
        })
        .await?;
    for id in left.into_iter().flatten() {
        forget(&manager, &id).await?;
    }
    if formed {
        for node in manager.nodes().await?.into_iter().filter(|node| !node.manager) {
            ui::warn(format!("node {} of the swarm is not among the hosts; it is left behind", node.hostname));
        }
        manager.swarm_leave(true).await?;
        return Ok(Outcome::Done);
    }
    for node in manager.nodes().await?.into_iter().filter(|node| node.labels.contains_key(NODE_LABEL)) {
        manager.unlabel_node(&node.id, &[NODE_LABEL.to_owned()]).await?;
    }
    Ok(Outcome::Done)
}

/// A node that left is seen as down after a moment, and can then be removed.
async fn forget(manager: &Engine, id: &str) -> Result<()> {
    wait::until(&format!("the end of node {id}"), GONE_LIMIT, LOOK_INTERVAL, || async {
        match manager.remove_node(id, true).await {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    })
    .await?;
    Ok(())
}

/// Removes the folder of shipped files.
pub(super) async fn no_files(hosts: &Hosts, folder: &Path) -> Result<Outcome> {
    let inside = folder.strip_prefix(SHIPPED).is_ok_and(|rest| rest.components().count() == 1);
    if !inside {
        return Err(Plain::new(Exit::Bug, format!("`{}` is not a folder of shipped files", folder.display())).into());
    }
    let path = folder.display().to_string();
    let script = "rm -rf -- \"$1\" && rmdir -- \"$2\" 2>/dev/null; [ ! -e \"$1\" ]";
    let exec = Exec::script(script, &[&path, SHIPPED]);
    let names = hosts.names();
    hosts.each(&names, async |name| Ok(hosts.remote(&name)?.run_ok(&exec).await?)).await?;
    Ok(Outcome::Done)
}

/// Removes images, their archives in a shared directory, and this program's copies. An image that something else still uses stays.
pub(super) async fn no_images(hosts: &Hosts, unused: &[String]) -> Result<Outcome> {
    let names = hosts.names();
    let (sha256, _) = local_facts(&super::own_binary()?).await?;
    let tool = tool::path(&sha256);
    hosts
        .each(&names, async |name| {
            let engine = hosts.engine(&name).await?;
            let mut archives = Vec::new();
            for image in unused {
                archives.extend(engine.image(image).await?.map(|facts| images::archive_name(&facts.id)));
                match engine.remove_image(image).await {
                    Ok(_) => {}
                    Err(error) if error.is_conflict() => ui::warn(format!("{name}: {error}")),
                    Err(error) => return Err(error.into()),
                }
            }
            remove_helpers(&engine).await?;
            let script = "rm -rf -- .maestro/images \"$1\" \"$1\".*.part; rmdir .maestro/bin .maestro 2>/dev/null; :";
            let remote = hosts.remote(&name)?;
            remote.run_ok(&Exec::script(script, &[&tool])).await?;
            if let Some(folder) = images::shared_folder(hosts) {
                let script = "cd -- \"$0\" 2>/dev/null || exit 0; rm -f -- \"$@\"; cd /
                    rmdir -- \"$0\" \"$(dirname -- \"$0\")\" 2>/dev/null; :";
                let words = ["sh", "-c", script, &folder].map(str::to_owned);
                remote.run_ok(&Exec::new(words.into_iter().chain(archives))).await?;
            }
            Ok(())
        })
        .await?;
    Ok(Outcome::Done)
}
