//! A service of ours in the words of the engine's API. One way only: what an engine says about a service is never
//! turned back into one (it names health checks differently than it reads them, and they would be lost).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{
    ConfigSpec, EndpointPortConfig, EndpointPortConfigPublishModeEnum, EndpointSpec, EndpointSpecModeEnum,
    HealthConfig, Ipam, IpamConfig, Limit, Mount, MountBindOptions, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkAttachmentConfig, NetworkCreateRequest, ResourceObject, ResourcesUlimits,
    SecretSpec, ServiceSpec as ApiService, ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecRollbackConfig,
    ServiceSpecUpdateConfig, TaskSpec, TaskSpecContainerSpec, TaskSpecContainerSpecConfigs,
    TaskSpecContainerSpecDnsConfig, TaskSpecContainerSpecFile, TaskSpecContainerSpecFile1,
    TaskSpecContainerSpecSecrets, TaskSpecLogDriver, TaskSpecPlacement, TaskSpecPlacementPreferences,
    TaskSpecPlacementSpread, TaskSpecResources, TaskSpecRestartPolicy,
};

use crate::compose::{EndpointMode, Healthcheck, Port, PublishMode, Resources, RestartPolicy};
use crate::swarm::{ContainerSpec, FileSpec, FileUse, NetworkSpec, ServiceSpec, SpecMount, SpecMountKind};

/// Ids of what services refer to, by name.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// Networks.
    pub networks: HashMap<String, String>,
    /// Configs.
    pub configs: HashMap<String, String>,
    /// Secrets.
    pub secrets: HashMap<String, String>,
}

/// The whole of a service, to be sent as it is. A name without an id stands for itself.
pub fn service(spec: &ServiceSpec, ids: &Ids) -> ApiService {
    let mode = if spec.global {
        ServiceSpecMode { global: Some(HashMap::new()), ..Default::default() }
    } else {
        let replicas = Some(signed(spec.replicas));
        ServiceSpecMode { replicated: Some(ServiceSpecModeReplicated { replicas }), ..Default::default() }
    };
    let task = TaskSpec {
        container_spec: Some(container(&spec.container, ids)),
        resources: resources(&spec.resources),
        restart_policy: spec.restart.as_ref().map(restart),
        placement: placement(spec),
        networks: Some(networks(spec, ids)),
        log_driver: spec.log.as_ref().map(|log| TaskSpecLogDriver {
            name: log.driver.clone(),
            options: (!log.options.is_empty()).then(|| log.options.clone().into_iter().collect()),
        }),
        ..Default::default()
    };
    ApiService {
        name: Some(spec.name.clone()),
        labels: Some(hash(&spec.labels)),
        task_template: Some(task),
        mode: Some(mode),
        update_config: spec.update.as_ref().map(|update| ServiceSpecUpdateConfig {
            parallelism: update.parallelism.map(signed),
            delay: update.delay.map(nanoseconds),
            failure_action: update.failure_action.as_deref().and_then(|word| word.parse().ok()),
            monitor: update.monitor.map(nanoseconds),
            max_failure_ratio: update.max_failure_ratio,
            order: update.order.as_deref().and_then(|word| word.parse().ok()),
        }),
        rollback_config: spec.rollback.as_ref().map(|back| ServiceSpecRollbackConfig {
            parallelism: back.parallelism.map(signed),
            delay: back.delay.map(nanoseconds),
            failure_action: back.failure_action.as_deref().and_then(|word| word.parse().ok()),
            monitor: back.monitor.map(nanoseconds),
            max_failure_ratio: back.max_failure_ratio,
            order: back.order.as_deref().and_then(|word| word.parse().ok()),
        }),
        endpoint_spec: Some(endpoint(spec)),
        ..Default::default()
    }
}

/// The request that makes a network.
pub fn network(spec: &NetworkSpec) -> NetworkCreateRequest {
    let pool = |(subnet, gateway): &(String, Option<String>)| IpamConfig {
        subnet: Some(subnet.clone()),
        gateway: gateway.clone(),
        ..Default::default()
    };
    let pools: Vec<IpamConfig> = spec.subnets.iter().map(pool).collect();
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(spec.driver.clone()),
        internal: Some(spec.internal),
        attachable: Some(spec.attachable),
        ipam: (!pools.is_empty()).then(|| Ipam { config: Some(pools), ..Default::default() }),
        options: (!spec.driver_opts.is_empty()).then(|| spec.driver_opts.clone().into_iter().collect()),
        labels: Some(hash(&spec.labels)),
        ..Default::default()
    }
}

/// The request that makes a config.
pub fn config(spec: &FileSpec) -> ConfigSpec {
    ConfigSpec {
        name: Some(spec.name.clone()),
        labels: Some(hash(&spec.labels)),
        data: Some(base64(&spec.content)),
        ..Default::default()
    }
}

/// The request that makes a secret.
pub fn secret(spec: &FileSpec) -> SecretSpec {
    SecretSpec {
        name: Some(spec.name.clone()),
        labels: Some(hash(&spec.labels)),
        data: Some(base64(&spec.content)),
        ..Default::default()
    }
}

fn container(spec: &ContainerSpec, ids: &Ids) -> TaskSpecContainerSpec {
    let some = |texts: &Vec<String>| (!texts.is_empty()).then(|| texts.clone());
    let limit = |(name, limit): (&String, &crate::compose::Ulimit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    };
    TaskSpecContainerSpec {
        image: Some(spec.image.clone()),
        labels: Some(hash(&spec.labels)),
        command: spec.command.clone(),
        args: spec.args.clone(),
        hostname: spec.hostname.clone(),
        env: some(&spec.env),
        dir: spec.dir.clone(),
        user: spec.user.clone(),
        mounts: (!spec.mounts.is_empty()).then(|| spec.mounts.iter().map(mount).collect()),
        stop_signal: spec.stop_signal.clone(),
        stop_grace_period: spec.stop_grace_period.map(nanoseconds),
        health_check: spec.healthcheck.as_ref().map(health),
        hosts: some(&spec.hosts),
        dns_config: dns(spec),
        configs: (!spec.configs.is_empty()).then(|| spec.configs.iter().map(|file| config_use(file, ids)).collect()),
        secrets: (!spec.secrets.is_empty()).then(|| spec.secrets.iter().map(|file| secret_use(file, ids)).collect()),
        init: spec.init,
        sysctls: (!spec.sysctls.is_empty()).then(|| hash(&spec.sysctls)),
        capability_add: some(&spec.cap_add),
        capability_drop: some(&spec.cap_drop),
        ulimits: (!spec.ulimits.is_empty()).then(|| spec.ulimits.iter().map(limit).collect()),
        read_only: spec.read_only.then_some(true),
        tty: spec.tty.then_some(true),
        open_stdin: spec.open_stdin.then_some(true),
        ..Default::default()
    }
}

fn dns(spec: &ContainerSpec) -> Option<TaskSpecContainerSpecDnsConfig> {
    let given = !(spec.dns.is_empty() && spec.dns_search.is_empty() && spec.dns_options.is_empty());
    given.then(|| TaskSpecContainerSpecDnsConfig {
        nameservers: Some(spec.dns.clone()),
        search: Some(spec.dns_search.clone()),
        options: Some(spec.dns_options.clone()),
    })
}

fn mount(mount: &SpecMount) -> Mount {
    let mut to =
        Mount { target: Some(mount.target.clone()), read_only: mount.read_only.then_some(true), ..Default::default() };
    match &mount.kind {
        SpecMountKind::Bind { source, propagation } => {
            to.typ = Some(MountType::BIND);
            to.source = Some(source.display().to_string());
            to.bind_options = propagation
                .as_deref()
                .and_then(|word| word.parse().ok())
                .map(|propagation| MountBindOptions { propagation: Some(propagation), ..Default::default() });
        }
        SpecMountKind::Volume { name, no_copy, driver, driver_opts, labels } => {
            to.typ = Some(MountType::VOLUME);
            to.source.clone_from(name);
            let config = driver.as_ref().map(|driver| MountVolumeOptionsDriverConfig {
                name: Some(driver.clone()),
                options: Some(driver_opts.clone().into_iter().collect()),
            });
            to.volume_options = Some(MountVolumeOptions {
                no_copy: no_copy.then_some(true),
                labels: (!labels.is_empty()).then(|| hash(labels)),
                driver_config: config,
                subpath: None,
            });
        }
        SpecMountKind::Tmpfs { size, mode } => {
            to.typ = Some(MountType::TMPFS);
            to.tmpfs_options = (size.is_some() || mode.is_some()).then(|| MountTmpfsOptions {
                size_bytes: size.map(signed),
                mode: mode.map(i64::from),
                options: None,
            });
        }
    }
    to
}

fn config_use(file: &FileUse, ids: &Ids) -> TaskSpecContainerSpecConfigs {
    TaskSpecContainerSpecConfigs {
        file: Some(TaskSpecContainerSpecFile1 {
            name: Some(file.target.clone()),
            uid: Some(file.uid.clone()),
            gid: Some(file.gid.clone()),
            mode: Some(file.mode),
        }),
        config_id: Some(id(&ids.configs, &file.name)),
        config_name: Some(file.name.clone()),
        ..Default::default()
    }
}

fn secret_use(file: &FileUse, ids: &Ids) -> TaskSpecContainerSpecSecrets {
    TaskSpecContainerSpecSecrets {
        file: Some(TaskSpecContainerSpecFile {
            name: Some(file.target.clone()),
            uid: Some(file.uid.clone()),
            gid: Some(file.gid.clone()),
            mode: Some(file.mode),
        }),
        secret_id: Some(id(&ids.secrets, &file.name)),
        secret_name: Some(file.name.clone()),
    }
}

fn id(ids: &HashMap<String, String>, name: &str) -> String {
    ids.get(name).cloned().unwrap_or_else(|| name.to_owned())
}

fn networks(spec: &ServiceSpec, ids: &Ids) -> Vec<NetworkAttachmentConfig> {
    let attachment = |network: &crate::swarm::NetworkUse| NetworkAttachmentConfig {
        target: Some(id(&ids.networks, &network.network)),
        aliases: (!network.aliases.is_empty()).then(|| network.aliases.clone()),
        driver_opts: None,
    };
    spec.networks.iter().map(attachment).collect()
}

/// Health checks as the engine takes them.
pub(super) fn health(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: (!check.test.is_empty()).then(|| check.test.clone()),
        interval: check.interval.map(nanoseconds),
        timeout: check.timeout.map(nanoseconds),
        retries: check.retries.map(i64::from),
        start_period: check.start_period.map(nanoseconds),
        start_interval: None,
    }
}

fn resources(resources: &Resources) -> Option<TaskSpecResources> {
    if *resources == Resources::default() {
        return None;
    }
    let limits = Limit {
        nano_cpus: resources.cpus_limit.map(signed),
        memory_bytes: resources.memory_limit.map(signed),
        pids: resources.pids_limit.map(signed),
    };
    let reservations = ResourceObject {
        nano_cpus: resources.cpus_reserved.map(signed),
        memory_bytes: resources.memory_reserved.map(signed),
        generic_resources: None,
    };
    Some(TaskSpecResources {
        limits: (limits != Limit::default()).then_some(limits),
        reservations: (reservations != ResourceObject::default()).then_some(reservations),
        ..Default::default()
    })
}

fn restart(policy: &RestartPolicy) -> TaskSpecRestartPolicy {
    TaskSpecRestartPolicy {
        condition: policy.condition.as_deref().and_then(|word| word.parse().ok()),
        delay: policy.delay.map(nanoseconds),
        max_attempts: policy.max_attempts.map(signed),
        window: policy.window.map(nanoseconds),
    }
}

fn placement(spec: &ServiceSpec) -> Option<TaskSpecPlacement> {
    let from = &spec.placement;
    let spread = |preference: &crate::compose::Preference| TaskSpecPlacementPreferences {
        spread: Some(TaskSpecPlacementSpread { spread_descriptor: Some(preference.spread.clone()) }),
    };
    let to = TaskSpecPlacement {
        constraints: (!from.constraints.is_empty()).then(|| from.constraints.clone()),
        preferences: (!from.preferences.is_empty()).then(|| from.preferences.iter().map(spread).collect()),
        max_replicas: from.max_replicas_per_node.map(signed),
        platforms: None,
    };
    (to != TaskSpecPlacement::default()).then_some(to)
}

fn endpoint(spec: &ServiceSpec) -> EndpointSpec {
    let port = |port: &Port| EndpointPortConfig {
        name: None,
        protocol: port.protocol.as_str().parse().ok(),
        target_port: Some(i64::from(port.target)),
        published_port: port.published.map(i64::from),
        publish_mode: Some(match port.mode {
            Some(PublishMode::Host) => EndpointPortConfigPublishModeEnum::HOST,
            Some(PublishMode::Ingress) | None => EndpointPortConfigPublishModeEnum::INGRESS,
        }),
    };
    EndpointSpec {
        mode: Some(match spec.endpoint_mode {
            Some(EndpointMode::Dnsrr) => EndpointSpecModeEnum::DNSRR,
            Some(EndpointMode::Vip) | None => EndpointSpecModeEnum::VIP,
        }),
        ports: (!spec.ports.is_empty()).then(|| spec.ports.iter().map(port).collect()),
    }
}

fn hash(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_u32 {
            let digit = bits >> (18 - 6 * at) & 63;
            text.push(if at as usize <= group.len() { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_standard() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
