//! What a person sees of a sweep before, during and from outside.

use super::Sweep;
use crate::error::Result;
use crate::sweep::{Progress, RunId, RunState};
use crate::ui;

/// Time a run takes besides its load until one has been measured, s.
const IDLE_GUESS_S: f64 = 3.0;

/// The matrix, the count of runs and the hours: what `--dry-run` prints.
pub(super) fn show_plan(sweep: &Sweep) -> Result<()> {
    let runs = sweep.runs();
    let load: f64 = runs.iter().map(|run| sweep.cells[run.cell].duration_s).sum();
    ui::out(format_args!(
        "plan: sweep {} of {} on {}: {} x {} = {}, {} of load",
        sweep.spec.name,
        sweep.app.name,
        sweep.target,
        ui::count(sweep.cells.len(), "cell"),
        ui::count(sweep.spec.rounds as usize, "round"),
        ui::count(runs.len(), "run"),
        human(load),
    ));
    let mut rows = vec![
        ["#", "round", "placement", "variant", "endpoint", "rate", "conns", "threads", "s"].map(str::to_owned).to_vec(),
    ];
    for (index, run) in runs.iter().enumerate() {
        let cell = &sweep.cells[run.cell];
        rows.push(vec![
            (index + 1).to_string(),
            (run.round + 1).to_string(),
            cell.stem(),
            cell.variant.to_string(),
            cell.endpoint.clone(),
            cell.rate.to_string(),
            cell.connections.to_string(),
            cell.threads.to_string(),
            cell.duration_s.to_string(),
        ]);
    }
    ui::out_raw(ui::table(&rows));
    Ok(())
}

/// How far a sweep is: what `--status` prints.
pub(super) fn show(sweep: &Sweep, progress: &Progress, json: bool) -> Result<()> {
    let runs = sweep.runs();
    let count = |wanted: fn(&RunState) -> bool| {
        runs.iter().filter(|run| wanted(&progress.state(&sweep.cells[run.cell].id(), run.round))).count()
    };
    let finished = count(|state| matches!(state, RunState::Finished { .. }));
    let quarantined = count(|state| matches!(state, RunState::Quarantined(_)));
    if json {
        let value = serde_json::json!({
            "name": sweep.spec.name, "dir": sweep.dir, "runs": runs.len(), "finished": finished,
            "quarantined": quarantined, "ended": progress.ended,
        });
        ui::out(value);
        return Ok(());
    }
    let state = if progress.ended { "ended" } else { "not ended" };
    ui::out(format_args!(
        "{}: {finished} of {} done, {quarantined} left out, {state}",
        sweep.spec.name,
        ui::count(runs.len(), "run")
    ));
    for run in &runs {
        let id = sweep.cells[run.cell].id();
        match progress.state(&id, run.round) {
            RunState::Finished { dir, .. } => ui::out(format_args!("  done   {id} round {}  {dir}", run.round + 1)),
            RunState::Quarantined(why) => ui::out(format_args!("  out    {id} round {}  {why}", run.round + 1)),
            RunState::Pending { failed } if failed > 0 => {
                ui::out(format_args!(
                    "  failed {id} round {}  {}",
                    run.round + 1,
                    ui::count(failed as usize, "attempt")
                ));
            }
            RunState::Pending { .. } => ui::out(format_args!("  to do  {id} round {}", run.round + 1)),
        }
    }
    Ok(())
}

/// `[ 3/16] us-sg antipode compose-post 100/s c4 t2, round 1; 1 min 12 s left`.
pub(super) fn progress_line(sweep: &Sweep, rest: &[RunId], index: usize, total: usize, run: RunId) -> String {
    let left: f64 = rest.iter().map(|run| sweep.cells[run.cell].duration_s + IDLE_GUESS_S).sum();
    let width = total.to_string().len();
    format!(
        "[{:>width$}/{total}] {}, round {}; about {} left",
        index + 1,
        sweep.cells[run.cell].id(),
        run.round + 1,
        human(left)
    )
}

/// `1 h 5 min`, `2 min 3 s`, `40 s`.
pub(super) fn human(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_read_naturally() {
        assert_eq!(super::human(40.2), "40 s");
        assert_eq!(super::human(123.0), "2 min 3 s");
        assert_eq!(super::human(3900.0), "1 h 5 min");
    }
}
