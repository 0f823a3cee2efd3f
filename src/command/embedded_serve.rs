//! `maestro embedded-serve`, hidden: the body of the background process that `run` starts.

use std::path::PathBuf;

use crate::Context;
use crate::app::App;
use crate::embedded::config::{Config, Ports};
use crate::embedded::process::detach;
use crate::embedded::serve::{Service, serve};
use crate::error::{Plain, Result};
use crate::experiment::Variant;
use crate::store::read_text;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub config: PathBuf,
    pub dir: PathBuf,
    pub ports: Option<String>,
    pub variant: Variant,
    pub app: String,
    pub tag: String,
}

/// Carries it out.
pub(crate) async fn run(_context: &Context, request: Request) -> Result<()> {
    detach();
    let mut config = Config::parse(&request.config, &read_text(&request.config)?)?;
    if let Some(ports) = &request.ports {
        config.ports = Ports { setup: config.ports.setup, ..ports.parse::<Ports>().map_err(Plain::usage)? };
    }
    let app = App::find(&request.app).ok_or_else(|| Plain::usage(format!("unknown app `{}`", request.app)))?;
    let Request { variant, tag, dir, .. } = request;
    Ok(serve(Service { config, variant, app, tag, dir }).await?)
}
