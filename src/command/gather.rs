//! `maestro gather`.

use std::path::PathBuf;
use std::time::Duration;

use crate::Context;
use crate::command::Selection;
use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub jaeger: Option<String>,
    pub traces: Vec<PathBuf>,
    pub deps: Option<PathBuf>,
    pub run: Option<PathBuf>,
    pub service: Option<String>,
    pub parquet: bool,
    pub drain_timeout: Duration,
    pub warmup: Option<Duration>,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("gather"))
}
