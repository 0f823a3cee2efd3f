//! What a sweep leaves: the plot config, the figures, the verdict table and the gathered paths.

use indexmap::IndexMap;

use super::Sweep;
use super::status::human;
use crate::Context;
use crate::error::Result;
use crate::plot::{self, Format, Output};
use crate::stats;
use crate::store::{self, RunDir, write_yaml};
use crate::sweep::{Cell, Metrics, Progress, RunState};
use crate::ui;

/// Everything after the last run.
pub(super) fn finish(context: &Context, sweep: &Sweep, progress: &Progress) -> Result<()> {
    let runs = finished(sweep, progress);
    write_plot_config(sweep, &runs)?;
    ui::out_raw(verdict(context, sweep, &runs)?);
    ui::out(dead_time(sweep, progress));
    ui::out("runs:");
    for (_, dir) in &runs {
        ui::out(format_args!("  {dir}"));
    }
    draw(context, sweep, &runs)
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

/// Finished runs: cell index and directory, cells in the order of the file.
fn finished(sweep: &Sweep, progress: &Progress) -> Vec<(usize, String)> {
    sweep.done(progress).into_iter().map(|(cell, _, dir)| (cell, dir)).collect()
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

/// `load 1 min 20 s, everything else 8 s (0.5 s per run)`.
fn dead_time(sweep: &Sweep, progress: &Progress) -> String {
    let (mut load, mut idle, mut runs) = (0.0, 0.0, 0_u32);
    for (cell, round, _) in sweep.done(progress) {
        if let RunState::Finished { load_s, idle_s, .. } = progress.state(&sweep.cells[cell].id(), round) {
            load += load_s;
            idle += idle_s;
            runs += 1;
        }
    }
    let each = if runs == 0 { 0.0 } else { idle / f64::from(runs) };
    format!("load {}, everything else {} ({each:.1} s per run)", human(load), human(idle))
}
