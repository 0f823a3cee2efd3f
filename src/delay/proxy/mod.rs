//! The proxy backend: a transparent TCP proxy that holds bytes back.
//!
//! A redirected connection arrives at a listener; the proxy asks the kernel where it was going (`SO_ORIGINAL_DST`),
//! connects there with a marked socket, which the rules let pass, and carries bytes both ways, each piece after the
//! delay drawn for it. It runs on one thread with its own epoll loop and a timer of nanosecond resolution: an async
//! runtime's timer of 1 ms would be a fifth of a delay of 5 ms.
//!
//! What a TCP proxy cannot do, and netem can: lose packets, delay UDP, and delay the opening of a connection. The
//! opener sees its connection accepted by the proxy at once; if the other side refuses, it sees a reset.

mod connection;
mod engine;
mod flow;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::spec::Spec;

/// The largest piece, bytes.
const READ: usize = 256 * 1024;

/// What all streams together may hold before each is kept to a little, bytes.
const TOTAL: usize = 512 * 1024 * 1024;

/// Who opened the connections that a listener receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A process of this network namespace.
    Here,
    /// The peer.
    Peer,
}

/// Where a connection goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Where it was going before it was redirected.
    Original,
    /// Always there (a plain forwarder, for benches and tests without privileges).
    Fixed(SocketAddr),
}

/// A listening socket and what its connections mean.
#[derive(Debug)]
pub struct Entrance {
    /// The socket.
    pub listener: TcpListener,
    /// Index of the rule.
    pub rule: usize,
    /// Who connects to it.
    pub opener: Opener,
}

/// What the two directions of a rule do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Specs {
    /// To data that the peer sends.
    pub from_peer: Spec,
    /// To data that is sent to the peer.
    pub to_peer: Spec,
}

/// How a proxy is set up.
#[derive(Debug)]
pub struct Setup {
    /// Its listeners.
    pub entrances: Vec<Entrance>,
    /// One entry per rule.
    pub rules: Vec<Specs>,
    /// Where connections go on to.
    pub destination: Destination,
    /// `SO_MARK` of its own connections (needs the right to administer the network).
    pub mark: Option<u32>,
    /// Seed of the delays.
    pub seed: u64,
}

/// What a rule has carried so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleStats {
    /// Connections taken.
    pub accepted: u64,
    /// Of these, open now.
    pub open: u64,
    /// Connections that the other side refused.
    pub refused: u64,
    /// Bytes carried from the peer.
    pub from_peer_bytes: u64,
    /// Bytes carried to the peer.
    pub to_peer_bytes: u64,
    /// Bytes that wait now.
    pub queued_bytes: u64,
    /// Most bytes that waited at once.
    pub queued_peak_bytes: u64,
    /// Times a stream stopped reading because it held as much as it may: the writer feels the path's bandwidth.
    pub paused: u64,
    /// Pieces of delayed data passed on.
    pub pieces: u64,
    /// Median time such a piece was held, ms.
    pub held_p50_ms: f64,
    /// 99th percentile of it, ms.
    pub held_p99_ms: f64,
    /// 99th percentile of how late a piece was passed on, us.
    pub late_p99_us: f64,
}

enum Command {
    Set(usize, Specs),
    Stats(Sender<Vec<RuleStats>>),
    Stop,
}

/// A running proxy. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct Proxy {
    commands: Arc<Mutex<Vec<Command>>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Command::Set(..) => "Set",
            Command::Stats(_) => "Stats",
            Command::Stop => "Stop",
        })
    }
}

impl Proxy {
    /// Starts the proxy on a thread of its own.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor or the thread.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let commands = Arc::new(Mutex::new(Vec::new()));
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let mut engine = engine::Engine::new(setup, Arc::clone(&commands), Arc::clone(&wake))?;
        let thread = std::thread::Builder::new().name("delay-proxy".to_owned()).spawn(move || {
            super::priority::run_promptly();
            engine.run();
        })?;
        Ok(Proxy { commands, wake, thread: Some(thread) })
    }

    /// Changes what rule `rule` does, for data that arrives from now on.
    pub fn set(&self, rule: usize, specs: Specs) {
        self.tell(Command::Set(rule, specs));
    }

    /// What each rule has carried; empty when the proxy does not answer within a second.
    pub fn stats(&self) -> Vec<RuleStats> {
        let (sender, receiver): (_, Receiver<Vec<RuleStats>>) = channel();
        self.tell(Command::Stats(sender));
        receiver.recv_timeout(Duration::from_secs(1)).unwrap_or_default()
    }

    /// Whether its thread still runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn tell(&self, command: Command) {
        if let Ok(mut commands) = self.commands.lock() {
            commands.push(command);
        }
        // A full counter means that the loop is about to wake up anyway.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened; there is nothing to add.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::delay::spec::{Asked, Distribution};

    fn spec(delay_ms: f64, jitter_ms: f64) -> Spec {
        let distribution = if jitter_ms > 0.0 { Distribution::Pareto } else { Distribution::Uniform };
        Spec::check(Asked { delay_ms, jitter_ms, distribution, ..Asked::default() }).unwrap()
    }

    /// A proxy in front of `server`, and a connection through it with both ends.
    fn through(specs: Specs) -> (Proxy, TcpStream, TcpStream) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (proxy, address) = in_front_of(server.local_addr().unwrap(), specs);
        let client = TcpStream::connect(address).unwrap();
        let (served, _) = server.accept().unwrap();
        for end in [&client, &served] {
            end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            end.set_nodelay(true).unwrap();
        }
        (proxy, client, served)
    }

    fn in_front_of(server: SocketAddr, specs: Specs) -> (Proxy, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let setup = Setup {
            entrances: vec![Entrance { listener, rule: 0, opener: Opener::Here }],
            rules: vec![specs],
            destination: Destination::Fixed(server),
            mark: None,
            seed: 1,
        };
        (Proxy::start(setup).unwrap(), address)
    }

    fn bytes(length: usize, salt: u32) -> Vec<u8> {
        (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 13) as u8).collect()
    }

    #[test]
    fn both_directions_arrive_whole_and_in_order_under_jitter() {
        let (proxy, client, served) = through(Specs { from_peer: spec(3.0, 2.0), to_peer: spec(1.0, 1.0) });
        let exchange = |mut end: TcpStream, salt: u32, other: u32| {
            std::thread::spawn(move || {
                let mut writer = end.try_clone().unwrap();
                let writing = std::thread::spawn(move || {
                    for piece in bytes(3_000_000, salt).chunks(70_001) {
                        writer.write_all(piece).unwrap();
                    }
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut got = Vec::new();
                end.read_to_end(&mut got).unwrap();
                writing.join().unwrap();
                assert!(got == bytes(3_000_000, other), "{} bytes, not those that were sent", got.len());
            })
        };
        let (a, b) = (exchange(client, 1, 2), exchange(served, 2, 1));
        a.join().unwrap();
        b.join().unwrap();
        let stats = &proxy.stats()[0];
        assert_eq!((stats.from_peer_bytes, stats.to_peer_bytes), (3_000_000, 3_000_000));
        assert_eq!((stats.open, stats.queued_bytes), (0, 0));
    }

    #[test]
    fn only_the_asked_direction_waits() {
        let (_proxy, mut client, mut served) = through(Specs { from_peer: spec(80.0, 0.0), to_peer: Spec::zero() });
        let mut one = [0u8; 1];
        client.write_all(b"q").unwrap();
        served.read_exact(&mut one).unwrap();
        let start = Instant::now();
        served.write_all(b"a").unwrap();
        client.read_exact(&mut one).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(80), "early: {:?}", start.elapsed());
    }

    #[test]
    fn a_half_closed_connection_still_answers() {
        let (_proxy, mut client, mut served) = through(Specs { from_peer: spec(5.0, 0.0), to_peer: spec(5.0, 0.0) });
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        served.read_to_string(&mut question).unwrap();
        served.write_all(b"answer").unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[test]
    fn a_reset_is_passed_on() {
        let (_proxy, mut client, served) = through(Specs { from_peer: spec(5.0, 0.0), to_peer: Spec::zero() });
        socket2::SockRef::from(&served).set_linger(Some(Duration::ZERO)).unwrap();
        drop(served);
        let error = client.read(&mut [0u8; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_refused_connection_is_counted_and_reset() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let (proxy, address) = in_front_of(gone, Specs { from_peer: Spec::zero(), to_peer: Spec::zero() });
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(client.read(&mut [0u8; 1]).is_err());
        assert_eq!(proxy.stats()[0].refused, 1);
    }

    #[test]
    fn a_writer_feels_a_reader_that_does_not_read() {
        let (proxy, mut client, served) = through(Specs { from_peer: Spec::zero(), to_peer: spec(1.0, 0.0) });
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let piece = vec![7u8; 1 << 20];
        // Kernel buffers hold a few MB; the proxy must not take the rest.
        let taken = (0..200).take_while(|_| client.write_all(&piece).is_ok()).count();
        assert!(taken < 100, "took {taken} MiB of a reader that reads nothing");
        let stats = &proxy.stats()[0];
        assert!(stats.queued_bytes <= (1 << 20) + READ as u64, "holds {} bytes", stats.queued_bytes);
        assert!(stats.paused > 0);
        drop(served);
    }

    #[test]
    fn a_change_holds_for_what_arrives_after_it() {
        let (proxy, mut client, mut served) = through(Specs { from_peer: spec(60_000.0, 0.0), to_peer: Spec::zero() });
        let mut one = [0u8; 1];
        client.write_all(b"q").unwrap();
        served.read_exact(&mut one).unwrap();
        proxy.set(0, Specs { from_peer: Spec::zero(), to_peer: Spec::zero() });
        assert_eq!(proxy.stats().len(), 1, "the change has been taken in");
        served.write_all(b"a").unwrap();
        client.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"a");
    }

    /// Two streams of 1 MB each through one rate of 10 MB/s: how many bytes had arrived when, in order.
    fn arrivals_at_a_rate() -> Vec<(Duration, usize)> {
        const EACH: usize = 1_000_000;
        let asked = Asked { delay_ms: 5.0, rate_mbit: Some(80.0), ..Asked::default() };
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let specs = Specs { from_peer: Spec::check(asked).unwrap(), to_peer: Spec::zero() };
        let (_proxy, address) = in_front_of(server.local_addr().unwrap(), specs);
        let start = Instant::now();
        let read = |mut client: TcpStream| {
            let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                match client.read(&mut buffer).unwrap() {
                    0 => return seen,
                    length => seen.push((start.elapsed(), length)),
                }
            }
        };
        let mut arrivals = std::thread::scope(|scope| {
            let readers = [0, 1].map(|_| {
                let client = TcpStream::connect(address).unwrap();
                let (mut served, _) = server.accept().unwrap();
                scope.spawn(move || served.write_all(&vec![1; EACH]).unwrap());
                scope.spawn(move || read(client))
            });
            readers.map(|reader| reader.join().unwrap()).concat()
        });
        arrivals.sort_unstable();
        assert_eq!(arrivals.iter().map(|(_, length)| length).sum::<usize>(), 2 * EACH);
        arrivals
    }

    /// Other work on the machine can make bytes late and never early: none may be early in any attempt, and in one of a
    /// few they are not late either.
    #[test]
    fn a_rate_is_kept_at_every_moment_by_all_streams_together() {
        let in_time = (0..8).any(|_| {
            let mut arrived = 0;
            let arrivals = arrivals_at_a_rate();
            for (after, length) in &arrivals {
                arrived += length;
                let due = Duration::from_secs_f64(arrived as f64 / 10e6) + Duration::from_millis(5);
                assert!(*after >= due, "{arrived} bytes had arrived after {after:?}, not {due:?}");
            }
            let whole = arrivals[arrivals.len() - 1].0;
            whole < Duration::from_millis(225)
        });
        assert!(in_time, "2 MB at 10 MB/s never took less than 225 ms");
    }

    #[test]
    fn many_connections_come_and_go() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let specs = Specs { from_peer: spec(2.0, 1.0), to_peer: Spec::zero() };
        let (proxy, address) = in_front_of(server.local_addr().unwrap(), specs);
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                std::thread::spawn(move || {
                    let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
                    // The client decides when it ends.
                    let _ = io::copy(&mut reader, &mut writer);
                });
            }
        });
        for round in 0u8..10 {
            let mut clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
            for (index, client) in clients.iter_mut().enumerate() {
                client.write_all(&[round, index as u8]).unwrap();
            }
            for (index, client) in clients.iter_mut().enumerate() {
                let mut answer = [0u8; 2];
                client.read_exact(&mut answer).unwrap();
                assert_eq!(answer, [round, index as u8]);
            }
        }
        assert_eq!(proxy.stats()[0].accepted, 200);
    }
}
