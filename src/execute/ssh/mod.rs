//! Hosts reached over SSH (libssh2): commands, files, sockets and the engines behind them.
//!
//! One connection per host carries everything; [`session`] moves its bytes on a thread of its own, [`Remote`] is what
//! the rest of the program holds. A connection that is lost is made anew, with growing pauses, when it is next needed.
//! Nothing secret is ever part of a command line: what is secret travels on standard input or inside the engine's API.

mod config;
mod connect;
mod engine;
mod error;
mod forward;
mod known_hosts;
mod lane;
pub mod quote;
mod session;
mod transfer;
mod words;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use config::{HostConfig, NewKeys, SshConfig};
pub use error::{ChangedKey, SshError};
pub use forward::LocalPort;
pub use known_hosts::known_lines;
pub use lane::Exit;
pub(crate) use transfer::local_facts;
pub use transfer::{Copied, Mode};
pub(crate) use words::{expand_home, home};

use config::Jump;
use connect::Login;
use lane::Ask;
use session::{Link, NotOpened};

/// Connections being made at once: sshd begins to drop them at random above ten (MaxStartups).
static STARTS: Semaphore = Semaphore::const_new(8);

/// Commands running at once on one connection: sshd allows ten (MaxSessions).
const COMMANDS_PER_HOST: usize = 6;

/// How long a host that never answered is tried.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// How long a host that was lost is tried: enough for an sshd to be restarted.
const LOST_PATIENCE: Duration = Duration::from_secs(20);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The end of a command's standard error that is shown.
const SHOWN_STDERR: usize = 600;

/// More output than this is not collected, bytes.
const OUTPUT_LIMIT: usize = 64 << 20;

/// Jumps through more hosts than this are a loop.
const MAX_JUMPS: usize = 8;

/// The hosts of a site: who they are according to the SSH configuration, and the connections to them.
#[derive(Debug)]
pub struct Fleet {
    config: SshConfig,
    default_user: Option<String>,
    strict: bool,
    remotes: Mutex<HashMap<String, Remote>>,
}

impl Fleet {
    /// Hosts as `config` describes them. `default_user` logs in where it names no user; `strict` refuses new keys.
    pub fn new(config: SshConfig, default_user: Option<String>, strict: bool) -> Self {
        Fleet { config, default_user, strict, remotes: Mutex::new(HashMap::new()) }
    }

    /// The host called `alias`; nothing is sent yet. The same alias gives the same connection.
    ///
    /// # Errors
    /// [`SshError::Config`].
    pub fn host(&self, alias: &str) -> Result<Remote, SshError> {
        self.hop(&Jump { user: None, host: alias.to_owned(), port: None }, 0)
    }

    /// Makes a host known that the SSH configuration does not know.
    pub fn add(&self, mut config: HostConfig, user: Option<&str>) {
        if self.strict {
            config.new_keys = NewKeys::Refuse;
        }
        let key = key(&Jump { user: None, host: config.alias.clone(), port: None });
        let user = config.user.clone().or_else(|| user.map(str::to_owned)).unwrap_or_else(|| "root".to_owned());
        if let Ok(mut remotes) = self.remotes.lock() {
            remotes.insert(key, Remote::new(Login { config, user }, None));
        }
    }

    fn hop(&self, hop: &Jump, depth: usize) -> Result<Remote, SshError> {
        let key = key(hop);
        if let Some(known) = self.remotes.lock().ok().and_then(|remotes| remotes.get(&key).cloned()) {
            return Ok(known);
        }
        let mut config = self.config.host(&hop.host)?;
        if depth > MAX_JUMPS {
            let why = format!("`ProxyJump` of `{}` leads through more than {MAX_JUMPS} hosts", hop.host);
            return Err(SshError::Config { file: "ssh_config".into(), line: 0, why });
        }
        if self.strict {
            config.new_keys = NewKeys::Refuse;
        }
        config.port = hop.port.unwrap_or(config.port);
        // The first hop is reached directly, each other one through the one before it.
        let mut through = None;
        for jump in std::mem::take(&mut config.jumps) {
            through = Some(match through {
                None => self.hop(&jump, depth + 1)?,
                Some(before) => self.hop(&jump, depth + 1)?.through(before),
            });
        }
        let user = hop.user.clone().or_else(|| config.user.clone()).or_else(|| self.default_user.clone());
        let user = user.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "root".to_owned());
        let remote = Remote::new(Login { config, user }, through);
        if let Ok(mut remotes) = self.remotes.lock() {
            remotes.insert(key, remote.clone());
        }
        Ok(remote)
    }
}

fn key(hop: &Jump) -> String {
    format!("{}@{}:{}", hop.user.as_deref().unwrap_or(""), hop.host, hop.port.unwrap_or(0))
}

/// One host. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    login: Login,
    through: Option<Remote>,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    commands: Arc<Semaphore>,
}

/// A command for a host.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// What it reads on standard input.
    pub input: Vec<u8>,
    /// Longest time it may take.
    pub limit: Duration,
}

impl Exec {
    /// `argv` without input, for at most a minute.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Exec { argv, input: Vec::new(), limit: Duration::from_secs(60) }
    }

    /// A POSIX shell script; `arguments` are its `$1`, `$2`, ...
    pub fn script(script: &str, arguments: &[&str]) -> Self {
        let words = ["sh", "-c", script, "sh"].into_iter().chain(arguments.iter().copied());
        Exec::new(words)
    }

    /// The same command with `input` on standard input.
    pub fn with_input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// The same command with another time limit.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command as shown to people: what a script does is its own business.
    fn shown(&self) -> String {
        match self.argv.as_slice() {
            [sh, c, script, ..] if sh == "sh" && c == "-c" => {
                let line = script.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
                format!("sh: {line} ...")
            }
            argv => argv.join(" "),
        }
    }
}

/// What a finished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without the blanks at its ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// A command that runs. Dropping it ends its channel.
#[derive(Debug)]
pub struct Running {
    /// How it ends.
    pub ending: Ending,
    /// Its standard input; dropping this half closes it.
    pub stdin: OwnedWriteHalf,
    /// Its standard output.
    pub stdout: OwnedReadHalf,
    /// Its standard error.
    pub stderr: UnixStream,
}

/// The end of a command that runs.
#[derive(Debug)]
pub struct Ending {
    ended: oneshot::Receiver<Result<Exit, String>>,
    host: String,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    /// As [`Ending::wait`].
    ///
    /// # Errors
    /// [`SshError::Lost`].
    pub async fn end(&mut self) -> Result<Exit, SshError> {
        self.ending.wait().await
    }
}

impl Ending {
    /// How the command ends. Its output must be read meanwhile (or before), else it may wait for room.
    ///
    /// # Errors
    /// [`SshError::Lost`].
    pub async fn wait(&mut self) -> Result<Exit, SshError> {
        let lost = |why: String| SshError::Lost { host: self.host.clone(), why };
        match (&mut self.ended).await {
            Ok(Ok(exit)) => Ok(exit),
            Ok(Err(why)) => Err(lost(why)),
            Err(_) => Err(lost("the connection ended".into())),
        }
    }
}

impl Remote {
    fn new(login: Login, through: Option<Remote>) -> Self {
        Remote(Arc::new(Inner {
            login,
            through,
            link: tokio::sync::Mutex::new(None),
            commands: Arc::new(Semaphore::new(COMMANDS_PER_HOST)),
        }))
    }

    /// The same host reached through `before`.
    fn through(&self, before: Remote) -> Self {
        Remote::new(self.0.login.clone(), Some(before))
    }

    /// Its name in placements and messages.
    pub fn name(&self) -> &str {
        &self.0.login.config.alias
    }

    /// The address that the configuration gives (a name or an IP address).
    pub fn address(&self) -> &str {
        &self.0.login.config.host_name
    }

    /// The user who is logged in.
    pub fn user(&self) -> &str {
        &self.0.login.user
    }

    /// Connects, unless connected already.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn connect(&self) -> Result<(), SshError> {
        self.link().await.map(drop)
    }

    /// The connection, made anew if it was lost.
    async fn link(&self) -> Result<Arc<Link>, SshError> {
        let mut slot = self.0.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| !link.is_dead()) {
            return Ok(Arc::clone(link));
        }
        let patience = if slot.is_some() { LOST_PATIENCE } else { FIRST_PATIENCE };
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let link = loop {
            match Box::pin(self.connect_once()).await {
                Ok(link) => break Arc::new(link),
                Err(error) if error.is_transient() && start.elapsed() + pause < patience => {
                    tracing::debug!("{}: {error}; trying again in {pause:?}", self.name());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        *slot = Some(Arc::clone(&link));
        Ok(link)
    }

    async fn connect_once(&self) -> Result<Link, SshError> {
        let config = &self.0.login.config;
        let carrier = match &self.0.through {
            Some(before) => {
                let stream = before.dial_tcp(&config.host_name, config.port).await?;
                Some(stream.into_std().map_err(|error| SshError::system(self.name(), error))?)
            }
            None => None,
        };
        let _permit = STARTS.acquire().await;
        let login = self.0.login.clone();
        Link::start(self.name(), move || login.establish(carrier)).await
    }

    async fn open(&self, ask: Ask, errors: bool, doing: &str) -> Result<session::Opened, SshError> {
        let mut again = true;
        loop {
            let link = self.link().await?;
            match link.open(ask.clone(), errors).await {
                Ok(opened) => return Ok(opened),
                // Nothing was begun on a connection that turned out to be gone.
                Err(NotOpened::Lost(why)) if again => {
                    tracing::debug!("{}: {why}; connecting again", self.name());
                    again = false;
                }
                Err(NotOpened::Lost(why)) => return Err(SshError::Lost { host: self.name().to_owned(), why }),
                Err(NotOpened::Refused(why)) => {
                    return Err(SshError::Refused { host: self.name().to_owned(), doing: doing.to_owned(), why });
                }
            }
        }
    }

    /// A stream to a Unix socket of the host.
    ///
    /// # Errors
    /// [`SshError`]; [`SshError::Refused`] when nobody listens there or the user may not open it.
    pub async fn dial_unix(&self, path: &str) -> Result<UnixStream, SshError> {
        let doing = format!("open `{path}`");
        self.open(Ask::Unix(path.to_owned()), false, &doing).await.map(|opened| opened.data)
    }

    /// A stream to a TCP port as the host sees it.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn dial_tcp(&self, host: &str, port: u16) -> Result<UnixStream, SshError> {
        let doing = format!("connect to `{host}:{port}`");
        self.open(Ask::Tcp(host.to_owned(), port), false, &doing).await.map(|opened| opened.data)
    }

    /// A stream to standard input and output of `argv`; its standard error is dropped.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn dial_command(&self, argv: &[String]) -> Result<UnixStream, SshError> {
        let line = quote::line(argv)?;
        self.open(Ask::Exec(line), false, "run a command").await.map(|opened| opened.data)
    }

    /// Starts `exec`; its input and limit are the caller's business.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn start(&self, exec: &Exec) -> Result<Running, SshError> {
        let line = quote::line(&exec.argv)?;
        let permit = Arc::clone(&self.0.commands).acquire_owned().await;
        let gone = || SshError::Lost { host: self.name().to_owned(), why: "closed".into() };
        let permit = permit.map_err(|_| gone())?;
        let opened = self.open(Ask::Exec(line), true, "run a command").await?;
        let (stdout, stdin) = opened.data.into_split();
        let stderr = opened.errors.ok_or_else(gone)?;
        let ending = Ending { ended: opened.ended, host: self.name().to_owned(), _permit: permit };
        Ok(Running { ending, stdin, stdout, stderr })
    }

    /// Runs `exec` to its end, whatever its status.
    ///
    /// # Errors
    /// [`SshError`]; [`SshError::TooLong`] at its time limit.
    pub async fn run(&self, exec: &Exec) -> Result<Output, SshError> {
        let work = async {
            let Running { mut ending, stdin, stdout, stderr } = self.start(exec).await?;
            let (_, stdout, stderr) = tokio::join!(feed(stdin, &exec.input), collect(stdout), collect(stderr));
            Ok(Output { exit: ending.wait().await?, stdout, stderr })
        };
        let done = tokio::time::timeout(exec.limit, work).await;
        done.unwrap_or_else(|_| {
            Err(SshError::TooLong { host: self.name().to_owned(), command: exec.shown(), after: exec.limit })
        })
    }

    /// Runs `exec` and demands that it succeeds.
    ///
    /// # Errors
    /// As [`Remote::run`], and [`SshError::Failed`].
    pub async fn run_ok(&self, exec: &Exec) -> Result<Output, SshError> {
        let output = self.run(exec).await?;
        self.succeeded(&exec.shown(), &output)?;
        Ok(output)
    }

    fn succeeded(&self, command: &str, output: &Output) -> Result<(), SshError> {
        let how = match &output.exit {
            Exit::Code(0) => return Ok(()),
            Exit::Code(code) => format!("failed with status {code}"),
            Exit::Signal(signal) => format!("was ended by signal {signal}"),
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        let start = stderr.char_indices().rev().nth(SHOWN_STDERR).map_or(0, |(at, _)| at);
        Err(SshError::Failed {
            host: self.name().to_owned(),
            command: command.to_owned(),
            how,
            stderr: stderr[start..].to_owned(),
        })
    }

    /// Copies a local file to `to`; see [`transfer`].
    ///
    /// # Errors
    /// [`SshError`]; an interrupted copy goes on where it ended when the same file is copied again.
    pub async fn upload(
        &self,
        from: &Path,
        to: &str,
        mode: Mode,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Copied, SshError> {
        transfer::upload(self, from, to, mode, progress).await
    }

    /// Copies a file of the host to a local one; see [`transfer`].
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn download(
        &self,
        from: &str,
        to: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Copied, SshError> {
        transfer::download(self, from, to, progress).await
    }
}

/// Copies the file `from` of one host to `to` on another, through this machine.
///
/// # Errors
/// [`SshError`] of either side.
pub async fn copy_between(
    from: (&Remote, &str),
    to: (&Remote, &str),
    mode: Mode,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Copied, SshError> {
    transfer::copy(transfer::Source::Host(from.0, from.1), to.0, to.1, mode, progress).await
}

async fn feed(mut stdin: OwnedWriteHalf, input: &[u8]) {
    // A command that does not read its input ends it early; its status says whether that matters.
    drop(stdin.write_all(input).await);
    drop(stdin.shutdown().await);
}

async fn collect(from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The end of the connection shows in the command's end.
    drop(from.take(OUTPUT_LIMIT as u64).read_to_end(&mut bytes).await);
    bytes
}
