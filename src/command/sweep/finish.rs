//! What a sweep leaves: the plot config, the times, the verdict table, the figures, the report and the gathered paths.

use indexmap::IndexMap;

use super::Sweep;
use super::status::human;
use crate::Context;
use crate::error::{Exit, Plain, Result};
use crate::plot::{self, Format, Output};
use crate::report;
use crate::stats;
use crate::store::{self, RunDir, write_atomic, write_yaml};
use crate::sweep::{Cell, Metrics, Progress, RunState, Spent};
use crate::ui;

/// Everything after the last run. The last lines are the gathered paths, as upstream's were.
pub(super) fn finish(context: &Context, sweep: &Sweep, progress: &Progress) -> Result<()> {
    let runs = finished(sweep, progress);
    write_atomic(&sweep.file("times.csv"), times(sweep, progress).as_bytes())?;
    let left_out = left_out(sweep, progress);
    if runs.is_empty() {
        let why = left_out.first().map(|(run, why)| format!("; the first: {run}: {why}")).unwrap_or_default();
        return Err(Plain::new(Exit::RunVoid, format!("not one run of the sweep can be used{why}")).into());
    }
    write_plot_config(sweep, &runs)?;
    ui::out_raw(verdict(context, sweep, &runs)?);
    if !left_out.is_empty() {
        ui::out("left out:");
    }
    for (run, why) in &left_out {
        ui::out(format_args!("  {run}: {why}"));
    }
    ui::out(dead_time(sweep, progress));
    let drawn = draw(context, sweep, &runs);
    let reported = report(context, sweep, &runs);
    ui::out("runs:");
    for (_, dir) in &runs {
        ui::out(format_args!("  {dir}"));
    }
    drawn.and(reported)
}

/// Draws the sweep's figures; one that cannot be drawn is named and the others follow.
fn draw(context: &Context, sweep: &Sweep, runs: &[(usize, String)]) -> Result<()> {
    let dirs: Vec<String> = runs.iter().map(|(_, dir)| dir.clone()).collect();
    let output =
        Output { directory: context.store.plots(), tag: store::new_tag(), formats: vec![Format::Svg, Format::Png] };
    ui::out("figures:");
    let mut failed = None;
    for name in &sweep.spec.figures {
        match plot::draw(&context.store, name, &dirs, &output) {
            Ok(drawn) => {
                drawn.files.iter().for_each(|path| ui::out(format_args!("  {}", context.store.relative(path))))
            }
            Err(error) => {
                ui::warn(&error);
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Writes `report.html` into the sweep's directory.
fn report(context: &Context, sweep: &Sweep, runs: &[(usize, String)]) -> Result<()> {
    let dirs: Vec<_> = runs.iter().map(|(_, dir)| context.store.resolve(dir)).collect();
    let source = report::collect(&context.store, &dirs)?;
    let path = sweep.file("report.html");
    write_atomic(&path, report::page(&source, &sweep.dir)?.as_bytes())?;
    ui::out(format_args!("report:\n  {}", context.store.relative(&path)));
    Ok(())
}

/// Finished runs: cell index and directory, cells in the order of the file.
fn finished(sweep: &Sweep, progress: &Progress) -> Vec<(usize, String)> {
    sweep.done(progress).into_iter().map(|(cell, _, dir)| (cell, dir)).collect()
}

/// Runs that were given up, and why.
fn left_out(sweep: &Sweep, progress: &Progress) -> Vec<(String, String)> {
    let named = sweep.known(progress).into_iter().filter_map(|run| {
        let id = sweep.cells[run.cell].id();
        match progress.state(&id, run.round) {
            RunState::Quarantined(why) => Some((format!("{id} round {}", run.round + 1), why)),
            _ => None,
        }
    });
    named.collect()
}

/// `plots.yml`: figure -> run directories, for `maestro plot`.
fn write_plot_config(sweep: &Sweep, runs: &[(usize, String)]) -> Result<()> {
    let dirs: Vec<&String> = runs.iter().map(|(_, dir)| dir).collect();
    let config: IndexMap<&String, &Vec<&String>> = sweep.spec.figures.iter().map(|name| (name, &dirs)).collect();
    write_yaml(&sweep.file("plots.yml"), &config)?;
    Ok(())
}

/// One row per cell: medians across rounds.
fn verdict(context: &Context, sweep: &Sweep, runs: &[(usize, String)]) -> Result<String> {
    let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
    for (index, cell) in sweep.cells.iter().enumerate() {
        let metrics = runs
            .iter()
            .filter(|(of, _)| *of == index)
            .map(|(_, dir)| Metrics::read(&RunDir::new(context.store.resolve(dir))))
            .collect::<Result<Vec<Metrics>>>()?;
        rows.push(row(cell, &metrics));
    }
    Ok(ui::table(&rows))
}

const HEADER: [&str; 8] =
    ["placement", "variant", "offered/s", "achieved/s", "latency p90 ms", "window p90 ms", "violations", "rounds"];

fn row(cell: &Cell, rounds: &[Metrics]) -> Vec<String> {
    let median = |name: &str, decimals: usize| {
        let values: Vec<f64> = rounds.iter().filter_map(|m| m.get(name)).collect();
        stats::median(&values).map_or_else(|| "-".into(), |v| format!("{v:.decimals$}"))
    };
    let (k, n) = rounds.iter().filter_map(|m| m.violations).fold((0, 0), |sum, v| (sum.0 + v.0, sum.1 + v.1));
    let violations = if n == 0 { "-".into() } else { format!("{:.2} % ({k} of {n})", 100.0 * k as f64 / n as f64) };
    vec![
        cell.stem(),
        cell.variant.to_string(),
        cell.rate.to_string(),
        median("throughput", 1),
        median("latency.p90", 2),
        median("window.p90", 1),
        violations,
        rounds.len().to_string(),
    ]
}

/// The time of every finished run, in the order of the cells: cell, round, parts.
fn spent(sweep: &Sweep, progress: &Progress) -> Vec<(String, u32, Spent)> {
    let each = sweep.done(progress).into_iter().filter_map(|(cell, round, _)| {
        let id = sweep.cells[cell].id();
        match progress.state(&id, round) {
            RunState::Finished { spent, .. } => Some((id, round, spent)),
            _ => None,
        }
    });
    each.collect()
}

/// `times.csv`: one row per run, seconds.
fn times(sweep: &Sweep, progress: &Progress) -> String {
    let mut text = String::from("cell,round,load_s,start_s,deploy_s,client_s,gather_s,overhead_s\n");
    for (cell, round, s) in spent(sweep, progress) {
        text.push_str(&format!(
            "{cell},{},{:.3},{:.3},{:.3},{:.3},{:.3},{:.3}\n",
            round + 1,
            s.load_s,
            s.start_s,
            s.deploy_s,
            s.client_s,
            s.gather_s,
            s.overhead_s()
        ));
    }
    text
}

/// Where the time went, in all and per run.
fn dead_time(sweep: &Sweep, progress: &Progress) -> String {
    let runs = spent(sweep, progress);
    let all = runs.iter().fold(Spent::default(), |sum, (_, _, spent)| sum.plus(*spent));
    let each = |seconds: f64| seconds / runs.len().max(1) as f64;
    let most = runs.iter().map(|(_, _, spent)| spent.overhead_s()).fold(0.0, f64::max);
    format!(
        "load {}, the application's start {} ({:.2} s per run), orchestration {}\n\
         orchestration per run: mean {:.2} s (deploy {:.2}, client {:.2}, gather {:.2}), most {most:.2} s; each run in times.csv",
        human(all.load_s),
        human(all.start_s),
        each(all.start_s),
        human(all.overhead_s()),
        each(all.overhead_s()),
        each(all.deploy_s),
        each(all.client_s),
        each(all.gather_s),
    )
}
