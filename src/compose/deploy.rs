//! The typed form of `deploy:`: how many tasks, where, with how much, and how changes reach them.

use std::time::Duration;

use indexmap::IndexMap;

/// How many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployMode {
    /// So many replicas.
    Replicated,
    /// One on every node.
    Global,
}

/// How a service's name resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointMode {
    /// To one virtual address.
    Vip,
    /// To the tasks' addresses.
    Dnsrr,
}

impl EndpointMode {
    /// The word in files, flags and the engine's API.
    pub fn as_str(self) -> &'static str {
        match self {
            EndpointMode::Vip => "vip",
            EndpointMode::Dnsrr => "dnsrr",
        }
    }
}

/// `deploy:`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deploy {
    /// `mode:`.
    pub mode: Option<DeployMode>,
    /// `replicas:`.
    pub replicas: Option<u64>,
    /// `endpoint_mode:`.
    pub endpoint_mode: Option<EndpointMode>,
    /// `placement:`.
    pub placement: Placement,
    /// `restart_policy:`.
    pub restart_policy: Option<RestartPolicy>,
    /// `resources:`.
    pub resources: Resources,
    /// `update_config:`.
    pub update: Option<Rollout>,
    /// `rollback_config:`.
    pub rollback: Option<Rollout>,
    /// `labels:` of the service.
    pub labels: IndexMap<String, String>,
}

/// Where tasks may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// `node.hostname == x`, ...
    pub constraints: Vec<String>,
    /// What to spread over.
    pub preferences: Vec<Preference>,
    /// Most tasks on one node.
    pub max_replicas_per_node: Option<u64>,
}

/// Spread tasks over the values of a node's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// `node.labels.zone`.
    pub spread: String,
}

/// When a swarm starts a task again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartPolicy {
    /// `none`, `on-failure`, `any`; `any` when absent.
    pub condition: Option<String>,
    /// Time between tries.
    pub delay: Option<Duration>,
    /// Most tries.
    pub max_attempts: Option<u64>,
    /// Time after which a try counts as good.
    pub window: Option<Duration>,
}

/// Limits and reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Most of the CPU, in billionths of one.
    pub cpus_limit: Option<u64>,
    /// Most memory, bytes.
    pub memory_limit: Option<u64>,
    /// Most processes.
    pub pids_limit: Option<u64>,
    /// CPU set aside, in billionths of one.
    pub cpus_reserved: Option<u64>,
    /// Memory set aside, bytes.
    pub memory_reserved: Option<u64>,
}

/// How a change is rolled out, or back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Tasks at a time.
    pub parallelism: Option<u64>,
    /// Pause between them.
    pub delay: Option<Duration>,
    /// `pause`, `continue`, `rollback`.
    pub failure_action: Option<String>,
    /// How long a task is watched.
    pub monitor: Option<Duration>,
    /// Failures that are borne, 0 to 1.
    pub max_failure_ratio: Option<f64>,
    /// `stop-first`, `start-first`.
    pub order: Option<String>,
}
