//! What maestro and its helper say to each other: one line of JSON each way over the helper's control socket.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::plan::Schedule;
use super::proxy::RuleStats;
use super::spec::Spec;

/// How a delay is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// netem where the kernel has it, else the proxy.
    #[default]
    Auto,
    /// The kernel's network emulator.
    Netem,
    /// The transparent TCP proxy.
    Proxy,
}

impl Backend {
    /// The word on the command line and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Netem => "netem",
            Backend::Proxy => "proxy",
        }
    }

    /// The backend called `word`.
    pub fn parse(word: &str) -> Option<Self> {
        [Backend::Auto, Backend::Netem, Backend::Proxy].into_iter().find(|backend| backend.as_str() == word)
    }
}

/// Everything that one helper enforces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// `netem` or `proxy`.
    pub backend: Backend,
    /// Seed of the delays.
    pub seed: u64,
    /// One per peer.
    pub rules: Vec<Rule>,
}

/// Delay between the helper's network namespace and one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `post-storage-redis-eu -> post-storage-redis-us`.
    pub name: String,
    /// Names or addresses of the peer; all their addresses count.
    pub peers: Vec<String>,
    /// TCP ports of the side that accepts; all when empty.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// What happens to data that the peer sends (proxy only); it is left alone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_peer: Option<Spec>,
    /// What happens to data sent to the peer; it is left alone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_peer: Option<Spec>,
    /// Changes over time of the directions that are not left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub following: Option<Following>,
}

/// A schedule and its clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Following {
    /// The schedule.
    pub schedule: Schedule,
    /// When its clock started, us since the epoch; absent while it waits for a load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<i64>,
}

/// What a helper can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Enforce these rules instead of the present ones.
    Apply(Rules),
    /// Change what rule `rule` does to the directions that it does not leave alone, keeping its connections.
    Set {
        /// Index of the rule.
        rule: usize,
        /// What it does from now on.
        spec: Spec,
    },
    /// Follow a schedule with every rule.
    Follow(Schedule),
    /// What this kernel can do.
    Kernel,
    /// Live this much longer from now, s.
    Renew {
        /// Seconds.
        seconds: f64,
    },
    /// A run starts: schedules that wait for it begin.
    Begin,
    /// How things stand.
    Status,
    /// Measure round trips to the echo of another helper.
    Probe {
        /// The peer's names or addresses.
        peers: Vec<String>,
        /// The echo's port.
        port: u16,
        /// Connections at once.
        connections: usize,
        /// Round trips on each.
        rounds: usize,
        /// Longest wait for one answer, ms.
        patience_ms: f64,
    },
    /// Measure how long a write on the Redis primary takes to be visible on the replica of this namespace.
    Visibility {
        /// The primary's names or addresses.
        peers: Vec<String>,
        /// The store's port on both sides.
        port: u16,
        /// Writes.
        writes: usize,
        /// Longest wait for one of them, ms.
        patience_ms: f64,
    },
    /// Remove the rules and end.
    Off,
}

/// What a helper answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// How things stand.
    Status(Status),
    /// What the kernel can do.
    Kernel {
        /// It has netem, and what it hangs below.
        netem: bool,
        /// It can redirect connections to the proxy.
        redirect: bool,
    },
    /// What a probe measured.
    Probed(Probed),
    /// It cannot be done.
    Refused {
        /// Why.
        message: String,
        /// The exit code this deserves.
        exit: i32,
    },
}

/// What a probe measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// Each sample, ns, in the order in which they ended.
    pub samples_ns: Vec<u64>,
    /// Samples that never ended.
    pub lost: u64,
}

/// How a helper stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the helper's program.
    pub maestro: String,
    /// When this helper started, us since the epoch.
    pub started_us: i64,
    /// When the present rules came into force, us since the epoch; 0 without rules.
    pub applied_us: i64,
    /// Times the helper was restarted with rules in force.
    pub restarts: u64,
    /// Until the rules remove themselves, s.
    pub lease_left_s: f64,
    /// TCP port of its echo.
    pub echo_port: u16,
    /// What makes the delay; absent without rules.
    pub backend: Option<Backend>,
    /// Whether the kernel itself removes the rules with the helper.
    pub tied_to_process: bool,
    /// One per rule.
    pub rules: Vec<RuleStatus>,
}

/// How one rule stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// The peer's addresses now.
    pub addresses: Vec<IpAddr>,
    /// How often they have changed since the rule came into force.
    pub address_changes: u64,
    /// Connections that were open before the rule and were cut over to it.
    pub cut_over: u64,
    /// Connections that could not be cut over; they stay undelayed until they reconnect.
    pub left_alone: u64,
    /// What happens to data that the peer sends.
    pub from_peer: String,
    /// What happens to data sent to the peer.
    pub to_peer: String,
    /// Step of the schedule in force, from 0.
    pub step: Option<usize>,
    /// What the proxy carried.
    pub proxy: Option<RuleStats>,
    /// Packets that netem dropped.
    pub netem_drops: Option<u64>,
    /// Packets that netem holds.
    pub netem_queued: Option<u64>,
}
