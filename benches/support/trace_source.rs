//! A trace store that makes its traces up while it sends them: any number, no disk, no memory.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::trace_maker::{FRAME, Made, TraceMaker};

/// First instant of the made-up runs, us since the epoch.
pub const BEGIN_US: i64 = 1_634_554_800_000_000;
/// One request each.
const GAP_US: i64 = 10_000;
/// Traces written at once.
const BATCH: u64 = 32;

/// Serves `count` traces on a port of its own until the process ends.
pub fn start(count: u64, address: &str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // A client that goes away early has seen enough.
                answer(&stream, count).ok();
            });
        }
    });
    Ok(address)
}

fn answer(stream: &TcpStream, count: u64) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    if first.contains("/api/traces") {
        return traces(stream, count);
    }
    let edge = r#"{"parent":"compose-post-service","child":"write-home-timeline-service-us","callCount":"#;
    let body = format!(r#"{{"data":[{edge}{count}}}],"total":0,"limit":0,"offset":0,"errors":null}}"#);
    let status = if first.contains("/api/dependencies") { "200 OK" } else { "404 Not Found" };
    head(stream, status, body.len() as u64)?;
    (&mut &*stream).write_all(body.as_bytes())
}

fn head(mut stream: &TcpStream, status: &str, length: u64) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

fn traces(mut stream: &TcpStream, count: u64) -> std::io::Result<()> {
    let maker = TraceMaker::new();
    let mut text = Vec::new();
    maker.write(&Made::numbered(0, BEGIN_US, GAP_US), &mut text);
    let commas = count.saturating_sub(1);
    head(stream, "200 OK", text.len() as u64 * count + commas + (FRAME.0.len() + FRAME.1.len()) as u64)?;
    stream.write_all(FRAME.0)?;
    let mut next = 0;
    while next < count {
        text.clear();
        for index in next..(next + BATCH).min(count) {
            if index > 0 {
                text.push(b',');
            }
            maker.write(&Made::numbered(index, BEGIN_US, GAP_US), &mut text);
        }
        next = (next + BATCH).min(count);
        stream.write_all(&text)?;
    }
    stream.write_all(FRAME.1)
}
