//! What gather leaves in the run's directory.

use std::io;

use indexmap::IndexMap;
use serde_json::Value;

use super::subject::Subject;
use crate::Context;
use crate::analysis::{self, Conditions, Sorted, Summary, Totals};
use crate::error::Result;
use crate::store::{RunDir, Status, StoreError, read_yaml, write_atomic, write_atomic_with, write_yaml};

/// Width of the tables in `traces.info` where the environment names none.
const WIDTH: usize = 80;

/// Begins every reason in `run.yml` that comes from here, so that gathering again replaces them.
const MARK: &str = "traces: ";

/// Everything that goes into the files.
pub(super) struct Written<'a> {
    pub(super) context: &'a Context,
    pub(super) subject: &'a Subject,
    pub(super) run: &'a RunDir,
    pub(super) sorted: &'a Sorted<'a>,
    pub(super) conditions: &'a Conditions<'a>,
    pub(super) summary: &'a Summary,
    pub(super) notified: Option<u64>,
}

/// Writes the files; each is whole or not there.
///
/// # Errors
/// [`StoreError::Write`].
pub(super) fn write(all: &Written<'_>) -> Result<()> {
    let run = all.run;
    run.write_summary_section("consistency", serde_json::to_value(all.summary).unwrap_or_default())?;
    write_record(all)?;
    write_atomic_with(&run.file("windows.csv"), |file| analysis::windows_csv(file, all.sorted, all.conditions))?;
    let totals = Totals::of(all.sorted);
    if totals.count > 0 {
        write_atomic_with(&run.file("traces.csv"), |file| analysis::traces_csv(file, all.sorted))?;
        let skipped = all.summary.ledger.traced - all.summary.ledger.complete;
        write_atomic(&run.file("traces.info"), analysis::traces_info(all.sorted, skipped, width()).as_bytes())?;
        write_info(all, &totals)?;
    }
    copy_state(all)
}

/// `COLUMNS`, as the Python tool's tables follow it.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&width| width > 0).unwrap_or(WIDTH)
}

/// Adds the ledger and the outcome to `run.yml`, where there is one.
fn write_record(all: &Written<'_>) -> Result<()> {
    let Some(mut record) = all.subject.record.clone() else { return Ok(()) };
    record.ledger = Some(all.summary.ledger.clone());
    record.outcome.retract(MARK);
    if all.summary.violations.n == 0 {
        record.outcome.add(Status::Void, format!("{MARK}not one complete observation"));
    }
    for flag in &all.summary.flags {
        record.outcome.add(Status::Flagged, format!("{MARK}{flag}"));
    }
    Ok(all.run.write_record(&record)?)
}

/// `info.yml` with the Python tool's keys behind those that the workload left.
fn write_info(all: &Written<'_>, totals: &Totals) -> Result<()> {
    let path = all.run.file("info.yml");
    let mut info: IndexMap<String, Value> = match read_yaml(&path) {
        Ok(info) => info,
        Err(StoreError::Missing(_)) => IndexMap::new(),
        Err(error) => return Err(error.into()),
    };
    let subject = all.subject;
    let load = subject.record.as_ref().map(|record| &record.workload);
    let state = &subject.state;
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            info.insert(key.to_owned(), value);
        }
    };
    set("total_notification_size_bytes", Some(totals.notification_bytes.into()));
    set("avg_notification_storage_size_bytes", Some((totals.notification_bytes / totals.count).into()));
    set("duration", load.map(|load| load.duration_s).or(state.wkld_duration).map(number));
    set("por_inconsistencies", Some((totals.not_found as f64 / totals.count as f64).into()));
    set("requests", Some(all.notified.unwrap_or(all.summary.ledger.traced).into()));
    set("type", Some(subject.variant().as_str().into()));
    set("rps", load.map(|load| load.rate).or(state.wkld_rate).map(number));
    set("connections", load.map(|load| load.connections).or(state.wkld_connections).map(Value::from));
    set("threads", load.map(|load| load.threads).or(state.wkld_threads).map(Value::from));
    set("zone_pair", subject.zone_pair.as_ref().map(|pair| pair.to_uppercase().into()));
    info.shift_remove("flags");
    if !all.summary.flags.is_empty() {
        info.insert("flags".to_owned(), all.summary.flags.clone().into());
    }
    Ok(write_yaml(&path, &info)?)
}

/// A whole number without a decimal point, as the Python tool writes it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { (value as i64).into() } else { value.into() }
}

/// The state that led to the run, beside its results.
fn copy_state(all: &Written<'_>) -> Result<()> {
    let copy = all.run.file(".last.yml");
    let Some(target) = all.subject.target else { return Ok(()) };
    let from = all.context.store.state_file(target);
    let own = all.subject.state.local_gather_path.as_deref().map(|path| all.context.store.resolve(path));
    // A copy that is there already and belongs to another run than the state's is left alone.
    if own.as_deref() != Some(all.run.path()) && copy.exists() {
        return Ok(());
    }
    match std::fs::read(&from) {
        Ok(bytes) => Ok(write_atomic(&copy, &bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::Read { path: from, source }.into()),
    }
}
