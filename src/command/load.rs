//! `maestro load`: images that `build --save` put into a folder, onto this machine's engine.

use std::path::PathBuf;

use crate::Context;
use crate::command::Selection;
use crate::error::{Plain, Result};
use crate::execute::docker::{self, Engine};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub dir: PathBuf,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let dir = context.store.resolve(&request.dir);
    let index = docker::bundle::index(&dir)?;
    if let Some(app) = request.selection.app.filter(|app| app.name != index.app) {
        return Err(Plain::usage(format!(
            "`{}` holds the images of {}, not of {}",
            dir.display(),
            index.app,
            app.name
        ))
        .into());
    }
    if context.dry_run {
        for entry in index.images {
            ui::out(format_args!("EnsureLoaded {} ({}) from {}", entry.image, entry.id, entry.file));
        }
        return Ok(());
    }
    let bundle = docker::bundle::load(&Engine::local()?, &dir).await?;
    ui::note(format_args!("{} of {} are loaded", ui::count(bundle.images.len(), "image"), bundle.app));
    Ok(())
}
