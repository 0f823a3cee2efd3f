//! From a run directory to a [`Run`].

use std::path::Path;

use crate::experiment::Variant;
use crate::plot::out_file::{self, OutFile};
use crate::stats;
use crate::store::{RunDir, RunRecord, Status, StoreError, parse_yaml, read_text};

use super::sheet::{Sheet, read_large};
use super::{Load, Part, Quantile, Run, RunError, Second, Sizes, TraceSecond, Traces, lacks};

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

/// What gather measured.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ConsistencySummary {
    violations: Counts,
    window: Windows,
    cdf: Vec<(f64, f64)>,
    clock_bound_ms: Option<f64>,
    completeness: Option<f64>,
    timeline: Vec<TraceSecond>,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Counts {
    k: u64,
    n: u64,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Windows {
    censored: u64,
    p50: Quantile,
    p90: Quantile,
    p99: Quantile,
}

/// Reads the run in `path`, shown as `dir`, with the parts in `needs`.
///
/// # Errors
/// [`RunError`] naming the file and what it lacks.
pub fn load(dir: &str, path: &Path, needs: &[Part]) -> Result<Run, RunError> {
    let mut opened = Opened::new(dir, path)?;
    needs.iter().try_for_each(|part| opened.read(*part))?;
    Ok(opened.run)
}

/// Reads the run in `path`, shown as `dir`, with every part that is there and can be read.
///
/// # Errors
/// [`RunError`] when it is not a run at all.
pub fn load_present(dir: &str, path: &Path) -> Result<Run, RunError> {
    let mut opened = Opened::new(dir, path)?;
    for part in Part::ALL {
        // What cannot be read is absent; `Run::has` tells.
        opened.read(part).ok();
    }
    Ok(opened.run)
}

/// A run directory with the files that several parts come from.
struct Opened {
    run_dir: RunDir,
    info: Option<Info>,
    record: Option<RunRecord>,
    consistency: Option<ConsistencySummary>,
    outs: Option<Vec<OutFile>>,
    run: Run,
}

impl Opened {
    fn new(dir: &str, path: &Path) -> Result<Self, RunError> {
        let run_dir = RunDir::new(path);
        if !path.is_dir() {
            return Err(StoreError::Missing(path.to_owned()).into());
        }
        let info = optional(read_info(&run_dir))?;
        let record = optional(run_dir.read_record())?;
        let mut run = identify(dir, path, info.as_ref(), record.as_ref())?;
        let consistency = summary(&run_dir)?.consistency;
        let bound = consistency.as_ref().and_then(|consistency| consistency.clock_bound_ms);
        run.clock_bound_ms = bound.filter(|bound| *bound > 0.0);
        Ok(Opened { run_dir, info, record, consistency, outs: None, run })
    }

    fn read(&mut self, part: Part) -> Result<(), RunError> {
        match part {
            Part::Load => {
                self.read_outs()?;
                let outs = self.outs.as_deref().unwrap_or_default();
                self.run.load = Some(load_part(self.run_dir.path(), outs, self.record.as_ref())?);
            }
            Part::Spectrum => {
                self.read_outs()?;
                self.run.spectrum = spectrum_part(&self.run_dir, self.outs.as_deref().unwrap_or_default())?;
            }
            Part::Traces => {
                let (traces, completeness) = match &self.consistency {
                    Some(consistency) if consistency.violations.n > 0 => measured(consistency),
                    _ => from_csv(&self.run_dir)?,
                };
                self.run.completeness = ledger_share(self.record.as_ref()).or(completeness);
                self.run.traces = Some(traces);
            }
            Part::Sizes => self.run.sizes = Some(sizes_part(self.run_dir.path(), self.info.as_ref())?),
            Part::Timeline => self.run.timeline = timeline_part(&self.run_dir)?,
        }
        Ok(())
    }

    fn read_outs(&mut self) -> Result<(), RunError> {
        if self.outs.is_none() {
            self.outs = Some(client_outs(&self.run_dir)?);
        }
        Ok(())
    }
}

/// A file that may be absent.
fn optional<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
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
        .map(|pair| pair.to_uppercase())
        // Where nothing is replicated no zones are compared: the placement's name stands for them.
        .or_else(|| Some(Path::new(&record?.placement.path).file_stem()?.to_string_lossy().into_owned()))
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
        pair,
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

/// What gather already measured, and the share of complete traces.
fn measured(summary: &ConsistencySummary) -> (Traces, Option<f64>) {
    let traces = Traces {
        violations: summary.violations.k,
        observations: summary.violations.n,
        censored: summary.window.censored,
        p50: summary.window.p50,
        p90: summary.window.p90,
        p99: summary.window.p99,
        cdf: thinned(&summary.cdf),
        seconds: summary.timeline.clone(),
    };
    (traces, summary.completeness)
}

/// The same from the Python tool's `traces.csv` and `traces.info`.
fn from_csv(run_dir: &RunDir) -> Result<(Traces, Option<f64>), RunError> {
    let path = run_dir.file("traces.csv");
    let text = read_large(&path)?;
    let sheet = Sheet::new(&path, &text, ';')?;
    let column = |name: &str| sheet.column(name).ok_or_else(|| lacks(&path, &format!("no column `{name}`")));
    let (ms, found, ts) = (column("post_notification_diff_ms")?, column("consistency_bool")?, sheet.column("ts"));
    let mut windows = Vec::new();
    let mut traces = Traces::default();
    let mut instants = Vec::new();
    for (line, row) in sheet.rows() {
        let bad = |what: &str| lacks(&path, &format!("line {line}: {what}"));
        let found = row.get(found).and_then(|cell| truth(cell)).ok_or_else(|| bad("neither True nor False"))?;
        let window = row.get(ms).and_then(|cell| cell.parse::<f64>().ok()).filter(|ms| ms.is_finite());
        windows.push(window.ok_or_else(|| bad("the window is not a number"))?);
        traces.violations += u64::from(!found);
        if let Some(us) = ts.and_then(|ts| row.get(ts)).and_then(|cell| instant_us(cell)) {
            instants.push((us, !found));
        }
    }
    if windows.is_empty() {
        return Err(lacks(&path, "no observation in it"));
    }
    windows.sort_by(f64::total_cmp);
    let quantile = |q| Quantile { value: stats::quantile(&windows, q), ..Quantile::default() };
    traces.observations = windows.len() as u64;
    (traces.p50, traces.p90, traces.p99) = (quantile(0.5), quantile(0.9), quantile(0.99));
    traces.cdf = cdf(&windows);
    traces.seconds = seconds(&instants);
    let share = info_share(run_dir, windows.len());
    Ok((traces, share))
}

/// The most points of a curve: more cannot be told apart in a figure.
const CURVE_POINTS: usize = 200;

/// At most [`CURVE_POINTS`] points of a curve, its ends among them.
fn thinned(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if curve.len() <= CURVE_POINTS {
        return curve.to_vec();
    }
    (0..CURVE_POINTS).map(|i| curve[i * (curve.len() - 1) / (CURVE_POINTS - 1)]).collect()
}

/// The distribution of `sorted` windows at no more than [`CURVE_POINTS`] places.
fn cdf(sorted: &[f64]) -> Vec<(f64, f64)> {
    let n = sorted.len();
    let places = n.min(CURVE_POINTS);
    let rank = |i: usize| if places < 2 { n } else { 1 + i * (n - 1) / (places - 1) };
    let mut curve: Vec<(f64, f64)> = (0..places).map(rank).map(|r| (sorted[r - 1], r as f64 / n as f64)).collect();
    // Equal windows are one step up to their highest rank.
    curve.dedup_by(|later, kept| {
        let equal = later.0 == kept.0;
        if equal {
            kept.1 = later.1;
        }
        equal
    });
    curve
}

/// Counts per second since the first instant.
fn seconds(instants: &[(i64, bool)]) -> Vec<TraceSecond> {
    let Some(first) = instants.iter().map(|(us, _)| *us).min() else { return Vec::new() };
    let mut counts: std::collections::BTreeMap<i64, TraceSecond> = std::collections::BTreeMap::new();
    for (us, violation) in instants {
        let second = (us - first) / 1_000_000;
        let count = counts.entry(second).or_insert(TraceSecond { second, ..TraceSecond::default() });
        count.complete += 1;
        count.violations += u64::from(*violation);
    }
    counts.into_values().collect()
}

fn truth(cell: &str) -> Option<bool> {
    match cell {
        "True" | "true" | "1" => Some(true),
        "False" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// `2021-10-18 11:00:00.001866` (UTC), us since the epoch.
fn instant_us(cell: &str) -> Option<i64> {
    let time = cell.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp().as_microsecond())
}

/// The share of complete traces in the ledger.
fn ledger_share(record: Option<&RunRecord>) -> Option<f64> {
    let ledger = record?.ledger.as_ref().filter(|ledger| ledger.ok > 0)?;
    Some((ledger.complete as f64 / ledger.ok as f64).min(1.0))
}

/// The same from the first line of `traces.info`.
fn info_share(run_dir: &RunDir, used: usize) -> Option<f64> {
    let text = read_text(&run_dir.file("traces.info")).ok()?;
    let first = text.lines().next()?;
    let skipped: f64 = first.strip_suffix("messages skipped due to missing information")?.trim().parse().ok()?;
    Some(used as f64 / (used as f64 + skipped))
}

fn timeline_part(run_dir: &RunDir) -> Result<Vec<Second>, RunError> {
    let path = run_dir.file("timeline.csv");
    let text = read_large(&path)?;
    let sheet = Sheet::new(&path, &text, ',')?;
    let column = |name: &str| sheet.column(name).ok_or_else(|| lacks(&path, &format!("no column `{name}`")));
    let (second, due, ok, errors) = (column("second")?, column("due")?, column("ok")?, column("errors")?);
    let (p50, p90, p99) = (column("p50_us")?, sheet.column("p90_us"), column("p99_us")?);
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
            p90_ms: p90.and_then(value).map(|us| us / 1000.0),
            p99_ms: value(p99).map(|us| us / 1000.0),
        });
    }
    Ok(seconds)
}
