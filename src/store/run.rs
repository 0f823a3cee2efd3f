//! A run's directory and its record `run.yml`: the conditions a number was measured under.
//!
//! ```text
//! run.yml         conditions and outcome              written by wkld, completed by gather
//! <client>.out    wrk2's text                         wkld, one per client (client00, client01, ...)
//! latency.hgrm    percentile distribution             wkld
//! timeline.csv    per-second counts and percentiles   wkld
//! summary.json    {format, load, consistency}         wkld writes `load`, gather adds `consistency`
//! info.yml, traces.csv, traces.info, .last.yml        gather, in the Python tool's form
//! windows.csv     every observation                   gather
//! ```

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::deployment::{check_format, directories};
use super::{FORMAT, Store, StoreError, read_json, read_yaml, write_json, write_yaml};
use crate::experiment::{TargetName, Variant};

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The load is being sent, or the process died while it was.
    #[default]
    Running,
    /// Ended as planned.
    Complete,
    /// Ended; the reasons say what a reader must know.
    Flagged,
    /// Ended; its numbers must not be used.
    Void,
    /// Stopped by the user.
    Interrupted,
}

/// The outcome with its reasons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Why it is flagged, void or interrupted; one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Outcome {
    /// Adds a reason and raises the status to at least `status` (complete < flagged < interrupted < void).
    pub fn add(&mut self, status: Status, reason: impl Into<String>) {
        let rank = |s: Status| match s {
            Status::Running => 0,
            Status::Complete => 1,
            Status::Flagged => 2,
            Status::Interrupted => 3,
            Status::Void => 4,
        };
        if rank(status) > rank(self.status) {
            self.status = status;
        }
        let reason = reason.into();
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Takes back all reasons that begin with `mark`; a flagged or void run without reasons is complete again.
    pub fn retract(&mut self, mark: &str) {
        self.reasons.retain(|reason| !reason.starts_with(mark));
        if self.reasons.is_empty() && matches!(self.status, Status::Flagged | Status::Void) {
            self.status = Status::Complete;
        }
    }
}

/// The placement a run used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlacementRef {
    /// As typed.
    pub path: String,
    /// SHA-256 of its content, hex.
    pub sha256: String,
    /// Zone pair as written (`US->EU`).
    pub zone_pair: String,
}

/// What was asked of the load generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// Offered requests/s, over all clients.
    pub rate: f64,
    /// `constant`, `poisson`, or the ramp as typed.
    pub arrivals: String,
    /// Connections per client.
    pub connections: usize,
    /// Threads per client.
    pub threads: usize,
    /// Number of clients.
    pub clients: usize,
    /// The client hosts, in the order of their `.out` files; none when this machine sent the load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_hosts: Vec<String>,
    /// Duration, s.
    pub duration_s: f64,
    /// The first part that is cut from every series, s.
    pub warmup_s: f64,
    /// Seed of schedule and bodies.
    pub seed: u64,
    /// `exact`, `coarse` or `spin`.
    pub pace: String,
    /// Request timeout, s.
    pub timeout_s: f64,
}

/// An image a run was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRef {
    /// Name with tag.
    pub name: String,
    /// Content digest.
    pub digest: String,
}

/// Facts about one host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Host name.
    pub name: String,
    /// CPU model.
    pub cpu: String,
    /// Logical CPUs.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Clock source (`kvm-clock`, `tsc`).
    pub clock_source: String,
    /// Whether the kernel says that its clock is synchronised.
    pub clock_synchronised: bool,
}

/// How far the clock of `b` is ahead of the clock of `a`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// Reference host.
    pub a: String,
    /// Other host.
    pub b: String,
    /// `b - a`, us.
    pub offset_us: f64,
    /// The true offset lies within `offset_us` +- this, us.
    pub bound_us: f64,
    /// When it was measured, us since the epoch, on `a`.
    pub at_us: i64,
}

/// Name of this machine among the hosts whose clocks are compared.
pub const CONTROLLER: &str = "controller";

/// The hosts whose clocks stamp what is gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockHosts {
    /// Requests come in here.
    pub entry: String,
    /// A post is durable at the origin.
    pub written: String,
    /// A notification is queued.
    pub queued: String,
    /// It is received, and the post is read.
    pub read: String,
}

/// Delay injected on the replication path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DelayRecord {
    /// What was asked for, as typed.
    pub asked: String,
    /// What carried it out (`netem`, `proxy`, `embedded`).
    pub backend: String,
    /// Median obtained, ms.
    pub obtained_p50_ms: f64,
    /// 99th percentile obtained, ms.
    pub obtained_p99_ms: f64,
    /// The services it is between (`post-storage-redis-eu -> post-storage-redis-us`); absent where there is one link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// Median round trip of the path without it, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_p50_ms: Option<f64>,
    /// What the distribution asked for promises, ms: median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_p50_ms: Option<f64>,
    /// And 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_p99_ms: Option<f64>,
    /// Median time after which a write at one store is visible at the other, ms, with the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_p50_ms: Option<f64>,
    /// The same before the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_before_p50_ms: Option<f64>,
    /// Probability of the measured distribution if it is the one asked for (two-sample Kolmogorov-Smirnov test against
    /// the sampler); absent without jitter, and where neighbours are correlated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ks_p: Option<f64>,
    /// Probes that never came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Packets that netem dropped while the path was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Most bytes that the proxy held at once while the path was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_peak_bytes: Option<u64>,
    /// When it came into force, us since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_us: Option<i64>,
    /// The other pairs of a matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<DelayRecord>,
}

/// What the load generator did. Counts cover the run without its warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadCounts {
    /// Requests that were due.
    pub due: u64,
    /// Of these, put on the wire.
    pub sent: u64,
    /// Of these, answered 2xx.
    pub ok: u64,
    /// Failures by kind (`connect`, `read`, `write`, `timeout`, `status_4xx`, `status_5xx`, ...).
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub errors: IndexMap<String, u64>,
    /// Due but without an end when the drain limit was reached.
    pub unfinished: u64,
    /// ok / measured duration, requests/s.
    pub throughput: f64,
}

/// Where requests were lost on the way to an observation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Requests that were due.
    pub due: u64,
    /// Put on the wire.
    pub sent: u64,
    /// Answered 2xx.
    pub ok: u64,
    /// Seen in the trace store.
    pub traced: u64,
    /// With every span and tag.
    pub complete: u64,
    /// Used for the statistics (complete and outside the warm-up).
    pub used: u64,
    /// Losses by cause (`missing tag wht_start_queue_ts`, ...).
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub lost: IndexMap<String, u64>,
}

/// `run.yml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this file's form.
    pub format: u32,
    /// Version of maestro that made it.
    pub maestro: String,
    /// Git revision of that build.
    pub revision: String,
    /// The application's name.
    pub app: String,
    /// Where it ran.
    pub target: TargetName,
    /// Tag of the deployment.
    pub deployment: String,
    /// Tag of the run (`wkld_tag`).
    pub tag: String,
    /// The placement.
    pub placement: PlacementRef,
    /// Baseline or antipode.
    pub variant: Variant,
    /// The endpoint's name.
    pub endpoint: String,
    /// What was asked of the generator.
    pub workload: WorkloadRecord,
    /// Index of the round inside a sweep, from 0.
    #[serde(default)]
    pub round: u32,
    /// Images with digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageRef>,
    /// Facts about every host that took part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostFacts>,
    /// Clock offsets before and after the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock_offsets: Vec<ClockOffset>,
    /// Whose clocks these are; absent where everything has one clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_hosts: Option<ClockHosts>,
    /// Injected delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelayRecord>,
    /// First due instant, us since the epoch, UTC.
    pub started_us: i64,
    /// End of the load, us since the epoch, UTC; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_us: Option<i64>,
    /// The load generator's counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadCounts>,
    /// The completeness ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// How it ended.
    pub outcome: Outcome,
    /// Keys of other versions, and costs a target adds.
    #[serde(flatten)]
    pub other: IndexMap<String, serde_json::Value>,
}

impl Store {
    /// Every run directory of a target that holds a `run.yml`.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn runs(&self, target: TargetName) -> Result<Vec<RunDir>, StoreError> {
        Ok(self.tagged(target)?.into_iter().filter(|path| path.join("run.yml").is_file()).map(RunDir).collect())
    }

    /// How many run directories of a target have no `run.yml`: those of the Python tool.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn runs_without_record(&self, target: TargetName) -> Result<usize, StoreError> {
        let old = |path: &&PathBuf| path.join("info.yml").is_file() && !path.join("run.yml").is_file();
        Ok(self.tagged(target)?.iter().filter(old).count())
    }

    /// Every directory where a target's runs are kept.
    fn tagged(&self, target: TargetName) -> Result<Vec<PathBuf>, StoreError> {
        let mut level = vec![self.gather_root(target)];
        // app / endpoint / gather tag / run tag
        for _ in 0..4 {
            let below = level.iter().map(|path| directories(path)).collect::<Result<Vec<_>, _>>()?;
            level = below.into_iter().flatten().collect();
        }
        Ok(level)
    }
}

/// One run's directory.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The run kept in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        RunDir(path.into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The file of client number `index` (from 0): `client00.out`.
    pub fn client_out(&self, index: usize) -> PathBuf {
        self.0.join(format!("client{index:02}.out"))
    }

    /// All clients' wrk2-format files, sorted by name.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be read.
    pub fn client_outs(&self) -> Result<Vec<PathBuf>, StoreError> {
        let read = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => StoreError::Missing(self.0.clone()),
            _ => StoreError::Read { path: self.0.clone(), source },
        };
        let mut outs = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|e| e == "out") {
                outs.push(path);
            }
        }
        outs.sort();
        Ok(outs)
    }

    /// Reads `run.yml`.
    ///
    /// # Errors
    /// [`StoreError`]; a newer format is refused.
    pub fn read_record(&self) -> Result<RunRecord, StoreError> {
        let path = self.file("run.yml");
        let record: RunRecord = read_yaml(&path)?;
        check_format(&path, record.format)?;
        Ok(record)
    }

    /// Writes `run.yml`.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write_record(&self, record: &RunRecord) -> Result<(), StoreError> {
        write_yaml(&self.file("run.yml"), record)
    }

    /// Reads `summary.json`; an empty object when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_summary(&self) -> Result<serde_json::Value, StoreError> {
        match read_json(&self.file("summary.json")) {
            Err(StoreError::Missing(_)) => Ok(serde_json::json!({ "format": FORMAT })),
            other => other,
        }
    }

    /// Replaces one section (`load` or `consistency`) of `summary.json` and keeps the others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write_summary_section(&self, section: &str, value: serde_json::Value) -> Result<(), StoreError> {
        let mut summary = self.read_summary()?;
        if let Some(map) = summary.as_object_mut() {
            map.insert(section.to_owned(), value);
        }
        write_json(&self.file("summary.json"), &summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_status_wins_and_reasons_gather() {
        let mut outcome = Outcome { status: Status::Complete, reasons: Vec::new() };
        outcome.add(Status::Void, "client was the bottleneck");
        outcome.add(Status::Flagged, "98.2 % complete");
        assert_eq!(outcome.status, Status::Void);
        assert_eq!(outcome.reasons.len(), 2);
    }

    #[test]
    fn sections_of_the_summary_do_not_overwrite_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path());
        run.write_summary_section("load", serde_json::json!({"ok": 1})).unwrap();
        run.write_summary_section("consistency", serde_json::json!({"used": 2})).unwrap();
        let summary = run.read_summary().unwrap();
        assert_eq!(
            (&summary["format"], &summary["load"]["ok"], &summary["consistency"]["used"]),
            (&1.into(), &1.into(), &2.into())
        );
    }
}
