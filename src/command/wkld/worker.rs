//! The generator on a client host: `maestro worker` reads an [`Assignment`] as JSON from stdin, sends it, and writes
//! the [`Report`] as one line of JSON to stdout. Reports of several clients add up with [`Report::merge`]; give every
//! assignment the same instant to start at. Progress goes to stderr, one line a second.
//!
//! ```text
//! {"format":1,"workload":{...},"requests":{"kind":"url","url":"http://10.0.0.2:8080/"},"trust":"public"}
//! ```

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::drive::load;
use super::requests::Requests;
use crate::error::{Exit, Plain, Result};
use crate::ui;
use crate::wkld::report::Report;
use crate::wkld::tls::Trust;
use crate::wkld::{WkldError, Workload};

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
}

impl Assignment {
    /// The assignments of `clients` hosts that share a load and start together at `start_at_us` (us since the epoch).
    pub(crate) fn split(&self, clients: u64, start_at_us: i64) -> Vec<Assignment> {
        let one = |client: u64| {
            let workload = Workload { client, clients, start_at_us: Some(start_at_us), ..self.workload.clone() };
            // One probe is enough: its readers cannot be shared.
            let probe = if client == 0 { self.probe } else { 0.0 };
            Assignment { workload, probe, ..self.clone() }
        };
        (0..clients).map(one).collect()
    }
}

/// Carries out the assignment on stdin.
pub(super) async fn run() -> Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Plain::usage(format!("cannot read the assignment from stdin: {error}")))?;
    let assignment: Assignment =
        serde_json::from_str(&text).map_err(|error| Plain::usage(format!("unusable assignment: {error}")))?;
    if assignment.format > ASSIGNMENT_FORMAT {
        return Err(Plain::usage(format!(
            "assignment of format {} is newer than this maestro understands ({ASSIGNMENT_FORMAT})",
            assignment.format
        ))
        .into());
    }
    assignment.workload.check()?;
    let (report, scripts) = load(&assignment).await?;
    if let Some(scripts) = scripts
        && let Ok(scripts) = scripts.lock()
    {
        scripts.done(&report)?;
    }
    let line = serde_json::to_string(&report).map_err(|error| Plain::new(Exit::Bug, error.to_string()))?;
    ui::out(line);
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
