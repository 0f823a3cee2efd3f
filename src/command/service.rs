//! `maestro service ROLE` (hidden): one process of socialNetworkMini.

use crate::error::Result;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub role: String,
    pub args: Vec<String>,
}

/// Carries it out.
pub(crate) async fn run(request: Request) -> Result<()> {
    crate::service::serve(&request.role, &request.args).await
}
