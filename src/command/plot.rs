//! `maestro plot`.

use std::path::PathBuf;

use crate::Context;
use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub config: PathBuf,
    pub plots: Vec<String>,
    pub data: Option<PathBuf>,
    pub formats: Vec<String>,
    pub out: Option<PathBuf>,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("plot"))
}
