//! `maestro firewall`.

use crate::Context;
use crate::command::Selection;
use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub apply: bool,
    pub open: bool,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, _request: Request) -> Result<()> {
    Err(super::unavailable("firewall"))
}
