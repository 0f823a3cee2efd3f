//! Everything that can be found wrong before the first run of a sweep, not hours into it.

use super::{Sweep, driver};
use crate::Context;
use crate::command::wkld;
use crate::delay::spec::Distribution;
use crate::error::{Plain, Result};
use crate::plot;
use crate::sweep::RunId;

/// Looks at the placements, the workloads, the delay and the figures of `sweep`.
///
/// # Errors
/// The first that cannot be used.
pub(super) fn check(context: &Context, sweep: &Sweep) -> Result<()> {
    for (index, cell) in sweep.cells.iter().enumerate() {
        context.store.read_config(&cell.config_path(sweep.target, sweep.app.name))?;
        let request = driver::workload(sweep, cell, RunId { cell: index, round: 0 });
        wkld::check(sweep.app, &request)?;
    }
    if let Some(delay) = &sweep.spec.delay {
        let known = || Distribution::ALL.map(Distribution::as_str).join(", ");
        let unknown = || Plain::usage(format!("unknown distribution `{}`", delay.distribution));
        Distribution::parse(&delay.distribution).ok_or_else(|| unknown().with_hint(format!("one of: {}", known())))?;
    }
    for figure in &sweep.spec.figures {
        plot::find(figure)?;
    }
    Ok(())
}
