//! `compose-post`: puts a post together, stores it at the origin, notifies the other zone, writes the author's timeline.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};

use super::broker::{self, Publisher};
use super::rpc::{self, Answer, Call, Refusal, Rpc};
use super::settings::{AMQP_PORT, COLLECTOR_PORT, SERVICE_PORT, SETUP_PORT, Settings, Zone};
use super::span::{CARRIER, Span, SpanContext, Tracer, now_ms, now_us};
use super::wire::{
    ComposeRequest, Composed, Done, Lineage, LineageEnvelope, Notification, StoreRequest, Stored, TimelineEntry,
};
use super::{ServiceError, wait_for_ports};
use crate::embedded::ids::Ids;
use crate::embedded::post::{Person, Post};
use crate::error::Result;
use crate::ui;

/// Written when the service is about to serve; `run` looks for it.
const SYNC_FILE: &str = "/tmp/dockerize.sync";

struct ComposePost {
    ids: Ids,
    rpc: Rpc,
    publisher: Publisher,
    tracer: Tracer,
}

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let zone = settings.zone()?;
    let needed = [
        ("write-home-timeline-rabbitmq-setup", SETUP_PORT),
        (zone.broker(), AMQP_PORT),
        ("post-storage-service-eu", SERVICE_PORT),
        ("user-timeline-service", SERVICE_PORT),
    ];
    wait_for_ports(&settings, &needed).await?;
    let (tracer, end) = Tracer::start("compose-post-service".into(), &settings.address("jaeger", COLLECTOR_PORT));
    let state = ComposePost {
        ids: Ids::new(rand::random(), now_us()),
        rpc: Rpc::new(&settings),
        publisher: Publisher::new(settings.amqp(zone.broker())),
        tracer,
    };
    let router = Router::new().route("/ComposePost", post(compose)).with_state(Arc::new(state));
    write_sync_file(settings.optional("MAESTRO_SYNC_FILE"))?;
    rpc::serve("compose-post-service", settings.listen(SERVICE_PORT)?, router).await?;
    end.close().await;
    Ok(())
}

/// Writes `DONE` into the sync file; an empty name (`-`) writes none.
fn write_sync_file(path: Option<&str>) -> Result<(), ServiceError> {
    match path {
        Some("-") => Ok(()),
        Some(path) => std::fs::write(path, "DONE"),
        None => std::fs::write(SYNC_FILE, "DONE"),
    }
    .map_err(|source| ServiceError::Write { path: SYNC_FILE, source })
}

/// Composes one post. The spans below are siblings under the span of the upload that completed the post, as in the
/// application.
async fn compose(State(state): State<Arc<ComposePost>>, call: Call<ComposeRequest>) -> Answer<Composed> {
    let upload = state.tracer.span(call.context, "UploadText");
    let parent = upload.context();
    let post = assemble(&state.ids, call.request);
    let post_id = post.post_id;
    let mut composing = upload.child("_ComposeAndUpload");
    composing.int("composepost_id", post_id);
    let stored = state.store(&post, parent).await?;
    state.notify(&post, &stored, &upload).await?;
    let entry = TimelineEntry { user_id: post.creator.user_id, post_id, timestamp: stored.timestamp };
    let _: Done = state.rpc.call("user-timeline-service", "WriteUserTimeline", parent, &entry).await?;
    Ok(Json(Composed { post_id }))
}

fn assemble(ids: &Ids, request: ComposeRequest) -> Post {
    Post {
        oid: [0; 12],
        post_id: ids.post(now_us()),
        timestamp_ms: 0,
        text: request.text,
        req_id: request.req_id,
        post_type: request.post_type,
        creator: Person { user_id: request.user_id, username: request.username },
        urls: Vec::new(),
        user_mentions: Vec::new(),
        media: request.media,
        cid: None,
    }
}

impl ComposePost {
    async fn store(&self, post: &Post, parent: SpanContext) -> Result<Stored, Refusal> {
        let request = StoreRequest { post: post.clone(), lineage: Lineage::new(self.ids.uuid()) };
        Ok(self.rpc.call("post-storage-service-eu", "StorePost", parent, &request).await?)
    }

    async fn notify(&self, post: &Post, stored: &Stored, upload: &Span) -> Result<(), Refusal> {
        let mut span = upload.child("_UploadHomeTimelineHelper");
        let notification = Notification {
            req_id: post.req_id,
            post_id: post.post_id,
            user_id: post.creator.user_id,
            timestamp: stored.timestamp,
            user_mentions_id: post.user_mentions.iter().map(|user| user.user_id).collect(),
            cscope_str: serde_json::to_string_pretty(&LineageEnvelope { value0: stored.lineage.clone() })?,
            carrier: [(CARRIER.to_owned(), span.context().to_string())].into_iter().collect(),
        };
        let body = serde_json::to_vec(&notification)?;
        let published = self.publisher.publish(&broker::queue_of(Zone::Us.as_str()), &body).await;
        span.text("wht_start_queue_ts", now_ms().to_string());
        published.map_err(|error| {
            ui::warn(format_args!("post {} was stored, but nobody was notified: {error}", post.post_id));
            Refusal::new(error.to_string())
        })
    }
}
