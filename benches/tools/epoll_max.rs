//! The limit: a client that only writes and reads. No parser, no histogram, no schedule; one thread, raw epoll.
//!
//! ```text
//! epoll_max PORT CONNECTIONS SECONDS [BODY_FILE]
//! ```
//! Prints requests/s and CPU us per request. An answer counts as complete when any bytes have come, so the server must
//! answer in one small piece (`tinysrv` does).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool ends when it cannot go on"
)]

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, port, connections, seconds, ..] = &args[..] else { panic!("epoll_max PORT CONNECTIONS SECONDS") };
    let port: u16 = port.parse().expect("a port");
    let seconds: f64 = seconds.parse().expect("seconds");
    let request: Vec<u8> = match args.get(4) {
        Some(file) => std::fs::read(file).expect("the request"),
        None => format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes(),
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let mut conns = Vec::new();
    for index in 0..connections.parse::<u64>().expect("connections") {
        let conn = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        conn.set_nodelay(true).expect("nodelay");
        conn.set_nonblocking(true).expect("nonblocking");
        let data = epoll::EventData::new_u64(index);
        epoll::add(&epoll, conn.as_fd(), data, epoll::EventFlags::IN).expect("epoll add");
        conns.push(conn);
    }
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    for conn in &conns {
        rustix::net::send(conn, &request, SendFlags::NOSIGNAL).expect("send");
    }
    let mut buffer = [0_u8; 65536];
    let mut events = Vec::with_capacity(256);
    let mut done = 0_u64;
    while Instant::now() < end {
        events.clear();
        let timeout = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout)).ok();
        for event in &events {
            let conn = &conns[event.data.u64() as usize];
            if let Ok((n, _)) = rustix::net::recv(conn, &mut buffer, RecvFlags::empty())
                && n > 0
            {
                done += 1;
                rustix::net::send(conn, &request, SendFlags::NOSIGNAL).expect("send");
            }
        }
    }
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_us = cpu.tv_sec as f64 * 1e6 + cpu.tv_nsec as f64 / 1e3;
    println!("{:.0} requests/s {:.3} us/request", done as f64 / seconds, cpu_us / done.max(1) as f64);
}
