//! What a figure needs to know about one run, read from its directory: the files of the Python tool when they are all
//! there is, `run.yml` and `summary.json` in their place when there is more.

use std::path::Path;

use crate::experiment::Variant;
use crate::store::{RunDir, RunRecord, Status, StoreError, parse_yaml, read_text};

use super::out_file::{self, OutFile};

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
    /// Read - written, one per observation, ms.
    pub windows: Vec<Window>,
    /// Observations without the post (`found` false).
    pub violations: u64,
}

/// One observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Read - written, ms; a lower bound when `censored`.
    pub ms: f64,
    /// Whether the post was there.
    pub found: bool,
    /// Whether the end was never seen.
    pub censored: bool,
    /// When the request began, us since the epoch (0 when unknown).
    pub start_us: i64,
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
    /// 99 % latency, ms.
    pub p99_ms: Option<f64>,
}

/// `info.yml`; every key may be absent.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Info {
    total_post_storage_size_bytes: Option<f64>,
    avg_post_storage_size_bytes: Option<f64>,
    total_notification_size_bytes: Option<f64>,
    avg_notification_storage_size_bytes: Option<f64>,
    rps: Option<f64>,
    r#type: Option<String>,
    zone_pair: Option<String>,
}

/// The part of `summary.json` that figures use.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Summary {
    consistency: Option<ConsistencySummary>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ConsistencySummary {
    clock_bound_ms: Option<f64>,
}

/// Reads the run in `path`, shown as `dir`, with the parts in `needs`.
///
/// # Errors
/// [`RunError`] naming the file and what it lacks.
pub fn load(dir: &str, path: &Path, needs: &[Part]) -> Result<Run, RunError> {
    let run_dir = RunDir::new(path);
    if !path.is_dir() {
        return Err(StoreError::Missing(path.to_owned()).into());
    }
    let info = optional(read_info(&run_dir))?;
    let record = optional(run_dir.read_record())?;
    let mut run = identify(dir, path, info.as_ref(), record.as_ref())?;
    if let Some(consistency) = summary(&run_dir)?.consistency {
        run.clock_bound_ms = consistency.clock_bound_ms.filter(|bound| *bound > 0.0);
    }
    let needs_outs = needs.contains(&Part::Load) || needs.contains(&Part::Spectrum);
    let outs = if needs_outs { client_outs(&run_dir)? } else { Vec::new() };
    if needs.contains(&Part::Load) {
        run.load = Some(load_part(path, &outs, record.as_ref())?);
    }
    if needs.contains(&Part::Spectrum) {
        run.spectrum = spectrum_part(&run_dir, &outs)?;
    }
    if needs.contains(&Part::Traces) {
        let traces = traces_part(&run_dir)?;
        run.completeness = completeness(&run_dir, record.as_ref(), traces.windows.len());
        run.traces = Some(traces);
    }
    if needs.contains(&Part::Sizes) {
        run.sizes = Some(sizes_part(path, info.as_ref())?);
    }
    if needs.contains(&Part::Timeline) {
        run.timeline = timeline_part(&run_dir)?;
    }
    Ok(run)
}

/// A file that may be absent.
fn optional<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn lacks(path: &Path, what: &str) -> RunError {
    RunError::Lacks(format!("`{}`: {what}", path.display()))
}

fn read_info(run_dir: &RunDir) -> Result<Info, StoreError> {
    let path = run_dir.file("info.yml");
    parse_yaml(&path, &read_text(&path)?)
}

fn summary(run_dir: &RunDir) -> Result<Summary, RunError> {
    let path = run_dir.file("summary.json");
    let value = run_dir.read_summary()?;
    serde_json::from_value(value).map_err(|error| lacks(&path, &error.to_string()))
}

/// Pair, variant, rate and outcome: from `run.yml`, else from `info.yml`.
fn identify(dir: &str, path: &Path, info: Option<&Info>, record: Option<&RunRecord>) -> Result<Run, RunError> {
    if info.is_none() && record.is_none() {
        return Err(lacks(path, "neither `info.yml` nor `run.yml` in it; not a gathered run"));
    }
    let missing = |key: &str| lacks(&path.join("info.yml"), &format!("no key `{key}`"));
    let pair = info
        .and_then(|info| info.zone_pair.clone())
        .or_else(|| record.map(|record| record.placement.zone_pair.clone()))
        .filter(|pair| !pair.is_empty())
        .ok_or_else(|| missing("zone_pair"))?;
    let variant = match info.and_then(|info| info.r#type.as_deref()) {
        Some("antipode") => Variant::Antipode,
        Some("baseline") => Variant::Baseline,
        Some(other) => return Err(lacks(&path.join("info.yml"), &format!("unknown type `{other}`"))),
        None => record.map(|record| record.variant).ok_or_else(|| missing("type"))?,
    };
    let rate = record.map(|record| record.workload.rate).or(info.and_then(|info| info.rps));
    let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0).ok_or_else(|| missing("rps"))?;
    Ok(Run {
        dir: dir.to_owned(),
        pair: pair.to_uppercase(),
        variant,
        rate,
        status: record.map_or(Status::Complete, |record| record.outcome.status),
        reasons: record.map(|record| record.outcome.reasons.clone()).unwrap_or_default(),
        completeness: None,
        clock_bound_ms: None,
        warmup_s: record.map_or(0.0, |record| record.workload.warmup_s),
        started_us: record.map(|record| record.started_us),
        load: None,
        traces: None,
        sizes: None,
        spectrum: Vec::new(),
        timeline: Vec::new(),
    })
}

fn client_outs(run_dir: &RunDir) -> Result<Vec<OutFile>, RunError> {
    let paths = run_dir.client_outs()?;
    if paths.is_empty() {
        return Err(lacks(run_dir.path(), "no client's `.out` file in it"));
    }
    let mut outs = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = std::fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        let out = out_file::parse(&String::from_utf8_lossy(&bytes));
        if out.requests_per_s.is_none() {
            return Err(lacks(&path, "no `Requests/sec:` line; the client did not finish"));
        }
        outs.push(out);
    }
    Ok(outs)
}

fn load_part(path: &Path, outs: &[OutFile], record: Option<&RunRecord>) -> Result<Load, RunError> {
    let printed: f64 = outs.iter().filter_map(|out| out.requests_per_s).sum();
    let counted = record.and_then(|record| record.load.as_ref()).map(|load| load.throughput);
    let p90_ms =
        out_file::merged_ms(outs, 0.9).ok_or_else(|| lacks(path, "no ` 90.000%` line in the clients' files"))?;
    Ok(Load {
        throughput: counted.unwrap_or(printed),
        p90_ms,
        p50_ms: out_file::merged_ms(outs, 0.5),
        p99_ms: out_file::merged_ms(outs, 0.99),
    })
}

fn spectrum_part(run_dir: &RunDir, outs: &[OutFile]) -> Result<Vec<(f64, f64)>, RunError> {
    let path = run_dir.file("latency.hgrm");
    let mut rows = match optional(read_text(&path))? {
        Some(text) => out_file::merged_spectrum(&[out_file::parse(&text)]),
        None => Vec::new(),
    };
    if rows.is_empty() {
        rows = out_file::merged_spectrum(outs);
    }
    if rows.is_empty() {
        return Err(lacks(run_dir.path(), "no percentile spectrum in `latency.hgrm` or the clients' files"));
    }
    Ok(rows)
}

fn sizes_part(path: &Path, info: Option<&Info>) -> Result<Sizes, RunError> {
    let path = path.join("info.yml");
    let info = info.ok_or_else(|| RunError::Store(StoreError::Missing(path.clone())))?;
    let key = |value: Option<f64>, key: &str| value.ok_or_else(|| lacks(&path, &format!("no key `{key}`")));
    Ok(Sizes {
        post_total: key(info.total_post_storage_size_bytes, "total_post_storage_size_bytes")?,
        post_average: key(info.avg_post_storage_size_bytes, "avg_post_storage_size_bytes")?,
        notification_total: key(info.total_notification_size_bytes, "total_notification_size_bytes")?,
        notification_average: key(info.avg_notification_storage_size_bytes, "avg_notification_storage_size_bytes")?,
    })
}

/// The windows: `windows.csv` (every observation, with those that never ended), else `traces.csv`.
fn traces_part(run_dir: &RunDir) -> Result<Traces, RunError> {
    let windows = run_dir.file("windows.csv");
    let (path, text, names) = match optional(read_large(&windows))? {
        Some(text) => (windows, text, ["window_ms", "found", "censored", "start_us"]),
        None => {
            let path = run_dir.file("traces.csv");
            let text = read_large(&path)?;
            (path, text, ["post_notification_diff_ms", "consistency_bool", "", "ts"])
        }
    };
    let sheet = Sheet::new(&path, &text, ';')?;
    let [ms, found, censored, start] = names.map(|name| sheet.column(name));
    let ms = ms.ok_or_else(|| lacks(&path, &format!("no column `{}`", names[0])))?;
    let found = found.ok_or_else(|| lacks(&path, &format!("no column `{}`", names[1])))?;
    let mut traces = Traces::default();
    for (line, row) in sheet.rows() {
        let bad = |what: &str| lacks(&path, &format!("line {line}: {what}"));
        let value = row.get(ms).and_then(|cell| cell.parse::<f64>().ok()).filter(|ms| ms.is_finite());
        let is_found = row.get(found).and_then(|cell| truth(cell)).ok_or_else(|| bad("neither True nor False"))?;
        let window = Window {
            ms: value.ok_or_else(|| bad("the window is not a number"))?,
            found: is_found,
            censored: censored.and_then(|c| row.get(c)).and_then(|cell| truth(cell)).unwrap_or(false),
            start_us: start.and_then(|c| row.get(c)).map_or(0, |cell| instant_us(cell)),
        };
        traces.violations += u64::from(!window.found && !window.censored);
        traces.windows.push(window);
    }
    if traces.windows.is_empty() {
        return Err(lacks(&path, "no observation in it"));
    }
    Ok(traces)
}

fn truth(cell: &str) -> Option<bool> {
    match cell {
        "True" | "true" | "1" => Some(true),
        "False" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// `2021-10-18 11:00:00.001866` (UTC) or a number of us; 0 when it is neither.
fn instant_us(cell: &str) -> i64 {
    if let Ok(us) = cell.parse::<i64>() {
        return us;
    }
    let civil = cell.parse::<jiff::civil::DateTime>().and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC));
    civil.map_or(0, |time| time.timestamp().as_microsecond())
}

/// The share of complete traces: the ledger's, else from the first line of `traces.info`.
fn completeness(run_dir: &RunDir, record: Option<&RunRecord>, used: usize) -> Option<f64> {
    if let Some(ledger) = record.and_then(|record| record.ledger.as_ref()).filter(|ledger| ledger.ok > 0) {
        return Some((ledger.complete as f64 / ledger.ok as f64).min(1.0));
    }
    let text = read_text(&run_dir.file("traces.info")).ok()?;
    let skipped: f64 =
        text.lines().next()?.strip_suffix("messages skipped due to missing information")?.trim().parse().ok()?;
    Some(used as f64 / (used as f64 + skipped))
}

fn timeline_part(run_dir: &RunDir) -> Result<Vec<Second>, RunError> {
    let path = run_dir.file("timeline.csv");
    let text = read_large(&path)?;
    let sheet = Sheet::new(&path, &text, ',')?;
    let column = |name: &str| sheet.column(name).ok_or_else(|| lacks(&path, &format!("no column `{name}`")));
    let (second, due, ok, errors) = (column("second")?, column("due")?, column("ok")?, column("errors")?);
    let (p50, p99) = (column("p50_us")?, column("p99_us")?);
    let mut seconds = Vec::new();
    for (line, row) in sheet.rows() {
        let value = |c: usize| row.get(c).and_then(|cell| cell.parse::<f64>().ok()).filter(|x| x.is_finite());
        let needed = |c: usize| value(c).ok_or_else(|| lacks(&path, &format!("line {line}: not a number")));
        seconds.push(Second {
            second: needed(second)?,
            due: needed(due)?,
            ok: needed(ok)?,
            errors: needed(errors)?,
            p50_ms: value(p50).map(|us| us / 1000.0),
            p99_ms: value(p99).map(|us| us / 1000.0),
        });
    }
    Ok(seconds)
}

/// The largest data file that is read whole.
const DATA_LIMIT: u64 = 1 << 30;

fn read_large(path: &Path) -> Result<String, StoreError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => StoreError::Missing(path.to_owned()),
        _ => StoreError::Read { path: path.to_owned(), source },
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > DATA_LIMIT {
        return Err(StoreError::Content {
            path: path.to_owned(),
            why: format!("larger than {} MiB", DATA_LIMIT >> 20),
        });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| StoreError::Content { path: path.to_owned(), why: "not UTF-8 text".into() })
}

/// A separated text with a header line.
struct Sheet<'a> {
    header: Vec<&'a str>,
    body: &'a str,
    separator: char,
}

impl<'a> Sheet<'a> {
    fn new(path: &Path, text: &'a str, separator: char) -> Result<Self, RunError> {
        let (header, body) = text.split_once('\n').ok_or_else(|| lacks(path, "no header line"))?;
        Ok(Sheet { header: header.trim_end().split(separator).collect(), body, separator })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| *column == name)
    }

    /// (line number, cells) of every line that is not blank.
    fn rows(&self) -> impl Iterator<Item = (usize, Vec<&'a str>)> + '_ {
        let lines = self.body.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(index, line)| (index + 2, line.trim_end().split(self.separator).collect()))
    }
}
