//! A Jaeger answer as it arrives: `{"data": [trace, ...], "errors": ...}` -> traces, and a name for whatever is lost.

use std::collections::BTreeMap;
use std::fmt;

use memchr::memmem::Finder;

use super::decode::{self, Decoded};
use super::feed::{Feed, FeedError};
use super::model::Trace;
use super::scan::{Cursor, Scan, Skipper, Stop};
use super::shape::Matcher;

/// What some editors and proxies put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A trace whose text is larger than this is skipped and counted.
const TRACE_LIMIT: usize = 16 << 20;

/// What follows the data of an answer is small.
const LATE_LIMIT: usize = 1 << 20;

/// Why a trace that is there could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// An element of `data` that is not an object.
    NotATrace,
    /// Not JSON inside.
    Malformed,
    /// Nested too deeply.
    TooDeep,
    /// Larger than the limit.
    TooLarge,
    /// The answer ends inside it.
    CutOff,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::NotATrace => "not a trace object",
            Loss::Malformed => "malformed JSON",
            Loss::TooDeep => "nested deeper than 128 levels",
            Loss::TooLarge => "larger than 16 MiB",
            Loss::CutOff => "cut off by the end of the answer",
        })
    }
}

/// What an answer held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Traces that were there: `parsed` and the lost ones.
    pub present: u64,
    /// Traces read.
    pub parsed: u64,
    /// Traces lost, by reason.
    pub lost: BTreeMap<Loss, u64>,
    /// What was wrong with the answer, first case, one line.
    pub damage: Option<String>,
    /// What the server reported in `errors`.
    pub server_error: Option<String>,
    /// Bytes read, after decompression.
    pub bytes: u64,
}

impl Tally {
    /// Adds another answer's counts.
    pub fn add(&mut self, other: &Tally) {
        self.present += other.present;
        self.parsed += other.parsed;
        self.bytes += other.bytes;
        for (loss, count) in &other.lost {
            *self.lost.entry(*loss).or_default() += count;
        }
        self.damage = self.damage.take().or_else(|| other.damage.clone());
        self.server_error = self.server_error.take().or_else(|| other.server_error.clone());
    }

    fn lose(&mut self, loss: Loss, at: u64) {
        self.present += 1;
        *self.lost.entry(loss).or_default() += 1;
        self.note(|| format!("{loss} at byte {at}"));
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.damage.is_none() {
            self.damage = Some(what());
        }
    }
}

/// Why an answer is of no use at all.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// Not one byte.
    #[error("the answer is empty")]
    Empty,
    /// A web page.
    #[error("the answer is HTML, not JSON")]
    Html,
    /// Something else.
    #[error("the answer is not JSON: it starts with `{0}`")]
    NotJson(String),
    /// An object without `data`.
    #[error("the answer has no `data` array")]
    NoData,
    /// Reading failed; what came before is kept.
    #[error("the answer broke off after {1} bytes")]
    Broken(#[source] FeedError, u64),
}

/// Reads one answer to its end and hands each trace to `sink`. The tally is kept also when an error is returned.
pub(super) fn read(
    feed: &mut Feed,
    matcher: &Matcher,
    tally: &mut Tally,
    sink: &mut dyn FnMut(Trace),
) -> Result<(), ResponseError> {
    let mut reader = Reader { feed, matcher, tally, sink, in_data: false };
    let done = reader.response();
    tally.bytes += feed.position();
    let position = feed.position();
    match done {
        Ok(()) => Ok(()),
        Err(Halt::Feed(error)) => Err(ResponseError::Broken(error, position)),
        Err(Halt::Refused(error)) => Err(error),
        Err(Halt::End) => {
            tally.note(|| format!("the answer ends at byte {position} before it is complete"));
            Ok(())
        }
    }
}

enum Halt {
    Feed(FeedError),
    Refused(ResponseError),
    /// The stream ended where more was due.
    End,
}

impl From<FeedError> for Halt {
    fn from(error: FeedError) -> Self {
        Halt::Feed(error)
    }
}

/// A trace that could not be read.
struct Wrong {
    loss: Loss,
    /// What ends the reading, when nothing follows.
    halt: Option<Halt>,
}

impl From<Stop> for Loss {
    fn from(stop: Stop) -> Loss {
        match stop {
            Stop::Deep(_) => Loss::TooDeep,
            Stop::Bad(_) | Stop::More => Loss::Malformed,
        }
    }
}

/// Outcome of looking for the next trace behind damage.
enum Next {
    /// The feed stands at a trace.
    Trace,
    /// There is none.
    None,
}

struct Reader<'r> {
    feed: &'r mut Feed,
    matcher: &'r Matcher,
    tally: &'r mut Tally,
    sink: &'r mut dyn FnMut(Trace),
    in_data: bool,
}

impl Reader<'_> {
    /// The whole answer.
    fn response(&mut self) -> Result<(), Halt> {
        self.opening()?;
        let mut had_data = false;
        let mut closed = false;
        loop {
            let byte = match self.peek() {
                Err(Halt::End) if closed => break,
                other => other?,
            };
            let at = self.feed.position();
            match byte {
                b'}' if !closed => {
                    self.feed.consume(1);
                    closed = true;
                }
                b',' if !closed => self.feed.consume(1),
                b'"' if !closed && !had_data => had_data = self.member()?,
                b'"' if !closed && self.late_member(at)? => {}
                _ if had_data => {
                    // Something stands where nothing should: perhaps traces, behind a bracket that was damaged.
                    match self.resume(at, Loss::Malformed, b"\"spans\"")? {
                        Next::Trace => self.elements(true)?,
                        Next::None => return Ok(()),
                    }
                    closed = false;
                }
                _ => return Err(Halt::Refused(ResponseError::NoData)),
            }
        }
        if had_data || self.tally.server_error.is_some() { Ok(()) } else { Err(Halt::Refused(ResponseError::NoData)) }
    }

    /// A member up to the data; true when it is the data.
    fn member(&mut self) -> Result<bool, Halt> {
        let key = self.key()?;
        if key == b"data" {
            return self.data().map(|()| true);
        }
        self.other_member(&key).map(|()| false)
    }

    /// A member behind the data: small, and without a trace in it. False, and nothing consumed, when it is not.
    fn late_member(&mut self, at: u64) -> Result<bool, Halt> {
        let read = self.small(|cursor| {
            let key = cursor.text()?;
            let (spans, errors) = (key.is(b"spans"), key.is(b"errors"));
            cursor.expect(b':')?;
            cursor.peek()?;
            Ok((spans, errors, cursor.at()))
        })?;
        let Some(((spans, errors, value), end)) = read else { return Ok(false) };
        if spans {
            // Members of a trace whose opening bracket was damaged.
            self.tally.lose(Loss::Malformed, at);
        }
        if errors {
            let errors = self.feed.bytes()[value..end].to_vec();
            self.keep_error(&errors);
        }
        self.feed.consume(end);
        Ok(true)
    }

    /// Looks at what stands here: `before`, then any value, small and without spans in it. Gives what `before` gave
    /// and the length of all; consumes nothing.
    fn small<T>(&mut self, before: impl Fn(&mut Cursor<'_>) -> Scan<T>) -> Result<Option<(T, usize)>, Halt> {
        loop {
            let bytes = self.feed.bytes();
            let mut cursor = Cursor::new(bytes, 0);
            let read = before(&mut cursor).and_then(|got| {
                let value = cursor.at();
                cursor.skip()?;
                // A number ends where something else begins.
                cursor.peek()?;
                Ok((got, value))
            });
            match read {
                Ok((got, value)) => {
                    let spans = Finder::new(b"\"spans\"").find(&bytes[value..cursor.at()]).is_some();
                    return Ok((!spans).then_some((got, cursor.at())));
                }
                Err(Stop::More) if bytes.len() < LATE_LIMIT => {
                    if !self.feed.more()? {
                        return Ok(None);
                    }
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// The first byte decides whether this is an answer at all.
    fn opening(&mut self) -> Result<(), Halt> {
        if self.feed.bytes().is_empty() && !self.feed.more()? {
            return Err(Halt::Refused(ResponseError::Empty));
        }
        // It may arrive in pieces.
        while BYTE_ORDER_MARK.starts_with(self.feed.bytes())
            && self.feed.bytes() != BYTE_ORDER_MARK
            && self.feed.more()?
        {}
        if self.feed.bytes().starts_with(BYTE_ORDER_MARK) {
            self.feed.consume(BYTE_ORDER_MARK.len());
        }
        match self.peek() {
            Ok(b'{') => {
                self.feed.consume(1);
                Ok(())
            }
            Ok(b'<') => Err(Halt::Refused(ResponseError::Html)),
            Ok(_) => {
                while self.feed.bytes().len() < 24 && self.feed.more()? {}
                let start = &self.feed.bytes()[..self.feed.bytes().len().min(24)];
                let start: String =
                    String::from_utf8_lossy(start).chars().map(|c| if c.is_control() { '.' } else { c }).collect();
                Err(Halt::Refused(ResponseError::NotJson(start)))
            }
            Err(Halt::End) => Err(Halt::Refused(ResponseError::Empty)),
            Err(halt) => Err(halt),
        }
    }

    /// The next byte that is not white space, not consumed.
    fn peek(&mut self) -> Result<u8, Halt> {
        loop {
            let blank = self.feed.bytes().iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count();
            self.feed.consume(blank);
            if let Some(&byte) = self.feed.bytes().first() {
                return Ok(byte);
            }
            if !self.feed.more()? {
                return Err(Halt::End);
            }
        }
    }

    /// A member's key and its colon.
    fn key(&mut self) -> Result<Vec<u8>, Halt> {
        loop {
            let mut cursor = Cursor::new(self.feed.bytes(), 0);
            let read = cursor.text().and_then(|key| cursor.expect(b':').map(|()| key));
            match read {
                Ok(key) => {
                    let key = key.with(<[u8]>::to_vec).unwrap_or_default();
                    let end = cursor.at();
                    self.feed.consume(end);
                    return Ok(key);
                }
                Err(Stop::More) if self.feed.bytes().len() < TRACE_LIMIT => {
                    if !self.feed.more()? {
                        return Err(Halt::End);
                    }
                }
                Err(_) => return Err(Halt::Refused(ResponseError::NoData)),
            }
        }
    }

    /// The value of a member other than `data`; `errors` is kept.
    fn other_member(&mut self, key: &[u8]) -> Result<(), Halt> {
        match self.peek()? {
            b'{' | b'[' => {
                let mut skipper = Skipper::default();
                let mut kept = Vec::new();
                loop {
                    let end = skipper.run(self.feed.bytes());
                    let length = end.unwrap_or(self.feed.bytes().len());
                    if key == b"errors" && kept.len() < 4096 {
                        kept.extend_from_slice(&self.feed.bytes()[..length.min(4096)]);
                    }
                    self.feed.consume(length);
                    if end.is_some() {
                        break;
                    }
                    if !self.feed.more()? {
                        return Err(Halt::End);
                    }
                }
                self.keep_error(&kept);
                Ok(())
            }
            b'"' => self.long_string(),
            _ => loop {
                let token = self.feed.bytes().iter().take_while(|b| !matches!(b, b',' | b'}' | b']' | b'"')).count();
                self.feed.consume(token);
                if !self.feed.bytes().is_empty() {
                    return Ok(());
                }
                if !self.feed.more()? {
                    return Err(Halt::End);
                }
            },
        }
    }

    fn keep_error(&mut self, errors: &[u8]) {
        let Ok(serde_json::Value::Array(errors)) = serde_json::from_slice(errors) else { return };
        let message = |error: &serde_json::Value| match error.get("msg").and_then(serde_json::Value::as_str) {
            Some(text) => text.to_owned(),
            None => error.to_string(),
        };
        if let Some(first) = errors.first() {
            self.tally.server_error = Some(message(first).replace('\n', " "));
        }
    }

    /// Passes over a string of any length.
    fn long_string(&mut self) -> Result<(), Halt> {
        self.feed.consume(1);
        let mut escaped = false;
        loop {
            let bytes = self.feed.bytes();
            let mut at = usize::from(escaped && !bytes.is_empty());
            escaped &= bytes.is_empty();
            let mut end = None;
            while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                at += found + 1;
                if bytes[at - 1] == b'"' {
                    end = Some(at);
                    break;
                }
                escaped = at == bytes.len();
                at += usize::from(!escaped);
            }
            self.feed.consume(end.unwrap_or(self.feed.bytes().len()));
            if end.is_some() {
                return Ok(());
            }
            if !self.feed.more()? {
                return Err(Halt::End);
            }
        }
    }

    /// The value of `data`.
    fn data(&mut self) -> Result<(), Halt> {
        match self.peek()? {
            b'[' => {
                self.feed.consume(1);
                self.in_data = true;
                self.elements(false)
            }
            b'n' => self.other_member(b"data"),
            _ => Err(Halt::Refused(ResponseError::NoData)),
        }
    }

    /// Elements of `data` up to its closing bracket. `at_trace`: the feed stands at one already.
    fn elements(&mut self, mut at_trace: bool) -> Result<(), Halt> {
        let mut after_element = false;
        loop {
            let byte = self.peek()?;
            match byte {
                b'{' if at_trace || !after_element => {
                    at_trace = false;
                    after_element = true;
                    let at = self.feed.position();
                    let Err(wrong) = self.element() else { continue };
                    // What is left of it holds at least a quote, else it is a stray bracket in front of a trace.
                    match self.resume(at, wrong.loss, b"\"")? {
                        Next::Trace => at_trace = true,
                        Next::None => return wrong.halt.map_or(Ok(()), Err),
                    }
                }
                b']' => {
                    self.feed.consume(1);
                    return Ok(());
                }
                b',' if after_element => {
                    self.feed.consume(1);
                    after_element = false;
                }
                b'{' => {
                    // Two traces without a comma: both are whole.
                    let at = self.feed.position();
                    self.tally.note(|| format!("a comma is missing at byte {at}"));
                    after_element = false;
                }
                _ => {
                    let at = self.feed.position();
                    if !after_element && self.pass_over()? {
                        self.tally.lose(Loss::NotATrace, at);
                        after_element = true;
                        continue;
                    }
                    self.tally.note(|| format!("malformed JSON at byte {at}"));
                    // It was a trace if there were spans in it.
                    match self.resume(at, Loss::Malformed, b"\"spans\"")? {
                        Next::Trace => at_trace = true,
                        Next::None => return Ok(()),
                    }
                }
            }
        }
    }

    /// Passes over a value that is not an object; false, and nothing consumed, when it is not a whole element.
    fn pass_over(&mut self) -> Result<bool, Halt> {
        let Some(((), end)) = self.small(|_| Ok(()))? else { return Ok(false) };
        let whole = matches!(self.feed.bytes().get(end), Some(b',' | b']'));
        if whole {
            self.feed.consume(end);
        }
        Ok(whole)
    }

    /// The trace the feed stands at. When it is lost, the feed stands inside it.
    fn element(&mut self) -> Result<(), Wrong> {
        match decode::trace(self.feed.bytes(), self.matcher) {
            Ok(decoded) => return self.accept(&decoded),
            Err(Stop::More) => {}
            Err(stop) => return Err(self.wrong(stop.into(), None)),
        }
        // The trace goes beyond what has come: find its end first, then decode it once.
        let mut skipper = Skipper::default();
        let mut scanned = 0;
        let end = loop {
            if let Some(end) = skipper.run(&self.feed.bytes()[scanned..]) {
                break scanned + end;
            }
            scanned = self.feed.bytes().len();
            if scanned > TRACE_LIMIT {
                return Err(self.wrong(Loss::TooLarge, None));
            }
            match self.feed.more() {
                Ok(true) => {}
                Ok(false) => {
                    // Damage may have opened a bracket that nothing closes.
                    let loss = match decode::trace(self.feed.bytes(), self.matcher) {
                        Err(Stop::More) | Ok(_) => Loss::CutOff,
                        Err(stop) => stop.into(),
                    };
                    return Err(self.wrong(loss, Some(Halt::End)));
                }
                Err(error) => return Err(self.wrong(Loss::CutOff, Some(Halt::Feed(error)))),
            }
        };
        if skipper.mismatched {
            return Err(self.wrong(Loss::Malformed, None));
        }
        match decode::trace(&self.feed.bytes()[..end], self.matcher) {
            Ok(decoded) => self.accept(&decoded),
            Err(stop) => Err(self.wrong(stop.into(), None)),
        }
    }

    /// Steps into the trace that is lost.
    fn wrong(&mut self, loss: Loss, halt: Option<Halt>) -> Wrong {
        self.feed.consume(1);
        Wrong { loss, halt }
    }

    fn accept(&mut self, decoded: &Decoded) -> Result<(), Wrong> {
        if !decoded.spans && !self.is_followed_well(decoded.length) {
            // The head of a trace, closed too early by damage.
            return Err(self.wrong(Loss::Malformed, None));
        }
        self.feed.consume(decoded.length);
        self.tally.present += 1;
        self.tally.parsed += 1;
        (self.sink)(decoded.trace);
        Ok(())
    }

    /// Whether what stands `ahead` bytes from here belongs behind an element.
    fn is_followed_well(&mut self, ahead: usize) -> bool {
        loop {
            let mut cursor = Cursor::new(self.feed.bytes(), ahead);
            match cursor.peek() {
                Ok(byte) => return matches!(byte, b',' | b']'),
                // The stream ends here: whoever reads on tells.
                Err(_) if !matches!(self.feed.more(), Ok(true)) => return true,
                Err(_) => {}
            }
        }
    }

    /// Looks for the next trace behind damage: `{"traceID": "<hex>", "spans"`, which cannot occur inside a string
    /// because its quotes would be escaped there. Brackets are no guide any more. What is passed over from `at` on
    /// counts as a trace lost for `loss` when `sign` is in it.
    fn resume(&mut self, at: u64, loss: Loss, sign: &[u8]) -> Result<Next, Halt> {
        let mut signed = false;
        let next = self.search(&Finder::new(sign), &mut signed);
        if signed {
            self.tally.lose(loss, at);
        } else {
            self.tally.note(|| format!("malformed JSON at byte {at}"));
        }
        next
    }

    fn search(&mut self, sign: &Finder<'_>, signed: &mut bool) -> Result<Next, Halt> {
        let finder = Finder::new(b"\"traceID\"");
        loop {
            let bytes = self.feed.bytes();
            let mut from = 0;
            let mut keep = None;
            while let Some(found) = finder.find(&bytes[from..]).map(|found| from + found) {
                match opens_trace(bytes, found) {
                    Ok(Some(start)) => {
                        *signed |= sign.find(&bytes[..start]).is_some();
                        self.feed.consume(start);
                        return Ok(Next::Trace);
                    }
                    Ok(None) => from = found + 1,
                    Err(start) => {
                        keep = Some(start);
                        break;
                    }
                }
            }
            // Keep what may be the beginning of a match.
            let keep = keep.unwrap_or(bytes.len().saturating_sub(64).max(from));
            // A sign may begin in what is passed over and end in what is kept.
            let passed = (keep + sign.needle().len() - 1).min(bytes.len());
            *signed |= sign.find(&bytes[..passed]).is_some();
            self.feed.consume(keep);
            if !self.feed.more()? {
                let rest = self.feed.bytes().len();
                *signed |= sign.find(self.feed.bytes()).is_some();
                self.feed.consume(rest);
                return Ok(Next::None);
            }
        }
    }
}

/// Whether `"traceID"` at `at` is the first member of a trace; gives the offset of the trace's brace. `Err` with the
/// offset to keep when the text ends before that is known.
fn opens_trace(bytes: &[u8], at: usize) -> Result<Option<usize>, usize> {
    let blank = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t');
    let brace = bytes[..at].iter().rposition(|b| !blank(b)).filter(|&i| bytes[i] == b'{');
    let Some(brace) = brace else { return Ok(None) };
    let mut cursor = Cursor::new(bytes, at);
    let read = (|| {
        cursor.text()?;
        cursor.expect(b':')?;
        cursor.text()?;
        cursor.expect(b',')?;
        cursor.text()
    })();
    match read {
        Ok(key) => Ok(key.is(b"spans").then_some(brace)),
        Err(Stop::More) if bytes.len() - at < 512 => Err(brace),
        Err(_) => Ok(None),
    }
}
