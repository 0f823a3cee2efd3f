//! Clocks of the hosts that matter to a run, before and after it: those that stamp what becomes a window, those that
//! send the load, and the trace store's. Measured over the connections to the hosts, which carry no injected delay.

use std::sync::Arc;
use std::time::Duration;

use crate::Context;
use crate::clock::Offset;
use crate::cluster::Facts;
use crate::command::Current;
use crate::command::filed::Filed;
use crate::error::Result;
use crate::execute::cluster::{Hosts, clock};
use crate::placement::Placement;
use crate::store::{CONTROLLER, ClockHosts, ClockOffset};
use crate::ui;

/// Longest time for a look before the load.
pub(super) const BEFORE: Duration = Duration::from_secs(1);
/// Longest time for a look after it: the run is over and somebody waits.
pub(super) const AFTER: Duration = Duration::from_millis(400);

/// The clocks of a run's hosts.
pub(super) struct Clocks {
    hosts: Arc<Hosts>,
    /// SHA-256 of the copies of this program that answer.
    tool: String,
    names: Vec<String>,
    /// Who stamps what.
    pub(super) stamps: ClockHosts,
}

/// A look at all of them: how far each is ahead of this machine's clock.
pub(super) struct Look {
    at_us: i64,
    seen: Vec<(String, Offset)>,
}

impl Look {
    /// How far the clock of the host `name` is ahead of this machine's, us; 0 where that is not known.
    pub(super) fn ahead_us(&self, name: &str) -> i64 {
        self.of(name).map_or(0, |offset| offset.offset_us.round() as i64)
    }

    fn of(&self, name: &str) -> Option<Offset> {
        self.seen.iter().find(|(host, _)| host == name).map(|(_, offset)| *offset)
    }
}

impl Clocks {
    /// The clocks that matter to `current` when `clients` send the load.
    ///
    /// # Errors
    /// Exit code 2 when the deployment's files cannot be used.
    pub(super) fn of(
        context: &Context,
        current: &Current,
        facts: &Facts,
        hosts: &Arc<Hosts>,
        clients: &[String],
    ) -> Result<Clocks> {
        let filed = Filed::of(context, current)?;
        let site = filed.site(current);
        let placement = Placement::parse(current.target, current.app, &current.deployment.config, site.placement)?;
        let host = |service: &str| {
            let node = placement.services.get(service);
            let host = node.and_then(|node| facts.inventory.host_of_node(node));
            host.map(|host| host.name.clone()).unwrap_or_default()
        };
        let app = current.app;
        let entry = host(app.origin.service);
        let stamps = match &app.replication {
            Some(replication) => ClockHosts {
                entry,
                written: host(replication.written_service),
                queued: host(replication.traced_service),
                read: host(replication.notified_service),
            },
            None => ClockHosts { entry, ..ClockHosts::default() },
        };
        let mut names = Vec::new();
        let jaeger = host(app.jaeger.service);
        let others = [&stamps.entry, &stamps.written, &stamps.queued, &stamps.read, &jaeger];
        for name in clients.iter().chain(others) {
            if !name.is_empty() && !names.contains(name) {
                names.push(name.clone());
            }
        }
        Ok(Clocks { hosts: Arc::clone(hosts), tool: facts.tool.clone(), names, stamps })
    }

    /// Connects to all hosts, so that a look takes no longer than its conversations.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub(super) async fn connect(&self) -> Result<()> {
        let connect = async |name: String| -> Result<()> { Ok(self.hosts.remote(&name)?.connect().await?) };
        self.hosts.each(&self.names, connect).await.map(drop)
    }

    /// Looks at all clocks at once.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) async fn look(&self, limit: Duration) -> Result<Look> {
        let seen = self.hosts.each(&self.names, async |name| self.read(&name, limit).await).await?;
        Ok(Look { at_us: jiff::Timestamp::now().as_microsecond(), seen })
    }

    async fn read(&self, name: &str, limit: Duration) -> Result<(String, Offset)> {
        Ok((name.to_owned(), clock(&self.hosts.remote(name)?, &self.tool, limit).await?))
    }

    /// As [`Clocks::look`] after the load, when what was measured is not to be lost to a clock that does not answer.
    pub(super) async fn look_again(&self) -> Look {
        let looks = self.names.iter().map(|name| async move {
            // A host that is gone would be tried for longer than anybody wants to wait.
            match tokio::time::timeout(AFTER * 5, self.read(name, AFTER)).await {
                Ok(Ok(seen)) => return Some(seen),
                Ok(Err(error)) => ui::warn(format_args!("the clock of {name} after the run: {error}")),
                Err(_) => ui::warn(format_args!("the clock of {name} after the run: no answer")),
            }
            None
        });
        let seen = futures_util::future::join_all(looks).await.into_iter().flatten().collect();
        Look { at_us: jiff::Timestamp::now().as_microsecond(), seen }
    }

    /// What is kept of a look: every host against this machine, and the pairs between which windows and lags are taken.
    pub(super) fn records(&self, look: &Look) -> Vec<ClockOffset> {
        let record = |a: &str, b: &str, offset: Offset| ClockOffset {
            a: a.to_owned(),
            b: b.to_owned(),
            offset_us: offset.offset_us,
            bound_us: offset.bound_us,
            at_us: look.at_us,
        };
        let mut records: Vec<ClockOffset> =
            look.seen.iter().map(|(name, offset)| record(CONTROLLER, name, *offset)).collect();
        let mut pairs = vec![(&self.stamps.written, &self.stamps.read), (&self.stamps.queued, &self.stamps.read)];
        pairs.dedup();
        for (a, b) in pairs.into_iter().filter(|(a, b)| a != b) {
            if let (Some(to_a), Some(to_b)) = (look.of(a), look.of(b)) {
                records.push(record(a, b, to_a.to(to_b)));
            }
        }
        records
    }
}
