//! How the services talk among themselves: HTTP/1.1 with JSON bodies, connections kept, every call bounded.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::settings::Settings;
use super::span::{CARRIER, SpanContext};
use super::{ServiceError, wire};
use crate::ui;

/// Longest wait for one call among services.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long open requests may take after the service was told to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// A larger answer is refused.
const BODY_LIMIT: usize = 64 << 20;

/// A call that gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// No connection, or it broke.
    #[error("cannot reach {peer}: {why}")]
    Unreachable {
        /// `host:port`.
        peer: String,
        /// Why.
        why: String,
    },
    /// No answer in time.
    #[error("{peer} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// `host:port`.
        peer: String,
        /// The limit.
        after: Duration,
    },
    /// The peer said no, and why.
    #[error("{0}")]
    Refused(String),
}

/// A small HTTP client that keeps its connections.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

impl HttpClient {
    /// A client whose calls take `timeout` at most.
    pub(crate) fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(100)
            .build(connector);
        HttpClient { client, timeout }
    }

    /// POSTs a JSON body; returns status and body.
    pub(crate) async fn post_json(
        &self,
        url: &str,
        context: Option<SpanContext>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), RpcError> {
        let mut request = hyper::Request::post(url).header(header::CONTENT_TYPE, "application/json");
        if let Some(context) = context {
            request = request.header(CARRIER, context.to_string());
        }
        self.send(url, request, body).await
    }

    /// Sends `request`; returns status and body.
    pub(crate) async fn send(
        &self,
        url: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), RpcError> {
        let unreachable = |why: String| RpcError::Unreachable { peer: peer(url), why };
        let request = request.body(Full::new(body)).map_err(|error| unreachable(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| unreachable(causes(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
            Ok((status, body.map_err(|error| unreachable(error.to_string()))?.to_bytes()))
        };
        let late = || RpcError::TimedOut { peer: peer(url), after: self.timeout };
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| late())?
    }
}

fn peer(url: &str) -> String {
    url.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_else(|| url.to_owned())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Calls to other services.
#[derive(Clone)]
pub(crate) struct Rpc {
    client: HttpClient,
    settings: Settings,
}

impl Rpc {
    /// Calls among services, each bounded by the usual limit.
    pub(crate) fn new(settings: &Settings) -> Self {
        Rpc::with_timeout(settings, CALL_TIMEOUT)
    }

    /// Calls bounded by `timeout`.
    pub(crate) fn with_timeout(settings: &Settings, timeout: Duration) -> Self {
        Rpc { client: HttpClient::new(timeout), settings: settings.clone() }
    }

    /// Calls `method` of `service` from inside the span `context`.
    pub(crate) async fn call<A: DeserializeOwned>(
        &self,
        service: &str,
        method: &str,
        context: SpanContext,
        request: &(impl Serialize + Sync),
    ) -> Result<A, RpcError> {
        let peer = self.settings.address(service, super::settings::SERVICE_PORT);
        let bad = |why: String| RpcError::Unreachable { peer: peer.clone(), why };
        let body = serde_json::to_vec(request).map_err(|error| bad(error.to_string()))?;
        let url = format!("http://{peer}/{method}");
        let (status, body) = self.client.post_json(&url, Some(context), body.into()).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| bad(format!("answer not understood: {error}")));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(RpcError::Refused(refusal.error)),
            Err(_) => Err(bad(format!("HTTP status {status}"))),
        }
    }
}

/// Why a service could not do what it was asked; travels as status 500.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    error: String,
}

impl Refusal {
    /// A refusal for this reason.
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Refusal { error: why.into() }
    }
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::new(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, Json(self)).into_response()
    }
}

/// What a method returns.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

/// A call as the callee sees it.
pub(crate) struct Call<T> {
    /// The caller's span.
    pub(crate) context: Option<SpanContext>,
    /// What is asked.
    pub(crate) request: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Call<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let context = SpanContext::of(request.headers());
        let Json(request) = Json::<T>::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        Ok(Call { context, request })
    }
}

/// Serves `router` until the process is told to end (SIGTERM or SIGINT).
///
/// # Errors
/// [`ServiceError::Listen`].
pub(crate) async fn serve(name: &str, address: SocketAddr, router: Router) -> Result<(), ServiceError> {
    let failed = |source| ServiceError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            ui::warn(format_args!("cannot switch off Nagle's algorithm: {error}"));
        }
    });
    ui::note(format_args!("{name} listens on {bound}"));
    let (told, ended) = tokio::sync::watch::channel(false);
    let mut watching = ended.clone();
    let server = axum::serve(listener, router.layer(axum::extract::DefaultBodyLimit::max(wire::MESSAGE_LIMIT)))
        .with_graceful_shutdown(async move {
            until_told().await;
            told.send_replace(true);
        });
    tokio::select! {
        served = server.into_future() => served.map_err(failed),
        () = async { _ = watching.wait_for(|ended| *ended).await; tokio::time::sleep(END_TIMEOUT).await; } => Ok(()),
    }
}

/// Returns when the process is told to end. As the first process of a container it would otherwise ignore the signal.
pub(crate) async fn until_told() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        ui::warn("cannot listen for signals");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
