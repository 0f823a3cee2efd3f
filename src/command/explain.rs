//! `maestro explain`: one trace as a time line, with where its window went.

use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;

use crate::Context;
use crate::app::{APPS, Replication};
use crate::command::Selection;
use crate::error::{Exit, Plain, Result};
use crate::trace::jaeger::Jaeger;
use crate::trace::{TraceId, file, story};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub id: String,
    pub jaeger: Option<String>,
    pub traces: Vec<PathBuf>,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let context = context.clone();
    let worked = tokio::task::spawn_blocking(move || work(&context, &request)).await;
    worked.map_err(|error| Plain::new(Exit::Bug, format!("explain ended early: {error}")))?
}

fn work(context: &Context, request: &Request) -> Result<()> {
    let app = request.selection.app.unwrap_or(&APPS[0]);
    let replication = app.replication("explain")?;
    let found = if request.traces.is_empty() {
        on_server(context, request, replication)?
    } else {
        in_files(request, replication)?
    };
    let Some(trace) = found else {
        let message = format!("no trace or post `{}`", request.id);
        return Err(Plain::usage(message)
            .with_hint("windows.csv of a run lists the ids of its traces and posts")
            .into());
    };
    ui::out(format_args!("trace {}", trace["traceID"].as_str().unwrap_or("?")));
    story::timeline(&trace).iter().for_each(ui::out);
    if let Some(reduced) = story::reduced(&trace, &replication.shape) {
        story::window(&reduced).iter().for_each(ui::out);
    }
    Ok(())
}

fn in_files(request: &Request, replication: &Replication) -> Result<Option<Value>> {
    for path in &request.traces {
        let failed = |source| file::FileError::Read { path: path.clone(), source };
        let mut text = Vec::new();
        file::open(path)?.read_to_end(&mut text).map_err(failed)?;
        let answer: Value = serde_json::from_slice(&text)
            .map_err(|error| Plain::usage(format!("`{}` is not a saved answer: {error}", path.display())))?;
        if let Some(trace) = story::find(&answer, &replication.shape, &request.id) {
            return Ok(Some(trace));
        }
    }
    Ok(None)
}

fn on_server(context: &Context, request: &Request, replication: &Replication) -> Result<Option<Value>> {
    let url = match &request.jaeger {
        Some(url) => url.clone(),
        None => super::current(context, &request.selection)?.deployment.jaeger_url.ok_or_else(|| {
            Plain::usage("no trace API is known to read from").with_hint("name one with --jaeger URL")
        })?,
    };
    let jaeger = Jaeger::new(&url)?;
    let id = trace_of_post(context, request).unwrap_or_else(|| request.id.clone());
    let is_post = request.id.bytes().all(|byte| byte.is_ascii_digit());
    if TraceId::parse(id.as_bytes()).is_none() && !is_post {
        return Err(Plain::usage(format!("`{id}` is neither a trace id nor a post id")).into());
    }
    let by_id =
        if TraceId::parse(id.as_bytes()).is_some() { jaeger.document(&format!("/api/traces/{id}"))? } else { None };
    if let Some(found) = by_id.and_then(|answer| story::find(&answer, &replication.shape, &id)) {
        return Ok(Some(found));
    }
    // Not a trace's id: perhaps a post's, which is a tag of its trace.
    let now_us = jiff::Timestamp::now().as_microsecond();
    let answer = jaeger.tagged(replication.traced_service, replication.shape.post.tag, &request.id, now_us)?;
    Ok(answer.and_then(|answer| story::find(&answer, &replication.shape, &request.id)))
}

/// The trace of a post, from the `windows.csv` of the last run.
fn trace_of_post(context: &Context, request: &Request) -> Option<String> {
    let state = context.store.read_state(request.selection.target?).ok()?;
    let windows = context.store.resolve(state.local_gather_path?).join("windows.csv");
    let text = std::fs::read_to_string(windows).ok()?;
    text.lines().find_map(|line| {
        let mut cells = line.split(';');
        let trace = cells.next()?;
        (cells.next()? == request.id).then(|| trace.to_owned())
    })
}
