//! `social-graph`: users and who follows whom.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use sha2::{Digest, Sha256};

use super::rpc::{self, Answer, Call, Refusal};
use super::settings::{COLLECTOR_PORT, REDIS_PORT, SERVICE_PORT, Settings};
use super::span::{Span, Tracer};
use super::wire::{Done, FollowRequest, Ids, Registration, UserRequest};
use super::{stores, wait_for_ports};
use crate::error::Result;

struct SocialGraph {
    store: ConnectionManager,
    tracer: Tracer,
}

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    wait_for_ports(&settings, &[("social-graph-redis", REDIS_PORT)]).await?;
    let (tracer, end) = Tracer::start("social-graph-service".into(), &settings.address("jaeger", COLLECTOR_PORT));
    let state = SocialGraph { store: stores::open(&settings, "social-graph-redis")?, tracer };
    let router = Router::new()
        .route("/RegisterUser", post(register))
        .route("/Follow", post(follow))
        .route("/Unfollow", post(unfollow))
        .route("/GetFollowers", post(followers))
        .with_state(Arc::new(state));
    rpc::serve("social-graph-service", settings.listen(SERVICE_PORT)?, router).await?;
    end.close().await;
    Ok(())
}

/// Registers a user whose name is not taken.
async fn register(State(state): State<Arc<SocialGraph>>, call: Call<Registration>) -> Answer<Done> {
    let span = state.tracer.span(call.context, "RegisterUserWithId");
    let _insert = span.child("RedisInsertUser");
    let user = call.request;
    let mut store = state.store.clone();
    if !store.set_nx::<_, _, bool>(name_key(&user.username), user.user_id).await? {
        return Err(Refusal::new(format!("User {} already existed", user.username)));
    }
    let salt = format!("{:032x}", rand::random::<u128>());
    let hash = Sha256::digest(format!("{}{salt}", user.password));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let fields = [
        ("first_name", user.first_name),
        ("last_name", user.last_name),
        ("username", user.username),
        ("password_hashed", hash),
        ("salt", salt),
    ];
    store.hset_multiple::<_, _, _, ()>(format!("user:{}", user.user_id), &fields).await?;
    Ok(Json(Done {}))
}

async fn follow(State(state): State<Arc<SocialGraph>>, call: Call<FollowRequest>) -> Answer<Done> {
    let span = state.tracer.span(call.context, "Follow");
    let (user, followee) = state.pair(call.request, &span).await?;
    let mut pipe = redis::pipe();
    pipe.atomic().sadd(followers_key(followee), user).ignore().sadd(followees_key(user), followee).ignore();
    pipe.query_async::<()>(&mut state.store.clone()).await?;
    Ok(Json(Done {}))
}

async fn unfollow(State(state): State<Arc<SocialGraph>>, call: Call<FollowRequest>) -> Answer<Done> {
    let span = state.tracer.span(call.context, "Unfollow");
    let (user, followee) = state.pair(call.request, &span).await?;
    let mut pipe = redis::pipe();
    pipe.atomic().srem(followers_key(followee), user).ignore().srem(followees_key(user), followee).ignore();
    pipe.query_async::<()>(&mut state.store.clone()).await?;
    Ok(Json(Done {}))
}

/// The followers of a user; nobody knows an unknown user.
async fn followers(State(state): State<Arc<SocialGraph>>, call: Call<UserRequest>) -> Answer<Ids> {
    let span = state.tracer.span(call.context, "GetFollowers");
    let _get = span.child("RedisGet");
    let ids = state.store.clone().smembers(followers_key(call.request.user_id)).await?;
    Ok(Json(Ids { ids }))
}

impl SocialGraph {
    async fn pair(&self, request: FollowRequest, span: &Span) -> Result<(i64, i64), Refusal> {
        match request {
            FollowRequest::Ids { user_id, followee_id } => Ok((user_id, followee_id)),
            FollowRequest::Names { user_name, followee_name } => {
                let _find = span.child("GetUserId");
                Ok((self.user_id(&user_name).await?, self.user_id(&followee_name).await?))
            }
        }
    }

    async fn user_id(&self, name: &str) -> Result<i64, Refusal> {
        let id: Option<i64> = self.store.clone().get(name_key(name)).await?;
        id.ok_or_else(|| Refusal::new(format!("User: {name} is not registered")))
    }
}

fn name_key(name: &str) -> String {
    format!("user-id:{name}")
}

fn followers_key(user: i64) -> String {
    format!("followers:{user}")
}

fn followees_key(user: i64) -> String {
    format!("followees:{user}")
}
