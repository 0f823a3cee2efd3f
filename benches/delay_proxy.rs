//! What the delay proxy costs and how exact it is: throughput at no delay, CPU at moderate rates, and the delay
//! obtained on a thousand connections. Plain numbers, no framework: `cargo bench --bench delay_proxy`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops when something is wrong")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use maestro::delay::proxy::{Destination, Entrance, Opener, Proxy, Setup, Specs};
use maestro::delay::spec::{Asked, Spec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn spec(delay_ms: f64) -> Spec {
    Spec::check(Asked { delay_ms, ..Asked::default() }).unwrap()
}

fn proxy(server: SocketAddr, from_peer: Spec) -> (Proxy, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup {
        entrances: vec![Entrance { listener, rule: 0, opener: Opener::Here }],
        rules: vec![Specs { from_peer, to_peer: Spec::zero() }],
        destination: Destination::Fixed(server),
        mark: None,
        seed: 1,
    };
    (Proxy::start(setup).unwrap(), address)
}

/// CPU time of the proxy's thread so far.
fn proxy_cpu() -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").trim() == "delay-proxy" {
            // schedstat: time on a CPU in ns, time waiting, time slices.
            let ns = read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            return Duration::from_nanos(ns);
        }
    }
    Duration::ZERO
}

/// A server that sends `rate` bytes/s (or as much as it can) for `seconds` to one client.
fn source(rate: Option<f64>, seconds: f64) -> SocketAddr {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let piece = vec![1u8; if rate.is_some() { 16 << 10 } else { 256 << 10 }];
        let (start, mut sent) = (Instant::now(), 0f64);
        while start.elapsed().as_secs_f64() < seconds && stream.write_all(&piece).is_ok() {
            sent += piece.len() as f64;
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(sent / rate);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
    });
    address
}

/// Bytes per second that arrive, and the share of a core that the proxy used.
fn carry(delay_ms: f64, rate: Option<f64>, seconds: f64) -> (f64, f64) {
    let (_proxy, address) = proxy(source(rate, seconds), spec(delay_ms));
    let mut client = TcpStream::connect(address).unwrap();
    let mut buffer = vec![0u8; 256 << 10];
    let (start, before, mut got) = (Instant::now(), proxy_cpu(), 0usize);
    loop {
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => got += length,
        }
    }
    let elapsed = start.elapsed();
    let cpu = proxy_cpu().saturating_sub(before);
    (got as f64 / elapsed.as_secs_f64(), cpu.as_secs_f64() / elapsed.as_secs_f64())
}

/// Round trips of `connections` connections, each `rounds` times, through `delay_ms`; sorted, ms.
fn round_trips(connections: usize, rounds: usize, delay_ms: f64) -> Vec<f64> {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (_proxy, address) = proxy(server.local_addr().unwrap(), spec(delay_ms));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        server.set_nonblocking(true).unwrap();
        let server = tokio::net::TcpListener::from_std(server).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    // The client decides when it ends.
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        let clients: Vec<_> = (0..connections).map(|index| tokio::spawn(client(address, index, rounds))).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.unwrap());
        }
        all.sort_by(f64::total_cmp);
        all
    })
}

async fn client(address: SocketAddr, index: usize, rounds: usize) -> Vec<f64> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    tokio::time::sleep(Duration::from_micros(100 * index as u64)).await;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        stream.write_all(&[1; 16]).await.unwrap();
        stream.read_exact(&mut [0; 16]).await.unwrap();
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    samples
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.2} / {:.2} / {:.2}", values[0], values[values.len() / 2], values[values.len() - 1])
}

fn main() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();

    println!("one stream on loopback, five times (min / median / max)");
    for delay in [0.0, 20.0] {
        let runs: Vec<(f64, f64)> = (0..5).map(|_| carry(delay, None, 2.0)).collect();
        println!(
            "  {delay} ms: {} Gbit/s, {} of a core in the proxy",
            spread(runs.iter().map(|r| r.0 * 8e-9).collect()),
            spread(runs.iter().map(|r| r.1).collect())
        );
    }
    println!("proxy CPU at a given rate, 20 ms delay");
    for rate in [10e6, 50e6] {
        let (got, cpu) = carry(20.0, Some(rate), 3.0);
        println!("  {:.0} MB/s: {:.3} of a core ({:.1} MB/s carried)", rate / 1e6, cpu, got / 1e6);
    }
    println!("round trips through the proxy, five times (min / median / max)");
    for (connections, rounds, delay) in [(1, 100, 0.0), (1, 50, 5.0), (1000, 10, 100.0)] {
        let runs: Vec<Vec<f64>> = (0..5).map(|_| round_trips(connections, rounds, delay)).collect();
        let at = |q: f64| spread(runs.iter().map(|r| r[((r.len() - 1) as f64 * q) as usize]).collect());
        println!("  {connections} connections, {delay} ms: p50 {} ms, p99 {} ms", at(0.5), at(0.99));
    }
}
