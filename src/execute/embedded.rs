//! Starts, finds and stops the embedded miniature. At most one runs per root and app: starting one ends the one of an
//! earlier deployment.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use crate::embedded::client::Client;
use crate::embedded::config::{Config, Ports};
use crate::embedded::process::{self, Holder, Start};
use crate::error::{Error, Exit, Fault, Plain, Result};
use crate::experiment::Variant;
use crate::plan::EmbeddedStep;
use crate::store::{MiniatureRecord, StoreError, read_text};
use crate::ui;
use crate::wait::{self, Look};

/// How often the start is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What can go wrong with the background process.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A port is taken.
    #[error("port {port} is taken by {}", holder.as_ref().map_or("an unknown process".to_owned(), Holder::to_string))]
    PortTaken {
        /// The port.
        port: u16,
        /// Who has it.
        holder: Option<Holder>,
    },
    /// The process ended before it served.
    #[error("the embedded miniature ended at once: {words}")]
    Ended {
        /// The last line of its log.
        words: String,
        /// The log.
        log: PathBuf,
    },
    /// The process that was started is gone.
    #[error("the embedded miniature is not running (pid {pid} ended)")]
    NotRunning {
        /// Its process id.
        pid: u32,
        /// How to start it again.
        start: String,
    },
    /// It cannot be started.
    #[error("cannot start the embedded miniature")]
    Spawn(#[source] std::io::Error),
    /// It cannot be stopped.
    #[error("cannot stop the embedded miniature: {0}")]
    Stop(String),
    /// ^C or SIGTERM while it started; it was stopped again.
    #[error("interrupted: the miniature was stopped again")]
    Interrupted,
}

impl Fault for EmbeddedError {
    fn exit(&self) -> Exit {
        match self {
            EmbeddedError::PortTaken { .. } | EmbeddedError::NotRunning { .. } | EmbeddedError::Spawn(_) => {
                Exit::Unreachable
            }
            EmbeddedError::Ended { .. } | EmbeddedError::Stop(_) => Exit::StepFailed,
            EmbeddedError::Interrupted => Exit::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            EmbeddedError::PortTaken { .. } => Some(
                "choose other ports: run --ports 18080,18082,26686, or --ports auto for free ones; or end that process"
                    .into(),
            ),
            EmbeddedError::Ended { log, .. } => Some(format!("its output is in `{}`", log.display())),
            EmbeddedError::NotRunning { start, .. } => Some(format!("start it with `{start}`")),
            _ => None,
        }
    }
}

/// Ensures the state that `step` names.
pub(super) async fn execute(step: &EmbeddedStep) -> Result<Outcome> {
    match step {
        EmbeddedStep::EnsureRunning { dir, config, app, tag, variant, ports, timeout } => {
            let start = Start { dir, config, app, tag, variant: *variant, ports: ports.as_deref() };
            ensure_running(start, *timeout).await
        }
        EmbeddedStep::EnsureStopped { dir, .. } => {
            stop_all(dir).await?;
            Ok(Outcome::Stopped)
        }
    }
}

/// The miniature of the deployment in `dir`, which must be running.
///
/// # Errors
/// [`EmbeddedError::NotRunning`], which says how to start it.
pub fn require(dir: &Path, app: &str, variant: Option<Variant>, pid: Option<u32>) -> Result<MiniatureRecord> {
    let record = MiniatureRecord::read(dir)?;
    if let Some(record) = record.as_ref().filter(|record| process::is_alive(record)) {
        return Ok(record.clone());
    }
    let flag = if variant.is_some_and(Variant::is_antipode) { " -antipode" } else { "" };
    let start = format!("maestro --embedded {app} run{flag}");
    match record.map(|record| record.pid).or(pid) {
        Some(pid) => Err(EmbeddedError::NotRunning { pid, start }.into()),
        None => Err(Plain::usage("the embedded miniature was not started yet")
            .with_hint(format!("start it with `{start}`"))
            .into()),
    }
}

async fn ensure_running(start: Start<'_>, timeout: Duration) -> Result<Outcome> {
    stop_siblings(start.dir).await?;
    let mut start = start;
    let before = MiniatureRecord::read(start.dir)?;
    // Whatever was running here had addresses that others may know by now.
    let kept = before.as_ref().map(ports_of);
    if let Some(record) = before {
        let alive = process::is_alive(&record);
        if alive && record.variant == start.variant && fits(&record, start.ports) {
            ui::note(format_args!("already running as {} (pid {})", record.variant, record.pid));
            canary(&record, timeout).await?;
            return Ok(serving(record));
        }
        if alive {
            ui::note(format_args!("stopping the miniature (pid {}, {})", record.pid, record.variant));
        } else {
            ui::note(format_args!("the miniature (pid {}) had ended; starting another", record.pid));
        }
        stop(start.dir, record).await?;
    }
    start.ports = start.ports.or(kept.as_deref());
    check_ports(&start)?;
    let child = process::spawn(&start).map_err(EmbeddedError::Spawn)?;
    let mut started = Started { child, dir: start.dir };
    let served = interruptible(async {
        let record = started.wait_until_serving(timeout).await?;
        canary(&record, timeout).await?;
        Ok(record)
    })
    .await;
    match served {
        Ok(record) => {
            ui::detail(format_args!("miniature started as pid {}, log in {}", record.pid, process::LOG));
            Ok(serving(record))
        }
        Err(error) => {
            started.undo().await;
            Err(error)
        }
    }
}

/// Runs `work` until it ends or the user wants it to.
async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut terminate = signal(SignalKind::terminate()).map_err(EmbeddedError::Spawn)?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(EmbeddedError::Interrupted.into()),
        _ = terminate.recv() => Err(EmbeddedError::Interrupted.into()),
    }
}

fn serving(record: MiniatureRecord) -> Outcome {
    Outcome::Serving {
        origin_url: record.origin_url,
        replica_url: record.replica_url,
        jaeger_url: record.jaeger_url,
        pid: Some(record.pid),
    }
}

fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap_or_default()
}

fn ports_of(record: &MiniatureRecord) -> String {
    [&record.origin_url, &record.replica_url, &record.jaeger_url].map(|url| port(url)).join(",")
}

/// Whether the running miniature has the ports that are asked for; any will do when none are.
fn fits(record: &MiniatureRecord, ports: Option<&str>) -> bool {
    ports.is_none_or(|ports| ports == "auto" || ports == ports_of(record))
}

/// Refuses a taken port before anything is started, with the name of whoever has it.
fn check_ports(start: &Start<'_>) -> Result<()> {
    let config = Config::parse(start.config, &read_text(start.config)?)?;
    let ports = match start.ports {
        Some(text) => text.parse::<Ports>().map_err(Plain::usage)?,
        None => config.ports,
    };
    for port in [ports.origin, ports.replica, ports.jaeger] {
        process::port_is_free(port).map_err(|holder| EmbeddedError::PortTaken { port, holder })?;
    }
    Ok(())
}

/// A process on its way up.
struct Started<'a> {
    child: Child,
    dir: &'a Path,
}

impl Started<'_> {
    /// Waits until the process has written its record, or says why it ended.
    async fn wait_until_serving(&mut self, timeout: Duration) -> Result<MiniatureRecord> {
        let pid = self.child.id();
        let (dir, child) = (self.dir, &mut self.child);
        wait::until("the embedded miniature", timeout, LOOK_EVERY, || {
            let look = look(dir, child, pid);
            async move { look }
        })
        .await?
    }

    /// Ends the process and takes away what it left.
    async fn undo(mut self) {
        // Either is gone already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
        MiniatureRecord::remove(self.dir).ok();
        std::fs::remove_file(crate::embedded::ready::file(self.dir)).ok();
    }
}

fn look(dir: &Path, child: &mut Child, pid: u32) -> Look<Result<MiniatureRecord>> {
    match MiniatureRecord::read(dir) {
        Ok(Some(record)) if record.pid == pid => return Look::Ready(Ok(record)),
        // Not there yet, or half of an older one.
        Ok(_) | Err(StoreError::Content { .. }) => {}
        Err(error) => return Look::Ready(Err(error.into())),
    }
    match child.try_wait() {
        Ok(None) => Look::NotYet(format!("pid {pid} has not bound its ports")),
        Ok(Some(_)) => {
            let words = process::last_words(dir);
            Look::Ready(Err(EmbeddedError::Ended { words, log: dir.join(process::LOG) }.into()))
        }
        Err(error) => Look::Ready(Err(EmbeddedError::Spawn(error).into())),
    }
}

async fn canary(record: &MiniatureRecord, timeout: Duration) -> Result<()> {
    let client = Client::new(record);
    let took = blocking(move || client.canary(timeout)).await??;
    ui::detail(format_args!("a canary post crossed from origin to replica in {} ms", took.as_millis()));
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let lost = |error| Error::from(Plain::new(Exit::Bug, format!("a task was lost: {error}")));
    tokio::task::spawn_blocking(work).await.map_err(lost)
}

/// Stops the miniature of `record` and takes away what it left.
async fn stop(dir: &Path, record: MiniatureRecord) -> Result<()> {
    let client = Client::new(&record);
    blocking(move || process::end(&record, || client.stop())).await?.map_err(EmbeddedError::Stop)?;
    MiniatureRecord::remove(dir)?;
    let file = crate::embedded::ready::file(dir);
    match std::fs::remove_file(&file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Write { path: file, source }.into())
        }
        _ => Ok(()),
    }
}

/// Stops the miniature in `dir` and those of the root's other deployments of the app.
async fn stop_all(dir: &Path) -> Result<()> {
    if let Some(record) = MiniatureRecord::read(dir)? {
        stop(dir, record).await?;
    }
    stop_siblings(dir).await
}

async fn stop_siblings(dir: &Path) -> Result<()> {
    for (sibling, record) in MiniatureRecord::beside(dir) {
        if process::is_alive(&record) {
            ui::note(format_args!("stopping the miniature of deployment `{}` (pid {})", record.tag, record.pid));
        }
        stop(&sibling, record).await?;
    }
    Ok(())
}
