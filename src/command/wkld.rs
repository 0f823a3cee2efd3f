//! `maestro wkld`.

use std::path::PathBuf;
use std::time::Duration;

use crate::Context;
use crate::command::Selection;
use crate::error::Result;
use crate::store::RunDir;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub endpoint: Option<String>,
    pub nodes: Vec<String>,
    pub connections: usize,
    pub duration: Duration,
    pub threads: usize,
    pub rate: Option<f64>,
    pub warmup: Duration,
    pub arrivals: String,
    pub ramp: Option<String>,
    pub seed: u64,
    pub pace: String,
    pub max_connections: Option<usize>,
    pub timeout: Duration,
    pub drain: Duration,
    pub start_at: Option<f64>,
    pub script: Option<PathBuf>,
    pub script_args: Vec<String>,
    pub url: Option<String>,
    pub probe: f64,
    pub find_max: bool,
    pub slo: String,
    pub round: u32,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    perform(context, request).await.map(|_| ())
}

/// Sends the workload and records it; the run's directory, for whoever goes on from there (`sweep`).
pub(crate) async fn perform(_context: &Context, _request: Request) -> Result<RunDir> {
    Err(super::unavailable("wkld"))
}

/// The generator on a client host: a workload on stdin, its report on stdout.
pub(crate) async fn worker() -> Result<()> {
    Err(super::unavailable("worker"))
}
