//! Hosts as a swarm: carries out what `crate::cluster` plans, over one SSH connection per host.

mod clean;
mod files;
mod images;
mod load;
mod preflight;
mod ready;
mod swarm;
mod tool;

pub(crate) use images::unpack;
pub(crate) use load::{Generator, equip};
pub(crate) use tool::clock;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::future::join_all;

use super::Outcome;
use super::docker::{Engine, stack};
use super::ssh::{Exec, Exit, Fleet, HostConfig, Remote, SshConfig, SshError, expand_home, home};
use crate::cluster::{ClusterState, ClusterStep};
use crate::error::{Error, Exit as Code, Plain, Result};
use crate::inventory::{Access, Host, Inventory, Sudo};
use crate::swarm::StackStep;

/// The engine's socket on a host.
const SOCKET: &str = "/var/run/docker.sock";

/// Connections to the hosts of an inventory, kept for as long as the program runs.
pub(crate) struct Hosts {
    inventory: Arc<Inventory>,
    fleet: Fleet,
    engines: tokio::sync::Mutex<HashMap<String, (Engine, bool)>>,
}

static KEPT: OnceLock<Mutex<Vec<Arc<Hosts>>>> = OnceLock::new();

impl Hosts {
    /// The hosts of `inventory`; the same inventory gives the same connections. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SshError::Config`] when the SSH configuration cannot be used.
    pub(crate) fn of(inventory: &Arc<Inventory>) -> Result<Arc<Hosts>> {
        let kept = KEPT.get_or_init(Mutex::default);
        let bug = || Plain::new(Code::Bug, "a thread panicked while it held the connections");
        let mut kept = kept.lock().map_err(|_| bug())?;
        if let Some(hosts) = kept.iter().find(|hosts| hosts.inventory == *inventory) {
            return Ok(Arc::clone(hosts));
        }
        let fleet = fleet(&inventory.access)?;
        for host in &inventory.hosts {
            if let Some(direct) = &host.direct {
                fleet.add(HostConfig::direct(&host.name, direct), inventory.access.default_user.as_deref());
            }
        }
        let hosts = Arc::new(Hosts { inventory: Arc::clone(inventory), fleet, engines: tokio::sync::Mutex::default() });
        kept.push(Arc::clone(&hosts));
        Ok(hosts)
    }

    /// The host called `name`.
    ///
    /// # Errors
    /// [`SshError::Config`].
    pub(crate) fn remote(&self, name: &str) -> Result<Remote> {
        Ok(self.fleet.host(name)?)
    }

    /// The hosts themselves.
    pub(crate) fn all(&self) -> &[Host] {
        &self.inventory.hosts
    }

    /// The manager's name.
    ///
    /// # Errors
    /// Exit code 2 when the inventory has none.
    pub(crate) fn manager(&self) -> Result<&str> {
        let manager = self.inventory.manager().map(|host| host.name.as_str());
        manager.ok_or_else(|| Plain::usage("the placement names no manager").into())
    }

    /// The engine of a host.
    ///
    /// # Errors
    /// [`SshError`], and exit code 3 when the user may not use the engine.
    pub(crate) async fn engine(&self, name: &str) -> Result<Engine> {
        Ok(self.engine_and_sudo(name).await?.0)
    }

    /// The engine of a host, and whether root's rights are needed to reach it.
    async fn engine_and_sudo(&self, name: &str) -> Result<(Engine, bool)> {
        if let Some(known) = self.engines.lock().await.get(name) {
            return Ok(known.clone());
        }
        let remote = self.remote(name)?;
        let sudo = self.needs_sudo(&remote).await?;
        let made = (remote.engine(sudo)?, sudo);
        self.engines.lock().await.insert(name.to_owned(), made.clone());
        Ok(made)
    }

    async fn needs_sudo(&self, remote: &Remote) -> Result<bool> {
        match self.inventory.access.sudo {
            Sudo::Never => return Ok(false),
            Sudo::Always => return Ok(true),
            Sudo::Auto => {}
        }
        match remote.dial_unix(SOCKET).await {
            Ok(_) => return Ok(false),
            Err(SshError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let may = remote.run(&Exec::script("[ -S /var/run/docker.sock ] && sudo -n docker version", &[])).await?;
        if may.exit == Exit::Code(0) {
            return Ok(true);
        }
        let name = remote.name();
        let there = remote.run(&Exec::new(["test", "-S", SOCKET])).await?.exit == Exit::Code(0);
        let (why, hint) = if there {
            let user = remote.user();
            (
                format!("`{user}` may not use the Docker engine of `{name}`, and sudo does not help"),
                format!("on `{name}`: usermod -aG docker {user}"),
            )
        } else {
            (format!("no Docker engine listens on `{name}`"), format!("on `{name}`: systemctl start docker"))
        };
        Err(Plain::new(Code::Unreachable, why).with_hint(hint).into())
    }

    /// Does `work` for every one of `names` at once and gives what came out, in their order.
    ///
    /// # Errors
    /// The first error, the others' hosts added, after all have ended.
    pub(crate) async fn each<T, F>(&self, names: &[String], work: impl Fn(String) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let results = join_all(names.iter().map(|name| work(name.clone()))).await;
        all_or_first(names, results)
    }

    /// Names of all hosts.
    pub(crate) fn names(&self) -> Vec<String> {
        self.inventory.hosts.iter().map(|host| host.name.clone()).collect()
    }
}

/// All values, or one error that also counts the others.
fn all_or_first<T>(names: &[String], results: Vec<Result<T>>) -> Result<Vec<T>> {
    let mut values = Vec::with_capacity(results.len());
    let mut failed: Vec<(&str, Error)> = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(value) => values.push(value),
            Err(error) => failed.push((name, error)),
        }
    }
    if failed.is_empty() {
        return Ok(values);
    }
    let others: Vec<String> = failed.iter().skip(1).map(|(_, error)| error.line()).collect();
    let (_, first) = failed.swap_remove(0);
    if others.is_empty() {
        return Err(first);
    }
    let plain = Plain::new(first.exit_code(), format!("{}; {}", first.line(), others.join("; ")));
    Err(match first.hint() {
        Some(hint) => plain.with_hint(hint).into(),
        None => plain.into(),
    })
}

/// Hosts as the site's SSH configuration describes them.
fn fleet(access: &Access) -> Result<Fleet> {
    let config = match &access.ssh_config {
        Some(path) if expand_home(path, &home()) != home().join(".ssh/config") => {
            SshConfig::read(&expand_home(path, &home()))?
        }
        _ => SshConfig::of_user()?,
    };
    Ok(Fleet::new(config, access.default_user.clone(), access.strict))
}

/// Ensures the state that `step` names.
///
/// # Errors
/// What the hosts and their engines say, with the host's name.
pub(super) async fn execute(step: &ClusterStep) -> Result<Outcome> {
    let hosts = Hosts::of(&step.inventory)?;
    match &step.state {
        ClusterState::Usable(needs) => preflight::ensure(&hosts, needs).await,
        ClusterState::Tool => tool::ensure(&hosts).await,
        ClusterState::Images { images, cache } => images::ensure(&hosts, images, cache).await,
        ClusterState::Swarm { force } => swarm::ensure(&hosts, *force).await,
        ClusterState::Files(shipments) => files::ensure(&hosts, shipments).await,
        ClusterState::Stack(state) => on_manager(&hosts, state).await,
        ClusterState::Ready(ready) => ready::wait(&hosts, ready).await,
        ClusterState::NoLoad { tag } => clean::no_load(&hosts, tag).await,
        ClusterState::NoNetwork(name) => clean::no_network(&hosts, name).await,
        ClusterState::NoSwarm => clean::no_swarm(&hosts).await,
        ClusterState::NoFiles { folder } => clean::no_files(&hosts, folder).await,
        ClusterState::NoImages { images } => clean::no_images(&hosts, images).await,
    }
}

/// A state of the stack. Without a swarm there is no stack: nothing to remove, and nothing can be made.
async fn on_manager(hosts: &Hosts, state: &StackStep) -> Result<Outcome> {
    let name = hosts.manager()?;
    let engine = hosts.engine(name).await?;
    if engine.swarm().await?.manager {
        stack::ensure(&engine, state).await?;
    } else if !matches!(state, StackStep::EnsureGone { .. }) {
        let why = format!("`{name}` manages no swarm (any more)");
        return Err(Plain::new(Code::Unreachable, why).with_hint("run `maestro deploy` again: it forms one").into());
    }
    if let StackStep::EnsureGone { stack } = state {
        clean::no_containers(hosts, stack).await?;
    }
    Ok(Outcome::Done)
}

/// This program's own file.
fn own_binary() -> Result<PathBuf> {
    let unknown =
        |error: std::io::Error| Plain::new(Code::Bug, format!("cannot find this program's own file: {error}"));
    let path = std::env::current_exe().map_err(unknown)?;
    // Replaced while it runs (a new build): the kernel marks the old one.
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(text) if Path::new(text).exists() => Ok(PathBuf::from(text)),
        _ => Ok(path),
    }
}
