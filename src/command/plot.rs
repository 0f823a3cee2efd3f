//! `maestro plot`: the figures of a plot config.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::Context;
use crate::error::Result;
use crate::plot::{self, Drawn, Format, Kind, Output, PlotError};
use crate::store;
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub config: PathBuf,
    pub plots: Vec<String>,
    pub data: Option<PathBuf>,
    pub formats: Vec<String>,
    pub out: Option<PathBuf>,
}

/// Draws the figures of the config that were asked for; runs that cannot be used are named and left out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let chosen = chosen(context, &request)?;
    let output = Output {
        directory: request.out.clone().unwrap_or_else(|| context.store.plots()),
        tag: store::new_tag(),
        formats: formats(&request.formats),
    };
    if context.dry_run {
        return dry_run(&chosen, &output);
    }
    let (mut drawn, mut failed) = (Vec::new(), Vec::new());
    for (kind, dirs) in &chosen {
        // One figure that cannot be drawn does not keep the others from being drawn.
        match plot::draw(&context.store, kind.name, dirs, &output) {
            Ok(figure) => drawn.push(tell(context, figure)),
            // Where one file cannot be written the others cannot either.
            Err(error @ PlotError::Store(_)) => return Err(error.into()),
            Err(error) => failed.push(error),
        }
    }
    if let Some(path) = &request.data {
        write_data(path, &drawn)?;
    }
    if context.json {
        ui::out(Value::Array(drawn.iter().map(listing).collect()));
    }
    failure(failed, chosen.len()).map_or(Ok(()), |error| Err(error.into()))
}

/// The figures and their runs: as the config says, or of every run below a directory.
fn chosen(context: &Context, request: &Request) -> Result<Vec<(&'static Kind, Vec<String>)>> {
    let path = plot::in_root(&context.store, &request.config);
    if !path.is_dir() {
        return Ok(plot::read_config(&path, &request.plots)?);
    }
    let runs = plot::expand(&context.store, &path)?;
    let names = request.plots.iter().map(|name| plot::find(name));
    let kinds: Vec<&'static Kind> =
        if request.plots.is_empty() { plot::FIGURES.iter().collect() } else { names.collect::<Result<_, _>>()? };
    Ok(kinds.into_iter().map(|kind| (kind, runs.clone())).collect())
}

/// The one error that the command ends with; several are named before it.
fn failure(mut failed: Vec<PlotError>, of: usize) -> Option<PlotError> {
    if failed.len() > 1 {
        failed.iter().for_each(ui::warn);
        return Some(PlotError::Several { failed: failed.len(), of });
    }
    failed.pop()
}

fn formats(names: &[String]) -> Vec<Format> {
    Format::ALL.into_iter().filter(|format| names.iter().any(|name| name == format.ending())).collect()
}

fn dry_run(chosen: &[(&'static Kind, Vec<String>)], output: &Output) -> Result<()> {
    for (kind, dirs) in chosen {
        for format in &output.formats {
            let file = output.directory.join(format!("{}__{}.{}", kind.name, output.tag, format.ending()));
            ui::out(format_args!("draw {} from {}: {}", kind.name, ui::count(dirs.len(), "run"), file.display()));
        }
    }
    Ok(())
}

/// Says what was written and what was left out.
fn tell(context: &Context, figure: Drawn) -> Drawn {
    for run in &figure.left_out {
        ui::warn(format_args!("{}: left out `{}`: {}", figure.name, run.dir, run.why));
    }
    if let Some(alarm) = &figure.alarm {
        ui::warn(format_args!("{}: {alarm}", figure.name));
    }
    if !context.json {
        if let Some(table) = &figure.printed {
            ui::out_raw(ui::table(table));
        }
        figure.files.iter().for_each(|file| ui::out(file.display()));
    }
    figure
}

/// The numbers behind all figures in one file.
fn write_data(path: &Path, drawn: &[Drawn]) -> Result<()> {
    let mut object = Map::new();
    object.insert("format".into(), json!(store::FORMAT));
    for figure in drawn {
        object.insert(figure.name.into(), figure.data.clone());
    }
    Ok(store::write_json(path, &Value::Object(object))?)
}

fn listing(figure: &Drawn) -> Value {
    let left_out = figure.left_out.iter().map(|run| json!({ "dir": run.dir, "why": run.why }));
    json!({
        "plot": figure.name,
        "files": figure.files,
        "left_out": left_out.collect::<Vec<_>>(),
        "alarm": figure.alarm,
    })
}
