//! How many notifications the brokers still hold, by RabbitMQ's management API.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Request;
use super::subject::Subject;
use crate::Context;
use crate::app::Queue;
use crate::command::compose_file;
use crate::execute::{docker::Engine, local};
use crate::experiment::TargetName;
use crate::secret::Secret;
use crate::ui;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// RabbitMQ refreshes the counts that it shows every five seconds: one that is younger than this may be old.
pub(super) const REFRESH: Duration = Duration::from_millis(5_500);

/// The brokers that a deployment's notifications pass.
#[derive(Clone, Debug)]
pub(super) struct Brokers {
    queue: &'static Queue,
    login: (String, Secret),
    urls: Vec<String>,
    agent: ureq::Agent,
}

/// A queue, as the API shows it. Numbers are absent while they have not been counted.
#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    messages: u64,
}

impl Brokers {
    /// The brokers that were named, else those of the deployment, else none.
    pub(super) async fn find(context: &Context, request: &Request, subject: &Subject) -> Option<Brokers> {
        let urls = if request.brokers.is_empty() { published(subject).await? } else { request.brokers.clone() };
        let (name, password) = subject.replication.queue.login;
        let login = deployed(context, subject).unwrap_or_else(|| (name.to_owned(), password.into()));
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).http_status_as_error(false).proxy(None);
        let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Some(Brokers { queue: &subject.replication.queue, login, urls, agent: config.build().into() })
    }

    /// A notification leaves the queue only when it has been handled.
    pub(super) fn until_handled(&self) -> bool {
        self.queue.until_handled
    }

    /// Messages in the queues of notifications of all brokers.
    ///
    /// # Errors
    /// Why a broker could not be asked, in one line.
    pub(super) fn messages(&self) -> Result<u64, String> {
        self.urls.iter().map(|url| self.messages_at(url)).sum()
    }

    fn messages_at(&self, url: &str) -> Result<u64, String> {
        let failed = |why: String| format!("`{url}`: {why}");
        let (name, password) = &self.login;
        let login = format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.expose())));
        let asked = format!("{url}/api/queues?columns=name,messages");
        let answer = self.agent.get(&asked).header("Authorization", login).call();
        let mut answer = answer.map_err(|error| failed(error.to_string()))?;
        if answer.status() != 200 {
            return Err(failed(format!("answered {}", answer.status().as_u16())));
        }
        let text = answer.body_mut().read_to_string().map_err(|error| failed(error.to_string()))?;
        let rows: Vec<Row> =
            serde_json::from_str(&text).map_err(|_| failed("that is not a list of queues".to_owned()))?;
        Ok(rows.iter().filter(|row| row.name.contains(self.queue.name)).map(|row| row.messages).sum())
    }
}

/// The login that the deployment's own compose file gives its brokers.
fn deployed(context: &Context, subject: &Subject) -> Option<(String, Secret)> {
    let deployment = subject.deployment.as_ref()?;
    let dir = context.store.deploy_dir(deployment.target, &deployment.app, &deployment.tag);
    let file = compose_file::of_deployment(&dir, &dir).ok()??;
    compose_file::broker_login(&file, subject.replication.queue.brokers.first()?.service)
}

/// Where the running deployment's brokers answer.
async fn published(subject: &Subject) -> Option<Vec<String>> {
    let deployment = subject.deployment.as_ref().filter(|deployment| deployment.variant.is_some())?;
    let brokers = subject.replication.queue.brokers;
    match deployment.target {
        TargetName::Embedded => None,
        TargetName::Local => {
            let engine = Engine::local().ok()?;
            let project = crate::target::local::project(subject.app, deployment);
            let rows = local::running(&engine, &project).await.ok()?;
            let host = local::host_of(engine.address());
            let url = |broker: &crate::app::Broker| {
                let row = rows.iter().find(|row| row.service == broker.service)?;
                let (port, ..) = row.ports.iter().find(|(_, inner, _)| *inner == broker.port)?;
                Some(format!("http://{host}:{port}"))
            };
            let urls: Option<Vec<String>> = brokers.iter().map(url).collect();
            if urls.is_none() {
                ui::detail("the brokers publish no management API: spans are counted instead");
            }
            urls
        }
        TargetName::Gsd | TargetName::Gcp => {
            // The traces' host publishes the ports of all services.
            let jaeger: ureq::http::Uri = deployment.jaeger_url.as_deref()?.parse().ok()?;
            let host = jaeger.host()?.to_owned();
            brokers.iter().map(|broker| Some(format!("http://{host}:{}", broker.published?))).collect()
        }
    }
}
