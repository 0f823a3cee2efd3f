//! The far half of conversations with hosts: what a copy of this binary does there, started over SSH.
//!
//! ```text
//! peer clock                         answers every byte on stdin with this host's clock, ns since the epoch
//! peer load FILE                     loads an image archive (.tar.zst) into this host's engine
//! peer serve FILE                    offers a file to other hosts: prints its port, ends with its stdin
//! peer fetch HOST PORT FILE SHA256   fetches what another host serves, going on where an earlier try ended
//! ```
//! `serve` and `fetch` read a token from stdin; without it nothing is sent. The file's SHA-256 travels by SSH, so what
//! comes over the network in between needs no trust.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Exit, Plain, Result};
use crate::execute::cluster::unpack;
use crate::execute::docker::Engine;
use crate::secret::Secret;
use crate::ui;

/// Longest silence between hosts before one gives the other up.
const SILENCE: Duration = Duration::from_secs(20);

/// Longest token that is read.
const TOKEN_LIMIT: u64 = 256;

/// Plays the role that `args` name.
///
/// # Errors
/// Exit code 2 for an unknown role, 3 for files, engines and peers that cannot be used, 4 for a wrong sum.
pub(crate) async fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["clock"] => block(clock).await,
        ["load", file] => load(Path::new(file)).await,
        ["serve", file] => {
            let file = PathBuf::from(file);
            block(move || serve(&file)).await
        }
        ["fetch", host, port, file, sha256] => {
            let port: u16 = port.parse().map_err(|_| Plain::usage(format!("`{port}` is not a port")))?;
            let (host, file, sha256) = ((*host).to_owned(), PathBuf::from(file), (*sha256).to_owned());
            block(move || fetch(&host, port, &file, &sha256)).await
        }
        _ => Err(Plain::usage(format!("no such role: `{}`", words.join(" "))).into()),
    }
}

async fn block(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Plain::new(Exit::Bug, error.to_string()))?;
    done.map_err(|error| Plain::new(Exit::Unreachable, error.to_string()).into())
}

/// One byte in, the clock out: nothing is allocated or looked up in between.
fn clock() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        let now = now_ns().to_le_bytes();
        output.write_all(&now)?;
        output.flush()?;
    }
    Ok(())
}

/// This host's clock, ns since the epoch.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

async fn load(file: &Path) -> Result<()> {
    let unreadable =
        |error: io::Error| Plain::new(Exit::Unreachable, format!("cannot read `{}`: {error}", file.display()));
    let source = std::fs::File::open(file).map_err(unreadable)?;
    let stream = unpack(zstd::Decoder::new(source).map_err(unreadable)?);
    let loaded = Engine::local()?.load_images(&format!("`{}`", file.display()), stream).await?;
    loaded.iter().for_each(ui::out);
    Ok(())
}

fn token() -> io::Result<Secret> {
    let mut line = String::new();
    io::stdin().lock().take(TOKEN_LIMIT).read_line(&mut line)?;
    let token = line.trim();
    if token.len() < 16 { Err(io::Error::other("no token on stdin")) } else { Ok(token.into()) }
}

fn serve(file: &Path) -> io::Result<()> {
    let token = token()?;
    let size = std::fs::metadata(file)?.len();
    let listener = TcpListener::bind(("0.0.0.0", 0))?;
    ui::out(listener.local_addr()?.port());
    let file = file.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (file, token) = (file.clone(), token.clone());
            std::thread::spawn(move || match send(stream, &file, &token, size) {
                Ok(()) => {}
                Err(error) => tracing::debug!("serving {}: {error}", file.display()),
            });
        }
    });
    // Whoever started this holds the other end of stdin; when it goes away, so does the offer.
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

/// One peer: a line with the token and the offset from which it wants the file; the size and the bytes go back.
fn send(mut stream: TcpStream, file: &Path, token: &Secret, size: u64) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut line = String::new();
    io::BufReader::new((&stream).take(TOKEN_LIMIT)).read_line(&mut line)?;
    let (said, offset) = line.trim().split_once(' ').unwrap_or_default();
    if !same(said.as_bytes(), token.expose().as_bytes()) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let mut source = std::fs::File::open(file)?;
    source.seek(SeekFrom::Start(offset.parse().map_err(io::Error::other)?))?;
    stream.write_all(&size.to_le_bytes())?;
    io::copy(&mut source, &mut stream).map(drop)
}

/// Compares in a time that does not tell how much is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

fn fetch(host: &str, port: u16, to: &Path, sha256: &str) -> io::Result<()> {
    let token = token()?;
    if sum(to).is_ok_and(|found| found == sha256) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".{sha256}.part"));
    let part = PathBuf::from(name);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&part)?;
    let offset = file.seek(SeekFrom::End(0))?;

    let address = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))?.next();
    let address = address.ok_or_else(|| io::Error::other(format!("`{host}` has no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(format!("{} {offset}\n", token.expose()).as_bytes())?;
    let mut size = [0; 8];
    stream.read_exact(&mut size)?;
    let wanted = u64::from_le_bytes(size).saturating_sub(offset);
    let copied = io::copy(&mut (&stream).take(wanted), &mut file)?;
    if copied < wanted {
        return Err(io::Error::other(format!("{copied} of {wanted} bytes came")));
    }
    let found = sum(&part)?;
    if found != sha256 {
        std::fs::remove_file(&part)?;
        return Err(io::Error::other(format!("SHA-256 is {found} instead of {sha256}")));
    }
    std::fs::rename(part, to)
}

fn sum(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
