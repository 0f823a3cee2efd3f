//! Copies of this program on the hosts, and what they are asked to do there (`crate::peer`).

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Hosts, own_binary};
use crate::clock::{Exchange, Offset, offset};
use crate::error::{Exit as Code, Plain, Result};
use crate::execute::Outcome;
use crate::execute::ssh::{Exec, Mode, Remote, SshError, local_facts};
use crate::peer::now_ns;
use crate::ui;

/// Where copies lie, below the user's home directory on a host.
const FOLDER: &str = ".maestro/bin";

/// Exchanges of a clock measurement: some milliseconds each over a slow link, a fifth of one nearby.
const EXCHANGES: usize = 200;

/// A clock that does not answer for this long is given up.
const CLOCK_SILENCE: Duration = Duration::from_secs(5);

/// The copy whose content has this SHA-256, relative to the home directory.
pub(crate) fn path(sha256: &str) -> String {
    format!("{FOLDER}/maestro-{}", sha256.get(..16).unwrap_or(sha256))
}

/// Where a client notes the process that sends the load of a deployment.
pub(crate) fn load_note(tag: &str) -> String {
    format!(".maestro/load-{tag}.pid")
}

/// Ensures that every host of this architecture has a copy of this program. The first one gets it before the others,
/// so that hosts with a shared home directory get it once.
///
/// # Errors
/// [`SshError`].
pub(super) async fn ensure(hosts: &Hosts) -> Result<Outcome> {
    let binary = own_binary()?;
    let (sha256, size) = local_facts(&binary).await?;
    let to = path(&sha256);
    let names = hosts.names();
    let machines = hosts
        .each(&names, async |name| Ok(hosts.remote(&name)?.run_ok(&Exec::new(["uname", "-m"])).await?.text()))
        .await?;
    let (fit, strange): (Vec<_>, Vec<_>) =
        names.iter().cloned().zip(machines).partition(|(_, machine)| machine == std::env::consts::ARCH);
    for (name, machine) in &strange {
        ui::warn(format!(
            "{name} is {machine}, this program is made for {}: no load can be sent from there",
            std::env::consts::ARCH
        ));
    }
    let fit: Vec<String> = fit.into_iter().map(|(name, _)| name).collect();
    let total = size * fit.len() as u64;
    let progress = Sum::new("this program to the hosts", total);
    if let Some((first, others)) = fit.split_first() {
        send(hosts, first, &binary, &to, &progress).await?;
        hosts.each(others, async |name| send(hosts, &name, &binary, &to, &progress).await).await?;
    }
    Ok(Outcome::Tool(sha256))
}

pub(super) async fn send(hosts: &Hosts, name: &str, binary: &Path, to: &str, progress: &Sum) -> Result<()> {
    let remote = hosts.remote(name)?;
    let copied = remote.upload(binary, to, Mode::Executable, &|at| progress.set(name, at)).await?;
    if copied.sent > 0 {
        ui::detail(format_args!("{name}: sent {:.1} MB of this program", copied.sent as f64 / 1e6));
    }
    Ok(())
}

/// Progress of several copies together.
pub(super) struct Sum {
    bar: ui::Progress,
    done: std::sync::Mutex<HashMap<String, u64>>,
}

impl Sum {
    /// `what` is being moved, `total` bytes in all.
    pub(super) fn new(what: &str, total: u64) -> Self {
        Sum { bar: ui::Progress::new(what, total >> 20), done: std::sync::Mutex::default() }
    }

    /// The copy called `name` has come to `at` bytes.
    pub(super) fn set(&self, name: &str, at: u64) {
        let Ok(mut done) = self.done.lock() else { return };
        done.insert(name.to_owned(), at);
        self.bar.set(done.values().sum::<u64>() >> 20, "MiB");
    }
}

/// How far the clock of a host is ahead of this machine's, by the host's copy of this program or, without one, by `date`.
/// Ends after `limit` even if not all exchanges were made.
///
/// # Errors
/// [`SshError`], and exit code 4 when the host's clock cannot be read.
pub(crate) async fn clock(remote: &Remote, tool: &str, limit: Duration) -> Result<Offset> {
    let exec = Exec::new([path(tool).as_str(), "peer", "clock"]);
    let exchanges = match exchange(remote, &exec, Answer::Binary, limit).await {
        Ok(exchanges) if !exchanges.is_empty() => exchanges,
        _ => {
            let script = "while read -r x; do date +%s%N; done";
            exchange(remote, &Exec::script(script, &[]), Answer::Line, limit).await?
        }
    };
    offset(&exchanges)
        .ok_or_else(|| Plain::new(Code::StepFailed, format!("the clock of `{}` cannot be read", remote.name())).into())
}

/// How the other side writes its clock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Eight bytes, little end first.
    Binary,
    /// A line of digits.
    Line,
}

async fn exchange(
    remote: &Remote,
    exec: &Exec,
    answer: Answer,
    limit: Duration,
) -> std::result::Result<Vec<Exchange>, SshError> {
    let mut running = remote.start(exec).await?;
    let begun = std::time::Instant::now();
    let mut exchanges = Vec::with_capacity(EXCHANGES);
    while exchanges.len() < EXCHANGES && begun.elapsed() < limit {
        let sent = now_ns();
        if running.stdin.write_all(if answer == Answer::Binary { b"?" } else { b"\n" }).await.is_err() {
            break;
        }
        let stamped = match tokio::time::timeout(CLOCK_SILENCE, read(&mut running.stdout, answer)).await {
            Ok(Some(stamped)) => stamped,
            Ok(None) | Err(_) => break,
        };
        exchanges.push(Exchange { sent, stamped, answered: now_ns() });
    }
    Ok(exchanges)
}

async fn read(from: &mut (impl AsyncReadExt + Unpin), answer: Answer) -> Option<i64> {
    if answer == Answer::Binary {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes).await.ok()?;
        return Some(i64::from_le_bytes(bytes));
    }
    let mut line = Vec::new();
    loop {
        let byte = from.read_u8().await.ok()?;
        if byte == b'\n' {
            return String::from_utf8(line).ok()?.parse().ok();
        }
        line.push(byte);
    }
}
