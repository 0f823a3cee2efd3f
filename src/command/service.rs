//! `maestro service (hidden)`.

use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub role: String,
    pub args: Vec<String>,
}

/// Carries it out.
pub(crate) async fn run(_request: Request) -> Result<()> {
    Err(super::unavailable("service"))
}
