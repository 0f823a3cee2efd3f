//! The typed form of a compose file. Order is the file's; an absent key is `None` or empty.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use super::deploy::Deploy;

/// A whole compose file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// As written (`3.9`), none in the current unversioned form.
    pub version: Option<String>,
    /// The project's name, where the file gives one.
    pub name: Option<String>,
    /// The services by their short names.
    pub services: IndexMap<String, Service>,
    /// Declared networks; `default` is there only when the file says something about it.
    pub networks: IndexMap<String, Network>,
    /// Declared volumes.
    pub volumes: IndexMap<String, Volume>,
    /// Declared configs.
    pub configs: IndexMap<String, FileObject>,
    /// Declared secrets.
    pub secrets: IndexMap<String, FileObject>,
    /// The folder that relative paths start from.
    pub directory: PathBuf,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// `image:`.
    pub image: Option<String>,
    /// `build:`.
    pub build: Option<Build>,
    /// `command:` as words: the arguments of the entry point.
    pub command: Option<Vec<String>>,
    /// `entrypoint:` as words.
    pub entrypoint: Option<Vec<String>>,
    /// `environment:` over `env_file:`; a name without a value is passed on from where the engine's client runs,
    /// or stays unset.
    pub environment: IndexMap<String, Option<String>>,
    /// `ports:`, ranges spelled out.
    pub ports: Vec<Port>,
    /// `expose:`.
    pub expose: Vec<String>,
    /// `volumes:` and `tmpfs:`.
    pub mounts: Vec<Mount>,
    /// `networks:` with what is said about each; empty means `default` (unless `network_mode` is given).
    pub networks: IndexMap<String, Attachment>,
    /// `network_mode:` (`host`, `none`, `service:x`, ...).
    pub network_mode: Option<String>,
    /// `links:` as (service, alias).
    pub links: Vec<(String, String)>,
    /// `external_links:`.
    pub external_links: Vec<String>,
    /// `depends_on:`.
    pub depends_on: IndexMap<String, Condition>,
    /// `configs:`.
    pub configs: Vec<FileRef>,
    /// `secrets:`.
    pub secrets: Vec<FileRef>,
    /// `cap_add:`.
    pub cap_add: Vec<String>,
    /// `cap_drop:`.
    pub cap_drop: Vec<String>,
    /// `container_name:`.
    pub container_name: Option<String>,
    /// `hostname:`.
    pub hostname: Option<String>,
    /// `domainname:`.
    pub domainname: Option<String>,
    /// `user:`.
    pub user: Option<String>,
    /// `working_dir:`.
    pub working_dir: Option<String>,
    /// `labels:` of the containers.
    pub labels: IndexMap<String, String>,
    /// `extra_hosts:` as (name, address).
    pub extra_hosts: Vec<(String, String)>,
    /// `dns:`.
    pub dns: Vec<String>,
    /// `dns_search:`.
    pub dns_search: Vec<String>,
    /// `dns_opt:`.
    pub dns_options: Vec<String>,
    /// `init:`.
    pub init: Option<bool>,
    /// `privileged:`.
    pub privileged: Option<bool>,
    /// `read_only:`.
    pub read_only: Option<bool>,
    /// `tty:`.
    pub tty: Option<bool>,
    /// `stdin_open:`.
    pub stdin_open: Option<bool>,
    /// `restart:`.
    pub restart: Option<Restart>,
    /// `logging:`.
    pub logging: Option<Logging>,
    /// `healthcheck:`.
    pub healthcheck: Option<Healthcheck>,
    /// `stop_signal:`.
    pub stop_signal: Option<String>,
    /// `stop_grace_period:`.
    pub stop_grace_period: Option<Duration>,
    /// `sysctls:`.
    pub sysctls: IndexMap<String, String>,
    /// `ulimits:`.
    pub ulimits: IndexMap<String, Ulimit>,
    /// `security_opt:`.
    pub security_opt: Vec<String>,
    /// `devices:`.
    pub devices: Vec<String>,
    /// `pid:`.
    pub pid: Option<String>,
    /// `ipc:`.
    pub ipc: Option<String>,
    /// `shm_size:`, bytes.
    pub shm_size: Option<u64>,
    /// `platform:`.
    pub platform: Option<String>,
    /// `profiles:`.
    pub profiles: Vec<String>,
    /// `deploy:`, with the version 2 forms `cpus`, `mem_limit`, `mem_reservation` and `pids_limit` in its resources.
    pub deploy: Deploy,
}

/// How an image is built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Build {
    /// Folder of the context, as written.
    pub context: String,
    /// Dockerfile inside it.
    pub dockerfile: Option<String>,
    /// Build arguments; one without a value comes from the environment of the build.
    pub args: IndexMap<String, Option<String>>,
    /// Stage.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: IndexMap<String, String>,
    /// Network of the steps.
    pub network: Option<String>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `tcp`.
    #[default]
    Tcp,
    /// `udp`.
    Udp,
    /// `sctp`.
    Sctp,
}

impl Protocol {
    /// The word in files and in the engine's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// How a swarm publishes a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublishMode {
    /// On every node, through the routing mesh.
    Ingress,
    /// On the node that runs the task.
    Host,
}

/// One published port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Port {
    /// Address of the host that it is bound to; all when absent.
    pub host_ip: Option<String>,
    /// Port of the host; any free one when absent.
    pub published: Option<u16>,
    /// Port inside the container.
    pub target: u16,
    /// Transport.
    pub protocol: Protocol,
    /// `mode:`, where the long form gives one.
    pub mode: Option<PublishMode>,
}

/// A place in the container's file system that comes from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path inside the container.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
}

/// Kinds of mounts.
#[derive(Clone, Debug, PartialEq)]
pub enum MountKind {
    /// A file or folder of the host.
    Bind {
        /// As written; relative to the file's folder.
        source: String,
        /// `rprivate`, `rshared`, ...
        propagation: Option<String>,
    },
    /// A volume; anonymous without a name.
    Volume {
        /// Its short name in the file.
        name: Option<String>,
        /// Do not fill it from the image.
        no_copy: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; half of the memory when absent.
        size: Option<u64>,
        /// Permissions.
        mode: Option<u32>,
    },
}

/// A service's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Further names.
    pub aliases: Vec<String>,
    /// Fixed address.
    pub ipv4_address: Option<String>,
    /// Fixed address.
    pub ipv6_address: Option<String>,
}

/// When a dependency is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It was started.
    #[default]
    Started,
    /// Its health check passes.
    Healthy,
    /// It ended with exit code 0.
    Completed,
}

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Nothing.
    No,
    /// It is started again.
    Always,
    /// As `Always`, until somebody stops it.
    UnlessStopped,
    /// It is started again after a failure, at most so many times.
    OnFailure(Option<u32>),
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// The driver; the engine's default when absent.
    pub driver: Option<String>,
    /// Its options.
    pub options: IndexMap<String, String>,
}

/// How a container's health is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// In the engine's form (`CMD`, `CMD-SHELL`, `NONE` first); empty inherits the image's.
    pub test: Vec<String>,
    /// Time between two looks.
    pub interval: Option<Duration>,
    /// Longest look.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// Failures are not counted for so long.
    pub start_period: Option<Duration>,
}

/// A limit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// Use of a config or secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRef {
    /// Its short name.
    pub source: String,
    /// Where it appears; `/<source>` (configs) or `/run/secrets/<source>` when absent.
    pub target: Option<String>,
    /// Owner.
    pub uid: Option<String>,
    /// Group.
    pub gid: Option<String>,
    /// Permissions.
    pub mode: Option<u32>,
}

/// A declared network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Its name on the engine; made from the project's otherwise.
    pub name: Option<String>,
    /// Made by somebody else.
    pub external: bool,
    /// `bridge`, `overlay`, ...
    pub driver: Option<String>,
    /// The driver's options.
    pub driver_opts: IndexMap<String, String>,
    /// Containers outside the swarm may join.
    pub attachable: bool,
    /// No way out.
    pub internal: bool,
    /// Labels.
    pub labels: IndexMap<String, String>,
    /// Address ranges (CIDR) with their gateway.
    pub subnets: Vec<(String, Option<String>)>,
}

/// A declared volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name on the engine; made from the project's otherwise.
    pub name: Option<String>,
    /// Made by somebody else.
    pub external: bool,
    /// The driver.
    pub driver: Option<String>,
    /// The driver's options.
    pub driver_opts: IndexMap<String, String>,
    /// Labels.
    pub labels: IndexMap<String, String>,
}

/// A declared config or secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileObject {
    /// Its name on the engine; made from the project's otherwise.
    pub name: Option<String>,
    /// Made by somebody else.
    pub external: bool,
    /// The file that holds it, as written.
    pub file: Option<String>,
    /// Its content in place.
    pub content: Option<String>,
    /// Labels.
    pub labels: IndexMap<String, String>,
}

impl File {
    /// Where `source` of a bind mount, context or config is on the machine that holds this file: `~` and relative
    /// paths resolved, `.` and `..` folded, nothing asked of the file system.
    pub fn host_path(&self, source: &str) -> PathBuf {
        let home = || std::env::var_os("HOME").map(PathBuf::from);
        let path = match source.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                home().map(|home| home.join(rest.trim_start_matches('/')))
            }
            _ => None,
        };
        fold(&self.directory.join(path.unwrap_or_else(|| PathBuf::from(source))))
    }

    /// The images that the services run from, each once, in the file's order; services that are only built have none.
    pub fn images(&self) -> Vec<&str> {
        let mut images: Vec<&str> = Vec::new();
        for image in self.services.values().filter_map(|service| service.image.as_deref()) {
            if !images.contains(&image) {
                images.push(image);
            }
        }
        images
    }
}

fn fold(path: &Path) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                folded.pop();
            }
            part => folded.push(part),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_from_the_files_folder() {
        let file = File { directory: "/apps/sn".into(), ..File::default() };
        assert_eq!(file.host_path("./config/../conf/x"), Path::new("/apps/sn/conf/x"));
        assert_eq!(file.host_path("/etc/x"), Path::new("/etc/x"));
    }
}
