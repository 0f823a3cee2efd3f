//! Where a load is sent from: this machine, or the client hosts of the deployment.

use std::sync::Arc;

use super::Request;
use super::clients::{Clients, Measured};
use super::clocks::{self, Clocks};
use super::drive::{KeptScripts, load};
use super::worker::{Assignment, merge};
use crate::Context;
use crate::cluster::Facts;
use crate::command::{self, Current};
use crate::error::{Plain, Result};
use crate::execute::cluster::{Hosts, equip};
use crate::inventory::{Inventory, Role};
use crate::store::{ClockHosts, ClockOffset};
use crate::target::Runtime;
use crate::wkld::report::Report;

/// Whoever sends.
pub(super) struct Sender {
    cluster: Option<Cluster>,
}

/// Hosts that have to do with the load.
struct Cluster {
    hosts: Arc<Hosts>,
    /// Those that send it; none when this machine does.
    clients: Vec<String>,
    clocks: Clocks,
    facts: Facts,
    tag: String,
}

/// What was measured.
pub(super) struct Sent {
    /// By all clients together.
    pub(super) report: Report,
    /// By each, with its number.
    pub(super) parts: Vec<(usize, Report)>,
    /// Clients that did not report, and why.
    pub(super) lost: Vec<String>,
    /// Clocks before and after.
    pub(super) clocks: Vec<ClockOffset>,
    /// The scripts of a load from this machine.
    pub(super) scripts: KeptScripts,
}

impl Sent {
    fn here((report, scripts): (Report, KeptScripts), clocks: Vec<ClockOffset>) -> Self {
        Sent { parts: vec![(0, report.clone())], report, lost: Vec::new(), clocks, scripts }
    }
}

impl Sender {
    /// This machine.
    pub(super) fn here() -> Self {
        Sender { cluster: None }
    }

    /// Whoever sends the loads of `current`: the client hosts that `-N` picks, or all of them. Nothing is sent yet.
    ///
    /// # Errors
    /// Exit code 2 for a client that is not there, and for a deployment that was not made to its end.
    pub(super) fn of(context: &Context, current: &Current, request: &Request) -> Result<Self> {
        if command::target_named(current.target)?.runtime() != Runtime::Swarm {
            if let Some(name) = request.nodes.first() {
                let why = format!("`{}` sends its load from this machine, there is no client `{name}`", current.target);
                return Err(Plain::usage(why).with_hint("leave -N out").into());
            }
            return Ok(Sender::here());
        }
        let facts = command::hosts::known(current)?;
        let clients = chosen(&facts.inventory, &request.nodes)?;
        let (_, hosts) = command::hosts::connect(context, current)?;
        let clocks = Clocks::of(context, current, &facts, &hosts, &clients)?;
        Ok(Sender { cluster: Some(Cluster { hosts, clients, clocks, facts, tag: current.deployment.tag.clone() }) })
    }

    /// Names of the client hosts; none when this machine sends.
    pub(super) fn clients(&self) -> &[String] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.clients)
    }

    /// What `deploy` found out about the hosts.
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.cluster.as_ref().map(|cluster| &cluster.facts)
    }

    /// Hosts whose clocks stamp what is gathered.
    pub(super) fn stamps(&self) -> Option<ClockHosts> {
        self.cluster.as_ref().map(|cluster| cluster.clocks.stamps.clone())
    }

    /// Sends the load that `assignment` describes.
    ///
    /// # Errors
    /// When it could not be started, or nobody could report.
    pub(super) async fn send(&self, assignment: &Assignment) -> Result<Sent> {
        match &self.cluster {
            None => Ok(Sent::here(load(assignment).await?, Vec::new())),
            Some(cluster) => cluster.send(assignment).await,
        }
    }
}

impl Cluster {
    async fn send(&self, assignment: &Assignment) -> Result<Sent> {
        let tool = equip(&self.hosts, &self.clients).await?;
        self.clocks.connect().await?;
        let begun = std::time::Instant::now();
        let before = self.clocks.look(clocks::BEFORE).await?;
        let took = begun.elapsed();
        let mut sent = if self.clients.is_empty() {
            Sent::here(load(assignment).await?, Vec::new())
        } else {
            let clients = Clients { hosts: &self.hosts, names: &self.clients, tool: &tool, tag: &self.tag };
            let Measured { parts, lost } = clients.send(assignment, &before, took).await?;
            let report = merge(parts.iter().map(|(_, report)| report.clone()))?;
            Sent { report, parts, lost, clocks: Vec::new(), scripts: None }
        };
        sent.clocks = self.clocks.records(&before);
        let after = self.clocks.look_again().await;
        sent.clocks.extend(self.clocks.records(&after));
        Ok(sent)
    }
}

/// The clients that are named, or all of them.
fn chosen(inventory: &Inventory, named: &[String]) -> Result<Vec<String>> {
    let all: Vec<String> = inventory.with(Role::Client).map(|host| host.name.clone()).collect();
    if let Some(strange) = named.iter().find(|name| !all.contains(name)) {
        let hint = match all.as_slice() {
            [] => "the placement names no clients; the load is sent from this machine".to_owned(),
            all => format!("clients: {}", all.join(", ")),
        };
        return Err(Plain::usage(format!("no client is called `{strange}`")).with_hint(hint).into());
    }
    Ok(all.into_iter().filter(|name| named.is_empty() || named.contains(name)).collect())
}
