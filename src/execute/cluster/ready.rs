//! Waits until the services of a stack answer: tasks run, setup jobs are done, the sync file is there, a post composed at
//! the origin is read at the replica. What fails on the way is shown with its last words.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Hosts;
use crate::cluster::Readiness;
use crate::embedded::canary::Canary;
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::docker::{Engine, TaskFacts};
use crate::execute::ssh::LocalPort;
use crate::swarm::NAMESPACE;
use crate::ui;

/// How often the tasks are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Longest time of one canary attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// A service whose tasks ended this often is not going to run.
const FAILURES: usize = 5;
/// Tasks that the engine refused this often (no such image, no such mount) are refused for good.
const REFUSALS: usize = 3;
/// Lines of a log that a message shows.
const LAST_WORDS: u32 = 12;
/// How long a look may fail before the wait is given up: a manager's connection may be made anew meanwhile.
const BLIND: Duration = Duration::from_secs(30);

/// What a look at the tasks said.
struct Seen {
    /// Running task of each service, by the service's full name.
    running: HashMap<String, TaskFacts>,
    /// Tasks that ended by themselves, by service.
    failed: HashMap<String, Vec<TaskFacts>>,
    /// What the task that is furthest behind says.
    waiting: Option<String>,
}

/// Waits for everything that `ready` names.
///
/// # Errors
/// Exit code 4 for a service that does not come up, with the reason, and at the deadline with what was last seen.
pub(super) async fn wait(hosts: &Hosts, ready: &Readiness) -> Result<Outcome> {
    let started = Instant::now();
    let manager = hosts.engine(hosts.manager()?).await?;
    let mut stages = Stages { hosts, ready, setup_left: ready.setup.iter().collect(), sync_seen: false, doors: None };
    let mut blind_since: Option<Instant> = None;
    loop {
        let waiting = match look(&manager, ready).await {
            Ok(seen) => {
                blind_since = None;
                if let Some(service) = hopeless(&seen) {
                    return Err(last_words(hosts, ready, &seen, &service).await);
                }
                match stages.advance(&manager, &seen).await {
                    Ok(Progress::Ready(outcome)) => {
                        ui::detail(format_args!("ready after {:.1} s", started.elapsed().as_secs_f64()));
                        return Ok(outcome);
                    }
                    Ok(Progress::Waiting(what)) => what,
                    Err(error) => error.line(),
                }
            }
            Err(error) if blind_since.get_or_insert_with(Instant::now).elapsed() < BLIND => error.line(),
            Err(error) => return Err(error),
        };
        if started.elapsed() >= ready.timeout {
            let seconds = ready.timeout.as_secs_f64();
            let why = format!("the application does not answer after {seconds} s; last seen: {waiting}");
            return Err(Plain::new(Exit::StepFailed, why).with_hint("more time: run --timeout S").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(manager: &Engine, ready: &Readiness) -> Result<Seen> {
    let services = manager.list_services(&[(NAMESPACE, &ready.stack)]).await?;
    let names: HashMap<&str, &str> = services.iter().map(|s| (s.id.as_str(), s.name.as_str())).collect();
    let mut seen = Seen { running: HashMap::new(), failed: HashMap::new(), waiting: None };
    for task in manager.tasks_labelled(&[(NAMESPACE, &ready.stack)]).await? {
        let Some(name) = names.get(task.service.as_str()) else { continue };
        match task.state.as_str() {
            "running" if task.wanted == "running" => {
                seen.running.insert((*name).to_owned(), task);
            }
            "failed" | "rejected" => seen.failed.entry((*name).to_owned()).or_default().push(task),
            _ => {}
        }
    }
    let absent: Vec<&String> = ready.services.iter().filter(|name| !seen.running.contains_key(*name)).collect();
    if let Some(first) = absent.first() {
        let up = ready.services.len() - absent.len();
        let why = seen.failed.get(*first).and_then(|tasks| tasks.last()).map(|task| format!(": {}", task.error));
        let why = match why {
            Some(why) => why,
            None => pending(manager, first).await?,
        };
        seen.waiting = Some(format!("{up}/{} services; {first}{why}", ready.services.len()));
    }
    Ok(seen)
}

/// Why a service's newest task does not run yet.
async fn pending(manager: &Engine, service: &str) -> Result<String> {
    let tasks = manager.tasks(service, true).await?;
    Ok(tasks.last().map_or_else(String::new, |task| {
        let error = if task.error.is_empty() { String::new() } else { format!(" ({})", task.error) };
        format!(" is {}{error}", task.state)
    }))
}

/// A service that has failed so often that waiting is of no use.
fn hopeless(seen: &Seen) -> Option<String> {
    let given_up = |(name, tasks): &(&String, &Vec<TaskFacts>)| {
        let refused = tasks.iter().filter(|task| task.state == "rejected").count();
        !seen.running.contains_key(*name) && (tasks.len() >= FAILURES || refused >= REFUSALS)
    };
    seen.failed.iter().find(given_up).map(|(name, _)| name.clone())
}

/// The error for a service that does not come up, after its log was shown.
async fn last_words(hosts: &Hosts, ready: &Readiness, seen: &Seen, service: &str) -> crate::error::Error {
    let tasks = seen.failed.get(service).map_or(&[][..], Vec::as_slice);
    let last = tasks.iter().max_by_key(|task| &task.id);
    let why = last.map_or("", |task| task.error.as_str());
    let code = last.and_then(|task| task.exit_code).map_or_else(String::new, |code| format!(", exit code {code}"));
    for task in tasks.iter().rev().filter(|task| !task.container.is_empty()).take(1) {
        if let Some(lines) = log_of(hosts, task).await {
            ui::warn(format!("the end of the log of {service}:"));
            lines.iter().for_each(|line| ui::note(format_args!("  {line}")));
        }
    }
    let short = service.strip_prefix(&format!("{}_", ready.stack)).unwrap_or(service);
    Plain::new(Exit::StepFailed, format!("service `{short}` does not come up: {why}{code}"))
        .with_hint(format!("its whole log: maestro ssh -groups manager -- docker service logs {service}"))
        .into()
}

/// Looks for the task's container on every host, since only the host that had it still has its log.
async fn log_of(hosts: &Hosts, task: &TaskFacts) -> Option<Vec<String>> {
    for name in hosts.names() {
        let engine = hosts.engine(&name).await.ok()?;
        if let Ok(lines) = engine.last_log_lines(&task.container, LAST_WORDS).await {
            return Some(lines.into_iter().map(|line| line.text).collect());
        }
    }
    None
}

enum Progress {
    Ready(Outcome),
    Waiting(String),
}

/// What has been reached; what was seen once is not looked for again.
struct Stages<'a> {
    hosts: &'a Hosts,
    ready: &'a Readiness,
    setup_left: Vec<&'a String>,
    sync_seen: bool,
    /// Ports of this machine that lead to the two front ends.
    doors: Option<(LocalPort, LocalPort)>,
}

impl Stages<'_> {
    async fn advance(&mut self, manager: &Engine, seen: &Seen) -> Result<Progress> {
        if let Some(waiting) = &seen.waiting {
            return Ok(Progress::Waiting(waiting.clone()));
        }
        while let Some(job) = self.setup_left.first() {
            let (engine, container) = self.place(manager, seen, job).await?;
            let argv: Vec<&str> = self.ready.setup_check.iter().map(String::as_str).collect();
            let done = engine.exec(&container, &argv).await;
            if !done.is_ok_and(|output| output.code == 0) {
                return Ok(Progress::Waiting(format!("{job} is not done yet")));
            }
            self.setup_left.remove(0);
        }
        if let (false, Some((service, path))) = (self.sync_seen, &self.ready.sync_file) {
            let (engine, container) = self.place(manager, seen, service).await?;
            if !engine.has_file(&container, path).await? {
                return Ok(Progress::Waiting(format!("no file {path} in {service}")));
            }
            self.sync_seen = true;
        }
        self.canary().await
    }

    /// The engine of the host that runs a service's task, and its container.
    async fn place(&self, manager: &Engine, seen: &Seen, service: &str) -> Result<(Engine, String)> {
        let gone = || Plain::new(Exit::StepFailed, format!("{service} does not run any more"));
        let task = seen.running.get(service).ok_or_else(gone)?;
        for name in self.hosts.names() {
            let engine = self.hosts.engine(&name).await?;
            if engine.swarm().await?.node == task.node {
                return Ok((engine, task.container.clone()));
            }
        }
        let node = manager.nodes().await?.into_iter().find(|node| node.id == task.node);
        let node = node.map_or_else(|| task.node.clone(), |node| node.hostname);
        Err(Plain::new(Exit::StepFailed, format!("{service} runs on `{node}`, which is not among the hosts")).into())
    }

    /// One post all the way, through the connections to the hosts: it needs no open port between here and there.
    async fn canary(&mut self) -> Result<Progress> {
        let doors = &self.ready.doors;
        let (origin, replica) = match &self.doors {
            Some(ports) => ports,
            None => {
                let origin = self.through(&doors.origin).await?;
                let replica = self.through(&doors.replica).await?;
                self.doors.insert((origin, replica))
            }
        };
        let canary = Canary::new(self.ready.canary, &origin.url(), &replica.url());
        let sent = tokio::task::spawn_blocking(move || canary.once(Instant::now() + ATTEMPT)).await;
        match sent.map_err(|error| Plain::new(Exit::Bug, format!("the canary was lost: {error}")))? {
            Ok(()) => Ok(Progress::Ready(self.serving().await?)),
            Err(missed) => Ok(Progress::Waiting(format!("canary: {}", missed.last_seen))),
        }
    }

    async fn through(&self, (host, port): &(String, u16)) -> Result<LocalPort> {
        let address = super::swarm::address(self.hosts, host).await?;
        Ok(self.hosts.remote(host)?.forward(&address, *port).await?)
    }

    async fn serving(&self) -> Result<Outcome> {
        let url = async |(host, port): &(String, u16)| -> Result<String> {
            Ok(format!("http://{}:{port}", super::swarm::address(self.hosts, host).await?))
        };
        let doors = &self.ready.doors;
        Ok(Outcome::Serving {
            origin_url: url(&doors.origin).await?,
            replica_url: url(&doors.replica).await?,
            jaeger_url: url(&doors.jaeger).await?,
            pid: None,
        })
    }
}
