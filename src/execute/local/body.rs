//! A service of a compose file in the words of the engine's API.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType,
    MountVolumeOptions, NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::compose::{self, MountKind, Restart};
use crate::local::{ContainerSpec, NetworkUse};

/// What the engine is asked to create. Only the first network can be named here; others are joined afterwards.
pub(super) fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let config = &spec.config;
    ContainerCreateBody {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        tty: config.tty,
        open_stdin: config.stdin_open,
        env: Some(environment(config)),
        cmd: config.command.clone(),
        entrypoint: config.entrypoint.clone(),
        healthcheck: config.healthcheck.as_ref().map(healthcheck),
        image: Some(spec.image.clone()),
        working_dir: config.working_dir.clone(),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_grace_period.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
        exposed_ports: Some(exposed(config)),
        host_config: Some(host_config(spec)),
        networking_config: spec.networks.first().map(|first| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(first.name.clone(), endpoint(first))])),
        }),
        ..Default::default()
    }
}

/// A service's place in a network.
pub(super) fn endpoint(place: &NetworkUse) -> EndpointSettings {
    EndpointSettings {
        aliases: Some(place.aliases.clone()),
        links: some(place.links.clone()),
        ipam_config: place
            .ipv4_address
            .clone()
            .map(|address| EndpointIpamConfig { ipv4_address: Some(address), ..Default::default() }),
        ..Default::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// `K=V`; a name without a value takes maestro's own, if there is one.
fn environment(config: &compose::Service) -> Vec<String> {
    let pairs = config.environment.iter().filter_map(|(name, value)| {
        let value = value.clone().or_else(|| std::env::var(name).ok())?;
        Some(format!("{name}={value}"))
    });
    pairs.collect()
}

fn exposed(config: &compose::Service) -> Vec<String> {
    let published = config.ports.iter().map(|port| format!("{}/{}", port.target, port.protocol.as_str()));
    let named = config.expose.iter().map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
    published.chain(named).collect()
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let config = &spec.config;
    let limits = &config.deploy.resources;
    HostConfig {
        network_mode: config.network_mode.clone().or_else(|| spec.networks.first().map(|first| first.name.clone())),
        port_bindings: Some(port_bindings(config)),
        mounts: some(config.mounts.iter().map(mount).collect()),
        restart_policy: config.restart.map(restart),
        cap_add: some(config.cap_add.clone()),
        cap_drop: some(config.cap_drop.clone()),
        privileged: config.privileged,
        readonly_rootfs: config.read_only,
        init: config.init,
        dns: some(config.dns.clone()),
        dns_search: some(config.dns_search.clone()),
        dns_options: some(config.dns_options.clone()),
        extra_hosts: some(config.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        security_opt: some(config.security_opt.clone()),
        sysctls: (!config.sysctls.is_empty()).then(|| config.sysctls.clone().into_iter().collect()),
        ulimits: some(config.ulimits.iter().map(|(name, limit)| ulimit(name, *limit)).collect()),
        devices: some(config.devices.iter().map(|device| device_mapping(device)).collect()),
        pid_mode: config.pid.clone(),
        ipc_mode: config.ipc.clone(),
        shm_size: config.shm_size.map(signed),
        log_config: config.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: logging.driver.clone(),
            config: Some(logging.options.clone().into_iter().collect()),
        }),
        nano_cpus: limits.cpus_limit.map(signed),
        memory: limits.memory_limit.map(signed),
        memory_reservation: limits.memory_reserved.map(signed),
        pids_limit: limits.pids_limit.map(signed),
        ..Default::default()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Host ports by container port.
pub(super) fn port_bindings(config: &compose::Service) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &config.ports {
        let binding = PortBinding {
            host_ip: port.host_ip.clone(),
            host_port: Some(port.published.map(|port| port.to_string()).unwrap_or_default()),
        };
        let inner = format!("{}/{}", port.target, port.protocol.as_str());
        bindings.entry(inner).or_default().get_or_insert_with(Vec::new).push(binding);
    }
    bindings
}

fn mount(mount: &compose::Mount) -> Mount {
    let typed = |typ| Mount {
        typ: Some(typ),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Default::default()
    };
    match &mount.kind {
        MountKind::Bind { source, propagation: wanted } => Mount {
            source: Some(source.clone()),
            bind_options: wanted
                .as_deref()
                .and_then(propagation)
                .map(|mode| MountBindOptions { propagation: Some(mode), ..Default::default() }),
            ..typed(MountType::BIND)
        },
        MountKind::Volume { name, no_copy } => Mount {
            source: name.clone(),
            volume_options: Some(MountVolumeOptions { no_copy: Some(*no_copy), ..Default::default() }),
            ..typed(MountType::VOLUME)
        },
        MountKind::Tmpfs { size, mode } => Mount {
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: size.map(signed),
                mode: mode.map(i64::from),
                ..Default::default()
            }),
            ..typed(MountType::TMPFS)
        },
    }
}

fn propagation(mode: &str) -> Option<MountBindOptionsPropagationEnum> {
    use MountBindOptionsPropagationEnum as Mode;
    let modes = [Mode::PRIVATE, Mode::RPRIVATE, Mode::SHARED, Mode::RSHARED, Mode::SLAVE, Mode::RSLAVE];
    modes.into_iter().find(|known| known.to_string() == mode)
}

fn restart(restart: Restart) -> RestartPolicy {
    let (name, count) = match restart {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Restart::OnFailure(count) => (RestartPolicyNameEnum::ON_FAILURE, count),
    };
    RestartPolicy { name: Some(name), maximum_retry_count: count.map(i64::from) }
}

fn ulimit(name: &str, limit: compose::Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

/// `/dev/x:/dev/y:rwm`, the last two parts optional.
fn device_mapping(text: &str) -> DeviceMapping {
    let mut parts = text.split(':').map(str::to_owned);
    let host = parts.next().unwrap_or_default();
    let inner = parts.next().unwrap_or_else(|| host.clone());
    DeviceMapping {
        path_on_host: Some(host),
        path_in_container: Some(inner),
        cgroup_permissions: Some(parts.next().unwrap_or_else(|| "rwm".into())),
    }
}

fn healthcheck(check: &compose::Healthcheck) -> HealthConfig {
    HealthConfig {
        test: some(check.test.clone()),
        interval: check.interval.map(nanos),
        timeout: check.timeout.map(nanos),
        retries: check.retries.map(i64::from),
        start_period: check.start_period.map(nanos),
        ..Default::default()
    }
}
