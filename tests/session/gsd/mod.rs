//! `--gsd`: the miniature on a real swarm of hosts reached over SSH, from build to clean, and what can go wrong.

mod cycle;
mod faults;
mod speed;
mod sweep;

use std::path::PathBuf;
use std::process::Command;

use maestro::app::{App, Side};

use crate::docker::unique;
use crate::harness::{Done, Session, stripped};
use crate::hosts::{Host, Lab};

/// The hosts of a site: a manager that also runs what belongs to neither side, the origin, the replica, a client.
const HOSTS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

const CONFIG: &str = "configs/gsd/socialNetworkMini/four.yml";

/// A site of four hosts and a root that knows it. What it made on this machine's engine goes when it is dropped.
struct Site {
    lab: Lab,
    session: Session,
    binary: PathBuf,
    images: Vec<(&'static str, String)>,
}

impl Site {
    /// `None`, and the reason on stderr, where it cannot be made.
    fn start(test: &str) -> Option<Site> {
        let installed = |program: &str| Command::new("which").arg(program).output().is_ok_and(|o| o.status.success());
        if !installed("redis-server") || !installed("rabbitmq-server") {
            eprintln!("skipped {test}: redis-server and rabbitmq-server are not installed (Debian packages)");
            return None;
        }
        let lab = Lab::start(&HOSTS)?;
        let name = |part: &str| format!("localhost/{}/{part}", unique("gsd"));
        let images = vec![
            ("MAESTRO_MINI_IMAGE", name("mini:t")),
            ("MAESTRO_REDIS_IMAGE", name("redis:t")),
            ("MAESTRO_RABBITMQ_IMAGE", name("rabbitmq:t")),
        ];
        let site = Site { binary: stripped().to_owned(), session: Session::new(), lab, images };
        let config = format!("ssh_config_filepath: {}\ndefault_ssh_user: root\n", site.lab.ssh_config().display());
        site.session.write("gsd/config.yml", config);
        site.session.write(CONFIG, placement());
        Some(site)
    }

    /// `maestro --gsd socialNetworkMini LINE`, not started yet.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(["--gsd", "socialNetworkMini"])
            .args(line.split_whitespace())
            .current_dir(self.session.root())
            .env_remove("MAESTRO_ROOT")
            .env("TZ", "UTC")
            .envs(self.images.iter().map(|(name, image)| (*name, image)))
            .stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Done {
        self.command(line).output().expect("start maestro").into()
    }

    fn ok(&self, line: &str) -> Done {
        self.run(line).ok(line)
    }

    fn deploy_line(&self, tag: &str) -> String {
        format!("deploy -config {CONFIG} -clients 2 -tag {tag}")
    }

    fn host(&self, alias: &str) -> &Host {
        self.lab.host(alias)
    }

    /// What is left on the hosts of anything that was ever made there. The networks of the engines themselves stay; after a
    /// swarm was left, `ingress` does so for a while.
    fn left(&self) -> Vec<String> {
        let script = "docker ps -aq; docker images -q; docker service ls -q 2>/dev/null; \
            docker network ls --format '{{.Name}}' | grep -vxE 'bridge|host|none|docker_gwbridge|ingress'; \
            docker volume ls -q; docker info -f '{{.Swarm.LocalNodeState}}' | grep -vx inactive; \
            ls -d /root/.maestro /var/tmp/maestro 2>/dev/null; pgrep -f '[m]aestro-[0-9a-f]'; :";
        let each = self.lab.hosts().iter().map(|host| (host, host.sh(script)));
        each.filter(|(_, left)| !left.is_empty()).map(|(host, left)| format!("{}: {left}", host.alias)).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, image) in &self.images {
            Command::new("docker").args(["rmi", "-f", image]).output().ok();
        }
    }
}

/// The origin's services on one host, the replica's on another, the rest on the manager.
fn placement() -> String {
    placed("US->EU", "beta", "gamma")
}

fn placed(pair: &str, origin: &str, replica: &str) -> String {
    let mut text = "replication_pair: PAIR\nendpoint_mode: dnsrr\nports: host\nservices:\n".replace("PAIR", pair);
    for service in App::find("socialNetworkMini").expect("the miniature").services {
        let host = match service.side {
            Side::Origin => origin,
            Side::Replica => replica,
            Side::Neutral => "alpha",
        };
        text.push_str(&format!("  {}: {host}\n", service.name));
    }
    text + "manager: alpha\nclients: [delta, alpha]\n"
}
