//! ^C during a sweep: the stage at hand comes to its end or gives up by itself, nothing further is begun, and what was
//! deployed is taken down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Exit, Plain, Result};
use crate::execute::until_interrupted;

/// Remembers whether the user wanted the sweep to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the first signal is remembered; the second one ends the process.
    pub(super) fn watch() -> Self {
        let interrupt = Interrupt::default();
        let seen = interrupt.clone();
        tokio::spawn(async move {
            until_interrupted().await;
            seen.0.store(true, Ordering::Relaxed);
            until_interrupted().await;
            std::process::exit(Exit::Interrupted as i32);
        });
        interrupt
    }

    /// Between two stages.
    ///
    /// # Errors
    /// Exit code 130 after a signal.
    pub(super) fn check(&self) -> Result<()> {
        if !self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let hint = "the same command goes on with the first unfinished run";
        Err(Plain::new(Exit::Interrupted, "interrupted between two steps of the sweep").with_hint(hint).into())
    }
}
