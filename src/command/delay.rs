//! `maestro delay`.

use std::path::PathBuf;
use std::time::Duration;

use crate::Context;
use crate::command::Selection;
use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub delay_ms: f64,
    pub jitter_ms: f64,
    pub correlation_percent: f64,
    pub distribution: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub both: bool,
    pub loss_percent: f64,
    pub rate_mbit: Option<f64>,
    pub matrix: Option<PathBuf>,
    pub schedule: Option<PathBuf>,
    pub backend: String,
    pub lease: Duration,
    pub seed: u64,
    pub off: bool,
    pub show: bool,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("delay"))
}

/// The helper inside a container's network namespace.
pub(crate) async fn helper(_args: &[String]) -> Result<()> {
    Err(super::unavailable("delay-helper"))
}
