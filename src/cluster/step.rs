//! Steps of a cluster as lines of a plan.

use std::fmt;

use super::{ClusterState, ClusterStep, Doors, Readiness};
use crate::inventory::Inventory;
use crate::ui;

impl fmt::Display for ClusterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = names(&self.inventory);
        let manager = self.inventory.manager().map_or("nobody", |host| host.name.as_str());
        match &self.state {
            ClusterState::Usable(needs) => {
                write!(f, "EnsureUsable {hosts}: SSH, engine, disk, clock, architecture, ports")?;
                if needs.virtual_addresses { f.write_str(", IPVS") } else { Ok(()) }
            }
            ClusterState::Tool => write!(f, "EnsureTool on {hosts}"),
            ClusterState::Images { images, .. } => {
                let names: Vec<String> =
                    images.iter().map(|image| format!("{} on {}", image.name, image.hosts.join(" "))).collect();
                write!(f, "EnsureImages {}", names.join("; "))
            }
            ClusterState::Swarm { force } => {
                write!(f, "EnsureSwarm managed by {manager}: {hosts}")?;
                if *force { f.write_str("; taking over swarms of others") } else { Ok(()) }
            }
            ClusterState::Files(shipments) => {
                write!(f, "EnsureFiles {}", ui::count(shipments.len(), "mounted file"))?;
                for shipment in shipments {
                    write!(f, "; {} on {}", shipment.target.display(), shipment.nodes.join(" "))?;
                }
                Ok(())
            }
            ClusterState::Stack(step) => step.fmt(f),
            ClusterState::Ready(ready) => ready.fmt(f),
            ClusterState::NoLoad { tag } => write!(f, "EnsureNoLoad of `{tag}` from the clients"),
            ClusterState::NoNetwork(name) => write!(f, "EnsureGone network {name}"),
            ClusterState::NoSwarm => {
                write!(f, "EnsureNoSwarm: {hosts} leave the swarm that was formed, {manager} last")
            }
            ClusterState::NoFiles { folder } => write!(f, "EnsureGone {} on {hosts}", folder.display()),
            ClusterState::NoImages { images } => {
                write!(f, "EnsureGone {} and this program's copies on {hosts}", ui::count(images.len(), "image"))
            }
        }
    }
}

fn names(inventory: &Inventory) -> String {
    inventory.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EnsureReady within {} s: {} run",
            self.timeout.as_secs_f64(),
            ui::count(self.services.len(), "service")
        )?;
        for job in &self.setup {
            write!(f, "; {job} is done")?;
        }
        if let Some((service, path)) = &self.sync_file {
            write!(f, "; {path} in {service}")?;
        }
        let Doors { origin, replica, .. } = &self.doors;
        let at = |(host, port): &(String, u16)| format!("{host}:{port}");
        write!(f, "; {}", self.canary.promise(&at(origin), &at(replica)))
    }
}
