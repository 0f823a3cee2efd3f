//! Talks to a running miniature: status, link, end, and the canary post that proves it works end to end.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::canary::{Canary, agent};
use super::control::LinkOrder;
use super::probe::Measured;
use crate::delay::Schedule;
use crate::delay::spec::Spec;
use crate::error::{Exit, Fault};
use crate::store::MiniatureRecord;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A probe of a slow link takes its time.
const PROBE_WITHIN: Duration = Duration::from_secs(200);
/// Pause before another canary is sent.
const CANARY_EVERY: Duration = Duration::from_millis(50);

/// Why the miniature could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error("no answer from the miniature at `{url}`")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// An answer that says no.
    #[error("the miniature refused `{url}`: {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// Its words.
        message: String,
    },
    /// No canary came through.
    #[error("the miniature does not work end to end after {after:?}; last seen: {last_seen}")]
    NoCanary {
        /// How long it was waited for.
        after: Duration,
        /// The last answer.
        last_seen: String,
    },
}

impl Fault for ClientError {
    fn exit(&self) -> Exit {
        match self {
            ClientError::Unreachable { .. } => Exit::Unreachable,
            ClientError::Refused { .. } | ClientError::NoCanary { .. } => Exit::StepFailed,
        }
    }
}

/// What `/maestro/status` says, as far as commands need it.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: f64,
    /// Composes in progress.
    pub composing: u64,
    /// Notifications published and not yet with a consumer.
    pub queue_depth: u64,
    /// Notifications published and not yet handled.
    pub in_flight: u64,
    /// Notifications handled.
    pub handled: u64,
    /// Posts held at the origin.
    pub posts: u64,
    /// Traces held.
    pub traces: u64,
    /// Injected delay.
    pub link: Spec,
}

/// What `/maestro/stats` says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct StoreSize {
    /// Posts held.
    pub posts: u64,
    /// Data and indexes, bytes.
    #[serde(rename = "total_post_storage_size_bytes")]
    pub total_bytes: f64,
    /// Documents alone, bytes.
    #[serde(rename = "post_documents_size_bytes")]
    pub document_bytes: f64,
}

/// A client of one miniature. Calls block.
#[derive(Clone, Debug)]
pub struct Client {
    canary: Canary,
    admin: String,
    agent: ureq::Agent,
}

impl Client {
    /// A client of the miniature that wrote `record`.
    pub fn new(record: &MiniatureRecord) -> Self {
        Client {
            canary: Canary::new(crate::app::Canary::Post, &record.origin_url, &record.replica_url),
            admin: record.jaeger_url.clone(),
            agent: agent(ANSWER_WITHIN),
        }
    }

    /// A client that only asks and administers, through the trace API's base URL `admin`.
    pub fn of_admin(admin: &str) -> Self {
        Client {
            canary: Canary::new(crate::app::Canary::Post, "", ""),
            admin: admin.to_owned(),
            agent: agent(ANSWER_WITHIN),
        }
    }

    /// What it is doing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        self.json(&format!("{}/maestro/status", self.admin))
    }

    /// The delay injected into the replication link.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn link(&self) -> Result<Spec, ClientError> {
        self.json(&format!("{}/maestro/link", self.admin))
    }

    /// Injects delay into the replication link.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn set_link(&self, order: &LinkOrder) -> Result<(), ClientError> {
        let url = format!("{}/maestro/link", self.admin);
        self.answer(&url, self.agent.put(&url).send_json(order)).map(|_| ())
    }

    /// Has the replication link's delay follow a schedule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn follow(&self, schedule: &Schedule) -> Result<(), ClientError> {
        let url = format!("{}/maestro/link/schedule", self.admin);
        self.answer(&url, self.agent.put(&url).send_json(schedule)).map(|_| ())
    }

    /// Size of the post store at the origin.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn store_size(&self) -> Result<StoreSize, ClientError> {
        self.json(&format!("{}/maestro/stats", self.admin))
    }

    /// Measures the replication link with `count` probes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn probe(&self, count: usize) -> Result<Measured, ClientError> {
        let url = format!("{}/maestro/link/probe?count={count}", self.admin);
        let text = self.answer(&url, agent(PROBE_WITHIN).post(&url).send_empty())?;
        parse(&url, &text)
    }

    /// Tells it to end; it may be gone before it answers.
    pub fn stop(&self) {
        let url = format!("{}/maestro/stop", self.admin);
        if let Err(error) = self.answer(&url, self.agent.post(&url).send_empty()) {
            tracing::debug!("{error}");
        }
    }

    /// Composes a post at the origin and waits until a follower sees it at the replica.
    ///
    /// # Errors
    /// [`ClientError::NoCanary`] with the last answer.
    pub fn canary(&self, within: Duration) -> Result<Duration, ClientError> {
        let begin = Instant::now();
        loop {
            let missed = match self.canary.once(begin + within) {
                Ok(()) => return Ok(begin.elapsed()),
                Err(missed) => missed,
            };
            if begin.elapsed() >= within {
                return Err(ClientError::NoCanary { after: within, last_seen: missed.last_seen });
            }
            std::thread::sleep(CANARY_EVERY);
        }
    }

    fn json<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        let text = self.answer(url, self.agent.get(url).call())?;
        parse(url, &text)
    }

    /// The body of a good answer.
    fn answer(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<String, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: url.to_owned(), source: Box::new(source) };
        let mut answer = answer.map_err(unreachable)?;
        let body = answer.body_mut().read_to_string().map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(body);
        }
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        let message = json["errors"][0]["msg"].as_str().unwrap_or(body.trim()).to_owned();
        Err(ClientError::Refused { url: url.to_owned(), message })
    }
}

fn parse<T: DeserializeOwned>(url: &str, text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text)
        .map_err(|error| ClientError::Refused { url: url.to_owned(), message: format!("unexpected answer: {error}") })
}
