//! Measuring the path: round trips to an echo, and how long a write takes to become visible on a replica.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::netlink::nft::MARK;
use super::wire::Probed;

/// Bytes of one probe.
const SIZE: usize = 16;
/// Between two probes of all connections together, on average: few enough that they do not wait for each other.
const GAP: Duration = Duration::from_millis(1);
/// Between two looks at the replica.
const LOOK: Duration = Duration::from_micros(200);

/// Starts an echo on port `wanted`, or on one of the kernel's choice if that is taken or 0, and gives the port. It ends
/// with the process.
pub(crate) fn echo(wanted: u16) -> io::Result<u16> {
    // Both families where there are both.
    let bind = |port: u16| {
        std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
    };
    let listener = bind(wanted).or_else(|_| bind(0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    on_prompt_thread("delay-echo", async move {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answer(stream));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })?;
    Ok(port)
}

/// Runs `work` on a thread of its own that the scheduler prefers, so that what is measured is the path.
fn on_prompt_thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        super::priority::run_promptly();
        runtime.block_on(work);
    })?;
    Ok(())
}

async fn answer(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut probe = [0u8; SIZE];
    loop {
        stream.read_exact(&mut probe).await?;
        stream.write_all(&probe).await?;
    }
}

/// Measures `rounds` round trips on each of `connections` connections to the echo at `address`. Blocks.
///
/// Each probe waits a random while before it sets out, on a thread of its own. Were each sent as soon as the one before
/// it is back, connections under a constant delay would keep their distances for good, and those under a jittered one
/// would not: their probes would queue differently, and the difference would pass for one of the delays. A timer that
/// many share would wake them at the same ticks.
pub(crate) fn round_trips(address: SocketAddr, connections: usize, rounds: usize, patience: Duration) -> Probed {
    let walk_one = |index: usize| {
        let mut samples = Vec::with_capacity(rounds);
        super::priority::run_promptly();
        let pause = GAP * 2 * connections as u32;
        let walked = walk(address, (index as u64, pause), rounds, patience, &mut samples);
        let lost = if walked.is_ok() { 0 } else { (rounds - samples.len()) as u64 };
        (samples, lost)
    };
    std::thread::scope(|scope| {
        let start = |index: usize| {
            let builder = std::thread::Builder::new().name("delay-probe".to_owned());
            builder.spawn_scoped(scope, move || walk_one(index)).ok()
        };
        let started: Vec<_> = (0..connections).map(start).collect();
        let mut probed = Probed::default();
        for walking in started {
            let walked = walking.and_then(|thread| thread.join().ok());
            let (samples, lost) = walked.unwrap_or_else(|| (Vec::new(), rounds as u64));
            probed.samples_ns.extend(samples);
            probed.lost += lost;
        }
        probed
    })
}

/// The round trips of one connection. A random `pause` precedes each, the sequence of which `seed` decides.
fn walk(
    address: SocketAddr,
    (seed, pause): (u64, Duration),
    rounds: usize,
    patience: Duration,
    samples: &mut Vec<u64>,
) -> io::Result<()> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    let mut probe = [0u8; SIZE];
    for _ in 0..rounds {
        std::thread::sleep(pause.mul_f64(rng.random()));
        let start = Instant::now();
        stream.write_all(&probe)?;
        stream.read_exact(&mut probe)?;
        samples.push(start.elapsed().as_nanos() as u64);
    }
    Ok(())
}

/// Writes `writes` keys on the Redis primary at `primary`, one after the other, and measures how long each takes to
/// be visible on the replica that listens on `port` of this network namespace. The keys expire by themselves.
///
/// The connection to the primary is marked, so its own answers are not delayed. Blocks.
pub(crate) fn visibility(primary: IpAddr, port: u16, writes: usize, patience: Duration) -> io::Result<Probed> {
    super::priority::run_promptly();
    let mut origin = Redis::connect(SocketAddr::new(primary, port), Some(MARK), patience)?;
    let mut replica = Redis::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None, patience)?;
    let name = format!("maestro:delay:{}:{}", std::process::id(), super::now_us());
    let mut probed = Probed::default();
    for index in 0..writes {
        let key = format!("{name}:{index}");
        let start = Instant::now();
        origin.ask(&["SET", &key, "1", "PX", "60000"])?;
        loop {
            if replica.ask(&["EXISTS", &key])? == ":1" {
                probed.samples_ns.push(start.elapsed().as_nanos() as u64);
                break;
            }
            if start.elapsed() > patience {
                probed.lost += 1;
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    // Not earlier: in an ordered stream each deletion would hold back the write behind it.
    for index in 0..writes {
        origin.ask(&["DEL", &format!("{name}:{index}")])?;
    }
    Ok(probed)
}

/// As much of Redis' protocol as the probe needs: one-line answers.
struct Redis {
    reader: BufReader<TcpStream>,
}

impl Redis {
    fn connect(address: SocketAddr, mark: Option<u32>, patience: Duration) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        socket.connect_timeout(&address.into(), patience)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Redis { reader: BufReader::new(stream) })
    }

    fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.reader.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_owned();
        if let Some(error) = line.strip_prefix('-') {
            return Err(io::Error::other(format!("redis answered `{error}`")));
        }
        Ok(line)
    }
}
