//! `rabbitmq-setup`: joins the two brokers by federation, then opens port 8000 to say so.
//!
//! Each broker gets the other as upstream `clusterN` (one hop at most), an upstream set `clusterN_federators` and the
//! policy `federation_test` on the exchanges of notifications; bindings then travel upstream. The job declares the
//! exchange on both sides itself, so that the links start at once, and waits until each link runs.

use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::broker::EXCHANGE;
use super::rpc::{self, HttpClient};
use super::settings::{MANAGEMENT_PORT, SETUP_PORT, Settings, Zone, escape};
use super::{ServiceError, WAIT_S};
use crate::error::Result;
use crate::ui;
use crate::wait::{Look, until};

/// Longest wait for one answer of the management API.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let limit = Duration::from_secs(settings.number("MAESTRO_WAIT_S", WAIT_S)?);
    let brokers = [Broker::new(&settings, Zone::Eu), Broker::new(&settings, Zone::Us)];
    for broker in &brokers {
        until(broker.name, limit, LOOK, || broker.awake()).await?;
    }
    for (broker, upstream, number) in [(&brokers[1], &brokers[0], 1), (&brokers[0], &brokers[1], 2)] {
        broker.federate(&settings.amqp(upstream.name), number).await?;
        ui::note(format_args!("{} takes notifications from {}", broker.name, upstream.name));
    }
    for broker in &brokers {
        until(&format!("federation link of {}", broker.name), limit, LOOK, || broker.linked()).await?;
    }
    let router = Router::new().route("/", get(async || "done\n"));
    rpc::serve("write-home-timeline-rabbitmq-setup", settings.listen(SETUP_PORT)?, router).await?;
    Ok(())
}

/// The management API of one broker.
struct Broker {
    name: &'static str,
    api: String,
    login: String,
    client: HttpClient,
}

impl Broker {
    fn new(settings: &Settings, zone: Zone) -> Self {
        let name = zone.broker();
        let (user, password) = settings.broker_login();
        Broker {
            name,
            api: format!("http://{}/api", settings.address(name, MANAGEMENT_PORT)),
            login: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            client: HttpClient::new(ANSWER),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Bytes), String> {
        let url = format!("{}{path}", self.api);
        let request = hyper::Request::builder()
            .method(method)
            .uri(&url)
            .header(header::AUTHORIZATION, &self.login)
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        self.client.send(&url, request, body).await.map_err(|error| error.to_string())
    }

    async fn awake(&self) -> Look<()> {
        match self.ask(Method::GET, "/overview", None).await {
            Ok((StatusCode::OK, _)) => Look::Ready(()),
            Ok((status, _)) => Look::NotYet(format!("management API answers {status}")),
            Err(why) => Look::NotYet(why),
        }
    }

    async fn put(&self, path: &str, body: Value) -> Result<(), ServiceError> {
        let failed = |why: String| ServiceError::Broker { broker: self.name, why };
        let (status, body) = self.ask(Method::PUT, path, Some(body)).await.map_err(failed)?;
        if status.is_success() {
            return Ok(());
        }
        Err(failed(format!("`{path}` answers {status}: {}", String::from_utf8_lossy(&body))))
    }

    /// Makes the broker at `uri` an upstream of this one.
    async fn federate(&self, uri: &str, number: u32) -> Result<(), ServiceError> {
        let (upstream, set) = (format!("cluster{number}"), format!("cluster{number}_federators"));
        self.put(&format!("/exchanges/%2F/{}", escape(EXCHANGE)), json!({"type": "topic", "durable": false})).await?;
        let value = json!({"value": {"uri": uri, "max-hops": 1, "ack-mode": "on-confirm"}});
        self.put(&format!("/parameters/federation-upstream/%2F/{upstream}"), value).await?;
        let value = json!({"value": [{"upstream": upstream}]});
        self.put(&format!("/parameters/federation-upstream-set/%2F/{set}"), value).await?;
        let policy = json!({
            "pattern": format!("^{EXCHANGE}"),
            "apply-to": "exchanges",
            "definition": {"federation-upstream-set": set},
        });
        self.put("/policies/%2F/federation_test", policy).await
    }

    async fn linked(&self) -> Look<()> {
        let links = match self.ask(Method::GET, "/federation-links", None).await {
            Ok((StatusCode::OK, body)) => serde_json::from_slice::<Vec<Value>>(&body).unwrap_or_default(),
            Ok((status, _)) => return Look::NotYet(format!("management API answers {status}")),
            Err(why) => return Look::NotYet(why),
        };
        match links.iter().find(|link| link["exchange"] == EXCHANGE) {
            None => Look::NotYet("no link".into()),
            Some(link) if link["status"] == "running" => Look::Ready(()),
            Some(link) => Look::NotYet(format!("link is {}", link["status"])),
        }
    }
}
