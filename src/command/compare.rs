//! `maestro compare`: what changed from one set of runs to another.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Context;
use crate::compare::{Comparison, Condition, Matched, compare, markdown};
use crate::error::{Exit, Plain, Result};
use crate::plot::{self, Part, Run};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub a: PathBuf,
    pub b: PathBuf,
    pub fail_if: Vec<String>,
    pub format: String,
}

/// Reads both sides, compares them, prints the result and fails when a condition is met.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let conditions = request.fail_if.iter().map(|text| Condition::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let (a, b) = (side(context, &request.a)?, side(context, &request.b)?);
    let comparison = compare(&a, &b);
    if comparison.matched.is_empty() {
        let message = "the two sides have no zone pair, variant and rate in common";
        return Err(Plain::usage(message).with_hint(comparison.alone.join("; ")).into());
    }
    let met: Vec<String> = conditions
        .iter()
        .flat_map(|condition| comparison.matched.iter().filter_map(|matched| condition.met(matched)))
        .collect();
    print(context, &request.format, &comparison, &met);
    match met.first() {
        None => Ok(()),
        Some(first) => {
            let more = if met.len() > 1 { format!(" and {} more", met.len() - 1) } else { String::new() };
            Err(Plain::new(Exit::RunVoid, format!("condition met: {first}{more}")).into())
        }
    }
}

/// The runs that a path means, with whatever they have.
fn side(context: &Context, path: &Path) -> Result<Vec<Run>> {
    let dirs = plot::expand(&context.store, path)?;
    let (runs, left_out) = plot::load_present(&context.store, &dirs);
    for run in &left_out {
        ui::warn(format_args!("left out `{}`: {}", run.dir, run.why));
    }
    if let Some(alarm) = plot::void(&runs) {
        ui::warn(format_args!("`{}`: {alarm}", path.display()));
    }
    if !runs.iter().any(|run| run.has(Part::Load) || run.has(Part::Traces)) {
        return Err(Plain::usage(format!("no usable run in `{}`", path.display())).into());
    }
    Ok(runs)
}

fn print(context: &Context, format: &str, comparison: &Comparison, met: &[String]) {
    if context.json || format == "json" {
        let mut value = comparison.to_json();
        value["conditions_met"] = json!(met);
        ui::out(format_args!("{value:#}"));
        return;
    }
    for (i, matched) in comparison.matched.iter().enumerate() {
        if i > 0 {
            ui::out("");
        }
        print_cell(format, matched);
    }
    for alone in &comparison.alone {
        ui::warn(format_args!("not compared, no counterpart: {alone}"));
    }
}

fn print_cell(format: &str, matched: &Matched) {
    let rows = matched.rows();
    if format == "markdown" {
        ui::out(format_args!("**A**: {}, **B**: {}\n", matched.a, matched.b));
        ui::out_raw(markdown(&rows));
    } else {
        ui::out(format_args!("A: {}\nB: {}", matched.a, matched.b));
        ui::out_raw(ui::table(&rows));
    }
}
