//! Servers that misbehave: each fault is counted by its kind, and the run goes on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{Server, ok};
use crate::harness::Session;

/// A server that hands every connection, with its number, to `serve`.
fn raw(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, conn) in listener.incoming().flatten().enumerate() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(conn, number));
        }
    });
    url
}

/// Waits for one request; false when the client has gone.
fn request(conn: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.ends_with(b"\r\n\r\n") {
        match conn.read(&mut buffer) {
            Ok(n) if n > 0 => seen.extend_from_slice(&buffer[..n]),
            _ => return false,
        }
    }
    true
}

fn answer(conn: &mut TcpStream) {
    conn.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok();
}

/// Closes with a reset.
fn reset(conn: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&conn, Some(Duration::ZERO)).unwrap();
}

/// The `load` summary of a run against a URL.
fn summary(url: &str, options: &str) -> Value {
    let done = Session::new().ok(&format!("--json wkld --url {url} {options}"));
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn a_reset_inside_a_body_is_a_read_error() {
    let count = AtomicUsize::new(0);
    let url = raw(move |mut conn, _| {
        while request(&mut conn) {
            if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                conn.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").ok();
                return reset(conn);
            }
            answer(&mut conn);
        }
    });
    let load = summary(&url, "-r 50 -d 1 -c 2");
    let read = load["errors"]["read"].as_u64().unwrap_or(0);
    assert_eq!(read, 25, "{load}");
    assert_eq!(load["ok"].as_u64().unwrap() + read, 50, "{load}");
    assert_eq!(load["latency_answered_us"]["count"], load["ok"], "failures are in no latency");
    assert_eq!(load["failed_us"]["count"], read);
}

#[test]
fn a_server_that_never_answers_is_a_timeout() {
    let url = raw(|mut conn, _| while request(&mut conn) {});
    let load = summary(&url, "-r 10 -d 1 -c 20 --timeout 0.3");
    assert_eq!(load["errors"]["timeout"], 10, "{load}");
    let shortest = load["failed_us"]["min"].as_f64().unwrap();
    assert!(shortest >= 299_000.0, "{load}");
    assert_eq!((load["ok"].as_u64(), load["unfinished"].as_u64()), (Some(0), Some(0)));
}

#[test]
fn a_half_open_connection_is_replaced() {
    let url = raw(|mut conn, _| {
        if request(&mut conn) {
            answer(&mut conn);
            conn.shutdown(std::net::Shutdown::Write).ok();
            // It still listens, but will never say anything again.
            while request(&mut conn) {}
        }
    });
    let load = summary(&url, "-r 20 -d 1 -c 2");
    let (ok, read) = (load["ok"].as_u64().unwrap(), load["errors"]["read"].as_u64().unwrap_or(0));
    assert_eq!(ok + read, 20, "{load}");
    assert!(ok >= 3 && load["idle_closed"].as_u64().unwrap() >= 1, "{load}");
    assert!(load["reopened"].as_u64().unwrap() >= 1, "{load}");
}

#[test]
fn slow_headers_are_read_until_the_timeout() {
    let url = raw(|mut conn, number| {
        let pause = if number == 0 { 5 } else { 60 };
        conn.set_nodelay(true).unwrap();
        while request(&mut conn) {
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
                if conn.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
    });
    let load = summary(&url, "-r 2 -d 1 -c 2 --timeout 1.2");
    assert_eq!((load["ok"].as_u64(), load["errors"]["timeout"].as_u64()), (Some(1), Some(1)), "{load}");
}

#[test]
fn a_wrong_content_length_is_told() {
    let url = raw(|mut conn, number| {
        if !request(&mut conn) {
            return;
        }
        if number.is_multiple_of(2) {
            // More than announced.
            conn.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more").ok();
            request(&mut conn);
        } else {
            // Less than announced.
            conn.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok").ok();
        }
    });
    let load = summary(&url, "-r 20 -d 1 -c 2");
    let (protocol, read) = (load["errors"]["protocol"].as_u64().unwrap(), load["errors"]["read"].as_u64().unwrap());
    assert!(protocol >= 1 && read >= 1, "{load}");
    assert_eq!(protocol + read, 20, "{load}");
}

#[test]
fn what_is_not_http_is_a_protocol_error() {
    let url = raw(|mut conn, _| {
        while request(&mut conn) {
            conn.write_all(b"220 mail.example ESMTP\r\n").ok();
        }
    });
    let load = summary(&url, "-r 10 -d 1 -c 1");
    assert_eq!(load["errors"]["protocol"], 10, "{load}");
}

#[test]
fn statuses_are_told_apart_and_bodies_of_every_framing_are_read() {
    let answers: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ];
    let next = AtomicUsize::new(0);
    let url = raw(move |mut conn, _| {
        while request(&mut conn) {
            conn.write_all(answers[next.fetch_add(1, Ordering::Relaxed) % 6]).ok();
        }
    });
    let load = summary(&url, "-r 60 -d 1 -c 3");
    assert_eq!(load["ok"], 30, "{load}");
    for kind in ["status_3xx", "status_4xx", "status_5xx"] {
        assert_eq!(load["errors"][kind], 10, "{load}");
    }
    assert_eq!(load["reopened"], 0, "{load}");
}

#[test]
fn connections_that_end_with_their_answer_are_opened_again() {
    let url = raw(|mut conn, _| {
        if request(&mut conn) {
            conn.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").ok();
        }
    });
    let load = summary(&url, "-r 30 -d 1 -c 2");
    assert_eq!((load["ok"].as_u64(), load["reopened"].as_u64()), (Some(30), Some(28)), "{load}");
}

#[test]
fn a_server_that_restarts_costs_only_the_requests_of_the_gap() {
    let conns: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accept = |listener: TcpListener, conns: &Arc<Mutex<Vec<TcpStream>>>, gone: Arc<AtomicUsize>| {
        let conns = Arc::clone(conns);
        std::thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                if gone.load(Ordering::SeqCst) == 1 {
                    return;
                }
                let mut serving = conn.try_clone().unwrap();
                conns.lock().unwrap().push(conn);
                std::thread::spawn(move || {
                    while request(&mut serving) {
                        answer(&mut serving)
                    }
                });
            }
        })
    };
    let gone = Arc::new(AtomicUsize::new(0));
    let first = accept(listener, &conns, Arc::clone(&gone));
    let held = Arc::clone(&conns);
    let restart = std::thread::spawn(move || {
        // In the middle of the run: when the client has been at work for a while.
        std::thread::sleep(Duration::from_millis(1200));
        gone.store(1, Ordering::SeqCst);
        TcpStream::connect(address).unwrap();
        first.join().unwrap();
        for conn in held.lock().unwrap().drain(..) {
            conn.shutdown(std::net::Shutdown::Both).unwrap();
        }
        std::thread::sleep(Duration::from_millis(500));
        let listener = TcpListener::bind(address).unwrap();
        accept(listener, &held, Arc::default());
    });
    let load = summary(&format!("http://{address}/"), "-r 40 -d 3 -c 4");
    restart.join().unwrap();
    let errors = &load["errors"];
    assert!(errors["connect"].as_u64().unwrap_or(0) >= 1, "refused while it was away: {load}");
    let failed: u64 = errors.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(load["ok"].as_u64().unwrap() + failed, 120, "{load}");
    assert!(load["ok"].as_u64().unwrap() >= 60, "{load}");
}

#[test]
fn the_limit_on_open_files_is_named() {
    let server = Server::start(|_| ok(""));
    let line = format!(
        "ulimit -n 256; exec {} wkld --url {}/ -r 10 -d 1 -c 10000",
        env!("CARGO_BIN_EXE_maestro"),
        server.url()
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let expected = "maestro: 10000 connections need more open files than the limit of 256 (`ulimit -n`)\n";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn requests_wait_for_a_free_connection_or_open_another() {
    let url = raw(|mut conn, _| {
        while request(&mut conn) {
            std::thread::sleep(Duration::from_millis(100));
            answer(&mut conn);
        }
    });
    let waiting = summary(&url, "-r 20 -d 1 -c 1");
    assert_eq!(waiting["ok"], 20, "{waiting}");
    assert!(waiting["waited"].as_u64().unwrap() >= 18, "{waiting}");
    assert!(waiting["lag_no_free_connection_us"]["max"].as_f64().unwrap() > 800_000.0, "{waiting}");
    let extra = summary(&url, "-r 20 -d 1 -c 1 --max-connections 30");
    assert!(extra["reopened"].as_u64().unwrap() >= 1, "{extra}");
    assert!(extra["waited"].as_u64().unwrap() < waiting["waited"].as_u64().unwrap(), "{extra}");
}

#[test]
fn a_run_that_ends_in_a_freeze_counts_what_has_no_end() {
    let begun = Arc::new(Mutex::new(None));
    let url = raw(move |mut conn, _| {
        while request(&mut conn) {
            let start = *begun.lock().unwrap().get_or_insert_with(std::time::Instant::now);
            if start.elapsed() > Duration::from_millis(1000) {
                std::thread::sleep(Duration::from_secs(30));
            }
            answer(&mut conn);
        }
    });
    let load = summary(&url, "-r 100 -d 2 -c 4 --drain 0");
    let (ok, unfinished) = (load["ok"].as_u64().unwrap(), load["unfinished"].as_u64().unwrap());
    assert_eq!(ok + unfinished, 200, "{load}");
    assert!((90..=110).contains(&unfinished), "{load}");
    assert!(load["latency_us"]["p99"].as_f64().unwrap() > 900_000.0, "{load}");
    assert!(load["exact_below_quantile"].as_f64().unwrap() < 0.56, "{load}");
    assert_eq!(load["unfinished"], load["unsent"].as_u64().unwrap() + load["unanswered"].as_u64().unwrap());
}
