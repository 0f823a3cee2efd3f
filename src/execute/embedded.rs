//! Starts and stops the embedded miniature.

use super::Outcome;
use crate::error::{Plain, Result};
use crate::plan::EmbeddedStep;

/// Ensures the state that `step` names.
pub(super) async fn execute(_step: &EmbeddedStep) -> Result<Outcome> {
    Err(Plain::usage("`--embedded` is not available in this build").into())
}
