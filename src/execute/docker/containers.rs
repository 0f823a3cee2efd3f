//! Containers: create, start, stop, remove, look at, read the log of, run a command in.

use std::collections::HashMap;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptions, InspectContainerOptions, ListContainersOptions,
    LogsOptions, RemoveContainerOptions, RestartContainerOptions, StartContainerOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};

use super::{DockerError, Engine, label_filter};

/// What a finished command inside a container left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i64,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

/// Which of a container's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output (or a terminal).
    Out,
    /// Standard error.
    Err,
}

/// A piece of a log, usually one line, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: Stream,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Which part of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Only the last so many lines; all when absent.
    pub tail: Option<u32>,
    /// Go on as lines are written, until the container ends.
    pub follow: bool,
    /// Only lines since this Unix time, seconds.
    pub since: i32,
    /// Each line begins with its time (RFC 3339).
    pub timestamps: bool,
}

impl LogRequest {
    /// The last `lines` lines, once.
    pub fn last(lines: u32) -> Self {
        LogRequest { tail: Some(lines), ..LogRequest::default() }
    }

    pub(super) fn options(self) -> LogsOptions {
        LogsOptions {
            follow: self.follow,
            stdout: true,
            stderr: true,
            since: self.since,
            timestamps: self.timestamps,
            tail: self.tail.map_or_else(|| "all".to_owned(), |n| n.to_string()),
            ..Default::default()
        }
    }
}

/// What decides whether a container does its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// `created`, `running`, `exited`, `restarting`, ...
    pub status: String,
    /// Whether its process runs.
    pub running: bool,
    /// Exit code of the last process that ended.
    pub exit_code: i64,
    /// Why it could not be started, or empty.
    pub error: String,
    /// Killed by the kernel for want of memory.
    pub oom_killed: bool,
    /// How often the engine has restarted it.
    pub restarts: i64,
    /// `healthy`, `unhealthy`, `starting`, or empty without a health check.
    pub health: String,
    /// Addresses by network name.
    pub addresses: HashMap<String, String>,
}

impl Engine {
    /// Creates a container called `name` and returns its id and the engine's warnings. A port is published only when
    /// `exposed_ports` names it too: the engine passes over a port binding alone without a word.
    ///
    /// # Errors
    /// [`DockerError::NoImage`], [`DockerError::Conflict`] when the name is taken, and what the engine refuses.
    pub async fn create_container(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<(String, Vec<String>), DockerError> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let created = self.api.create_container(Some(options), body).await;
        let created = created.map_err(|e| self.fault(format!("create container `{name}`"), e))?;
        Ok((created.id, created.warnings))
    }

    /// Starts a container; nothing happens when it runs already.
    ///
    /// # Errors
    /// [`DockerError::PortTaken`], [`DockerError::NotFound`], and what the engine refuses.
    pub async fn start_container(&self, name: &str) -> Result<(), DockerError> {
        let started = self.api.start_container(name, None::<StartContainerOptions>).await;
        ignore_unchanged(started).map_err(|e| self.fault(format!("start container `{name}`"), e))
    }

    /// Stops a container, killing it after `grace` seconds; nothing happens when it does not run.
    ///
    /// # Errors
    /// [`DockerError::NotFound`], and what the engine refuses.
    pub async fn stop_container(&self, name: &str, grace: u16) -> Result<(), DockerError> {
        let options = StopContainerOptions { t: Some(i32::from(grace)), signal: None };
        let stopped = self.api.stop_container(name, Some(options)).await;
        ignore_unchanged(stopped).map_err(|e| self.fault(format!("stop container `{name}`"), e))
    }

    /// Stops and starts a container.
    ///
    /// # Errors
    /// As [`Engine::start_container`].
    pub async fn restart_container(&self, name: &str, grace: u16) -> Result<(), DockerError> {
        let options = RestartContainerOptions { t: Some(i32::from(grace)), signal: None };
        let restarted = self.api.restart_container(name, Some(options)).await;
        restarted.map_err(|e| self.fault(format!("restart container `{name}`"), e))
    }

    /// Removes a container, running or not, with its anonymous volumes. Returns false when there was none.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn remove_container(&self, name: &str) -> Result<bool, DockerError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let removed = self.api.remove_container(name, Some(options)).await;
        match removed.map_err(|e| self.fault(format!("remove container `{name}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            // Somebody else's removal of the same container is under way.
            Err(e) if e.is_conflict() && e.to_string().contains("already in progress") => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Waits until a container ends and returns its exit code.
    ///
    /// # Errors
    /// [`DockerError::NotFound`], [`DockerError::Lost`].
    pub async fn wait_container(&self, name: &str) -> Result<i64, DockerError> {
        let options = WaitContainerOptions { condition: "not-running".into() };
        let mut ends = std::pin::pin!(self.patient().wait_container(name, Some(options)));
        match ends.next().await {
            Some(Ok(end)) => Ok(end.status_code),
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(e)) => Err(self.fault(format!("wait for container `{name}`"), e)),
            None => Err(DockerError::Lost {
                address: self.address.clone(),
                doing: format!("wait for container `{name}`"),
                why: "the answer ended early".into(),
            }),
        }
    }

    /// All containers, running or not, that carry the labels (an empty value stands for any).
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<ContainerSummary>, DockerError> {
        let options = ListContainersOptions { all: true, filters: Some(label_filter(labels)), ..Default::default() };
        self.api.list_containers(Some(options)).await.map_err(|e| self.fault("list containers", e))
    }

    /// Everything about one container.
    ///
    /// # Errors
    /// [`DockerError::NotFound`].
    pub async fn inspect_container(&self, name: &str) -> Result<ContainerInspectResponse, DockerError> {
        let seen = self.api.inspect_container(name, None::<InspectContainerOptions>).await;
        seen.map_err(|e| self.fault(format!("look at container `{name}`"), e))
    }

    /// What decides whether a container does its work; none when it does not exist.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn container_state(&self, name: &str) -> Result<Option<ContainerState>, DockerError> {
        match self.inspect_container(name).await {
            Ok(seen) => Ok(Some(state(seen))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A container's log, line by line as far as the engine keeps them whole.
    pub fn container_log(
        &self,
        name: &str,
        request: LogRequest,
    ) -> impl futures_util::Stream<Item = Result<LogLine, DockerError>> + Send + 'static {
        let pieces = self.api.logs(name, Some(request.options())).boxed();
        self.lines(format!("read the log of `{name}`"), pieces)
    }

    /// The pieces of a log as lines; `doing` says what was being done when one cannot be read.
    pub(super) fn lines(
        &self,
        doing: String,
        pieces: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static,
    ) -> impl futures_util::Stream<Item = Result<LogLine, DockerError>> + Send + 'static {
        let engine = self.clone();
        pieces.map(move |piece| piece.map(log_line).map_err(|e| engine.fault(doing.clone(), e)))
    }

    /// Whether `path` is in the container's file system; works for images without a single tool.
    ///
    /// # Errors
    /// [`DockerError`]; that the container is not there is one of them.
    pub async fn has_file(&self, container: &str, path: &str) -> Result<bool, DockerError> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.api.get_container_archive_info(container, Some(options)).await {
            Ok(_) => Ok(true),
            Err(error) => match self.fault(format!("look for {path} in `{container}`"), error) {
                error if error.is_not_found() => Ok(false),
                error => Err(error),
            },
        }
    }

    /// The last `lines` lines of a container's log.
    ///
    /// # Errors
    /// [`DockerError::NotFound`], [`DockerError::Lost`].
    pub async fn last_log_lines(&self, name: &str, lines: u32) -> Result<Vec<LogLine>, DockerError> {
        self.container_log(name, LogRequest::last(lines)).try_collect().await
    }

    /// Runs `argv` inside a running container and returns what it wrote and its exit code.
    ///
    /// # Errors
    /// [`DockerError::NotFound`], [`DockerError::Conflict`] when the container does not run.
    pub async fn exec(&self, container: &str, argv: &[&str]) -> Result<ExecOutput, DockerError> {
        self.exec_with(container, argv, &[]).await
    }

    /// As [`Engine::exec`], with additional environment (`K=V`).
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub async fn exec_with(&self, container: &str, argv: &[&str], env: &[String]) -> Result<ExecOutput, DockerError> {
        let doing = || format!("run `{}` in container `{container}`", argv.first().copied().unwrap_or_default());
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(env.to_vec()),
            cmd: Some(argv.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>()),
            ..Default::default()
        };
        let exec = self.api.create_exec(container, options).await.map_err(|e| self.fault(doing(), e))?;
        let started = self.api.start_exec(&exec.id, None::<StartExecOptions>).await;
        let mut output = ExecOutput::default();
        if let StartExecResults::Attached { output: mut pieces, .. } = started.map_err(|e| self.fault(doing(), e))? {
            while let Some(piece) = pieces.next().await {
                collect(&mut output, piece.map_err(|e| self.fault(doing(), e))?);
            }
        }
        let ended = self.api.inspect_exec(&exec.id).await.map_err(|e| self.fault(doing(), e))?;
        output.code = ended.exit_code.unwrap_or(-1);
        Ok(output)
    }
}

/// 304 says that the state is already the wanted one.
fn ignore_unchanged(done: Result<(), bollard::errors::Error>) -> Result<(), bollard::errors::Error> {
    match done {
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
        other => other,
    }
}

fn collect(output: &mut ExecOutput, piece: LogOutput) {
    match piece {
        LogOutput::StdErr { message } => output.stderr.push_str(&String::from_utf8_lossy(&message)),
        other => output.stdout.push_str(&String::from_utf8_lossy(other.as_ref())),
    }
}

fn log_line(piece: LogOutput) -> LogLine {
    let stream = if matches!(piece, LogOutput::StdErr { .. }) { Stream::Err } else { Stream::Out };
    let text = String::from_utf8_lossy(piece.as_ref()).trim_end_matches(['\r', '\n']).to_owned();
    LogLine { stream, text }
}

fn state(seen: ContainerInspectResponse) -> ContainerState {
    let now = seen.state.unwrap_or_default();
    let networks = seen.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let health = now.health.and_then(|health| health.status).map(|status| status.to_string()).unwrap_or_default();
    ContainerState {
        id: seen.id.unwrap_or_default(),
        status: now.status.map(|status| status.to_string()).unwrap_or_default(),
        running: now.running.unwrap_or(false),
        exit_code: now.exit_code.unwrap_or_default(),
        error: now.error.unwrap_or_default(),
        oom_killed: now.oom_killed.unwrap_or(false),
        restarts: seen.restart_count.unwrap_or_default(),
        health: if health == "none" { String::new() } else { health },
        addresses: networks
            .into_iter()
            .filter_map(|(name, end)| Some((name, end.ip_address.filter(|ip| !ip.is_empty())?)))
            .collect(),
    }
}
