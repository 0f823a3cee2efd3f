//! What a person sees of a sweep before, during and from outside.

use super::{Sweep, money};
use crate::Context;
use crate::error::Result;
use crate::experiment::TargetName;
use crate::sweep::{Progress, RunId, RunState};
use crate::ui;

/// Time a run takes besides its load until one has been measured, s.
const IDLE_GUESS_S: f64 = 3.0;

/// The matrix, the count of runs and the hours: what `--dry-run` prints.
pub(super) fn show_plan(context: &Context, sweep: &Sweep) -> Result<()> {
    let runs = sweep.runs();
    let load: f64 = runs.iter().map(|run| sweep.cells[run.cell].duration_s).sum();
    ui::out(format_args!(
        "plan: sweep {} of {} on {}: {} x {} = {}, {} of load, about {} in all",
        sweep.spec.name,
        sweep.app.name,
        sweep.target,
        ui::count(sweep.cells.len(), "cell"),
        ui::count(sweep.spec.rounds as usize, "round"),
        ui::count(runs.len(), "run"),
        human(load),
        human(load + IDLE_GUESS_S * runs.len() as f64),
    ));
    if sweep.target == TargetName::Gcp {
        match money::line(context, sweep) {
            Ok(line) => ui::out(line),
            Err(error) => ui::warn(format_args!("no estimate of the costs: {error}")),
        }
    }
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

/// How far a sweep is: what `--status` prints. `at_work` is the process that carries it out now.
pub(super) fn show(sweep: &Sweep, progress: &Progress, at_work: Option<u32>, json: bool) -> Result<()> {
    let runs = sweep.known(progress);
    let count = |wanted: fn(&RunState) -> bool| runs.iter().filter(|run| wanted(&state(sweep, progress, run))).count();
    let finished = count(|state| matches!(state, RunState::Finished { .. }));
    let quarantined = count(|state| matches!(state, RunState::Quarantined(_)));
    let left_s = left_s(sweep, progress, &runs);
    if json {
        ui::out(serde_json::json!({
            "name": sweep.spec.name, "dir": sweep.dir, "runs": runs.len(), "finished": finished,
            "quarantined": quarantined, "ended": progress.ended, "pid": at_work, "left_s": left_s,
            "each": runs.iter().map(|run| as_json(sweep, progress, run)).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    let total = ui::count(runs.len(), "run");
    let now = match (at_work, progress.ended) {
        (Some(pid), _) => format!("process {pid} is at it, about {} left", human(left_s)),
        (None, true) => "ended".to_owned(),
        (None, false) => "not ended; without --status the same command goes on".to_owned(),
    };
    ui::out(format_args!("{}: {finished} of {total} done, {quarantined} left out, {now}", sweep.spec.name));
    for run in &runs {
        ui::out(line(sweep, progress, run, at_work.is_some()));
    }
    Ok(())
}

fn state(sweep: &Sweep, progress: &Progress, run: &RunId) -> RunState {
    progress.state(&sweep.cells[run.cell].id(), run.round)
}

fn as_json(sweep: &Sweep, progress: &Progress, run: &RunId) -> serde_json::Value {
    let (cell, round) = (sweep.cells[run.cell].id(), run.round + 1);
    match state(sweep, progress, run) {
        RunState::Finished { dir, status, spent } => {
            serde_json::json!({"cell": cell, "round": round, "state": "done", "dir": dir, "status": status, "spent": spent})
        }
        RunState::Quarantined(why) => {
            serde_json::json!({"cell": cell, "round": round, "state": "left out", "why": why})
        }
        RunState::Pending { failed } => {
            serde_json::json!({"cell": cell, "round": round, "state": "to do", "failed": failed})
        }
    }
}

fn line(sweep: &Sweep, progress: &Progress, run: &RunId, at_work: bool) -> String {
    let named = format!("{} round {}", sweep.cells[run.cell].id(), run.round + 1);
    let begun = progress
        .begun()
        .filter(|begun| at_work && begun.round == run.round && begun.cell == sweep.cells[run.cell].id());
    match (state(sweep, progress, run), begun) {
        (RunState::Finished { dir, spent, .. }, _) => {
            format!("  done   {named}  {dir}  (load {:.0} s and {:.1} s)", spent.load_s, spent.idle_s)
        }
        (RunState::Quarantined(why), _) => format!("  out    {named}  {why}"),
        (RunState::Pending { .. }, Some(begun)) => {
            let since = (super::now_us() - begun.at_us) as f64 / 1e6;
            format!("  now    {named}  attempt {}, for {}", begun.attempt, human(since))
        }
        (RunState::Pending { failed: 0 }, None) => format!("  to do  {named}"),
        (RunState::Pending { failed }, None) => format!("  failed {named}  {}", ui::count(failed as usize, "attempt")),
    }
}

/// Time besides the load that a run takes: what the finished ones took on average, else a guess, s.
fn idle_s(sweep: &Sweep, progress: &Progress) -> f64 {
    let (mut sum, mut runs) = (0.0, 0_u32);
    for run in sweep.known(progress) {
        if let RunState::Finished { spent, .. } = state(sweep, progress, &run) {
            sum += spent.idle_s;
            runs += 1;
        }
    }
    if runs == 0 { IDLE_GUESS_S } else { sum / f64::from(runs) }
}

/// What those of `runs` that are still to do will take, s.
fn left_s(sweep: &Sweep, progress: &Progress, runs: &[RunId]) -> f64 {
    let idle = idle_s(sweep, progress);
    let pending = runs.iter().filter(|run| matches!(state(sweep, progress, run), RunState::Pending { .. }));
    pending.map(|run| sweep.cells[run.cell].duration_s + idle).sum()
}

/// `[ 3/16] us-sg antipode compose-post 100/s c4 t2, round 1; about 1 min 12 s left`, for the run at `index` of `runs`.
pub(super) fn progress_line(sweep: &Sweep, progress: &Progress, (index, runs): (usize, &[RunId])) -> String {
    let total = runs.len();
    let width = total.to_string().len();
    let run = &runs[index];
    format!(
        "[{:>width$}/{total}] {}, round {}; about {} left",
        index + 1,
        sweep.cells[run.cell].id(),
        run.round + 1,
        human(left_s(sweep, progress, runs))
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
