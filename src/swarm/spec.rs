//! What `docker stack deploy` makes of a service, step for step.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::{
    Binds, ContainerSpec, FileSpec, FileUse, IMAGE, Input, NAMESPACE, NetworkSpec, NetworkUse, ServiceSpec, Shipment,
    SpecMount, SpecMountKind, Stack, SwarmError,
};
use crate::compose::{
    DeployMode, EndpointMode, File, FileObject, FileRef, Mount, MountKind, PublishMode, Restart, RestartPolicy, Service,
};

/// The largest config that a swarm takes, bytes.
const CONFIG_LIMIT: usize = 500 * 1024;

/// Turns the rewritten `file` into a stack.
pub(super) fn stack(input: &Input<'_>, file: &File) -> Result<Stack, SwarmError> {
    let maker = Maker { input, file };
    let mut problems = Vec::new();
    let configs = maker.files(&file.configs, &mut problems);
    let secrets = maker.files(&file.secrets, &mut problems);
    let mut made = Stack {
        name: input.options.stack.clone(),
        networks: maker.networks(),
        configs: configs.values().filter_map(|(_, spec)| spec.clone()).collect(),
        secrets: secrets.values().filter_map(|(_, spec)| spec.clone()).collect(),
        ..Stack::default()
    };
    for (name, service) in &file.services {
        let names = Names { configs: &configs, secrets: &secrets };
        match maker.service(name, service, &names) {
            Ok(spec) => made.services.push(spec),
            Err(why) => problems.push(format!("`{name}`: {why}")),
        }
        made.notes.extend(notes(name, service));
    }
    made.shipments = maker.shipments();
    if problems.is_empty() { Ok(made) } else { Err(SwarmError::Impossible(problems)) }
}

/// Configs or secrets by their short names: the engine's name, and what is to be made unless it exists already.
type Files = IndexMap<String, (String, Option<FileSpec>)>;

struct Names<'a> {
    configs: &'a Files,
    secrets: &'a Files,
}

struct Maker<'a> {
    input: &'a Input<'a>,
    file: &'a File,
}

impl Maker<'_> {
    fn stack(&self) -> &str {
        &self.input.options.stack
    }

    fn full(&self, name: &str) -> String {
        format!("{}_{name}", self.stack())
    }

    /// The file's own labels, the deployment's, and the namespace.
    fn labels(&self, own: &IndexMap<String, String>) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = own.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        labels.extend(self.input.options.labels.clone());
        labels.insert(NAMESPACE.to_owned(), self.stack().to_owned());
        labels
    }

    /// The engine's name of the file's network `name`.
    fn network_name(&self, name: &str) -> String {
        let declared = self.file.networks.get(name);
        match declared {
            Some(network) if network.name.is_some() => network.name.clone().unwrap_or_default(),
            Some(network) if network.external => name.to_owned(),
            _ => self.full(name),
        }
    }

    /// Networks that services use and that are not made elsewhere.
    fn networks(&self) -> Vec<NetworkSpec> {
        let mut used: Vec<&str> = Vec::new();
        for name in self.file.services.values().flat_map(|service| service.networks.keys()) {
            if !used.contains(&name.as_str()) {
                used.push(name);
            }
        }
        let wanted = used.into_iter().filter(|name| !self.file.networks.get(*name).is_some_and(|n| n.external));
        let spec = |name: &str| {
            let network = self.file.networks.get(name).cloned().unwrap_or_default();
            NetworkSpec {
                name: self.network_name(name),
                driver: network.driver.filter(|driver| driver != "bridge").unwrap_or_else(|| "overlay".into()),
                driver_opts: network.driver_opts,
                attachable: network.attachable,
                internal: network.internal,
                subnets: network.subnets,
                labels: self.labels(&network.labels),
            }
        };
        wanted.map(spec).collect()
    }

    fn files(&self, declared: &IndexMap<String, FileObject>, problems: &mut Vec<String>) -> Files {
        let mut files = Files::new();
        for (name, object) in declared {
            if object.external {
                files.insert(name.clone(), (object.name.clone().unwrap_or_else(|| name.clone()), None));
                continue;
            }
            match self.content(object) {
                Err(why) => problems.push(format!("`{name}`: {why}")),
                Ok(content) if content.len() > CONFIG_LIMIT => {
                    problems.push(format!("`{name}`: larger than the {} kB that a swarm takes", CONFIG_LIMIT / 1024));
                }
                Ok(content) => {
                    let base = object.name.clone().unwrap_or_else(|| self.full(name));
                    let full = format!("{base}_{}", short_digest(&content));
                    let spec = FileSpec { name: full.clone(), content, labels: self.labels(&object.labels) };
                    files.insert(name.clone(), (full, Some(spec)));
                }
            }
        }
        files
    }

    fn content(&self, object: &FileObject) -> Result<Vec<u8>, String> {
        match (&object.content, &object.file) {
            (Some(content), _) => Ok(content.clone().into_bytes()),
            (None, Some(file)) => (self.input.read)(&self.file.host_path(file)),
            (None, None) => Ok(Vec::new()),
        }
    }

    fn service(&self, name: &str, service: &Service, names: &Names<'_>) -> Result<ServiceSpec, String> {
        let image = service.image.clone().ok_or("a swarm runs images; `image` is not given")?;
        if let Some(mode) = service.network_mode.as_deref().filter(|mode| *mode != "host") {
            return Err(format!("network mode `{mode}` does not exist in a swarm"));
        }
        let mut labels = self.labels(&service.deploy.labels);
        labels.insert(IMAGE.to_owned(), image.clone());
        let deploy = &service.deploy;
        let mut ports = service.ports.clone();
        ports.sort_by_key(|port| port.published);
        Ok(ServiceSpec {
            name: self.full(name),
            service: name.to_owned(),
            node: self.input.placement.services.get(name).cloned().unwrap_or_default(),
            labels,
            container: self.container(service, tagged(image), names)?,
            resources: deploy.resources.clone(),
            restart: restart(service),
            placement: deploy.placement.clone(),
            networks: self.network_uses(name, service),
            log: service.logging.clone(),
            global: deploy.mode == Some(DeployMode::Global),
            replicas: deploy.replicas.unwrap_or(1),
            update: deploy.update.clone(),
            rollback: deploy.rollback.clone(),
            endpoint_mode: Some(deploy.endpoint_mode.unwrap_or(EndpointMode::Vip)),
            ports,
        })
    }

    /// Given aliases first, the short name last: that is how services find each other.
    fn network_uses(&self, name: &str, service: &Service) -> Vec<NetworkUse> {
        if service.network_mode.is_some() {
            return vec![NetworkUse { network: "host".into(), aliases: Vec::new() }];
        }
        let uses = service.networks.iter().map(|(network, attachment)| {
            let mut aliases = attachment.aliases.clone();
            aliases.retain(|alias| alias != name);
            aliases.push(name.to_owned());
            NetworkUse { network: self.network_name(network), aliases }
        });
        uses.collect()
    }

    fn container(&self, service: &Service, image: String, names: &Names<'_>) -> Result<ContainerSpec, String> {
        let variable = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        let mut env: Vec<String> = service.environment.iter().map(variable).collect();
        env.sort();
        Ok(ContainerSpec {
            image,
            labels: self.labels(&service.labels),
            command: service.entrypoint.clone(),
            args: service.command.clone(),
            hostname: service.hostname.clone(),
            env,
            dir: service.working_dir.clone(),
            user: service.user.clone(),
            mounts: service.mounts.iter().map(|mount| self.mount(mount)).collect(),
            configs: uses(&service.configs, names.configs, "/")?,
            secrets: uses(&service.secrets, names.secrets, "")?,
            stop_signal: service.stop_signal.clone(),
            stop_grace_period: service.stop_grace_period,
            healthcheck: service.healthcheck.clone(),
            hosts: service.extra_hosts.iter().map(|(name, address)| format!("{address} {name}")).collect(),
            dns: service.dns.clone(),
            dns_search: service.dns_search.clone(),
            dns_options: service.dns_options.clone(),
            init: service.init,
            sysctls: service.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            cap_add: capabilities(&service.cap_add),
            cap_drop: capabilities(&service.cap_drop),
            ulimits: service.ulimits.clone(),
            read_only: service.read_only.unwrap_or(false),
            tty: service.tty.unwrap_or(false),
            open_stdin: service.stdin_open.unwrap_or(false),
        })
    }

    fn mount(&self, mount: &Mount) -> SpecMount {
        let kind = match &mount.kind {
            MountKind::Bind { source, propagation } => {
                SpecMountKind::Bind { source: self.on_node(source), propagation: propagation.clone() }
            }
            MountKind::Tmpfs { size, mode } => SpecMountKind::Tmpfs { size: *size, mode: *mode },
            MountKind::Volume { name, no_copy } => self.volume(name.as_deref(), *no_copy),
        };
        SpecMount { kind, target: mount.target.clone(), read_only: mount.read_only }
    }

    fn volume(&self, name: Option<&str>, no_copy: bool) -> SpecMountKind {
        let declared = name.and_then(|name| self.file.volumes.get(name)).cloned().unwrap_or_default();
        let on_engine = name.map(|name| match (&declared.name, declared.external) {
            (Some(given), _) => given.clone(),
            (None, true) => name.to_owned(),
            (None, false) => self.full(name),
        });
        let labels = if declared.external || name.is_none() { BTreeMap::new() } else { self.labels(&declared.labels) };
        SpecMountKind::Volume {
            name: on_engine,
            no_copy,
            driver: declared.driver,
            driver_opts: declared.driver_opts,
            labels,
        }
    }

    /// Where a bind's source is on a node.
    fn on_node(&self, source: &str) -> PathBuf {
        let here = self.file.host_path(source);
        match (&self.input.options.binds, here.strip_prefix(&self.file.directory)) {
            (Binds::Shipped(root), Ok(below)) if below.as_os_str().is_empty() => root.clone(),
            (Binds::Shipped(root), Ok(below)) => root.join(below),
            _ => here,
        }
    }

    /// What bind mounts need on nodes. Devices and sockets of the node itself are not shipped.
    fn shipments(&self) -> Vec<Shipment> {
        let mut shipments: IndexMap<PathBuf, Shipment> = IndexMap::new();
        for (name, service) in &self.file.services {
            for mount in &service.mounts {
                let MountKind::Bind { source, .. } = &mount.kind else { continue };
                let here = self.file.host_path(source);
                if !here.starts_with(&self.file.directory) {
                    continue;
                }
                let target = self.on_node(source);
                let new = Shipment { source: here.clone(), target, nodes: Vec::new() };
                let shipment = shipments.entry(here).or_insert(new);
                let node = self.input.placement.services.get(name).cloned().unwrap_or_default();
                if !node.is_empty() && !shipment.nodes.contains(&node) {
                    shipment.nodes.push(node);
                }
            }
        }
        shipments.into_values().collect()
    }
}

/// A name without tag or digest means the tag `latest`; the engine keeps what it is sent.
fn tagged(image: String) -> String {
    let last = image.rsplit('/').next().unwrap_or(&image);
    if last.contains([':', '@']) { image } else { format!("{image}:latest") }
}

/// First eight hex digits of the content's SHA-256.
fn short_digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn uses(references: &[FileRef], files: &Files, root: &str) -> Result<Vec<FileUse>, String> {
    let file = |reference: &FileRef| {
        let (name, _) = files.get(&reference.source).ok_or_else(|| format!("no content for `{}`", reference.source))?;
        Ok(FileUse {
            name: name.clone(),
            target: reference.target.clone().unwrap_or_else(|| format!("{root}{}", reference.source)),
            uid: reference.uid.clone().unwrap_or_else(|| "0".into()),
            gid: reference.gid.clone().unwrap_or_else(|| "0".into()),
            mode: reference.mode.unwrap_or(0o444),
        })
    };
    references.iter().map(file).collect()
}

/// `deploy.restart_policy`, else what `restart:` amounts to; `no` leaves the engine's default, as the Docker CLI does.
fn restart(service: &Service) -> Option<RestartPolicy> {
    let policy = |condition: &str, tries: Option<u32>| RestartPolicy {
        condition: Some(condition.to_owned()),
        max_attempts: tries.map(u64::from),
        ..RestartPolicy::default()
    };
    service.deploy.restart_policy.clone().or_else(|| match service.restart {
        None | Some(Restart::No) => None,
        Some(Restart::Always | Restart::UnlessStopped) => Some(policy("any", None)),
        Some(Restart::OnFailure(tries)) => Some(policy("on-failure", Some(tries.unwrap_or(0)))),
    })
}

/// `NET_ADMIN` as the engine names it: `CAP_NET_ADMIN`.
fn capabilities(names: &[String]) -> Vec<String> {
    let full = |name: &String| {
        let name = name.to_ascii_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let mut names: Vec<String> = names.iter().map(full).collect();
    names.sort();
    names.dedup();
    names
}

/// What the service says and a swarm does not do.
fn notes(name: &str, service: &Service) -> Vec<String> {
    let mut ignored = Vec::new();
    let mut ignore = |key: &str, given: bool| {
        if given {
            ignored.push(format!("`{key}`"));
        }
    };
    ignore("build", service.build.is_some());
    ignore("container_name", service.container_name.is_some());
    ignore("depends_on", !service.depends_on.is_empty());
    ignore("devices", !service.devices.is_empty());
    ignore("domainname", service.domainname.is_some());
    ignore("expose", !service.expose.is_empty());
    ignore("external_links", !service.external_links.is_empty());
    ignore("ipc", service.ipc.is_some());
    ignore("links", service.links.iter().any(|(name, alias)| name != alias));
    ignore("pid", service.pid.is_some());
    ignore("privileged", service.privileged == Some(true));
    ignore("security_opt", !service.security_opt.is_empty());
    ignore("shm_size", service.shm_size.is_some());
    let fixed = service.networks.values().any(|a| a.ipv4_address.is_some() || a.ipv6_address.is_some());
    ignore("ipv4_address", fixed);
    let addressed = service.ports.iter().any(|port| port.host_ip.is_some());
    ignore("an address in front of a port", addressed);
    let mut notes = Vec::new();
    if !ignored.is_empty() {
        notes.push(format!("`{name}`: a swarm passes over {}", ignored.join(", ")));
    }
    let random = service.ports.iter().any(|p| p.published.is_none() && p.mode == Some(PublishMode::Host));
    if random {
        notes.push(format!("`{name}`: a port without a number on the host gets any free one"));
    }
    notes
}
