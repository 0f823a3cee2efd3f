//! `maestro bundle`.

use std::path::PathBuf;

use crate::Context;
use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub dir: PathBuf,
    pub out: Option<PathBuf>,
    pub verify: bool,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("bundle"))
}
