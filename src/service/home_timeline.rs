//! `home-timeline`: a user's home timeline from the replica's stores.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use super::rpc::{self, Answer, Call, Rpc};
use super::settings::{COLLECTOR_PORT, REDIS_PORT, SERVICE_PORT, Settings};
use super::span::Tracer;
use super::wire::{Posts, ReadPosts, TimelineRange};
use super::{stores, wait_for_ports};
use crate::error::Result;

struct HomeTimeline {
    store: ConnectionManager,
    rpc: Rpc,
    tracer: Tracer,
}

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let needed = [("home-timeline-redis-us", REDIS_PORT), ("post-storage-service-us", SERVICE_PORT)];
    wait_for_ports(&settings, &needed).await?;
    let (tracer, end) = Tracer::start("home-timeline-service".into(), &settings.address("jaeger", COLLECTOR_PORT));
    let store = stores::open(&settings, "home-timeline-redis-us")?;
    let state = HomeTimeline { store, rpc: Rpc::new(&settings), tracer };
    let router = Router::new().route("/ReadHomeTimeline", post(read)).with_state(Arc::new(state));
    rpc::serve("home-timeline-service", settings.listen(SERVICE_PORT)?, router).await?;
    end.close().await;
    Ok(())
}

/// The posts of a part of a home timeline, newest first.
async fn read(State(state): State<Arc<HomeTimeline>>, call: Call<TimelineRange>) -> Answer<Posts> {
    let span = state.tracer.span(call.context, "ReadHomeTimeline");
    let range = call.request;
    if range.is_empty() {
        return Ok(Json(Posts { posts: Vec::new() }));
    }
    let post_ids = {
        let _find = span.child("RedisFind");
        let key = format!("home-timeline:{}", range.user_id);
        state.store.clone().zrevrange(key, range.first(), range.last()).await?
    };
    let request = ReadPosts { post_ids };
    Ok(Json(state.rpc.call("post-storage-service-us", "ReadPosts", span.context(), &request).await?))
}
