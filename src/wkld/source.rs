//! Where requests come from: bytes ready to be written, made ahead of their due time.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::response::Capture;
use super::url::Host;

/// The random numbers that request makers draw from.
pub type Draws = Pcg64Mcg;

/// Appends the variable part of a request (a form body, or a query string) and returns a key for the request that
/// follows it in a sequence. It gets the key of the request before it, 0 for the first.
pub type Fill = Arc<dyn Fn(&mut Draws, u64, &mut Vec<u8>) -> u64 + Send + Sync>;

/// A request that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Index of the host it goes to.
    pub host: usize,
    /// How many requests the bytes hold: more than 1 when a script pipelines, 0 when it gave none.
    pub depth: u32,
    /// Its answer has no body whatever its head says (HEAD).
    pub no_body: bool,
    /// Its answer leads to a second request with this key.
    pub then: Option<u64>,
    /// It is due this much later than scheduled, ns (`delay` of a script).
    pub delay_ns: u64,
    /// Its answer is shown to [`Source::answered`] with this tag; 0 for most.
    pub tag: u64,
}

/// Why no request could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(
    /// A lower-case message with the script's line.
    pub String,
);

/// One thread's requests.
pub trait Source: Send {
    /// Whether every request has the same bytes, so that one is made for all.
    fn fixed(&self) -> bool {
        false
    }

    /// Appends the next request to `out`.
    ///
    /// # Errors
    /// [`Broken`] when a script fails; the run ends.
    fn make(&mut self, out: &mut Vec<u8>) -> Result<Made, Broken>;

    /// Appends the request that follows the one with `key`.
    ///
    /// # Errors
    /// As [`Source::make`].
    fn follow(&mut self, key: u64, _out: &mut Vec<u8>) -> Result<Made, Broken> {
        Err(Broken(format!("no request follows key {key}")))
    }

    /// Whether [`Source::answered`] wants to see all answers, not only those of tagged requests.
    fn listens(&self) -> bool {
        false
    }

    /// An answer has come, at `now` (ns of the monotonic clock). A tagged request that failed is told with status 0.
    ///
    /// # Errors
    /// As [`Source::make`].
    fn answered(&mut self, _status: u16, _answer: &Capture, _tag: u64, _now: u64) -> Result<(), Broken> {
        Ok(())
    }

    /// The source asks for the end of this thread's load (`wrk.thread:stop()`).
    fn stopped(&self) -> bool {
        false
    }

    /// A host that was found on the way; those the run began with come before it.
    fn host(&self, _index: usize) -> Option<&Host> {
        None
    }

    /// The address that this thread uses for the first host instead of the one that was looked up.
    fn address(&self) -> Option<SocketAddr> {
        None
    }
}

/// The same request again and again.
pub struct Fixed {
    bytes: Vec<u8>,
    no_body: bool,
}

impl Fixed {
    /// A source of `bytes`, a complete request; `no_body` when it is a HEAD request.
    pub fn new(bytes: Vec<u8>, no_body: bool) -> Self {
        Fixed { bytes, no_body }
    }
}

impl Source for Fixed {
    fn fixed(&self) -> bool {
        true
    }

    fn make(&mut self, out: &mut Vec<u8>) -> Result<Made, Broken> {
        out.extend_from_slice(&self.bytes);
        Ok(Made { depth: 1, no_body: self.no_body, ..Made::default() })
    }
}

/// How a request carries what fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// GET with a query string.
    Query,
    /// POST with a form body.
    Form,
    /// POST with a query string and no body.
    PostedQuery,
}

/// One request kind of an endpoint.
#[derive(Clone)]
pub struct Call {
    /// Index of the host it goes to.
    pub host: usize,
    /// That host's `host[:port]` for the head.
    pub authority: String,
    /// How it carries what fills it.
    pub carry: Carry,
    /// The path, with its leading slash.
    pub path: String,
    /// What fills it.
    pub fill: Fill,
}

impl Call {
    /// The head up to where it varies.
    fn prefix(&self) -> Vec<u8> {
        match self.carry {
            Carry::Form => format!(
                "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ",
                self.path, self.authority
            ),
            Carry::Query => format!("GET {}?", self.path),
            Carry::PostedQuery => format!("POST {}?", self.path),
        }
        .into_bytes()
    }

    /// The head behind the query string.
    fn suffix(&self) -> Vec<u8> {
        let length = if self.carry == Carry::PostedQuery { "Content-Length: 0\r\n" } else { "" };
        format!(" HTTP/1.1\r\nHost: {}\r\n{length}\r\n", self.authority).into_bytes()
    }
}

/// A call with the parts of its head that do not vary.
struct Prepared {
    call: Call,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

impl Prepared {
    fn of(call: Call) -> Prepared {
        Prepared { prefix: call.prefix(), suffix: call.suffix(), call }
    }
}

/// The requests of an endpoint: of one kind, of one that leads to another, or of several kinds by their shares.
pub struct Calls {
    /// The kinds, each with the sum of the shares up to and with its own.
    kinds: Vec<(u32, Prepared)>,
    then: Option<Prepared>,
    draws: Draws,
    body: Vec<u8>,
}

impl Calls {
    /// A source of `first` (and, when it is answered, of `then`) that draws from `seed`.
    pub fn new(first: Call, then: Option<Call>, seed: u64) -> Self {
        let then = then.map(Prepared::of);
        Calls { then, ..Calls::mixed(vec![(1, first)], seed) }
    }

    /// A source of calls, each drawn by its share of the sum of all shares.
    pub fn mixed(kinds: Vec<(u32, Call)>, seed: u64) -> Self {
        let mut sum = 0_u32;
        let prepared = kinds.into_iter().map(|(share, call)| {
            sum = sum.saturating_add(share);
            (sum, Prepared::of(call))
        });
        Calls {
            kinds: prepared.collect(),
            then: None,
            draws: Draws::seed_from_u64(seed),
            body: Vec::with_capacity(1024),
        }
    }

    /// The next request's kind. One kind costs no draw, so that its requests stay those of its seed.
    fn kind(&mut self) -> Result<usize, Broken> {
        match self.kinds.as_slice() {
            [] => Err(Broken("the endpoint has no requests".into())),
            [_] => Ok(0),
            [.., (sum, _)] => {
                let drawn = self.draws.random_range(0..(*sum).max(1));
                Ok(self.kinds.partition_point(|(upto, _)| *upto <= drawn).min(self.kinds.len() - 1))
            }
        }
    }
}

impl Source for Calls {
    fn make(&mut self, out: &mut Vec<u8>) -> Result<Made, Broken> {
        let kind = self.kind()?;
        let prepared = &self.kinds[kind].1;
        let key = append(prepared, 0, &mut self.draws, &mut self.body, out);
        let then = self.then.as_ref().map(|_| key);
        Ok(Made { host: prepared.call.host, depth: 1, then, ..Made::default() })
    }

    fn follow(&mut self, key: u64, out: &mut Vec<u8>) -> Result<Made, Broken> {
        let then = self.then.as_ref().ok_or_else(|| Broken("no second request in this endpoint".into()))?;
        append(then, key, &mut self.draws, &mut self.body, out);
        Ok(Made { host: then.call.host, depth: 1, ..Made::default() })
    }
}

fn append(prepared: &Prepared, key: u64, draws: &mut Draws, body: &mut Vec<u8>, out: &mut Vec<u8>) -> u64 {
    let Prepared { call, prefix, suffix } = prepared;
    out.extend_from_slice(prefix);
    if call.carry != Carry::Form {
        let key = (call.fill)(draws, key, out);
        out.extend_from_slice(suffix);
        return key;
    }
    body.clear();
    let key = (call.fill)(draws, key, body);
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_hands_its_key_on() {
        let first = Call {
            host: 0,
            authority: "a:1".into(),
            carry: Carry::Form,
            path: "/w".into(),
            fill: Arc::new(|_, _, out| {
                out.extend_from_slice(b"x=1234567890");
                7
            }),
        };
        let then = Call {
            host: 1,
            authority: "b:2".into(),
            carry: Carry::Query,
            path: "/r".into(),
            fill: Arc::new(|_, key, out| {
                out.extend_from_slice(format!("k={key}").as_bytes());
                0
            }),
        };
        let mut calls = Calls::new(first, Some(then), 1);
        let (mut write, mut read) = (Vec::new(), Vec::new());
        let made = calls.make(&mut write).unwrap();
        assert_eq!((made.host, made.then), (0, Some(7)));
        assert_eq!(calls.follow(7, &mut read).unwrap().host, 1);
        let write = String::from_utf8(write).unwrap();
        assert!(write.starts_with("POST /w HTTP/1.1\r\nHost: a:1\r\n"), "{write}");
        assert!(write.ends_with("Content-Length: 12\r\n\r\nx=1234567890"), "{write}");
        assert_eq!(read, b"GET /r?k=7 HTTP/1.1\r\nHost: b:2\r\n\r\n");
    }

    #[test]
    fn a_mix_draws_its_kinds_by_their_shares() {
        let call = |path: &str, carry| {
            let fill: Fill = Arc::new(|_, _, out| {
                out.extend_from_slice(b"q=1");
                0
            });
            Call { host: 0, authority: "a:1".into(), carry, path: path.into(), fill }
        };
        let mut mix = Calls::mixed(
            vec![(600, call("/s", Carry::Query)), (0, call("/n", Carry::Query)), (400, call("/p", Carry::PostedQuery))],
            7,
        );
        let (mut searches, mut posts) = (0, 0);
        for _ in 0..20_000 {
            let mut out = Vec::new();
            mix.make(&mut out).unwrap();
            match out.as_slice() {
                b"GET /s?q=1 HTTP/1.1\r\nHost: a:1\r\n\r\n" => searches += 1,
                b"POST /p?q=1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n" => posts += 1,
                other => panic!("{}", String::from_utf8_lossy(other)),
            }
        }
        // Four standard deviations of 20 000 draws.
        assert!((11_722..=12_278).contains(&searches), "{searches} of {}", searches + posts);
    }
}
