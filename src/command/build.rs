//! `maestro build`.

use std::path::PathBuf;

use crate::Context;
use crate::command::{Selection, compose_file};
use crate::error::Result;
use crate::execute::{Live, carry_out};
use crate::local;
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub no_cache: bool,
    pub skip_images: bool,
    pub locked: bool,
    pub save: Option<PathBuf>,
    pub app_dir: Option<PathBuf>,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let state = match request.selection.target {
        Some(target) => context.store.read_state(target)?,
        None => crate::store::State::default(),
    };
    let app = request.selection.app(&state)?;
    let Some(own) = app.containers.own_image else { return Err(super::unavailable("build")) };
    let file = compose_file::of_app(context, app, request.app_dir.as_deref())?;
    let plan = local::build(app, &file, own, request.no_cache);
    if context.dry_run {
        ui::out_raw(plan.to_string());
        return Ok(());
    }
    carry_out(&Live, &plan).await?;
    ui::note(format_args!("{} has its {}", app.name, ui::count(file.images().len(), "image")));
    Ok(())
}
