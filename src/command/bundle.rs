//! `maestro bundle`: one archive for an artifact repository, and its check.

use std::path::PathBuf;

use crate::bundle::{self, Contents};
use crate::error::Result;
use crate::{Context, ui};

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub dir: PathBuf,
    pub out: Option<PathBuf>,
    pub verify: bool,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    if request.verify {
        let checked = bundle::verify(&request.dir)?;
        let (files, figures) = (ui::count(checked.files, "file"), ui::count(checked.figures, "figure"));
        ui::out(format_args!("{}: {files} as listed, {figures} drawn again and equal", request.dir.display()));
        return Ok(());
    }
    let contents = Contents::of(&context.store, &request.dir)?;
    let to = request.out.unwrap_or_else(|| format!("{}.tar.zst", contents.name).into());
    let runs = ui::count(contents.runs.len(), "run");
    let figures = ui::count(contents.figures.len(), "figure");
    if context.dry_run {
        ui::out(format_args!("write {} of {runs} and {figures}", to.display()));
        return Ok(());
    }
    let files = bundle::write(&context.store, &contents, &to)?;
    ui::note(format_args!("{runs}, {figures}, {}", ui::count(files, "file")));
    ui::out(to.display());
    Ok(())
}
