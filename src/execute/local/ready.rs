//! Waits until an application answers: everything runs, setup jobs are done, the sync file is there, its canary (a post
//! composed at the origin and read at the replica, or plain reads) comes through. A container that ends on the way ends the wait, with its last words.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::LocalError;
use super::containers::of_project;
use crate::embedded::canary::{Canary, Route};
use crate::error::{Error, Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::docker::Engine;
use crate::local::{ReadySpec, SERVICE};
use crate::ui;

/// How often the containers are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time of one canary attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Lines of a log that a message shows.
const LAST_WORDS: u32 = 12;

/// A container as the wait sees it.
#[derive(Clone, Debug)]
struct Seen {
    name: String,
    state: String,
    status: String,
    ports: HashMap<u16, u16>,
}

/// Waits for everything that `ready` names.
///
/// # Errors
/// [`LocalError::Ended`] for a container that ended, [`LocalError::NotReady`] at the deadline; both after its last log
/// lines were shown.
pub(super) async fn wait(engine: &Engine, ready: &ReadySpec) -> Result<Outcome> {
    let started = Instant::now();
    let mut stages = Stages::new(ready);
    loop {
        let seen = look(engine, &ready.project).await?;
        if let Some(ended) = seen.iter().find(|(_, seen)| matches!(seen.state.as_str(), "exited" | "dead")) {
            return Err(last_words(engine, ended).await);
        }
        let waiting_for = match stages.advance(engine, &seen).await? {
            Progress::Ready(outcome) => {
                ui::detail(format_args!("ready after {:.1} s", started.elapsed().as_secs_f64()));
                return Ok(outcome);
            }
            Progress::Waiting { service, last_seen } => (service, last_seen),
        };
        if started.elapsed() >= ready.timeout {
            return Err(too_late(engine, ready, &seen, waiting_for).await);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(engine: &Engine, project: &str) -> Result<HashMap<String, Seen>> {
    let mut seen = HashMap::new();
    for container in of_project(engine, project).await? {
        let label = container.labels.as_ref().and_then(|labels| labels.get(SERVICE)).cloned();
        let ports = container.ports.unwrap_or_default();
        // The same port may be published for IPv4 and IPv6 under different numbers; the former is used.
        let v4 = ports.iter().filter(|port| !port.ip.as_deref().is_some_and(|ip| ip.contains(':')));
        let one = Seen {
            name: container
                .names
                .unwrap_or_default()
                .first()
                .map(|n| n.trim_start_matches('/').to_owned())
                .unwrap_or_default(),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
            status: container.status.unwrap_or_default(),
            ports: v4.filter_map(|port| Some((port.private_port, port.public_port?))).collect(),
        };
        seen.insert(label.unwrap_or_else(|| one.name.clone()), one);
    }
    Ok(seen)
}

enum Progress {
    Ready(Outcome),
    Waiting { service: String, last_seen: String },
}

/// What has been reached; what was seen once is not looked for again.
struct Stages<'a> {
    ready: &'a ReadySpec,
    setup_left: Vec<&'a String>,
    sync_seen: bool,
}

impl<'a> Stages<'a> {
    fn new(ready: &'a ReadySpec) -> Self {
        Stages { ready, setup_left: ready.setup.iter().collect(), sync_seen: ready.sync_file.is_none() }
    }

    async fn advance(&mut self, engine: &Engine, seen: &HashMap<String, Seen>) -> Result<Progress> {
        if let Some((service, one)) = seen.iter().find(|(_, one)| one.state != "running") {
            return Ok(Progress::Waiting { service: service.clone(), last_seen: one.status.clone() });
        }
        while let Some(job) = self.setup_left.first() {
            if !setup_done(engine, &self.ready.setup_check, seen.get(*job)).await? {
                return Ok(Progress::Waiting { service: (*job).clone(), last_seen: "it is not done yet".into() });
            }
            self.setup_left.remove(0);
        }
        if let (false, Some((service, path))) = (self.sync_seen, &self.ready.sync_file) {
            let there = seen.get(service).is_some();
            if !there || !engine.has_file(&seen[service].name, path).await? {
                return Ok(Progress::Waiting { service: service.clone(), last_seen: format!("no file {path} in it") });
            }
            self.sync_seen = true;
        }
        self.canary(engine, seen).await
    }

    async fn canary(&self, engine: &Engine, seen: &HashMap<String, Seen>) -> Result<Progress> {
        let host = host_of(engine.address());
        let mut urls = Vec::with_capacity(3);
        for (service, port) in &self.ready.doors {
            let published = seen.get(service).and_then(|one| one.ports.get(port));
            let Some(published) = published else {
                let last_seen = format!("its port {port} is not published");
                return Ok(Progress::Waiting { service: service.clone(), last_seen });
            };
            urls.push(format!("http://{host}:{published}"));
        }
        let [origin_url, replica_url, jaeger_url] =
            <[String; 3]>::try_from(urls).map_err(|_| Plain::new(Exit::Bug, "there are more than three doors"))?;
        let canary = Canary::new(self.ready.canary, &origin_url, &replica_url);
        let sent = tokio::task::spawn_blocking(move || canary.once(Instant::now() + ATTEMPT)).await;
        match sent.map_err(|error| Plain::new(Exit::Bug, format!("the canary was lost: {error}")))? {
            Ok(()) => Ok(Progress::Ready(Outcome::Serving { origin_url, replica_url, jaeger_url, pid: None })),
            Err(missed) => {
                let door = if missed.route == Route::Replica { 1 } else { 0 };
                let service = self.ready.doors[door].0.clone();
                Ok(Progress::Waiting { service, last_seen: format!("canary: {}", missed.last_seen) })
            }
        }
    }
}

async fn setup_done(engine: &Engine, check: &[String], seen: Option<&Seen>) -> Result<bool> {
    let Some(seen) = seen else { return Ok(false) };
    let argv: Vec<&str> = check.iter().map(String::as_str).collect();
    match engine.exec(&seen.name, &argv).await {
        Ok(output) => Ok(output.code == 0),
        // It may have ended in this very moment; the next look says so.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The host that published ports are reached at.
pub fn host_of(address: &str) -> String {
    let remote = ["tcp://", "http://"].iter().find_map(|scheme| address.strip_prefix(scheme));
    let host = remote.and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host);
    host.unwrap_or("127.0.0.1").to_owned()
}

/// Whether `host` (as of [`host_of`]) is this machine by its loopback.
pub fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A container ended: shows the end of its log and says how it ended.
async fn last_words(engine: &Engine, (service, seen): (&String, &Seen)) -> Error {
    show_log(engine, service, &seen.name).await;
    match engine.container_state(&seen.name).await {
        Ok(Some(state)) => {
            let oom = if state.oom_killed { ", killed for want of memory" } else { "" };
            let why = if state.error.is_empty() { String::new() } else { format!(": {}", state.error) };
            LocalError::Ended { service: service.clone(), how: format!("exit code {}{oom}{why}", state.exit_code) }
                .into()
        }
        Ok(None) => LocalError::Ended { service: service.clone(), how: "it was removed".into() }.into(),
        Err(error) => error.into(),
    }
}

/// The deadline has passed: shows the log of the service that was waited for, or of one that keeps restarting.
async fn too_late(
    engine: &Engine,
    ready: &ReadySpec,
    seen: &HashMap<String, Seen>,
    (service, last_seen): (String, String),
) -> Error {
    let restarting = seen.iter().find(|(_, one)| one.state == "restarting").map(|(name, _)| name.clone());
    let guilty = restarting.unwrap_or(service);
    if let Some(one) = seen.get(&guilty) {
        show_log(engine, &guilty, &one.name).await;
    }
    LocalError::NotReady { service: guilty, after: ready.timeout, last_seen }.into()
}

async fn show_log(engine: &Engine, service: &str, container: &str) {
    match engine.last_log_lines(container, LAST_WORDS).await {
        Ok(lines) if lines.is_empty() => ui::warn(format_args!("{service} wrote nothing")),
        Ok(lines) => lines.iter().for_each(|line| ui::note(format_args!("{service} | {}", line.text))),
        Err(error) => ui::warn(format_args!("the log of {service} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn published_ports_are_where_the_engine_is() {
        assert_eq!(host_of("unix:///var/run/docker.sock"), "127.0.0.1");
        assert_eq!(host_of("tcp://10.1.2.3:2375"), "10.1.2.3");
    }
}
