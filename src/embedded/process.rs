//! The background process from outside: is it there, is it really the one, who holds a port, how to end it.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::experiment::Variant;
use crate::store::MiniatureRecord;

/// The hidden subcommand that serves; also how a miniature is told from other processes.
pub const SUBCOMMAND: &str = "embedded-serve";

/// The miniature's own output, in its deployment's directory.
pub const LOG: &str = "miniature.log";

/// How long a miniature may take to end before it is told more firmly.
const GRACE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whoever listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id; unknown for another user's process.
    pub pid: Option<u32>,
    /// Its command line, shortened.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "`{}` (pid {pid})", self.command),
            None => write!(f, "a process of another user"),
        }
    }
}

/// When process `pid` started, in ticks since boot; `None` when there is none or only its remains.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also blanks and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = bytes.split(|&b| b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

/// Whether the process that wrote `record` still runs: same number, same start, still a miniature.
pub fn is_alive(record: &MiniatureRecord) -> bool {
    start_ticks(record.pid) == Some(record.start_ticks)
        && arguments(record.pid).get(1).is_some_and(|arg| arg == SUBCOMMAND)
}

/// Who listens on TCP port `port`, on any address; `None` for port 0 and when nobody does.
pub fn port_holder(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| listening_inode(line, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let pid = processes.into_iter().find(|pid: &u32| holds(*pid, &socket));
    let command = pid.map(|pid| arguments(pid).join(" ").chars().take(80).collect()).unwrap_or_default();
    Some(Holder { pid, command })
}

/// The inode of a line of `/proc/net/tcp` that describes a socket listening on `port`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listening = fields.get(3) == Some(&"0A") && u16::from_str_radix(local, 16).ok()? == port;
    listening.then(|| fields.get(9)?.parse().ok()).flatten()
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| target == Path::new(socket))
}

/// Whether `port` can be had on the loopback address; `Err` says who holds it, if that can be told.
pub fn port_is_free(port: u16) -> Result<(), Option<Holder>> {
    match std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(_) => Err(port_holder(port)),
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Deployment directory, absolute.
    pub dir: &'a Path,
    /// Placement file, absolute.
    pub config: &'a Path,
    /// Application.
    pub app: &'a str,
    /// Deployment tag.
    pub tag: &'a str,
    /// Variant.
    pub variant: Variant,
    /// `A,B,C` or `auto`; the placement's when absent.
    pub ports: Option<&'a str>,
}

/// Starts the miniature in the background: own session, output into its log, nothing inherited but that.
///
/// # Errors
/// When the log cannot be made or the process not be started.
pub fn spawn(start: &Start<'_>) -> std::io::Result<Child> {
    let log = File::create(start.dir.join(LOG))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SUBCOMMAND).arg("--config").arg(start.config).arg("--dir").arg(start.dir);
    command.args(["--app-name", start.app, "--tag", start.tag]);
    if let Some(ports) = start.ports {
        command.args(["--ports", ports]);
    }
    if start.variant.is_antipode() {
        command.arg("--antipode");
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// Leaves the session of the terminal it was started from, so that closing it or ^C there ends nothing here.
pub fn detach() {
    if let Err(error) = rustix::process::setsid() {
        // Already a session leader: somebody started it by hand in a session of its own.
        tracing::debug!("still in the session it was started in: {error}");
    }
}

/// The last line of a miniature's log, as the reason for its end.
pub fn last_words(dir: &Path) -> String {
    let log = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
    let line = log.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("  ")).unwrap_or("no output");
    line.trim_start_matches("maestro: ").to_owned()
}

/// Ends the process of `record`: `ask` asks it in its own way; if that does not help, SIGTERM, then SIGKILL. Never
/// touches a process that is not the one. Blocks until it is gone.
///
/// # Errors
/// When it does not go; says what was tried.
pub fn end(record: &MiniatureRecord, ask: impl FnOnce()) -> Result<(), String> {
    if !is_alive(record) {
        return Ok(());
    }
    ask();
    if gone(record) {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let Some(pid) = i32::try_from(record.pid).ok().and_then(Pid::from_raw) else { break };
        if is_alive(record)
            && let Err(error) = kill_process(pid, signal)
        {
            return Err(format!("cannot signal pid {}: {error}", record.pid));
        }
        if gone(record) {
            return Ok(());
        }
    }
    Err(format!("pid {} does not end, not even after SIGKILL", record.pid))
}

fn gone(record: &MiniatureRecord) -> bool {
    let begin = Instant::now();
    while is_alive(record) {
        if begin.elapsed() > GRACE {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_traced_to_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(port_holder(port).unwrap().pid, Some(std::process::id()));
        assert_eq!(port_is_free(port).unwrap_err().unwrap().pid, Some(std::process::id()));
        drop(listener);
        assert_eq!(port_holder(port), None);
    }

    #[test]
    fn this_process_has_a_start_and_is_no_miniature() {
        let pid = std::process::id();
        let record = MiniatureRecord {
            format: 1,
            pid,
            start_ticks: start_ticks(pid).unwrap(),
            app: "socialNetwork".into(),
            tag: "t".into(),
            variant: Variant::Baseline,
            origin_url: String::new(),
            replica_url: String::new(),
            jaeger_url: String::new(),
        };
        assert!(!is_alive(&record));
        assert_eq!(start_ticks(u32::MAX), None);
        // Not the one: nothing is asked of it and nothing is done to it.
        end(&record, || panic!("asked a stranger")).unwrap();
    }
}
