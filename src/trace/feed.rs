//! Bytes on their way from a socket or a file to the scanner: a few recycled buffers, filled by a thread of their own.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Bytes per buffer: large enough that handing one over costs nothing, small enough to stay in the cache.
const CHUNK: usize = 256 << 10;

/// Room in front of a buffer for what was left of the one before it.
const HEADROOM: usize = 64 << 10;

/// Buffers on their way.
const BUFFERS: usize = 6;

/// Why bytes stopped coming.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Reading failed.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
}

/// A buffer: `HEADROOM` bytes of room, then text up to `end`.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    end: usize,
    /// What ended the stream behind the text: `None` here means that more may come.
    last: Option<io::Result<()>>,
}

/// Where buffers come from.
enum Source {
    /// Filled here, on demand.
    Direct(Box<dyn Read + Send>, usize),
    /// Filled by a thread.
    Thread { full: Receiver<Chunk>, empty: SyncSender<Chunk>, idle: Duration },
}

/// A sliding view of a byte stream.
pub(super) struct Feed {
    source: Source,
    buffer: Chunk,
    at: usize,
    /// Offset in the stream of the first unread byte.
    position: u64,
}

impl Feed {
    /// Reads `from` on demand, `size` bytes at a time.
    pub(super) fn direct(from: impl Read + Send + 'static, size: usize) -> Self {
        Feed::new(Source::Direct(Box::new(from), size.max(1)))
    }

    /// Reads `from` on a thread of its own; gives up when nothing comes for `idle`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn threaded(from: impl Read + Send + 'static, idle: Duration) -> io::Result<Self> {
        let (to_full, full) = sync_channel(BUFFERS);
        let (empty, from_empty) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            empty.try_send(Chunk::default()).map_err(io::Error::other)?;
        }
        std::thread::Builder::new().name("trace-reader".into()).spawn(move || pump(from, &from_empty, &to_full))?;
        Ok(Feed::new(Source::Thread { full, empty, idle }))
    }

    fn new(source: Source) -> Self {
        Feed { source, buffer: Chunk::default(), at: 0, position: 0 }
    }

    /// What has come and is not consumed yet.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes[self.at..self.buffer.end]
    }

    /// Offset in the stream of the first byte of [`Feed::bytes`].
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Consumes `length` bytes.
    #[inline(always)]
    pub(super) fn consume(&mut self, length: usize) {
        self.at += length;
        self.position += length as u64;
    }

    /// Brings more bytes behind those that are there; false at the end of the stream.
    pub(super) fn more(&mut self) -> Result<bool, FeedError> {
        match self.buffer.last.take() {
            None => {}
            Some(Ok(())) => {
                self.buffer.last = Some(Ok(()));
                return Ok(false);
            }
            Some(Err(error)) => {
                self.buffer.last = Some(Ok(()));
                return Err(error.into());
            }
        }
        let chunk = match &mut self.source {
            Source::Direct(from, size) => {
                let mut chunk = Chunk::default();
                fill(from, &mut chunk, *size);
                chunk
            }
            Source::Thread { full, idle, .. } => match full.recv_timeout(*idle) {
                Ok(chunk) => chunk,
                Err(RecvTimeoutError::Timeout) => return Err(FeedError::Idle(*idle)),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the reader ended early").into()),
            },
        };
        let some = chunk.end > HEADROOM;
        self.append(chunk);
        if some { Ok(true) } else { self.more() }
    }

    fn append(&mut self, mut chunk: Chunk) {
        let rest = self.buffer.end - self.at;
        if rest <= HEADROOM {
            let start = HEADROOM - rest;
            chunk.bytes[start..HEADROOM].copy_from_slice(&self.buffer.bytes[self.at..self.buffer.end]);
            std::mem::swap(&mut self.buffer, &mut chunk);
            self.at = start;
        } else {
            // A large trace: its text is gathered in one growing buffer.
            self.buffer.bytes.truncate(self.buffer.end);
            self.buffer.bytes.drain(..self.at);
            self.at = 0;
            self.buffer.bytes.extend_from_slice(&chunk.bytes[HEADROOM..chunk.end]);
            self.buffer.end = self.buffer.bytes.len();
            self.buffer.last = chunk.last.take();
        }
        if let Source::Thread { empty, .. } = &self.source {
            let usual = chunk.bytes.capacity() <= 2 * (CHUNK + HEADROOM);
            // A full or closed channel means that the reader needs no more buffers.
            empty.try_send(if usual { chunk } else { Chunk::default() }).ok();
        }
    }
}

/// The reader thread: fills empty buffers until the end, an error, or until nobody listens.
fn pump(mut from: impl Read, empty: &Receiver<Chunk>, full: &SyncSender<Chunk>) {
    while let Ok(mut chunk) = empty.recv() {
        fill(&mut from, &mut chunk, CHUNK);
        let last = chunk.last.is_some();
        if full.send(chunk).is_err() || last {
            return;
        }
    }
}

/// Fills at least half of `chunk`, or reads to the end of the stream.
fn fill(from: &mut impl Read, chunk: &mut Chunk, size: usize) {
    chunk.last = None;
    chunk.end = HEADROOM;
    if chunk.bytes.len() < HEADROOM + size {
        chunk.bytes.resize(HEADROOM + size, 0);
    }
    while chunk.end < HEADROOM + size.div_ceil(2) {
        match from.read(&mut chunk.bytes[chunk.end..HEADROOM + size]) {
            Ok(0) => chunk.last = Some(Ok(())),
            Ok(length) => chunk.end += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => chunk.last = Some(Err(error)),
        }
        if chunk.last.is_some() {
            return;
        }
    }
}
