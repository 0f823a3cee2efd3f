//! A server that is cheaper than any client: one thread, raw epoll, a fixed answer. For measuring load generators.
//!
//! ```text
//! tinysrv [PORT] [--freeze EVERY_MS,LENGTH_MS,PHASE_MS] [--freeze-from MS] [--log FILE] [--body BYTES]
//! ```
//! `--freeze 5000,1000,0` answers nothing in the first second of every five (on the wall clock, so that a client can be
//! started in step with it). `--freeze-from 2100` stops answering for good 2.1 s after the first request.
//! `--log` writes the arrival of every request, ns of the monotonic clock, when the server is ended with SIGTERM or
//! SIGINT; stamps are taken per request as its bytes are read. The port is printed on stdout.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool ends when it cannot go on"
)]

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::time::{ClockId, clock_gettime};

struct Options {
    port: u16,
    freeze: Option<[u64; 3]>,
    freeze_from: Option<u64>,
    log: Option<String>,
    body: usize,
}

fn options() -> Options {
    let mut options = Options { port: 0, freeze: None, freeze_from: None, log: None, body: 13 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--freeze" => {
                let numbers: Vec<u64> = value().split(',').map(|n| n.parse().expect("a number")).collect();
                options.freeze = Some(numbers.try_into().expect("three numbers"));
            }
            "--freeze-from" => options.freeze_from = Some(value().parse().expect("a number")),
            "--log" => options.log = Some(value()),
            "--body" => options.body = value().parse().expect("a number"),
            port => options.port = port.parse().expect("a port"),
        }
    }
    options
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps while the wall clock is inside a freeze.
fn freeze(every: u64, length: u64, phase: u64) {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_millis() as u64;
    let into = (wall + every - phase % every) % every;
    if into < length {
        std::thread::sleep(Duration::from_millis(length - into));
    }
}

fn main() {
    let options = options();
    let listener = TcpListener::bind(("127.0.0.1", options.port)).expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    println!("{}", listener.local_addr().expect("an address").port());
    std::io::stdout().flush().expect("stdout");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", options.body, "x".repeat(options.body));
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let add = |fd: &dyn AsFd, data: u64| {
        epoll::add(&epoll, fd.as_fd(), epoll::EventData::new_u64(data), epoll::EventFlags::IN).expect("epoll add");
    };
    add(&listener, u64::MAX);
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, stop) = std::os::unix::net::UnixStream::pair().expect("a pair");
    add(&stop, u64::MAX - 1);
    end_on_signal(std::sync::Arc::clone(&ended), flag);
    let mut conns: Vec<Option<OwnedFd>> = Vec::new();
    let mut arrivals: Vec<u64> = Vec::new();
    let mut first: Option<Instant> = None;
    let mut buffer = [0_u8; 16384];
    let mut events = Vec::with_capacity(256);
    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
        events.clear();
        if epoll::wait(&epoll, spare_capacity(&mut events), None).is_err() {
            continue;
        }
        if let Some([every, length, phase]) = options.freeze {
            freeze(every, length, phase);
        }
        for event in &events {
            match event.data.u64() {
                u64::MAX => {
                    while let Ok(fd) = rustix::net::accept_with(&listener, SocketFlags::NONBLOCK) {
                        rustix::net::sockopt::set_tcp_nodelay(&fd, true).expect("nodelay");
                        add(&fd, conns.len() as u64);
                        conns.push(Some(fd));
                    }
                }
                index if (index as usize) < conns.len() => {
                    let Some(fd) = &conns[index as usize] else { continue };
                    match rustix::net::recv(fd, &mut buffer, RecvFlags::empty()) {
                        Ok((0, _)) | Err(_) => conns[index as usize] = None,
                        Ok((n, _)) => {
                            let requests = heads(&buffer[..n]);
                            if options.log.is_some() {
                                arrivals.extend(std::iter::repeat_n(now(), requests));
                            }
                            let since = first.get_or_insert_with(Instant::now).elapsed();
                            if options.freeze_from.is_some_and(|from| since >= Duration::from_millis(from)) {
                                continue;
                            }
                            for _ in 0..requests {
                                rustix::net::send(fd, answer.as_bytes(), SendFlags::NOSIGNAL).ok();
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    if let Some(path) = options.log {
        let lines: String = arrivals.iter().map(|ns| format!("{ns}\n")).collect();
        std::fs::write(path, lines).expect("write the log");
    }
}

/// How many requests `bytes` hold; every one is expected in one piece.
fn heads(bytes: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, b"\r\n\r\n").count().max(usize::from(!bytes.is_empty()))
}

/// A thread that waits for SIGTERM or SIGINT and wakes the loop.
fn end_on_signal(ended: std::sync::Arc<std::sync::atomic::AtomicBool>, mut wake: std::os::unix::net::UnixStream) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (mut term, mut int) =
                (signal(SignalKind::terminate()).expect("SIGTERM"), signal(SignalKind::interrupt()).expect("SIGINT"));
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        });
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        wake.write_all(b"x").ok();
    });
}
