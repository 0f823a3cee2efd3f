//! The generator on a client host: `maestro worker` reads an [`Assignment`] as JSON from stdin, sends it, and writes
//! the [`Report`] as one line of JSON to stdout. Reports of several clients add up with [`Report::merge`]; give every
//! assignment the same instant to start at. Progress goes to stderr.
//!
//! With `"attended":true` the assignment is one line, the end of stdin ends the load, and stdout has one line for each
//! second and one for the report ([`Told`]).
//!
//! ```text
//! {"format":1,"workload":{...},"requests":{"kind":"url","url":"http://10.0.0.2:8080/"},"trust":"public"}
//! ```

use std::io::{BufRead, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::drive::{load, load_until};
use super::requests::Requests;
use crate::error::{Exit, Plain, Result};
use crate::ui;
use crate::wkld::report::{Report, Second};
use crate::wkld::tls::Trust;
use crate::wkld::{Stop, WkldError, Workload};

/// Version of the assignment's form.
pub(crate) const ASSIGNMENT_FORMAT: u32 = 1;

/// What one client host is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// Version of this form.
    pub format: u32,
    /// The load, with this client's number among all clients.
    pub workload: Workload,
    /// What is sent.
    pub requests: Requests,
    /// Whom to trust over TLS.
    #[serde(default)]
    pub trust: Trust,
    /// Share of the writes that are probed.
    #[serde(default)]
    pub probe: f64,
    /// Somebody holds the other end of stdin and reads stdout meanwhile.
    #[serde(default)]
    pub attended: bool,
}

/// A line from an attended generator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Told {
    /// A second is over.
    Second(Box<Second>),
    /// The load is over.
    Report(Box<Report>),
}

impl Assignment {
    /// The assignments of `clients` attended generators that share a load and start together at `start_at_us` (us since
    /// the epoch).
    pub(crate) fn split(&self, clients: u64, start_at_us: i64) -> Vec<Assignment> {
        let one = |client: u64| {
            let workload = Workload { client, clients, start_at_us: Some(start_at_us), ..self.workload.clone() };
            // One probe is enough: its readers cannot be shared.
            let probe = if client == 0 { self.probe } else { 0.0 };
            Assignment { workload, probe, attended: true, ..self.clone() }
        };
        (0..clients).map(one).collect()
    }
}

/// Carries out the assignment on stdin.
pub(super) async fn run() -> Result<()> {
    let assignment = read()?;
    if assignment.format > ASSIGNMENT_FORMAT {
        return Err(Plain::usage(format!(
            "assignment of format {} is newer than this maestro understands ({ASSIGNMENT_FORMAT})",
            assignment.format
        ))
        .into());
    }
    assignment.workload.check()?;
    let (report, scripts) = match assignment.attended {
        false => load(&assignment).await?,
        true => {
            let stop = Arc::new(Stop::default());
            stop_at_end_of_input(Arc::clone(&stop));
            let tell = |second: &Second| {
                // A second that cannot be told costs a line of progress, no more.
                drop(tell(&Told::Second(Box::new(second.clone()))));
            };
            load_until(&assignment, stop, Box::new(tell)).await?
        }
    };
    if let Some(scripts) = scripts
        && let Ok(scripts) = scripts.lock()
    {
        scripts.done(&report)?;
    }
    if assignment.attended { tell(&Told::Report(Box::new(report))) } else { tell(&report) }
}

/// The assignment: all of stdin, or its first line when somebody holds the other end.
fn read() -> Result<Assignment> {
    let unreadable = |error| Plain::usage(format!("cannot read the assignment from stdin: {error}"));
    let unusable = |error| Plain::usage(format!("unusable assignment: {error}"));
    let mut stdin = std::io::stdin().lock();
    let mut text = String::new();
    stdin.read_line(&mut text).map_err(unreadable)?;
    if let Ok(assignment) = serde_json::from_str::<Assignment>(&text)
        && assignment.attended
    {
        return Ok(assignment);
    }
    stdin.read_to_string(&mut text).map_err(unreadable)?;
    Ok(serde_json::from_str(&text).map_err(unusable)?)
}

fn stop_at_end_of_input(stop: Arc<Stop>) {
    std::thread::spawn(move || {
        // However it ends, nobody is there any more.
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        stop.stop();
    });
}

fn tell(line: &impl Serialize) -> Result<()> {
    ui::out(serde_json::to_string(line).map_err(|error| Plain::new(Exit::Bug, error.to_string()))?);
    Ok(())
}

/// Puts the reports of several clients together.
///
/// # Errors
/// [`WkldError::Unusable`] without any report.
pub(crate) fn merge(reports: impl IntoIterator<Item = Report>) -> std::result::Result<Report, WkldError> {
    let mut reports = reports.into_iter();
    let mut all = reports.next().ok_or_else(|| WkldError::Unusable("no client has reported".into()))?;
    reports.for_each(|report| all.merge(&report));
    Ok(all)
}
