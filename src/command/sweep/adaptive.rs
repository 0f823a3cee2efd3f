//! Which cells of a sweep need more rounds.

use super::Sweep;
use crate::Context;
use crate::error::Result;
use crate::store::RunDir;
use crate::sweep::{Metrics, Progress, Until};

/// Indices of the cells whose interval is not tight yet.
pub(super) fn wide(context: &Context, sweep: &Sweep, progress: &Progress, until: &Until) -> Result<Vec<usize>> {
    let done = sweep.done(progress);
    let mut wide = Vec::new();
    for cell in 0..sweep.cells.len() {
        let rounds = done
            .iter()
            .filter(|(of, _, _)| *of == cell)
            .map(|(_, _, dir)| Metrics::read(&RunDir::new(context.store.resolve(dir))))
            .collect::<Result<Vec<Metrics>>>()?;
        if !until.reached(&rounds) {
            wide.push(cell);
        }
    }
    Ok(wide)
}
