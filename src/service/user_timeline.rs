//! `user-timeline`: what a user has posted, kept at the origin.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use super::rpc::{self, Answer, Call, Rpc};
use super::settings::{COLLECTOR_PORT, REDIS_PORT, SERVICE_PORT, Settings};
use super::span::Tracer;
use super::wire::{Done, Posts, ReadPosts, TimelineEntry, TimelineRange};
use super::{stores, wait_for_ports};
use crate::error::Result;

struct UserTimeline {
    store: ConnectionManager,
    rpc: Rpc,
    tracer: Tracer,
}

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let needed = [("user-timeline-redis", REDIS_PORT), ("post-storage-service-eu", SERVICE_PORT)];
    wait_for_ports(&settings, &needed).await?;
    let (tracer, end) = Tracer::start("user-timeline-service".into(), &settings.address("jaeger", COLLECTOR_PORT));
    let store = stores::open(&settings, "user-timeline-redis")?;
    let state = UserTimeline { store, rpc: Rpc::new(&settings), tracer };
    let router = Router::new()
        .route("/WriteUserTimeline", post(write))
        .route("/ReadUserTimeline", post(read))
        .with_state(Arc::new(state));
    rpc::serve("user-timeline-service", settings.listen(SERVICE_PORT)?, router).await?;
    end.close().await;
    Ok(())
}

/// Adds a post to its author's timeline.
async fn write(State(state): State<Arc<UserTimeline>>, call: Call<TimelineEntry>) -> Answer<Done> {
    let span = state.tracer.span(call.context, "WriteUserTimeline");
    let _update = span.child("RedisUpdate");
    let entry = call.request;
    let key = key(entry.user_id);
    state.store.clone().zadd::<_, _, _, ()>(key, entry.post_id, entry.timestamp).await?;
    Ok(Json(Done {}))
}

/// The posts of a part of a user's timeline, newest first.
async fn read(State(state): State<Arc<UserTimeline>>, call: Call<TimelineRange>) -> Answer<Posts> {
    let span = state.tracer.span(call.context, "ReadUserTimeline");
    let range = call.request;
    if range.is_empty() {
        return Ok(Json(Posts { posts: Vec::new() }));
    }
    let post_ids = {
        let _find = span.child("RedisFind");
        state.store.clone().zrevrange(key(range.user_id), range.first(), range.last()).await?
    };
    let request = ReadPosts { post_ids };
    Ok(Json(state.rpc.call("post-storage-service-eu", "ReadPosts", span.context(), &request).await?))
}

fn key(user_id: i64) -> String {
    format!("user-timeline:{user_id}")
}
