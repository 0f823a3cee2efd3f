//! `front-end`: the six routes of the application's nginx, with its texts, codes and types.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::any;

use super::rpc::{self, Rpc, RpcError};
use super::settings::{COLLECTOR_PORT, FRONT_END_PORT, SERVICE_PORT, Settings};
use super::span::{Span, Tracer};
use super::wait_for_ports;
use super::wire::{ComposeRequest, Composed, Done, FollowRequest, Posts, Registration, TimelineRange};
use crate::embedded::answer::Answer;
use crate::embedded::form::{Form, integer};
use crate::embedded::post::{CANARY_IDS, Media, list};
use crate::error::Result;

/// What nginx waits for a backend; a slower one becomes a 500.
const RPC_TIMEOUT: Duration = Duration::from_millis(1001);
/// How nginx is called in traces, on both sides.
const NGINX: &str = "nginx-web-server";

struct FrontEnd {
    rpc: Rpc,
    tracer: Tracer,
}

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let needed = ["compose-post-service", "home-timeline-service", "user-timeline-service", "social-graph-service"];
    wait_for_ports(&settings, &needed.map(|service| (service, SERVICE_PORT))).await?;
    let (tracer, end) = Tracer::start(NGINX.into(), &settings.address("jaeger", COLLECTOR_PORT));
    let state = FrontEnd { rpc: Rpc::with_timeout(&settings, RPC_TIMEOUT), tracer };
    let router = Router::new()
        .route("/wrk2-api/post/compose", any(compose))
        .route("/wrk2-api/home-timeline/read", any(read_home_timeline))
        .route("/wrk2-api/user-timeline/read", any(read_user_timeline))
        .route("/wrk2-api/user/register", any(register))
        .route("/wrk2-api/user/follow", any(follow))
        .route("/wrk2-api/user/unfollow", any(unfollow))
        .fallback(async || Answer::stock(StatusCode::NOT_FOUND).into_response())
        .with_state(Arc::new(state));
    rpc::serve("front end", settings.listen(FRONT_END_PORT)?, router).await?;
    end.close().await;
    Ok(())
}

/// The two nginx spans of a request (request and location), and the handler's own inside them.
struct Visit {
    request: Span,
    location: Span,
    handler: Span,
}

impl Visit {
    /// Begins the spans; those of the readiness probe are not kept.
    fn begin(tracer: &Tracer, path: &'static str, handler: &'static str, user: Option<i64>) -> Self {
        let request = match user {
            Some(id) if id >= CANARY_IDS => tracer.untraced(path),
            _ => tracer.span(None, path),
        };
        let location = request.child(path);
        let handler = location.child(handler);
        Visit { request, location, handler }
    }

    fn end(self, answer: Answer) -> Response {
        let Visit { mut request, mut location, handler } = self;
        drop(handler);
        let code = i64::from(answer.status().as_u16());
        location.int("http.status_code", code);
        request.int("http.status_code", code);
        drop(location);
        answer.into_response()
    }
}

/// Arguments in the body, form-encoded.
async fn body_form(request: Request) -> Result<Form, Response> {
    let form = Form::read(request.into_body()).await;
    form.ok_or_else(|| Answer::stock(StatusCode::PAYLOAD_TOO_LARGE).into_response())
}

/// A failed call as nginx shows it: a time-out carries no text.
fn failure(what: impl std::fmt::Display, error: &RpcError) -> Answer {
    match error {
        RpcError::TimedOut { .. } => Answer::stock(StatusCode::INTERNAL_SERVER_ERROR),
        error => Answer::say(StatusCode::INTERNAL_SERVER_ERROR, format_args!("{what}: {error}")),
    }
}

async fn compose(State(state): State<Arc<FrontEnd>>, request: Request) -> Result<Response, Response> {
    let form = body_form(request).await?;
    let user_id = form.get("user_id").and_then(integer);
    let visit = Visit::begin(&state.tracer, "/wrk2-api/post/compose", "ComposePost", user_id);
    let all = ["user_id", "username", "post_type", "text"].map(|key| form.get(key));
    let [Some(_), Some(username), Some(post_type), Some(text)] = all else {
        return Ok(visit.end(Answer::incomplete()));
    };
    let (Some(user_id), Some(post_type), Some(media)) = (user_id, integer(post_type), media(&form)) else {
        return Ok(visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR)));
    };
    let request = ComposeRequest {
        req_id: i64::try_from(rand::random::<u64>() >> 4).unwrap_or_default(),
        user_id,
        username: username.to_owned(),
        post_type,
        text: text.to_owned(),
        media,
    };
    let composed = state.rpc.call("compose-post-service", "ComposePost", visit.handler.context(), &request).await;
    Ok(visit.end(match composed {
        Ok(Composed { post_id }) => Answer::say(StatusCode::OK, format_args!("Successfully uploaded post #{post_id}")),
        Err(error) => failure("Upload text failed", &error),
    }))
}

/// The attachments that a form names; `None` for lists that are no JSON.
fn media(form: &Form) -> Option<Vec<Media>> {
    let (Some(ids), Some(types)) = (form.get("media_ids"), form.get("media_types")) else { return Some(Vec::new()) };
    let ids: Vec<serde_json::Value> = serde_json::from_str(ids).ok()?;
    let types: Vec<String> = serde_json::from_str(types).ok()?;
    let id = |value: &serde_json::Value| value.as_i64().or_else(|| integer(value.as_str()?));
    ids.iter().zip(types).map(|(value, media_type)| Some(Media { media_id: id(value)?, media_type })).collect()
}

async fn read_home_timeline(State(state): State<Arc<FrontEnd>>, uri: Uri) -> Response {
    let names = ("/wrk2-api/home-timeline/read", "home-timeline-service", "ReadHomeTimeline", "home-timeline");
    read(&state, names, &uri).await
}

async fn read_user_timeline(State(state): State<Arc<FrontEnd>>, uri: Uri) -> Response {
    let names = ("/wrk2-api/user-timeline/read", "user-timeline-service", "ReadUserTimeline", "user-timeline");
    read(&state, names, &uri).await
}

/// Reads a timeline; `names` are the route, the service, its method and the words for messages.
async fn read(
    state: &FrontEnd,
    (path, service, method, words): (&'static str, &str, &'static str, &str),
    uri: &Uri,
) -> Response {
    let form = Form::parse(uri.query().unwrap_or_default().as_bytes());
    let all = ["user_id", "start", "stop"].map(|key| form.get(key));
    let visit = Visit::begin(&state.tracer, path, method, all[0].and_then(integer));
    let [Some(user), Some(start), Some(stop)] = all else { return visit.end(Answer::incomplete()) };
    let (Some(user_id), Some(start), Some(stop)) = (integer(user), integer(start), integer(stop)) else {
        return visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let range = TimelineRange { user_id, start, stop };
    let read = state.rpc.call::<Posts>(service, method, visit.handler.context(), &range).await;
    visit.end(match read {
        Ok(Posts { posts }) => Answer::json(&list(posts.iter().map(|post| post.json()).collect())),
        Err(error) => failure(format_args!("Get {words} failure"), &error),
    })
}

async fn register(State(state): State<Arc<FrontEnd>>, request: Request) -> Result<Response, Response> {
    let form = body_form(request).await?;
    let all = ["first_name", "last_name", "username", "password", "user_id"].map(|key| form.get(key));
    let user_id = all[4].and_then(integer);
    let visit = Visit::begin(&state.tracer, "/wrk2-api/user/register", "RegisterUser", user_id);
    let [Some(first_name), Some(last_name), Some(username), Some(password), Some(_)] =
        all.map(|v| v.map(str::to_owned))
    else {
        return Ok(visit.end(Answer::incomplete()));
    };
    let Some(user_id) = user_id else {
        return Ok(visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR)));
    };
    let user = Registration { first_name, last_name, username, password, user_id };
    let done: Result<Done, _> =
        state.rpc.call("social-graph-service", "RegisterUser", visit.handler.context(), &user).await;
    Ok(visit.end(match done {
        Ok(Done {}) => Answer::empty(),
        Err(error) => failure("User registration failure", &error),
    }))
}

async fn follow(State(state): State<Arc<FrontEnd>>, request: Request) -> Result<Response, Response> {
    change_follow(&state, "/wrk2-api/user/follow", "Follow", request).await
}

async fn unfollow(State(state): State<Arc<FrontEnd>>, request: Request) -> Result<Response, Response> {
    change_follow(&state, "/wrk2-api/user/unfollow", "Unfollow", request).await
}

async fn change_follow(
    state: &FrontEnd,
    path: &'static str,
    method: &'static str,
    request: Request,
) -> Result<Response, Response> {
    let form = body_form(request).await?;
    let by_id = form.get("user_id").zip(form.get("followee_id"));
    let by_name = form.get("user_name").zip(form.get("followee_name"));
    let visit = Visit::begin(&state.tracer, path, method, by_id.and_then(|(user, _)| integer(user)));
    let request = match (by_id, by_name) {
        (Some((user, followee)), _) => match (integer(user), integer(followee)) {
            (Some(user_id), Some(followee_id)) => FollowRequest::Ids { user_id, followee_id },
            _ => return Ok(visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR))),
        },
        (None, Some((user, followee))) => {
            FollowRequest::Names { user_name: user.to_owned(), followee_name: followee.to_owned() }
        }
        (None, None) => return Ok(visit.end(Answer::incomplete())),
    };
    let done: Result<Done, _> = state.rpc.call("social-graph-service", method, visit.handler.context(), &request).await;
    Ok(visit.end(match done {
        Ok(Done {}) => Answer::empty(),
        Err(error) => failure(format_args!("{method} Failed"), &error),
    }))
}
