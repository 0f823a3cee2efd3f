//! The front ends: the application's six routes, with its texts, codes and types.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::any;

use super::answer::Answer;
use super::compose::{ComposeError, Draft, RPC_TIMEOUT, compose};
use super::form::{Form, integer};
use super::miniature::{Busy, Miniature, Recorder};
use super::post::{CANARY_IDS, Media, Person, list};
use super::read::{Page, timeline};
use super::social::SocialError;
use super::spans::Span;
use crate::app::Side;

const NGINX: &str = "nginx-web-server";

/// Both front ends answer alike: what differs between them is only where they stand.
pub fn router(mini: Arc<Miniature>) -> Router {
    Router::new()
        .route("/wrk2-api/post/compose", any(compose_post))
        .route("/wrk2-api/home-timeline/read", any(read_home_timeline))
        .route("/wrk2-api/user-timeline/read", any(read_user_timeline))
        .route("/wrk2-api/user/register", any(register))
        .route("/wrk2-api/user/follow", any(follow))
        .route("/wrk2-api/user/unfollow", any(unfollow))
        .fallback(|| async { stock_page(StatusCode::NOT_FOUND) })
        .with_state(mini)
}

fn stock_page(status: StatusCode) -> Response {
    Answer::stock(status).into_response()
}

/// The two nginx spans of a request (request and location), and the handler's own inside them.
struct Visit<'a> {
    mini: &'a Miniature,
    recorder: Recorder<'a>,
    request: Span,
    location: Span,
    handler: Span,
}

impl<'a> Visit<'a> {
    fn begin(mini: &'a Miniature, path: &'static str, handler: &'static str) -> Self {
        let recorder = Recorder::new(mini, mini.ids.random());
        let request = recorder.begin(NGINX, path, 0);
        let location = recorder.begin(NGINX, path, request.id);
        let handler = recorder.begin(NGINX, handler, location.id);
        Visit { mini, recorder, request, location, handler }
    }

    /// The front end's own work; returns when the backends are called.
    async fn enter(&self) -> u64 {
        self.mini.work(&self.mini.stations.nginx, self.request.start_us).await
    }

    fn end(self, answer: Answer, traced: bool) -> Response {
        let Visit { recorder, mut request, mut location, handler, .. } = self;
        recorder.end(handler);
        let code = i64::from(answer.status().as_u16());
        request.int("http.status_code", code);
        location.int("http.status_code", code);
        recorder.end(request);
        recorder.end(location);
        if traced {
            recorder.report();
        }
        answer.into_response()
    }
}

async fn compose_post(State(mini): State<Arc<Miniature>>, request: Request) -> Response {
    let _busy = Busy::new(&mini.visiting);
    let visit = Visit::begin(&mini, "/wrk2-api/post/compose", "ComposePost");
    let Some(form) = Form::read(request.into_body()).await else { return stock_page(StatusCode::PAYLOAD_TOO_LARGE) };
    let at = visit.enter().await;
    let arguments = (form.get("user_id"), form.get("username"), form.get("post_type"), form.get("text"));
    let (Some(user_id), Some(username), Some(post_type), Some(text)) = arguments else {
        return visit.end(Answer::incomplete(), true);
    };
    let draft = draft(user_id, username, post_type, text, &form);
    let Some(draft) = draft else { return visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR), true) };
    let traced = draft.creator.user_id < CANARY_IDS;
    let answer = match compose(&mini, draft, visit.recorder.trace, visit.handler.id, at).await {
        Ok(post_id) => Answer::say(StatusCode::OK, format_args!("Successfully uploaded post #{post_id}")),
        Err(ComposeError::Timeout) => Answer::stock(StatusCode::INTERNAL_SERVER_ERROR),
        Err(error) => Answer::say(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    visit.end(answer, traced)
}

/// The post that a form describes; `None` when a number is none or a list is no JSON.
fn draft(user_id: &str, username: &str, post_type: &str, text: &str, form: &Form) -> Option<Draft> {
    let media = match (form.get("media_ids"), form.get("media_types")) {
        (Some(ids), Some(types)) => media(ids, types)?,
        _ => Vec::new(),
    };
    let creator = Person { user_id: integer(user_id)?, username: username.to_owned() };
    Some(Draft { creator, text: text.to_owned(), post_type: integer(post_type)?, media })
}

fn media(ids: &str, types: &str) -> Option<Vec<Media>> {
    let ids: Vec<serde_json::Value> = serde_json::from_str(ids).ok()?;
    let types: Vec<String> = serde_json::from_str(types).ok()?;
    let id = |value: &serde_json::Value| value.as_i64().or_else(|| integer(value.as_str()?));
    let pairs = ids.iter().zip(types).map(|(value, media_type)| Some(Media { media_id: id(value)?, media_type }));
    pairs.collect()
}

async fn read_home_timeline(State(mini): State<Arc<Miniature>>, uri: Uri) -> Response {
    let visit = Visit::begin(&mini, "/wrk2-api/home-timeline/read", "ReadHomeTimeline");
    read(visit, Side::Replica, "home-timeline", &uri).await
}

async fn read_user_timeline(State(mini): State<Arc<Miniature>>, uri: Uri) -> Response {
    let visit = Visit::begin(&mini, "/wrk2-api/user-timeline/read", "ReadUserTimeline");
    read(visit, Side::Origin, "user-timeline", &uri).await
}

async fn read(visit: Visit<'_>, side: Side, name: &str, uri: &Uri) -> Response {
    let form = Form::parse(uri.query().unwrap_or_default().as_bytes());
    let at = visit.enter().await;
    let (Some(user), Some(start), Some(stop)) = (form.get("user_id"), form.get("start"), form.get("stop")) else {
        return visit.end(Answer::incomplete(), true);
    };
    let (Some(user_id), Some(start), Some(stop)) = (integer(user), integer(start), integer(stop)) else {
        return visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR), true);
    };
    let page = Page { user_id, start, stop };
    let posts = timeline(visit.mini, &visit.recorder, side, page, visit.handler.id, at);
    let answer = match tokio::time::timeout(RPC_TIMEOUT, posts).await {
        Ok(Ok(posts)) => Answer::json(&list(posts.iter().map(|post| post.json()).collect())),
        Ok(Err(error)) => Answer::say(StatusCode::INTERNAL_SERVER_ERROR, format_args!("Get {name} failure: {error}")),
        Err(_) => Answer::stock(StatusCode::INTERNAL_SERVER_ERROR),
    };
    visit.end(answer, user_id < CANARY_IDS)
}

async fn register(State(mini): State<Arc<Miniature>>, request: Request) -> Response {
    let visit = Visit::begin(&mini, "/wrk2-api/user/register", "RegisterUser");
    let Some(form) = Form::read(request.into_body()).await else { return stock_page(StatusCode::PAYLOAD_TOO_LARGE) };
    let at = visit.enter().await;
    let all = ["first_name", "last_name", "username", "password", "user_id"].map(|key| form.get(key));
    let [Some(_), Some(_), Some(username), Some(_), Some(user_id)] = all else {
        return visit.end(Answer::incomplete(), true);
    };
    let Some(user_id) = integer(user_id) else {
        return visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR), true);
    };
    let span = visit.recorder.begin("user-service", "RegisterUserWithId", visit.handler.id);
    let at = mini.work(&mini.stations.user, at).await;
    let done = mini.social.register(username, user_id);
    if done.is_ok() {
        let insert = visit.recorder.begin("social-graph-service", "InsertUser", span.id);
        mini.work(&mini.stations.social_graph, at).await;
        visit.recorder.end(insert);
    }
    visit.recorder.end(span);
    let answer = match done {
        Ok(()) => Answer::empty(),
        Err(error) => {
            Answer::say(StatusCode::INTERNAL_SERVER_ERROR, format_args!("User registration failure: {error}"))
        }
    };
    visit.end(answer, user_id < CANARY_IDS)
}

async fn follow(State(mini): State<Arc<Miniature>>, request: Request) -> Response {
    change_follow(Visit::begin(&mini, "/wrk2-api/user/follow", "Follow"), request, true).await
}

async fn unfollow(State(mini): State<Arc<Miniature>>, request: Request) -> Response {
    change_follow(Visit::begin(&mini, "/wrk2-api/user/unfollow", "Unfollow"), request, false).await
}

async fn change_follow(visit: Visit<'_>, request: Request, follows: bool) -> Response {
    let mini = visit.mini;
    let Some(form) = Form::read(request.into_body()).await else { return stock_page(StatusCode::PAYLOAD_TOO_LARGE) };
    let at = visit.enter().await;
    let by_id = form.get("user_id").zip(form.get("followee_id"));
    let by_name = form.get("user_name").zip(form.get("followee_name"));
    let (operation, pair) = match (by_id, by_name) {
        (Some((user, followee)), _) => match (integer(user), integer(followee)) {
            (Some(user), Some(followee)) => (if follows { "Follow" } else { "Unfollow" }, Ok((user, followee))),
            _ => return visit.end(Answer::stock(StatusCode::INTERNAL_SERVER_ERROR), true),
        },
        (None, Some((user, followee))) => {
            let operation = if follows { "FollowWithUsername" } else { "UnfollowWithUsername" };
            (operation, ids_of(mini, user, followee))
        }
        (None, None) => return visit.end(Answer::incomplete(), true),
    };
    let span = visit.recorder.begin("social-graph-service", operation, visit.handler.id);
    mini.work(&mini.stations.social_graph, at).await;
    if let Ok((user, followee)) = pair {
        mini.social.set_follow(user, followee, follows);
    }
    visit.recorder.end(span);
    let traced = pair.as_ref().map_or(true, |(user, _)| *user < CANARY_IDS);
    let answer = match pair {
        Ok(_) => Answer::empty(),
        Err(error) => {
            let what = if follows { "Follow" } else { "Unfollow" };
            Answer::say(StatusCode::INTERNAL_SERVER_ERROR, format_args!("{what} Failed: {error}"))
        }
    };
    visit.end(answer, traced)
}

fn ids_of(mini: &Miniature, user: &str, followee: &str) -> Result<(i64, i64), SocialError> {
    Ok((mini.social.user_id(user)?, mini.social.user_id(followee)?))
}
