//! The helper's control socket: one line of JSON asks, one line answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::delay::{DelayError, Reply, Request};

/// Longest wait for an answer. The longest requests are probes, which carry their own limits.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the helper that keeps its state in `dir` listens.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Opens the control socket; one left by a dead helper is replaced.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(dir)?;
    let path = path(dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Reads the one request of a caller; `None` when it has gone or makes no sense.
pub(super) async fn read(stream: UnixStream) -> Option<(Request, UnixStream)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), reader.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(length)) if length > 0) {
        return None;
    }
    match serde_json::from_str(&line) {
        Ok(request) => Some((request, reader.into_inner())),
        Err(error) => {
            let message = format!("the helper does not understand the request: {error}");
            answer(reader.into_inner(), &Reply::Refused { message, exit: 2 }).await;
            None
        }
    }
}

/// Answers. A caller that has gone is not missed.
pub(super) async fn answer(mut stream: UnixStream, reply: &Reply) {
    if let Ok(mut text) = serde_json::to_vec(reply) {
        text.push(b'\n');
        let _ = stream.write_all(&text).await;
    }
}

/// Asks the helper that keeps its state in `dir`.
///
/// # Errors
/// [`DelayError::Unreachable`] when nobody listens or answers.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<Reply, DelayError> {
    let path = path(dir);
    let unreachable = |source: io::Error| DelayError::Unreachable { place: path.display().to_string(), source };
    let exchange = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    };
    let patience = tokio::time::timeout(PATIENCE, exchange).await;
    patience.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)
}
