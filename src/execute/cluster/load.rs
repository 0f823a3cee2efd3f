//! Load generators on client hosts: copies of this program that are told on standard input what to send, and that stop
//! when that input ends, be it because this program said so or because it is gone.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Hosts, own_binary, tool};
use crate::error::{Exit as Code, Plain, Result};
use crate::execute::ssh::{Ending, Exec, Exit, Remote, Running, local_facts};

/// Ends the generator that the note `$1` tells of, if that process still is one, and removes the note.
pub(super) const END: &str = r#"if [ -f "$1" ]; then
  read -r pid < "$1"
  tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -q 'maestro-.* worker' && kill "$pid"
  rm -f -- "$1"
fi"#;

/// Becomes the generator `$2`, noted in `$1`.
const BEGIN: &str = r#"echo $$ > "$1" && exec "$2" worker"#;

/// The end of a generator's standard error that is shown.
const SHOWN_STDERR: u64 = 4096;

/// A generator on a client host.
pub(crate) struct Generator {
    ending: Ending,
    stdin: OwnedWriteHalf,
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    said: tokio::task::JoinHandle<String>,
    name: String,
}

/// Ensures that `clients` have a copy of this program; its SHA-256.
///
/// # Errors
/// Exit code 3 for a host of another architecture, and [`crate::execute::ssh::SshError`].
pub(crate) async fn equip(hosts: &Hosts, clients: &[String]) -> Result<String> {
    let binary = own_binary()?;
    let (sha256, size) = local_facts(&binary).await?;
    let copy = tool::path(&sha256);
    let progress = tool::Sum::new("this program to the clients", size * clients.len() as u64);
    hosts
        .each(clients, async |name| equip_one(hosts, &name, (binary.as_path(), copy.as_str(), size), &progress).await)
        .await?;
    Ok(sha256)
}

/// A copy has the name of its content only once its sum was found right, so its name and size are enough here.
async fn equip_one(hosts: &Hosts, name: &str, (binary, copy, size): (&Path, &str, u64), sum: &tool::Sum) -> Result<()> {
    let remote = hosts.remote(name)?;
    let script = "uname -m; [ -x \"$1\" ] && wc -c < \"$1\" || echo 0";
    let text = remote.run_ok(&Exec::script(script, &[copy])).await?.text();
    let mut lines = text.lines().map(str::trim);
    let machine = lines.next().unwrap_or_default();
    if machine != std::env::consts::ARCH {
        let why = format!("`{name}` is {machine}, this program is made for {}", std::env::consts::ARCH);
        let hint = "send the load from other clients: -N HOST";
        return Err(Plain::new(Code::Unreachable, why).with_hint(hint).into());
    }
    if lines.next().and_then(|found| found.parse().ok()) == Some(size) {
        return Ok(());
    }
    tool::send(hosts, name, binary, copy, sum).await
}

impl Generator {
    /// Starts the copy `sha256` on `remote` with one line of input; one that an earlier run of the deployment `tag` left
    /// behind is ended first.
    ///
    /// # Errors
    /// [`crate::execute::ssh::SshError`].
    pub(crate) async fn start(remote: &Remote, sha256: &str, tag: &str, line: &str) -> Result<Generator> {
        let script = format!("{END}\n{BEGIN}");
        let exec = Exec::script(&script, &[&tool::load_note(tag), &tool::path(sha256)]);
        let Running { ending, mut stdin, stdout, stderr } = remote.start(&exec).await?;
        let lost = |error: std::io::Error| {
            Plain::new(Code::Unreachable, format!("cannot tell `{}` what to send: {error}", remote.name()))
        };
        stdin.write_all(format!("{line}\n").as_bytes()).await.map_err(lost)?;
        let said = tokio::spawn(async move {
            let mut text = Vec::new();
            // What a generator says beside its lines is only of interest when it fails.
            drop(stderr.take(SHOWN_STDERR).read_to_end(&mut text).await);
            String::from_utf8_lossy(&text).trim().replace('\n', "; ")
        });
        Ok(Generator { ending, stdin, lines: BufReader::new(stdout).lines(), said, name: remote.name().to_owned() })
    }

    /// Its next line; `None` at its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.lines.next_line().await.ok().flatten()
    }

    /// Asks it to stop: it reports what it measured so far.
    pub(crate) async fn stop(&mut self) {
        // One that is gone already needs no telling.
        drop(self.stdin.shutdown().await);
    }

    /// How it ended.
    ///
    /// # Errors
    /// Its own words when it failed, or [`crate::execute::ssh::SshError::Lost`].
    pub(crate) async fn end(mut self) -> Result<()> {
        let how = match self.ending.wait().await? {
            Exit::Code(0) => return Ok(()),
            Exit::Code(code) => format!("ended with status {code}"),
            Exit::Signal(signal) => format!("was ended by signal {signal}"),
        };
        let said = self.said.await.unwrap_or_default();
        let colon = if said.is_empty() { "" } else { ": " };
        let why = format!("the load generator on `{}` {how}{colon}{said}", self.name);
        Err(Plain::new(Code::StepFailed, why).into())
    }
}
