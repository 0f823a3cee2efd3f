//! One connection to one host: a thread that owns the libssh2 session and moves the bytes of all its channels.
//!
//! A libssh2 session is a single state machine behind one lock, so nobody else may touch it. Each channel is joined
//! to a local socket pair; the thread sleeps in `poll(2)` on the connection and on these sockets, which gives every
//! channel its own backpressure and keeps blocking calls off the async threads.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::Session;
use tokio::sync::oneshot;

use super::SshError;
use super::lane::{Ask, Broken, Exit, Lane, Order};

/// An idle connection says something after this time, so that firewalls keep it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often abandoned channels and deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Longest wait for the server to open a channel.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Longest wait for the last word to a server, ms.
const FAREWELL_LIMIT_MS: u32 = 500;

/// What carries the connection.
pub(super) enum Carrier {
    /// A TCP connection of this machine.
    Tcp(TcpStream),
    /// A channel through another host.
    Through(UnixStream),
}

impl Carrier {
    /// A second descriptor of the same connection, to wait on.
    pub(super) fn try_clone(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        match self {
            Carrier::Tcp(stream) => stream.try_clone().map(Into::into),
            Carrier::Through(stream) => stream.try_clone().map(Into::into),
        }
    }
}

/// A connection that is logged in.
pub(super) struct Ready {
    pub session: Session,
    pub socket: std::os::fd::OwnedFd,
}

/// The other end of a connection's thread.
#[derive(Debug)]
pub(super) struct Link {
    orders: mpsc::Sender<Order>,
    wake: UnixStream,
    dead: Arc<AtomicBool>,
    why: Arc<Mutex<String>>,
}

/// An open channel.
pub(super) struct Opened {
    pub data: tokio::net::UnixStream,
    pub errors: Option<tokio::net::UnixStream>,
    pub ended: oneshot::Receiver<Result<Exit, String>>,
}

/// Why a channel could not be opened.
pub(super) enum NotOpened {
    /// The connection is gone; a new one may be tried.
    Lost(String),
    /// The server said no.
    Refused(String),
}

impl Link {
    /// Connects with `connect` on a thread of its own and keeps the connection there.
    ///
    /// # Errors
    /// What `connect` says.
    pub(super) async fn start(
        name: &str,
        connect: impl FnOnce() -> Result<Ready, SshError> + Send + 'static,
    ) -> Result<Link, SshError> {
        let (orders, incoming) = mpsc::channel();
        let (wake, woken) = UnixStream::pair().map_err(|error| SshError::system(name, error))?;
        let (tell, told) = oneshot::channel();
        let dead = Arc::new(AtomicBool::new(false));
        let why = Arc::new(Mutex::new(String::new()));
        let (thread_dead, thread_why) = (Arc::clone(&dead), Arc::clone(&why));
        std::thread::Builder::new()
            .name(format!("ssh {name}"))
            .spawn(move || {
                let ready = match connect() {
                    Ok(ready) => ready,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                ready.session.set_blocking(false);
                if tell.send(Ok(())).is_err() {
                    return;
                }
                let mut pump = Pump { ready, incoming, woken, lanes: Vec::new(), gone: false, spoke: Instant::now() };
                let broken = pump.run();
                if let Ok(mut text) = thread_why.lock() {
                    text.clone_from(&broken);
                }
                thread_dead.store(true, Ordering::Release);
                pump.end(&broken);
            })
            .map_err(|error| SshError::system(name, error))?;
        match told.await {
            Ok(Ok(())) => Ok(Link { orders, wake, dead, why }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SshError::Lost { host: name.to_owned(), why: "the connection's thread ended".into() }),
        }
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn last_word(&self) -> String {
        self.why.lock().map_or_else(|_| String::new(), |text| text.clone())
    }

    /// Opens a channel; `errors` asks for a stream of its own for standard error.
    pub(super) async fn open(&self, ask: Ask, errors: bool) -> Result<Opened, NotOpened> {
        let lost = |error: std::io::Error| NotOpened::Lost(error.to_string());
        let (data, far_data) = UnixStream::pair().map_err(lost)?;
        let (errors, far_errors) = match errors {
            true => UnixStream::pair().map(|(near, far)| (Some(near), Some(far))).map_err(lost)?,
            false => (None, None),
        };
        let (opened, when_opened) = oneshot::channel();
        let (ended, when_ended) = oneshot::channel();
        let deadline = Instant::now() + OPEN_LIMIT;
        let order = Order { ask, data: far_data, errors: far_errors, opened, ended, deadline };
        self.orders.send(order).map_err(|_| NotOpened::Lost(self.last_word()))?;
        ring(&self.wake);
        match when_opened.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) if self.is_dead() => return Err(NotOpened::Lost(why)),
            Ok(Err(why)) => return Err(NotOpened::Refused(why)),
            Err(_) => return Err(NotOpened::Lost(self.last_word())),
        }
        let stream = |socket: UnixStream| {
            socket.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(socket)
        };
        Ok(Opened {
            data: stream(data).map_err(lost)?,
            errors: errors.map(stream).transpose().map_err(lost)?,
            ended: when_ended,
        })
    }
}

/// Wakes the thread; a full socket means that it is already being woken.
fn ring(wake: &UnixStream) {
    drop(wake.set_nonblocking(true));
    drop(std::io::Write::write(&mut &*wake, &[1]));
}

const HUNG_UP: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

struct Pump {
    ready: Ready,
    incoming: mpsc::Receiver<Order>,
    woken: UnixStream,
    lanes: Vec<Lane>,
    /// Nobody can send orders any more.
    gone: bool,
    spoke: Instant,
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy)]
enum Watched {
    Wake,
    Connection,
    Source(usize),
    Sink,
}

impl Pump {
    /// Runs until the connection is lost or nobody wants it any more; says why.
    fn run(&mut self) -> String {
        if let Err(error) = self.woken.set_nonblocking(true) {
            return error.to_string();
        }
        loop {
            self.take_orders();
            if self.gone && self.lanes.is_empty() {
                return "closed".into();
            }
            match self.move_bytes() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(Broken(why)) => return why,
            }
            if let Err(Broken(why)) = self.keep_alive().and_then(|()| self.sleep()) {
                return why;
            }
        }
    }

    fn take_orders(&mut self) {
        loop {
            match self.incoming.try_recv() {
                Ok(order) => match Lane::new(order) {
                    Ok(lane) => self.lanes.push(lane),
                    Err(error) => tracing::warn!("cannot use a socket pair: {error}"),
                },
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    /// One round over all channels. libssh2 opens one channel at a time, so only the first of those waiting moves.
    fn move_bytes(&mut self) -> Result<bool, Broken> {
        let now = Instant::now();
        let mut moved = false;
        let mut opening = false;
        for lane in &mut self.lanes {
            if lane.is_opening() && std::mem::replace(&mut opening, true) {
                continue;
            }
            moved |= lane.step(&self.ready.session, now)?;
        }
        self.lanes.retain(|lane| !lane.is_over());
        if moved {
            self.spoke = now;
        }
        Ok(moved)
    }

    fn keep_alive(&mut self) -> Result<(), Broken> {
        // A half-sent packet must be finished by whoever began it, so only an idle connection gets one.
        if self.spoke.elapsed() < KEEP_ALIVE || outbound(&self.ready.session) {
            return Ok(());
        }
        self.spoke = Instant::now();
        match self.ready.session.keepalive_send() {
            Err(error) if !super::lane::would_block(&error) => Err(Broken(error.message().to_owned())),
            _ => Ok(()),
        }
    }

    fn sleep(&mut self) -> Result<(), Broken> {
        let (events, watched): (Vec<PollFlags>, Vec<Watched>) = {
            let watch = |what, fd, flags| (what, PollFd::from_borrowed_fd(fd, flags));
            let mut set = vec![watch(Watched::Connection, self.ready.socket.as_fd(), self.connection_flags())];
            if !self.gone {
                set.push(watch(Watched::Wake, self.woken.as_fd(), PollFlags::IN));
            }
            for (index, lane) in self.lanes.iter().enumerate() {
                if let Some((socket, wanted)) = lane.source() {
                    let flags = if wanted { PollFlags::IN } else { PollFlags::empty() };
                    set.push(watch(Watched::Source(index), socket.as_fd(), flags));
                }
                set.extend(lane.full_sinks().map(|socket| watch(Watched::Sink, socket.as_fd(), PollFlags::OUT)));
            }
            let (watched, mut fds): (Vec<Watched>, Vec<PollFd<'_>>) = set.into_iter().unzip();
            let limit = if self.lanes.is_empty() { KEEP_ALIVE } else { TICK };
            let limit = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
            match poll(&mut fds, Some(&limit)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Broken(error.to_string())),
            }
            (fds.iter().map(PollFd::revents).collect(), watched)
        };
        for (flags, what) in events.into_iter().zip(watched) {
            self.notice(what, flags)?;
        }
        Ok(())
    }

    fn connection_flags(&self) -> PollFlags {
        let mut flags = PollFlags::RDHUP;
        if !self.lanes.is_empty() {
            flags |= PollFlags::IN;
        }
        if outbound(&self.ready.session) {
            flags |= PollFlags::OUT;
        }
        flags
    }

    fn notice(&mut self, what: Watched, flags: PollFlags) -> Result<(), Broken> {
        match what {
            Watched::Wake if !flags.is_empty() => {
                let mut bytes = [0; 64];
                if matches!(self.woken.read(&mut bytes), Ok(0)) {
                    self.gone = true;
                }
            }
            // With channels open libssh2 reads the connection and finds its end itself, after the last bytes.
            Watched::Connection if self.lanes.is_empty() && flags.intersects(HUNG_UP | PollFlags::RDHUP) => {
                return Err(Broken("the server closed the connection".into()));
            }
            Watched::Source(index) if flags.intersects(HUNG_UP) => {
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.abandon();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells all channels, and the server if it can still be told.
    fn end(mut self, why: &str) {
        for lane in &mut self.lanes {
            lane.fail(why);
        }
        while let Ok(order) = self.incoming.try_recv() {
            drop(order.opened.send(Err(why.to_owned())));
        }
        // Freeing needs a last word to the server; a lost one must not hold it up.
        self.ready.session.set_timeout(FAREWELL_LIMIT_MS);
        self.ready.session.set_blocking(true);
        drop(self.ready.session.disconnect(None, "done", None));
    }
}

fn outbound(session: &Session) -> bool {
    matches!(session.block_directions(), ssh2::BlockDirections::Outbound | ssh2::BlockDirections::Both)
}
