//! `maestro sweep`.

use std::path::PathBuf;

use crate::Context;
use crate::command::Selection;
use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub file: Option<PathBuf>,
    pub quick: bool,
    pub rounds: Option<u32>,
    pub until: Option<String>,
    pub name: Option<String>,
    pub status: bool,
    pub keep: bool,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("sweep"))
}
