//! `maestro merge`: adds what several clients measured, exactly, as if one had measured it all.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::wkld::record::{write_measured, wrk2_text};
use crate::Context;
use crate::error::{Plain, Result};
use crate::store::{RunDir, StoreError, read_text, write_atomic};
use crate::ui;
use crate::wkld::export::read_hlog;
use crate::wkld::report::{Report, Second};
use crate::wkld::sample::{Hist, Packed};
use crate::wkld::wrk2;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub inputs: Vec<PathBuf>,
    pub out: Option<PathBuf>,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let logs = request.inputs.iter().filter(|input| input.is_file()).count();
    if logs == request.inputs.len() {
        return merge_logs(context, &request);
    }
    if logs > 0 {
        return Err(Plain::usage("run directories and interval logs cannot be merged with each other").into());
    }
    let mut heading = None;
    let mut all: Option<Report> = None;
    for input in &request.inputs {
        let dir = RunDir::new(context.store.resolve(input));
        let report = read_run(&dir)?;
        heading = heading.or_else(|| read_heading(&dir));
        match &mut all {
            Some(all) => all.merge(&report),
            None => all = Some(report),
        }
    }
    let Some(report) = all else { return Err(Plain::usage("nothing to merge").into()) };
    let (url, duration) = heading.unwrap_or_else(|| ("(merged)".into(), report.measured_s));
    let text = wrk2_text(&report, &url, duration);
    if let Some(out) = &request.out {
        let dir = RunDir::new(context.store.resolve(out));
        write_atomic(&dir.client_out(0), text.as_bytes())?;
        write_measured(&dir, &report)?;
    }
    if context.json {
        ui::out(serde_json::to_string_pretty(&report.summary()).unwrap_or_default());
    } else {
        ui::out_raw(text);
    }
    Ok(())
}

/// What a run's directory says the generator measured.
fn read_run(dir: &RunDir) -> Result<Report> {
    let path = dir.file("summary.json");
    let mut summary: serde_json::Value = crate::store::read_json(&path)?;
    let load = summary.get_mut("load").map(serde_json::Value::take).unwrap_or_default();
    let content = |why: String| StoreError::Content { path: path.clone(), why };
    if load.is_null() {
        return Err(content("it has no `load` section".into()).into());
    }
    let mut report: Report = serde_json::from_value(load).map_err(|error| content(error.to_string()))?;
    report.timeline = read_timeline(dir)?;
    Ok(report)
}

/// The seconds of a run, from its table and its interval log; none when it has no table.
fn read_timeline(dir: &RunDir) -> Result<Vec<Second>> {
    let path = dir.file("timeline.csv");
    let table = match read_text(&path) {
        Err(StoreError::Missing(_)) => return Ok(Vec::new()),
        other => other?,
    };
    let log = dir.file("latency.hlog");
    // Packed, because a whole histogram of every second would not fit into memory for a long run.
    let latencies: IndexMap<u64, Packed> = match read_text(&log) {
        Err(StoreError::Missing(_)) => IndexMap::new(),
        other => {
            let text = other?;
            let packed = |(second, hist): (u64, Hist)| (second, Packed::from(&hist));
            read_log(&log, &text).map(|read| read.map(packed)).collect::<Result<_>>()?
        }
    };
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    lines.enumerate().map(|(at, line)| read_second(&path, at + 2, &names, line, &latencies)).collect()
}

fn read_second(
    path: &Path,
    number: usize,
    names: &[&str],
    line: &str,
    latencies: &IndexMap<u64, Packed>,
) -> Result<Second> {
    let cells: Vec<&str> = line.split(',').collect();
    let cell = |name: &str| -> Result<u64> {
        let at = names.iter().position(|known| *known == name);
        let value = at.and_then(|at| cells.get(at)?.parse().ok());
        value.ok_or_else(|| {
            let why = format!("line {number}: no number under `{name}`");
            StoreError::Content { path: path.to_owned(), why }.into()
        })
    };
    let second = cell("second")?;
    let mut errors = IndexMap::new();
    for name in names.iter().skip(8) {
        let n = cell(name)?;
        if n > 0 {
            errors.insert((*name).to_owned(), n);
        }
    }
    let latency = latencies.get(&second).cloned().unwrap_or_else(|| Packed::from(&Hist::new()));
    Ok(Second { second, due: cell("due")?, sent: cell("sent")?, ok: cell("ok")?, errors, latency })
}

/// The intervals of the HDR log `text` of the file `path`.
fn read_log<'a>(path: &'a Path, text: &'a str) -> impl Iterator<Item = Result<(u64, Hist)>> + 'a {
    read_hlog(text).map(|read| read.map_err(|why| StoreError::Content { path: path.to_owned(), why }.into()))
}

/// Merges interval logs alone: all intervals of all logs, in the form of wrk2's percentile spectrum.
fn merge_logs(context: &Context, request: &Request) -> Result<()> {
    let mut whole = Hist::new();
    for input in &request.inputs {
        let path = context.store.resolve(input);
        for read in read_log(&path, &read_text(&path)?) {
            whole.add(&read?.1);
        }
    }
    if let Some(out) = &request.out {
        let dir = RunDir::new(context.store.resolve(out));
        write_atomic(&dir.file("latency.hgrm"), wrk2::hgrm(&whole).as_bytes())?;
    }
    if context.json {
        let us = |q: f64| whole.quantile(q) as f64 / 1000.0;
        let value = serde_json::json!({
            "count": whole.count(), "mean_us": whole.mean() / 1000.0, "p50_us": us(0.5), "p90_us": us(0.9),
            "p99_us": us(0.99), "p99_9_us": us(0.999), "max_us": us(1.0), "histogram": whole.encode(),
        });
        ui::out(serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        ui::out_raw(wrk2::hgrm(&whole));
    }
    Ok(())
}

/// URL and duration from the first line of the client's wrk2 text.
fn read_heading(dir: &RunDir) -> Option<(String, f64)> {
    let text = read_text(&dir.client_out(0)).ok()?;
    let (duration, url) = text.lines().next()?.strip_prefix("Running ")?.split_once(" test @ ")?;
    let seconds = match duration.strip_suffix('m') {
        Some(minutes) => minutes.parse::<f64>().ok()? * 60.0,
        None => duration.strip_suffix('s')?.parse().ok()?,
    };
    Some((url.trim().to_owned(), seconds))
}
