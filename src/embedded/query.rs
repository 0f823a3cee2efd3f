//! Jaeger's query API over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde_json::Value;

use super::form::Form;
use super::jaeger::{DependencyQuery, FRAME, TraceQuery, dependencies_json, error_json, names_json, write_trace};
use super::spans::{Trace, TraceMemory};

/// Traces written per piece of an answer.
const TRACES_PER_PIECE: usize = 64;

/// What the query API answers from.
pub trait Traces: Send + Sync + 'static {
    /// The traces.
    fn memory(&self) -> &TraceMemory;

    /// Now, us since the epoch.
    fn now_us(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether to say that nobody called anybody, as backends without the dependency job do.
    fn hide_dependencies(&self) -> bool {
        false
    }
}

impl Traces for TraceMemory {
    fn memory(&self) -> &TraceMemory {
        self
    }
}

/// The routes below `/api/`.
pub fn query_api<T: Traces>(traces: Arc<T>) -> Router {
    Router::new()
        .route("/api/traces", get(find::<T>))
        .route("/api/traces/{id}", get(one::<T>))
        .route("/api/services", get(services::<T>))
        .route("/api/services/{service}/operations", get(operations::<T>))
        .route("/api/dependencies", get(dependencies::<T>))
        .with_state(traces)
}

fn form(uri: &Uri) -> Form {
    Form::parse(uri.query().unwrap_or_default().as_bytes())
}

fn bad(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(error_json(400, message))).into_response()
}

async fn find<T: Traces>(State(traces): State<Arc<T>>, uri: Uri) -> Response {
    match TraceQuery::parse(&form(&uri), traces.now_us()) {
        Ok(query) => written(query.find(traces.memory())),
        Err(message) => bad(&message),
    }
}

async fn one<T: Traces>(State(traces): State<Arc<T>>, Path(id): Path<String>) -> Response {
    match u64::from_str_radix(&id, 16).ok().map(|id| traces.memory().trace(id)) {
        Some(Some(trace)) => written(vec![trace]),
        Some(None) => (StatusCode::NOT_FOUND, Json(error_json(404, "trace not found"))).into_response(),
        None => bad("malformed trace ID"),
    }
}

/// Written piece by piece: a long answer is never whole in memory.
fn written(traces: Vec<Trace>) -> Response {
    let pieces = traces.len().div_ceil(TRACES_PER_PIECE);
    let body = (0..pieces).map(move |piece| {
        let from = piece * TRACES_PER_PIECE;
        let mut out = Vec::with_capacity(TRACES_PER_PIECE * 8192);
        for (i, trace) in traces.iter().enumerate().skip(from).take(TRACES_PER_PIECE) {
            if i > 0 {
                out.push(b',');
            }
            write_trace(&mut out, trace);
        }
        Bytes::from(out)
    });
    let (open, close) = (Bytes::from_static(FRAME.0.as_bytes()), Bytes::from_static(FRAME.1.as_bytes()));
    let pieces = std::iter::once(open).chain(body).chain(std::iter::once(close));
    let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn services<T: Traces>(State(traces): State<Arc<T>>) -> Json<Value> {
    Json(names_json(traces.memory().services()))
}

async fn operations<T: Traces>(State(traces): State<Arc<T>>, Path(service): Path<String>) -> Json<Value> {
    let traces = traces.memory().traces();
    let spans = traces.iter().flat_map(Trace::spans).filter(|span| span.service == service);
    let names: BTreeSet<&str> = spans.map(|span| span.operation).collect();
    Json(names_json(names))
}

async fn dependencies<T: Traces>(State(traces): State<Arc<T>>, uri: Uri) -> Response {
    match DependencyQuery::parse(&form(&uri), traces.now_us()) {
        Ok(_) if traces.hide_dependencies() => Json(dependencies_json(&BTreeMap::new())).into_response(),
        Ok(query) => Json(dependencies_json(&query.find(traces.memory()))).into_response(),
        Err(message) => bad(&message),
    }
}
