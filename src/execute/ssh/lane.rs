//! One channel of a connection and the local sockets that its bytes come from and go to.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ssh2::{Channel, ErrorCode, Session};
use tokio::sync::oneshot;

/// Bytes moved per channel and step. One SSH packet carries at most 32 KiB.
const CHUNK: usize = 32 << 10;

/// Longest wait for the server to agree that a channel is closed, or to take what a closed local end left.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What a channel is for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Run a line in the login shell.
    Exec(String),
    /// Connect to a Unix socket of the host.
    Unix(String),
    /// Connect to a TCP port as the host sees it.
    Tcp(String, u16),
}

/// How a remote command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal (`KILL`).
    Signal(String),
}

/// A channel that is wanted: what for, the sockets to join it to, and whom to tell.
pub(super) struct Order {
    pub ask: Ask,
    pub data: UnixStream,
    pub errors: Option<UnixStream>,
    pub opened: oneshot::Sender<Result<(), String>>,
    pub ended: oneshot::Sender<Result<Exit, String>>,
    pub deadline: Instant,
}

/// The whole connection is unusable; the text is the library's word for it.
pub(super) struct Broken(pub String);

enum Phase {
    Opening,
    Starting(Channel),
    Open(Channel),
    Ending(Channel, Instant),
    Over,
}

/// Bytes on their way in one direction.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Fills the empty buffer once from `from`.
    fn fill(&mut self, from: &mut dyn Read) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes = vec![0; CHUNK];
        }
        let n = from.read(&mut self.bytes)?;
        (self.start, self.end) = (0, n);
        Ok(n)
    }

    fn used(&mut self, n: usize) {
        self.start += n;
    }

    fn clear(&mut self) {
        self.start = self.end;
    }
}

/// One outgoing local direction: remote output on its way to a socket.
struct Sink {
    socket: Option<UnixStream>,
    buffer: Buffer,
    ended: bool,
}

impl Sink {
    fn new(socket: Option<UnixStream>) -> Self {
        Sink { socket, buffer: Buffer::default(), ended: false }
    }

    /// Takes what the channel has and hands it on. True when anything moved.
    fn pull(&mut self, session: &Session, from: &mut dyn Read) -> Result<bool, Broken> {
        let mut moved = self.push();
        while self.buffer.is_empty() && !self.ended {
            match self.buffer.fill(from) {
                Ok(0) => self.ended = true,
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => match verdict(session, &error) {
                    Some(broken) => return Err(broken),
                    None => self.ended = true,
                },
            }
            self.push();
        }
        Ok(moved)
    }

    /// Writes what is buffered; a reader that has gone makes the rest be dropped.
    fn push(&mut self) -> bool {
        let mut moved = false;
        while !self.buffer.is_empty() {
            let Some(socket) = &mut self.socket else {
                self.buffer.clear();
                return true;
            };
            match socket.write(self.buffer.filled()) {
                Ok(n) => {
                    self.buffer.used(n);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.socket = None,
            }
        }
        moved
    }
}

/// A channel in the pump's hands.
pub(super) struct Lane {
    ask: Ask,
    phase: Phase,
    source: Option<UnixStream>,
    input: Buffer,
    input_ended: bool,
    eof_sent: bool,
    output: Sink,
    errors: Sink,
    abandoned: Option<Instant>,
    opened: Option<oneshot::Sender<Result<(), String>>>,
    ended: Option<oneshot::Sender<Result<Exit, String>>>,
    deadline: Instant,
}

impl Lane {
    pub(super) fn new(order: Order) -> io::Result<Self> {
        order.data.set_nonblocking(true)?;
        if let Some(errors) = &order.errors {
            errors.set_nonblocking(true)?;
        }
        Ok(Lane {
            ask: order.ask,
            phase: Phase::Opening,
            source: Some(order.data.try_clone()?),
            input: Buffer::default(),
            input_ended: false,
            eof_sent: false,
            output: Sink::new(Some(order.data)),
            errors: Sink::new(order.errors),
            abandoned: None,
            opened: Some(order.opened),
            ended: Some(order.ended),
            deadline: order.deadline,
        })
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// The socket to watch for local input or for its end, and whether there is room for input now.
    pub(super) fn source(&self) -> Option<(&UnixStream, bool)> {
        let wanted = matches!(self.phase, Phase::Open(_)) && !self.input_ended && self.input.is_empty();
        // A socket that hung up would end every wait at once.
        self.source.as_ref().filter(|_| wanted || self.abandoned.is_none()).map(|socket| (socket, wanted))
    }

    /// Sockets to watch because output waits for room in them.
    pub(super) fn full_sinks(&self) -> impl Iterator<Item = &UnixStream> {
        [&self.output, &self.errors]
            .into_iter()
            .filter(|sink| !sink.buffer.is_empty())
            .filter_map(|sink| sink.socket.as_ref())
    }

    /// The local end is closed: nobody reads any more, and what is still to be read from there is the last.
    pub(super) fn abandon(&mut self) {
        self.abandoned.get_or_insert_with(Instant::now);
        self.output.socket = None;
    }

    /// Tells whoever waits that it came to nothing.
    pub(super) fn fail(&mut self, why: &str) {
        self.phase = Phase::Over;
        if let Some(opened) = self.opened.take() {
            drop(opened.send(Err(why.to_owned())));
        }
        if let Some(ended) = self.ended.take() {
            drop(ended.send(Err(why.to_owned())));
        }
    }

    /// Does what can be done without waiting. True when anything moved.
    pub(super) fn step(&mut self, session: &Session, now: Instant) -> Result<bool, Broken> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Opening => self.step_opening(session, now),
            Phase::Starting(channel) => self.step_starting(channel, now),
            Phase::Open(channel) => self.step_open(session, channel, now),
            Phase::Ending(channel, since) => self.step_ending(channel, since, now),
            Phase::Over => Ok(false),
        }
    }

    fn step_opening(&mut self, session: &Session, now: Instant) -> Result<bool, Broken> {
        let channel = match &self.ask {
            Ask::Exec(_) => session.channel_session(),
            Ask::Unix(path) => session.channel_direct_streamlocal(path, None),
            Ask::Tcp(host, port) => session.channel_direct_tcpip(host, *port, None),
        };
        match channel {
            Ok(channel) => {
                self.phase = Phase::Starting(channel);
                Ok(true)
            }
            Err(error) if would_block(&error) => {
                if now >= self.deadline {
                    return Err(Broken("the server does not answer".into()));
                }
                self.phase = Phase::Opening;
                Ok(false)
            }
            Err(error) => self.refused(&error),
        }
    }

    fn step_starting(&mut self, mut channel: Channel, now: Instant) -> Result<bool, Broken> {
        let started = match &self.ask {
            Ask::Exec(line) => channel.exec(line),
            Ask::Unix(_) | Ask::Tcp(..) => Ok(()),
        };
        match started {
            Ok(()) => {
                if let Some(opened) = self.opened.take() {
                    drop(opened.send(Ok(())));
                }
                self.phase = Phase::Open(channel);
                Ok(true)
            }
            Err(error) if would_block(&error) => {
                if now >= self.deadline {
                    return Err(Broken("the server does not answer".into()));
                }
                self.phase = Phase::Starting(channel);
                Ok(false)
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&mut self, error: &ssh2::Error) -> Result<bool, Broken> {
        if fatal(error.code()) {
            self.phase = Phase::Over;
            let why = error.message().to_owned();
            if let Some(opened) = self.opened.take() {
                drop(opened.send(Err(why.clone())));
            }
            return Err(Broken(why));
        }
        self.fail(error.message());
        Ok(true)
    }

    fn step_open(&mut self, session: &Session, mut channel: Channel, now: Instant) -> Result<bool, Broken> {
        let mut moved = self.send_input(session, &mut channel)?;
        moved |= self.output.pull(session, &mut channel)?;
        if self.errors.socket.is_some() || matches!(self.ask, Ask::Exec(_)) {
            moved |= self.errors.pull(session, &mut channel.stderr())?;
        }
        let drained = channel.eof() && self.output.buffer.is_empty() && self.errors.buffer.is_empty();
        let unwanted = self.abandoned.is_some_and(|since| match self.ask {
            Ask::Exec(_) => self.ended.as_ref().is_none_or(oneshot::Sender::is_closed),
            Ask::Unix(_) | Ask::Tcp(..) => {
                (self.input_ended && self.input.is_empty()) || now.duration_since(since) > CLOSE_LIMIT
            }
        });
        if drained {
            self.finish_output();
        }
        let over = match self.ask {
            Ask::Exec(_) => drained,
            Ask::Unix(_) | Ask::Tcp(..) => drained && (self.eof_sent || self.input_ended),
        };
        if over || unwanted {
            self.phase = Phase::Ending(channel, now);
            return Ok(true);
        }
        self.phase = Phase::Open(channel);
        Ok(moved)
    }

    fn send_input(&mut self, session: &Session, channel: &mut Channel) -> Result<bool, Broken> {
        let mut moved = false;
        loop {
            if self.input.is_empty() && !self.input_ended {
                match self.source.as_mut().map(|socket| self.input.fill(socket)) {
                    Some(Ok(0)) | None => self.input_ended = true,
                    Some(Ok(_)) => moved = true,
                    Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(moved),
                    Some(Err(_)) => self.input_ended = true,
                }
            }
            if self.input.is_empty() {
                break;
            }
            match channel.write(self.input.filled()) {
                Ok(n) => {
                    self.input.used(n);
                    moved |= n > 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => match verdict(session, &error) {
                    Some(broken) => return Err(broken),
                    None => {
                        self.input.clear();
                        self.input_ended = true;
                        self.eof_sent = true;
                    }
                },
            }
        }
        if self.input_ended && !self.eof_sent {
            match channel.send_eof() {
                Ok(()) => {
                    self.eof_sent = true;
                    moved = true;
                }
                Err(error) if would_block(&error) => {}
                Err(error) if fatal(error.code()) => return Err(Broken(error.message().to_owned())),
                Err(_) => self.eof_sent = true,
            }
        }
        Ok(moved)
    }

    /// The remote side has said everything: the local readers see the end.
    fn finish_output(&mut self) {
        if let Some(socket) = self.output.socket.take() {
            drop(socket.shutdown(Shutdown::Write));
        }
        if let Some(socket) = self.errors.socket.take() {
            drop(socket.shutdown(Shutdown::Write));
        }
    }

    /// A command's end is the server's to tell: closing first would lose its exit status.
    fn step_ending(&mut self, mut channel: Channel, since: Instant, now: Instant) -> Result<bool, Broken> {
        let running = matches!(self.ask, Ask::Exec(_)) && channel.eof();
        let closed = if running { channel.wait_close() } else { channel.close() };
        match closed {
            Err(error) if would_block(&error) => {
                let unwanted = self.ended.as_ref().is_none_or(oneshot::Sender::is_closed);
                if (unwanted || !running) && now.duration_since(since) > CLOSE_LIMIT {
                    self.fail("the server does not close the channel");
                    return Ok(true);
                }
                self.phase = Phase::Ending(channel, since);
                return Ok(false);
            }
            Err(error) if fatal(error.code()) => {
                self.phase = Phase::Over;
                return Err(Broken(error.message().to_owned()));
            }
            _ => {}
        }
        let signal = channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let exit = match signal {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(channel.exit_status().unwrap_or(0)),
        };
        drop(channel.close());
        if let Some(ended) = self.ended.take() {
            drop(ended.send(Ok(exit)));
        }
        Ok(true)
    }
}

const EAGAIN: i32 = -37;

/// libssh2's codes that concern one channel only: refused, failed, closed, already at its end.
const OF_ONE_CHANNEL: [i32; 6] = [-21, -22, -24, -25, -26, -27];

pub(super) fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(EAGAIN)
}

fn fatal(code: ErrorCode) -> bool {
    match code {
        ErrorCode::Session(code) => !OF_ONE_CHANNEL.contains(&code),
        ErrorCode::SFTP(_) => false,
    }
}

/// What an error of a channel's stream means for the connection; `None` when only the channel is over. The stream's
/// own error carries no code, the session's last one does.
fn verdict(session: &Session, error: &io::Error) -> Option<Broken> {
    match ssh2::Error::last_session_error(session) {
        Some(last) if !fatal(last.code()) => None,
        Some(last) => Some(Broken(last.message().to_owned())),
        None => Some(Broken(error.to_string())),
    }
}

/// Whether an error means that the connection itself is over (and not only refused something).
pub(super) fn ends_connection(error: &ssh2::Error) -> bool {
    // Socket: none, banner, send, disconnect, receive; time-outs of an answer.
    matches!(error.code(), ErrorCode::Session(-1 | -7 | -9 | -13 | -43))
}
