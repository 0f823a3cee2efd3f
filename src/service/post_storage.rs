//! `post-storage`: writes posts to the zone's Redis and reads them from it.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use super::rpc::{self, Answer, Call, Refusal};
use super::settings::{COLLECTOR_PORT, REDIS_PORT, SERVICE_PORT, Settings};
use super::span::{Tracer, now_ms};
use super::wire::{Lineage, Posts, ReadPosts, StoreRequest, Stored, WriteId, post_key};
use super::{stores, wait_for_ports};
use crate::embedded::post::Post;
use crate::error::Result;

struct PostStorage {
    store: ConnectionManager,
    antipode: bool,
    tracer: Tracer,
}

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let (zone, antipode) = (settings.zone()?, settings.antipode()?);
    let name = format!("post-storage-service-{}", zone.as_str());
    wait_for_ports(&settings, &[(zone.post_store(), REDIS_PORT)]).await?;
    let (tracer, end) = Tracer::start(name.clone(), &settings.address("jaeger", COLLECTOR_PORT));
    let state = PostStorage { store: stores::open(&settings, zone.post_store())?, antipode, tracer };
    let router = Router::new()
        .route("/StorePost", post(store_post))
        .route("/ReadPosts", post(read_posts))
        .with_state(Arc::new(state));
    rpc::serve(&name, settings.listen(SERVICE_PORT)?, router).await?;
    end.close().await;
    Ok(())
}

/// Stores one post. With enforcement the post names the lineage that wrote it, and the lineage gains the write.
async fn store_post(State(state): State<Arc<PostStorage>>, call: Call<StoreRequest>) -> Answer<Stored> {
    let mut span = state.tracer.span(call.context, "StorePost");
    let StoreRequest { mut post, mut lineage } = call.request;
    let key = post_key(post.post_id);
    post.timestamp_ms = now_ms();
    post.cid = if state.antipode { uuid(&lineage.id) } else { None };
    {
        let _insert = span.child("RedisInsertPost");
        let document = serde_json::to_string(&post)?;
        state.store.clone().set::<_, _, ()>(&key, document).await?;
    }
    span.text("poststorage_post_written_ts", now_ms().to_string());
    if state.antipode {
        lineage.writes.push(WriteId { wid: key });
    } else {
        lineage = Lineage::new(rand::random());
    }
    Ok(Json(Stored { lineage, timestamp: post.timestamp_ms }))
}

/// Reads posts; one that is not there makes the whole answer an error, as in the application.
async fn read_posts(State(state): State<Arc<PostStorage>>, call: Call<ReadPosts>) -> Answer<Posts> {
    let span = state.tracer.span(call.context, "ReadPosts");
    let ids = call.request.post_ids;
    if ids.is_empty() {
        return Ok(Json(Posts { posts: Vec::new() }));
    }
    let keys: Vec<String> = ids.iter().map(|id| post_key(*id)).collect();
    let found: Vec<Option<String>> = {
        let _find = span.child("RedisFindPosts");
        state.store.clone().mget(&keys).await?
    };
    let posts: Option<Vec<String>> = found.into_iter().collect();
    let posts = posts.ok_or_else(|| Refusal::new("Return set incomplete"))?;
    let posts: Result<Vec<Post>, _> = posts.iter().map(|text| serde_json::from_str(text)).collect();
    Ok(Json(Posts { posts: posts? }))
}

/// A lineage's name as the number that it is.
fn uuid(name: &str) -> Option<u128> {
    u128::from_str_radix(&name.replace('-', ""), 16).ok()
}
