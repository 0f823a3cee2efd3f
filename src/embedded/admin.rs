//! The third port: Jaeger's query API, and the administration of the miniature under `/maestro/`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::control::{Applied, LinkControl, LinkOrder};
use super::faults::Faults;
use super::form::Form;
use super::jaeger::error_json;
use super::miniature::Miniature;
use super::probe;
use super::query::{Traces, query_api};
use super::ready::Readiness;
use super::spans::TraceMemory;
use crate::app::App;
use crate::delay::Schedule;
use crate::delay::spec::Spec;

/// Largest request body, bytes.
const BODY_LIMIT: usize = 1 << 20;
const INDEX: &str = "The embedded miniature of maestro.\n\n\
    Traces, as Jaeger answers:    /api/services  /api/traces?service=NAME  /api/traces/ID  /api/dependencies\n\
    About the miniature itself:   /maestro/status  /maestro/services  /maestro/stats  /maestro/link  /maestro/truth\n";

/// What the handlers know.
#[derive(Clone)]
pub struct Admin {
    /// The application.
    pub mini: Arc<Miniature>,
    /// Its name and its services.
    pub app: &'static App,
    /// The deployment's tag.
    pub tag: String,
    /// Where the ground truth is written.
    pub truth: std::path::PathBuf,
    /// The replication link's delay.
    pub link: Arc<LinkControl>,
    /// How far the start has come.
    pub readiness: Arc<Readiness>,
    /// Set to true to end the process.
    pub stop: watch::Sender<bool>,
}

/// All routes of the third port.
pub fn router(admin: Admin) -> Router {
    let traces = query_api(admin.mini.clone());
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/maestro/status", get(status))
        .route("/maestro/ready", get(ready))
        .route("/maestro/services", get(replicas))
        .route("/maestro/stats", get(stats))
        .route("/maestro/link", get(link).put(set_link))
        .route("/maestro/link/probe", post(probe_link))
        .route("/maestro/link/schedule", get(schedule).put(set_schedule))
        .route("/maestro/faults", get(faults).put(set_faults))
        .route("/maestro/truth", get(truth))
        .route("/maestro/stop", post(stop))
        .with_state(admin)
        .merge(traces)
}

impl Traces for Miniature {
    fn memory(&self) -> &TraceMemory {
        &self.traces
    }

    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn hide_dependencies(&self) -> bool {
        self.faults.get().empty_dependencies
    }
}

fn form(uri: &Uri) -> Form {
    Form::parse(uri.query().unwrap_or_default().as_bytes())
}

fn bad(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(error_json(400, message))).into_response()
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    let mini = &admin.mini;
    let now = mini.clock.now_us();
    let counts = mini.queue.counts();
    let (traces, dropped) = mini.traces.counts();
    let (truth_rows, truth_failed) = mini.truth.status();
    let (users, follows) = mini.social.size();
    Json(json!({
        "format": 1,
        "pid": std::process::id(),
        "app": admin.app.name,
        "tag": admin.tag,
        "variant": mini.variant,
        "zone_pair": mini.config.replication_pair,
        "started_us": mini.started_us,
        "now_us": now,
        "uptime_s": (now - mini.started_us) as f64 / 1e6,
        "ready": admin.readiness.is_done() && mini.is_ready(now),
        "composing": mini.composing.load(Ordering::SeqCst).max(mini.visiting.load(Ordering::SeqCst)),
        "published": counts.published,
        "delivered": counts.delivered,
        "handled": counts.handled,
        "lost": counts.lost,
        "queue_depth": counts.depth(),
        "in_flight": counts.in_flight(),
        "consumers": mini.config.queue.workers,
        "consumers_busy": counts.delivered - counts.handled - counts.lost,
        "barrier_timeouts": mini.barrier_timeouts.load(Ordering::Relaxed),
        "replicating": mini.posts.oplog_len(),
        "posts": mini.posts.size().posts,
        "users": users,
        "follows": follows,
        "traces": traces,
        "traces_dropped": dropped,
        "truth_rows": truth_rows,
        "truth_failed": truth_failed,
        "link": mini.posts.rule(),
    }))
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.readiness.is_done() {
        "DONE".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "setup is not done yet\n").into_response()
    }
}

/// What `docker stack services` would say: setup jobs reach 1/1 when their port is open.
async fn replicas(State(admin): State<Admin>) -> Json<Value> {
    let done = admin.readiness.is_done();
    let state = |setup: bool| if setup && !done { "0/1" } else { "1/1" };
    let services = admin.app.services.iter();
    Json(services.map(|s| json!({"name": s.name, "replicas": state(s.setup), "setup": s.setup})).collect())
}

async fn stats(State(admin): State<Admin>) -> Json<Value> {
    let size = admin.mini.posts.size();
    Json(json!({
        "posts": size.posts,
        "total_post_storage_size_bytes": size.total_bytes,
        "post_documents_size_bytes": size.document_bytes,
        "avg_post_storage_size_bytes": size.mean_bytes(),
    }))
}

async fn link(State(admin): State<Admin>) -> Json<Spec> {
    Json(admin.mini.posts.rule())
}

async fn schedule(State(admin): State<Admin>) -> Json<Vec<Applied>> {
    Json(admin.link.applied())
}

async fn set_schedule(State(admin): State<Admin>, request: Request) -> Response {
    let read = body::<Schedule>(request).await;
    match read.and_then(|schedule| admin.link.follow(&schedule).map_err(|error| error.to_string())) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(message) => bad(&message),
    }
}

/// The body as JSON, checked; the message of a 400 otherwise.
async fn body<T: for<'a> Deserialize<'a>>(request: Request) -> Result<T, String> {
    let bytes = to_bytes(request.into_body(), BODY_LIMIT).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

async fn set_link(State(admin): State<Admin>, request: Request) -> Response {
    match body::<LinkOrder>(request).await.and_then(|order| order.check().map(|()| order)) {
        Ok(order) => {
            admin.link.set(order);
            Json(order.rule).into_response()
        }
        Err(message) => bad(&message),
    }
}

async fn probe_link(State(admin): State<Admin>, uri: Uri) -> Response {
    let count = match form(&uri).get("count").map_or(Ok(200), str::parse::<usize>) {
        Ok(count @ 1..=5000) => count,
        _ => return bad("count must be between 1 and 5000"),
    };
    let mini = admin.mini.clone();
    match tokio::task::spawn_blocking(move || probe::measure(&mini, count)).await {
        Ok(measured) => Json(measured).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(error_json(500, &error.to_string()))).into_response(),
    }
}

async fn faults(State(admin): State<Admin>) -> Json<Faults> {
    Json(admin.mini.faults.get())
}

async fn set_faults(State(admin): State<Admin>, request: Request) -> Response {
    match body::<Faults>(request).await.and_then(|faults| faults.check().map(|()| faults)) {
        Ok(faults) => {
            admin.mini.faults.set(faults.clone());
            Json(faults).into_response()
        }
        Err(message) => bad(&message),
    }
}

async fn truth(State(admin): State<Admin>) -> Response {
    match tokio::fs::read(&admin.truth).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "text/csv")], bytes).into_response(),
        Err(error) => (StatusCode::NOT_FOUND, Json(error_json(404, &error.to_string()))).into_response(),
    }
}

async fn stop(State(admin): State<Admin>) -> &'static str {
    admin.stop.send_replace(true);
    "stopping\n"
}
