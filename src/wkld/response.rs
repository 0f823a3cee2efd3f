//! Reading HTTP/1 responses in place, as the bytes come: what ends a response, and how.
//!
//! Nothing is copied while a head arrives in one piece (the usual case); a head that is cut in two is kept until the
//! rest comes. Bodies are counted and skipped.

use std::mem::MaybeUninit;

use httparse::Status;

/// The longest head that is accepted, bytes.
pub const HEAD_LIMIT: usize = 64 << 10;

/// The most header fields in a head.
const FIELD_LIMIT: usize = 96;

/// What is not an HTTP/1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The status line or a header field cannot be read.
    #[error("not an HTTP/1 response head")]
    Head,
    /// The head does not end.
    #[error("response head longer than {HEAD_LIMIT} bytes or {FIELD_LIMIT} fields")]
    HeadTooLong,
    /// `content-length` is not one number.
    #[error("unusable content-length")]
    Length,
    /// A chunk's size or end is wrong.
    #[error("broken chunk")]
    Chunk,
    /// The server wants to speak something else.
    #[error("the server switched protocols")]
    Upgrade,
    /// The connection ended inside a response.
    #[error("connection closed inside a response")]
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Fixed(u64),
    ChunkSize { size: u64, digits: u8 },
    ChunkExtension { size: u64 },
    ChunkData(u64),
    ChunkCr,
    ChunkLf,
    Trailer { line: u32, total: u32 },
    UntilClose,
}

/// How far a piece of input led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All of it was taken; the response is not complete.
    More,
    /// The response is complete after this many bytes of the input.
    Done(usize),
}

/// A response as a script sees it.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// Header names and values, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
}

/// The reader of one connection's responses.
#[derive(Debug)]
pub struct Response {
    state: State,
    stash: Vec<u8>,
    status: u16,
    keep_alive: bool,
    no_body: bool,
    begun: bool,
    /// The last head that came in one piece: most heads of a connection are the same to the byte.
    known: Option<(Vec<u8>, Head)>,
}

impl Default for Response {
    fn default() -> Self {
        Response {
            state: State::Head,
            stash: Vec::new(),
            status: 0,
            keep_alive: true,
            no_body: false,
            begun: false,
            known: None,
        }
    }
}

impl Response {
    /// Gets ready for the next response; `no_body` for the answer to a HEAD request.
    pub fn reset(&mut self, no_body: bool) {
        self.state = State::Head;
        self.no_body = no_body;
        self.begun = false;
        self.stash.clear();
    }

    /// The status of the response that was completed last.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection may carry another request.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether any byte of the response was seen.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Takes the bytes that came.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is of no more use then.
    pub fn feed(&mut self, input: &[u8], mut capture: Option<&mut Capture>) -> Result<Fed, Malformed> {
        self.begun |= !input.is_empty();
        let mut at = 0;
        loop {
            let rest = &input[at..];
            if self.state == State::Head {
                match self.head(rest, capture.as_deref_mut())? {
                    Some((used, done)) => {
                        at += used;
                        if done {
                            return Ok(Fed::Done(at));
                        }
                        continue;
                    }
                    None => return Ok(Fed::More),
                }
            }
            if rest.is_empty() {
                return Ok(Fed::More);
            }
            let (used, done) = self.body(rest, capture.as_deref_mut())?;
            at += used;
            if done {
                return Ok(Fed::Done(at));
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// [`Malformed::Cut`] unless the response was one that ends with its connection.
    pub fn end(&mut self) -> Result<(), Malformed> {
        if self.state == State::UntilClose { Ok(()) } else { Err(Malformed::Cut) }
    }

    /// Reads a head: how much of `input` it took and whether the response ends with it; none when it is not complete.
    fn head(&mut self, input: &[u8], capture: Option<&mut Capture>) -> Result<Option<(usize, bool)>, Malformed> {
        if self.stash.is_empty() {
            // A head ends with its empty line, so that what begins with a known head has that head.
            if capture.is_none()
                && let Some((bytes, head)) = &self.known
                && input.starts_with(bytes)
            {
                let (used, head) = (bytes.len(), *head);
                return self.apply(head).map(|done| Some((used, done)));
            }
            if let Some((used, head)) = Head::parse(input, capture)? {
                let (bytes, known) = self.known.get_or_insert((Vec::new(), head));
                bytes.clear();
                bytes.extend_from_slice(&input[..used]);
                *known = head;
                return self.apply(head).map(|done| Some((used, done)));
            }
            self.stash.extend_from_slice(input);
        } else {
            let old = self.stash.len();
            self.stash.extend_from_slice(input);
            // A head is only complete with a line end, so that a head that comes byte by byte is not parsed for each.
            if input.contains(&b'\n')
                && let Some((used, head)) = Head::parse(&self.stash, capture)?
            {
                self.stash = Vec::new();
                return self.apply(head).map(|done| Some((used - old, done)));
            }
        }
        if self.stash.len() > HEAD_LIMIT { Err(Malformed::HeadTooLong) } else { Ok(None) }
    }

    /// Goes on from a complete head; true when the response ends with it.
    fn apply(&mut self, head: Head) -> Result<bool, Malformed> {
        match head.status {
            101 => return Err(Malformed::Upgrade),
            100..200 => return Ok(false),
            _ => {}
        }
        self.status = head.status;
        self.keep_alive = head.keep_alive;
        if self.no_body || matches!(head.status, 204 | 304) {
            return Ok(true);
        }
        self.state = match head.framing {
            Framing::Fixed(0) => return Ok(true),
            Framing::Fixed(length) => State::Fixed(length),
            Framing::Chunked => State::ChunkSize { size: 0, digits: 0 },
            Framing::UntilClose => {
                self.keep_alive = false;
                State::UntilClose
            }
        };
        Ok(false)
    }

    /// Takes a part of `input` (not empty) that belongs to the body: how much, and whether the response is complete.
    fn body(&mut self, input: &[u8], capture: Option<&mut Capture>) -> Result<(usize, bool), Malformed> {
        match self.state {
            State::Fixed(left) => {
                let used = skip(input, left, capture);
                self.state = State::Fixed(left - used as u64);
                Ok((used, left == used as u64))
            }
            State::ChunkData(left) => {
                let used = skip(input, left, capture);
                let left = left - used as u64;
                self.state = if left == 0 { State::ChunkCr } else { State::ChunkData(left) };
                Ok((used, false))
            }
            State::UntilClose | State::Head => Ok((skip(input, u64::MAX, capture), false)),
            _ => self.chunk_byte(input[0]).map(|done| (1, done)),
        }
    }

    /// One byte between the data of chunks; true at the end of the response.
    fn chunk_byte(&mut self, byte: u8) -> Result<bool, Malformed> {
        self.state = match (self.state, byte) {
            (State::ChunkSize { size, digits: 1.. }, b';' | b' ' | b'\t' | b'\r') => State::ChunkExtension { size },
            (State::ChunkSize { size, digits: 1.. }, b'\n') => after_size(size),
            (State::ChunkSize { size, digits }, _) => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed::Chunk)?;
                if digits >= 15 {
                    return Err(Malformed::Chunk);
                }
                State::ChunkSize { size: (size << 4) | u64::from(digit), digits: digits + 1 }
            }
            (State::ChunkExtension { size }, b'\n') => after_size(size),
            (same @ State::ChunkExtension { .. }, _) => same,
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkCr | State::ChunkLf, b'\n') => State::ChunkSize { size: 0, digits: 0 },
            (State::Trailer { line: 0, .. }, b'\n') => return Ok(true),
            (State::Trailer { total, .. }, b'\n') => State::Trailer { line: 0, total },
            (same @ State::Trailer { .. }, b'\r') => same,
            (State::Trailer { line, total }, _) if (total as usize) < HEAD_LIMIT => {
                State::Trailer { line: line + 1, total: total + 1 }
            }
            _ => return Err(Malformed::Chunk),
        };
        Ok(false)
    }
}

fn after_size(size: u64) -> State {
    if size == 0 { State::Trailer { line: 0, total: 0 } } else { State::ChunkData(size) }
}

/// Takes up to `left` bytes of body.
fn skip(input: &[u8], left: u64, capture: Option<&mut Capture>) -> usize {
    let used = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    if let Some(capture) = capture {
        capture.body.extend_from_slice(&input[..used]);
    }
    used
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Fixed(u64),
    Chunked,
    UntilClose,
}

/// What a head says about the response.
#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    keep_alive: bool,
    framing: Framing,
}

impl Head {
    /// Parses a head at the start of `bytes`: its length and content; none when it is not complete.
    fn parse(bytes: &[u8], capture: Option<&mut Capture>) -> Result<Option<(usize, Head)>, Malformed> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELD_LIMIT];
        let mut parsed = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let length = match parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLong),
            Err(_) => return Err(Malformed::Head),
        };
        let head = Head::read(&parsed)?;
        if let Some(capture) = capture
            && head.status >= 200
        {
            capture.fields = parsed.headers.iter().map(|f| (f.name.to_owned(), f.value.to_vec())).collect();
            capture.body.clear();
        }
        Ok(Some((length, head)))
    }

    fn read(parsed: &httparse::Response<'_, '_>) -> Result<Head, Malformed> {
        let mut keep_alive = parsed.version == Some(1);
        let mut length: Option<u64> = None;
        let mut coding = None;
        for field in parsed.headers.iter() {
            // The lengths of the three names that matter are tried first: most fields are none of them.
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let value = decimal(field.value).ok_or(Malformed::Length)?;
                    if length.is_some_and(|before| before != value) {
                        return Err(Malformed::Length);
                    }
                    length = Some(value);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => coding = Some(field.value),
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    if has_token(field.value, b"close") {
                        keep_alive = false;
                    } else if has_token(field.value, b"keep-alive") {
                        keep_alive = true;
                    }
                }
                _ => {}
            }
        }
        let framing = match (coding, length) {
            (Some(coding), _) if last_token(coding).eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            (Some(_), _) | (None, None) => Framing::UntilClose,
            (None, Some(length)) => Framing::Fixed(length),
        };
        Ok(Head { status: parsed.code.unwrap_or(0), keep_alive, framing })
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, d| d.is_ascii_digit().then(|| n * 10 + u64::from(d - b'0')))
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|&b| b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

fn last_token(value: &[u8]) -> &[u8] {
    value.rsplit(|&b| b == b',').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests;
