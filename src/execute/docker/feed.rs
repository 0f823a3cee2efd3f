//! Bytes that a blocking writer makes, as the stream that the engine's calls take; and streams written to files.

use std::io::{self, Write};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::DockerError;

/// Bytes of one piece, and how many pieces may wait: what a feed holds in memory.
const PIECE: usize = 256 << 10;
const PIECES: usize = 16;

/// What `write` writes on a thread of its own, while the engine reads it. An error of `write` ends the stream.
pub fn feed<W>(write: W) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    W: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut writer = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        let written = write(&mut writer).and_then(|()| writer.flush());
        if let Err(error) = written {
            // When the engine has gone, its own error says more.
            sender.blocking_send(Err(error)).ok();
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives every piece of `stream` to `write`, which runs on a thread of its own; returns what `end` makes of it.
///
/// # Errors
/// What the stream or the writer fails with.
pub async fn drain<S, W, T>(stream: S, doing: &str, mut sink: W, end: fn(W) -> io::Result<T>) -> Result<T, DockerError>
where
    S: Stream<Item = Result<Bytes, DockerError>> + Send,
    W: Write + Send + 'static,
    T: Send + 'static,
{
    let failed = |source| DockerError::Feed { doing: doing.to_owned(), source };
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(piece) = receiver.blocking_recv() {
            sink.write_all(&piece)?;
        }
        end(sink)
    });
    let mut stream = std::pin::pin!(stream);
    while let Some(piece) = stream.next().await {
        if sender.send(piece?).await.is_err() {
            // The writer has ended early: its own error comes below.
            break;
        }
    }
    drop(sender);
    writing.await.map_err(io::Error::other).and_then(|written| written).map_err(failed)
}
