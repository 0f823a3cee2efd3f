//! Files between this machine and hosts, and from one host to another.
//!
//! A copy grows in `<target>.<sha256>.part` beside its target and takes the target's name only when its SHA-256 is
//! right, so a copy that was cut off (by a lost connection, by the death of this program) goes on where it ended, and
//! a target that is already right is not sent again. Everything needed on the host is a POSIX shell and `sha256sum`.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Exec, Exit, Output, Remote, SshError, collect};

/// Attempts without any progress before a copy is given up.
const ATTEMPTS: u32 = 4;

/// Longest time for a checksum on a host.
const SUM_LIMIT: Duration = Duration::from_secs(600);

const CHUNK: usize = 256 << 10;

/// What the file's owner may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everybody may read it.
    Plain,
    /// Everybody may also execute it.
    Executable,
    /// Nobody else may read it.
    Private,
}

impl Mode {
    fn octal(self) -> &'static str {
        match self {
            Mode::Plain => "644",
            Mode::Executable => "755",
            Mode::Private => "600",
        }
    }
}

/// What a copy took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Its size, bytes.
    pub size: u64,
    /// Bytes that were sent: 0 when the target was already right.
    pub sent: u64,
}

/// Where a file comes from.
pub(super) enum Source<'a> {
    Local(&'a Path),
    Host(&'a Remote, &'a str),
}

type Bytes = Pin<Box<dyn AsyncRead + Send>>;

/// Says `have`, or how much of the file is there already.
const LOOK: &str = r#"to=$1 sum=$2
mkdir -p -- "$(dirname -- "$to")" || exit 1
if [ -f "$to" ] && [ "$(sha256sum -- "$to" | cut -d' ' -f1)" = "$sum" ]; then
  chmod -- "$3" "$to"; echo have; exit 0
fi
[ -f "$to.$sum.part" ] || : > "$to.$sum.part" || exit 1
wc -c < "$to.$sum.part""#;

/// Checks the part's sum and gives it its name; says the sum when it is wrong.
const FINISH: &str = r#"part=$1.$2.part
found=$(sha256sum -- "$part" | cut -d' ' -f1)
if [ "$found" != "$2" ]; then rm -f -- "$part"; echo "$found"; exit 0; fi
chmod -- "$3" "$part" && mv -f -- "$part" "$1""#;

/// Copies `from` to `to` on `remote`; see [`Remote::upload`].
pub(super) async fn upload(
    remote: &Remote,
    from: &Path,
    to: &str,
    mode: Mode,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Copied, SshError> {
    copy(Source::Local(from), remote, to, mode, progress).await
}

/// Copies a file of one host to another through this machine.
///
/// # Errors
/// [`SshError`] of either side.
pub(super) async fn copy(
    source: Source<'_>,
    remote: &Remote,
    to: &str,
    mode: Mode,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Copied, SshError> {
    let (sha256, size) = source.facts().await?;
    let mut sent = 0;
    let mut fruitless = 0;
    let mut restarted = false;
    loop {
        let result = attempt(&source, remote, to, (&sha256, size), mode, &mut sent, progress).await;
        match result {
            Ok(None) => return Ok(Copied { sha256, size, sent }),
            // A part of unknown origin: once more from its beginning.
            Ok(Some(_)) if !restarted => restarted = true,
            Ok(Some(found)) => {
                return Err(SshError::Checksum {
                    host: remote.name().to_owned(),
                    path: to.to_owned(),
                    found,
                    wanted: sha256,
                });
            }
            Err((error, moved)) => {
                fruitless = if moved > 0 { 0 } else { fruitless + 1 };
                if !error.is_transient() || fruitless >= ATTEMPTS {
                    return Err(error);
                }
                tracing::debug!("{}: {error}; the copy of {to} goes on", remote.name());
            }
        }
    }
}

/// One attempt from where the last one ended. The sum found when it is wrong; with an error, the bytes it moved.
async fn attempt(
    source: &Source<'_>,
    remote: &Remote,
    to: &str,
    (sha256, size): (&str, u64),
    mode: Mode,
    sent: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Option<String>, (SshError, u64)> {
    let before = *sent;
    let mut work = async || {
        let look = Exec::script(LOOK, &[to, sha256, mode.octal()]).within(SUM_LIMIT);
        let there = writing(remote, to, remote.run(&look).await?)?;
        if there.text() == "have" {
            progress(size);
            return Ok(None);
        }
        let offset: u64 = there.text().parse().unwrap_or(u64::MAX);
        if offset > size {
            let clear = Exec::script(": > \"$1\"", &[&part(to, sha256)]);
            writing(remote, to, remote.run(&clear).await?)?;
        }
        let offset = if offset > size { 0 } else { offset };
        if offset < size {
            stream(source, remote, to, sha256, offset, sent, progress).await?;
        }
        let finish = Exec::script(FINISH, &[to, sha256, mode.octal()]).within(SUM_LIMIT);
        let done = writing(remote, to, remote.run(&finish).await?)?;
        Ok(Some(done.text()).filter(|found| !found.is_empty()))
    };
    let result: Result<Option<String>, SshError> = work().await;
    result.map_err(|error| (error, *sent - before))
}

fn part(to: &str, sha256: &str) -> String {
    format!("{to}.{sha256}.part")
}

/// Sends the source from `offset` on to the end of the part.
async fn stream(
    source: &Source<'_>,
    remote: &Remote,
    to: &str,
    sha256: &str,
    offset: u64,
    sent: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), SshError> {
    let mut from = source.open_at(offset).await?;
    let exec = Exec::script("exec cat >> \"$1\"", &[&part(to, sha256)]);
    let mut running = remote.start(&exec).await?;
    let mut at = offset;
    let mut buffer = vec![0; CHUNK];
    let feed = async {
        loop {
            let n = from.read(&mut buffer).await.map_err(|error| source.failed(error))?;
            if n == 0 {
                break;
            }
            if running.stdin.write_all(&buffer[..n]).await.is_err() {
                // Its end tells why nobody reads any more.
                break;
            }
            at += n as u64;
            *sent += n as u64;
            progress(at);
        }
        drop(running.stdin.shutdown().await);
        Ok::<(), SshError>(())
    };
    let mut errors = Vec::new();
    let (fed, _) = tokio::join!(feed, running.stderr.read_to_end(&mut errors));
    fed?;
    let exit = running.end().await?;
    writing(remote, to, Output { exit, stdout: Vec::new(), stderr: errors }).map(drop)
}

/// The output of a command that writes `path`, or why it could not.
fn writing(remote: &Remote, path: &str, output: Output) -> Result<Output, SshError> {
    if output.exit != Exit::Code(0) && String::from_utf8_lossy(&output.stderr).contains("No space left") {
        return Err(SshError::Full { host: remote.name().to_owned(), path: path.to_owned() });
    }
    remote.succeeded(&format!("writing {path}"), &output)?;
    Ok(output)
}

impl Source<'_> {
    /// SHA-256 (hex) and size, bytes.
    async fn facts(&self) -> Result<(String, u64), SshError> {
        match self {
            Source::Local(path) => local_facts(path).await,
            Source::Host(remote, path) => remote_facts(remote, path).await,
        }
    }

    async fn open_at(&self, offset: u64) -> Result<Bytes, SshError> {
        match self {
            Source::Local(path) => {
                let failed = |source| SshError::Local { path: (*path).to_owned(), source };
                let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
                Ok(Box::pin(file))
            }
            Source::Host(remote, path) => {
                let argv = ["tail", "-c", &format!("+{}", offset + 1), "--", path].map(str::to_owned);
                Ok(Box::pin(remote.dial_command(&argv).await?))
            }
        }
    }

    fn failed(&self, source: std::io::Error) -> SshError {
        match self {
            Source::Local(path) => SshError::Local { path: (*path).to_owned(), source },
            Source::Host(remote, _) => SshError::system(remote.name(), source),
        }
    }
}

/// SHA-256 (hex) and size of a local file.
///
/// # Errors
/// [`SshError::Local`].
pub(crate) async fn local_facts(path: &Path) -> Result<(String, u64), SshError> {
    let path = path.to_owned();
    let failed = |path: PathBuf, source| SshError::Local { path, source };
    let done = tokio::task::spawn_blocking(move || match sum(&path, u64::MAX) {
        Ok(facts) => Ok(facts),
        Err(source) => Err(failed(path, source)),
    });
    done.await.map_err(|error| failed(PathBuf::new(), std::io::Error::other(error)))?
}

fn sum(path: &Path, limit: u64) -> std::io::Result<(String, u64)> {
    let mut file = std::fs::File::open(path)?.take(limit);
    let mut hasher = Sha256::new();
    let size = std::io::copy(&mut file, &mut hasher)?;
    Ok((hex(&hasher.finalize()), size))
}

async fn remote_facts(remote: &Remote, path: &str) -> Result<(String, u64), SshError> {
    let script = "sha256sum -- \"$1\" && wc -c < \"$1\"";
    let output = remote.run_ok(&Exec::script(script, &[path]).within(SUM_LIMIT)).await?;
    let text = output.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    let facts = (words.first().copied(), words.last().and_then(|size| size.parse().ok()));
    match facts {
        (Some(sha256), Some(size)) => Ok((sha256.trim_start_matches('\\').to_owned(), size)),
        _ => Err(SshError::Failed {
            host: remote.name().to_owned(),
            command: format!("sha256sum {path}"),
            how: "gave an answer that cannot be read".into(),
            stderr: text,
        }),
    }
}

/// Copies `from` on `remote` to the local `to`; see [`Remote::download`].
pub(super) async fn download(
    remote: &Remote,
    from: &str,
    to: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Copied, SshError> {
    let (sha256, size) = remote_facts(remote, from).await?;
    if let Ok((have, _)) = local_facts(to).await
        && have == sha256
    {
        progress(size);
        return Ok(Copied { sha256, size, sent: 0 });
    }
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".{sha256}.part"));
    let part = PathBuf::from(name);
    let mut sent = 0;
    let mut fruitless = 0;
    loop {
        let before = sent;
        match fetch(remote, from, &part, size, &mut sent, progress).await {
            Ok(()) => {}
            Err(error) if error.is_transient() && fruitless + 1 < ATTEMPTS => {
                fruitless = if sent > before { 0 } else { fruitless + 1 };
                continue;
            }
            Err(error) => return Err(error),
        }
        let (found, _) = local_facts(&part).await?;
        let failed = |source| SshError::Local { path: part.clone(), source };
        if found == sha256 {
            tokio::fs::rename(&part, to).await.map_err(failed)?;
            return Ok(Copied { sha256, size, sent });
        }
        tokio::fs::remove_file(&part).await.map_err(failed)?;
        fruitless += 1;
        if fruitless >= ATTEMPTS {
            let path = to.display().to_string();
            return Err(SshError::Checksum { host: remote.name().to_owned(), path, found, wanted: sha256 });
        }
    }
}

/// Appends the rest of the remote file to the part.
async fn fetch(
    remote: &Remote,
    from: &str,
    part: &Path,
    size: u64,
    sent: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), SshError> {
    let failed = |source| SshError::Local { path: part.to_owned(), source };
    let mut file = open_part(part, size).map_err(failed)?;
    let mut at = file.stream_position().map_err(failed)?;
    if at == size {
        return Ok(());
    }
    let argv = ["tail", "-c", &format!("+{}", at + 1), "--", from].map(str::to_owned);
    let mut running = remote.start(&Exec::new(argv)).await?;
    let mut buffer = vec![0; CHUNK];
    let drain = async {
        loop {
            let n = running.stdout.read(&mut buffer).await.map_err(failed)?;
            if n == 0 {
                return Ok::<(), SshError>(());
            }
            std::io::Write::write_all(&mut file, &buffer[..n]).map_err(failed)?;
            at += n as u64;
            *sent += n as u64;
            progress(at);
        }
    };
    let (drained, stderr) = tokio::join!(drain, collect(&mut running.stderr));
    drained?;
    let exit = running.end().await?;
    remote.succeeded(&format!("reading {from}"), &Output { exit, stdout: Vec::new(), stderr })
}

/// The part, opened at its end; emptied when it is longer than the whole.
fn open_part(part: &Path, size: u64) -> std::io::Result<std::fs::File> {
    if let Some(parent) = part.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(part)?;
    if file.seek(SeekFrom::End(0))? > size {
        file.set_len(0)?;
        file.rewind()?;
    }
    Ok(file)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
