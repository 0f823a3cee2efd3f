//! What a figure needs to know about one run, read from its directory: the files of the Python tool when they are all
//! there is, `run.yml` and `summary.json` in their place when there is more.

mod load;
mod sheet;

use std::path::Path;

use crate::experiment::Variant;
use crate::store::{Status, StoreError};

pub use load::{load, load_present};

/// A part of a run directory that a figure may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Throughput and latency of the clients.
    Load,
    /// The windows and violations of the traces.
    Traces,
    /// The storage sizes of `info.yml`.
    Sizes,
    /// The latency distribution.
    Spectrum,
    /// Every second's counts.
    Timeline,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 5] = [Part::Load, Part::Traces, Part::Sizes, Part::Spectrum, Part::Timeline];

    /// The files it comes from, for messages.
    pub fn files(self) -> &'static str {
        match self {
            Part::Load => "the clients' .out files",
            Part::Traces => "traces.csv or summary.json",
            Part::Sizes => "the storage sizes in info.yml",
            Part::Spectrum => "latency.hgrm or the clients' .out files",
            Part::Timeline => "timeline.csv",
        }
    }
}

/// Why a run directory cannot be used, in one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file is missing, unreadable or not what it should be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files are readable and do not hold what is needed.
    #[error("{0}")]
    Lacks(String),
}

/// The error of a file that lacks `what`.
fn lacks(path: &Path, what: &str) -> RunError {
    RunError::Lacks(format!("`{}`: {what}", path.display()))
}

/// One run as figures see it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The directory as the config names it.
    pub dir: String,
    /// `US->EU`.
    pub pair: String,
    /// Baseline or antipode.
    pub variant: Variant,
    /// Offered requests/s.
    pub rate: f64,
    /// How it ended; `Complete` when nothing says otherwise.
    pub status: Status,
    /// Why it is flagged.
    pub reasons: Vec<String>,
    /// Share of the traces that were complete, 0..=1, where known.
    pub completeness: Option<f64>,
    /// Uncertainty of the clocks behind the windows, ms, where known.
    pub clock_bound_ms: Option<f64>,
    /// Seconds cut from the start of every series.
    pub warmup_s: f64,
    /// First due instant, us since the epoch, where known.
    pub started_us: Option<i64>,
    /// Present when [`Part::Load`] was asked for.
    pub load: Option<Load>,
    /// Present when [`Part::Traces`] was asked for.
    pub traces: Option<Traces>,
    /// Present when [`Part::Sizes`] was asked for.
    pub sizes: Option<Sizes>,
    /// (share, ms) of the latency, ascending; empty unless [`Part::Spectrum`] was asked for.
    pub spectrum: Vec<(f64, f64)>,
    /// Empty unless [`Part::Timeline`] was asked for.
    pub timeline: Vec<Second>,
}

/// What the clients saw, merged over all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests answered per second.
    pub throughput: f64,
    /// 90 % of requests took at most this, ms.
    pub p90_ms: f64,
    /// Median latency, ms.
    pub p50_ms: Option<f64>,
    /// 99 % latency, ms.
    pub p99_ms: Option<f64>,
}

/// What the traces say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traces {
    /// Observations without the post.
    pub violations: u64,
    /// Observations in all, those that never ended not among them.
    pub observations: u64,
    /// Observations that never ended: lower bounds.
    pub censored: u64,
    /// Median of read - written, ms.
    pub p50: Quantile,
    /// Its 90 % quantile.
    pub p90: Quantile,
    /// Its 99 % quantile.
    pub p99: Quantile,
    /// (ms, share of windows that have ended by then), ascending; thinned.
    pub cdf: Vec<(f64, f64)>,
    /// Per second since the first due instant.
    pub seconds: Vec<TraceSecond>,
}

/// A quantile of the windows with the ends of its interval within the run, ms, where they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct Quantile {
    /// The estimate.
    pub value: Option<f64>,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// One second of the traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct TraceSecond {
    /// Seconds since the first due instant (or the first trace).
    pub second: i64,
    /// Observations of requests that began then.
    pub complete: u64,
    /// Violations among them.
    pub violations: u64,
}

/// Storage sizes, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// All posts with their indexes.
    pub post_total: f64,
    /// Average stored object.
    pub post_average: f64,
    /// All notifications.
    pub notification_total: f64,
    /// Average notification.
    pub notification_average: f64,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Seconds since the first due instant.
    pub second: f64,
    /// Requests due.
    pub due: f64,
    /// Answered 2xx.
    pub ok: f64,
    /// Failed.
    pub errors: f64,
    /// Median latency, ms.
    pub p50_ms: Option<f64>,
    /// 90 % latency, ms.
    pub p90_ms: Option<f64>,
    /// 99 % latency, ms.
    pub p99_ms: Option<f64>,
}

impl Run {
    /// Whether this part was read.
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Load => self.load.is_some(),
            Part::Traces => self.traces.is_some(),
            Part::Sizes => self.sizes.is_some(),
            Part::Spectrum => !self.spectrum.is_empty(),
            Part::Timeline => !self.timeline.is_empty(),
        }
    }
}
