//! `maestro embedded-serve (hidden)`.

use std::path::PathBuf;

use crate::Context;
use crate::error::Result;
use crate::experiment::Variant;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub config: PathBuf,
    pub dir: PathBuf,
    pub ports: Option<String>,
    pub variant: Variant,
    pub app: String,
    pub tag: String,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("embedded-serve"))
}
