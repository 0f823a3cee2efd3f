//! A trace store behind a real socket, which answers what the test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// An answer.
pub struct Reply {
    status: u16,
    kind: &'static str,
    encoding: Option<&'static str>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection is cut.
    cut: Option<usize>,
    /// At this offset of the body come so many letters more, which are nowhere in memory.
    filler: (usize, usize),
}

impl Reply {
    /// 200 with JSON.
    pub fn json(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 200, kind: "application/json", encoding: None, body: body.into(), cut: None, filler: (0, 0) }
    }

    /// 200 with a web page.
    pub fn html(body: &str) -> Reply {
        Reply { kind: "text/html", ..Reply::json(body) }
    }

    /// A status without a body.
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::json("") }
    }

    /// The same with another status.
    pub fn with_status(self, status: u16) -> Reply {
        Reply { status, ..self }
    }

    /// The same, compressed.
    pub fn gzip(self) -> Reply {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&self.body).unwrap();
        Reply { body: packed.finish().unwrap(), encoding: Some("gzip"), ..self }
    }

    /// The same, but the connection breaks after `bytes` of the body.
    pub fn cut_after(self, bytes: usize) -> Reply {
        Reply { cut: Some(bytes), ..self }
    }

    /// The same with `count` letters between the body and `after`.
    pub fn filled(mut self, count: usize, after: &str) -> Reply {
        self.filler = (self.body.len(), count);
        self.body.extend_from_slice(after.as_bytes());
        self
    }

    fn send(&self, mut to: &TcpStream) -> std::io::Result<()> {
        let encoding = self.encoding.map(|name| format!("Content-Encoding: {name}\r\n")).unwrap_or_default();
        let (status, kind, length) = (self.status, self.kind, self.body.len() + self.filler.1);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{encoding}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        to.write_all(head.as_bytes())?;
        if let Some(cut) = self.cut {
            return to.write_all(&self.body[..cut]);
        }
        let (at, mut left) = self.filler;
        to.write_all(&self.body[..at])?;
        let letters = [b'y'; 1 << 16];
        while left > 0 {
            let some = left.min(letters.len());
            to.write_all(&letters[..some])?;
            left -= some;
        }
        to.write_all(&self.body[at..])
    }
}

type Answer = dyn Fn(&str) -> Reply + Send + Sync;

/// The server; it ends with the value.
pub struct TraceServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TraceServer {
    /// Answers each request (path with query) with what `answer` says.
    pub fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> TraceServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server =
            TraceServer { address: listener.local_addr().unwrap(), stop: Arc::default(), asked: Arc::default() };
        let (stop, asked) = (Arc::clone(&server.stop), Arc::clone(&server.asked));
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                std::thread::spawn(move || serve(&stream, &*answer, &asked));
            }
        });
        server
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Paths with queries, in the order in which they were asked.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for TraceServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        TcpStream::connect(self.address).ok();
    }
}

fn serve(stream: &TcpStream, answer: &Answer, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    asked.lock().unwrap().push(path.clone());
    // A client that has gone needs no answer.
    answer(&path).send(stream).ok();
}
