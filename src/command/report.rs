//! `maestro report`: one offline HTML file about runs.

use std::path::{Path, PathBuf};

use crate::Context;
use crate::error::Result;
use crate::report;
use crate::store;
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub inputs: Vec<PathBuf>,
    pub out: PathBuf,
}

/// Reads the runs, writes the page and names it.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let source = report::collect(&context.store, &request.inputs)?;
    for run in &source.left_out {
        ui::warn(format_args!("left out `{}`: {}", run.dir, run.why));
    }
    if context.dry_run {
        ui::out(format_args!("write {} about {}", request.out.display(), ui::count(source.runs.len(), "run")));
        return Ok(());
    }
    let base = request.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let page = report::page(&source, base)?;
    store::write_atomic(&request.out, page.as_bytes())?;
    ui::out(request.out.display());
    Ok(())
}
