//! A Jaeger answer as it arrives: `{"data": [trace, ...], "errors": ...}` -> traces, and a name for whatever is lost.

use std::collections::BTreeMap;
use std::fmt;

use memchr::memmem::Finder;

use super::decode;
use super::feed::{Feed, FeedError};
use super::model::Trace;
use super::scan::{Cursor, Skipper, Stop};
use super::shape::Matcher;

/// A trace whose text is larger than this is skipped and counted.
const TRACE_LIMIT: usize = 16 << 20;

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
        loop {
            match self.peek()? {
                b'}' => break self.feed.consume(1),
                b',' => self.feed.consume(1),
                b'"' => {
                    let key = self.key()?;
                    if key == b"data" {
                        had_data = true;
                        self.data()?;
                    } else {
                        self.other_member(&key)?;
                    }
                }
                _ if had_data => match self.resume()? {
                    Next::Trace => self.elements(true)?,
                    Next::None => return Ok(()),
                },
                _ => return Err(Halt::Refused(ResponseError::NoData)),
            }
        }
        if had_data || self.tally.server_error.is_some() { Ok(()) } else { Err(Halt::Refused(ResponseError::NoData)) }
    }

    /// The first byte decides whether this is an answer at all.
    fn opening(&mut self) -> Result<(), Halt> {
        if self.feed.bytes().is_empty() && !self.feed.more()? {
            return Err(Halt::Refused(ResponseError::Empty));
        }
        if self.feed.bytes().starts_with(b"\xef\xbb\xbf") {
            self.feed.consume(3);
        }
        match self.peek() {
            Ok(b'{') => {
                self.feed.consume(1);
                Ok(())
            }
            Ok(b'<') => Err(Halt::Refused(ResponseError::Html)),
            Ok(_) => {
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
            let mut end = None;
            for (i, &byte) in self.feed.bytes().iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => {
                        end = Some(i + 1);
                        break;
                    }
                    _ => {}
                }
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
                    if !self.element()? {
                        match self.resume()? {
                            Next::Trace => at_trace = true,
                            Next::None => return Ok(()),
                        }
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
                    if after_element {
                        self.tally.note(|| format!("malformed JSON at byte {at}"));
                    } else {
                        self.tally.lose(Loss::NotATrace, at);
                        if self.pass_over()? {
                            after_element = true;
                            continue;
                        }
                    }
                    match self.resume()? {
                        Next::Trace => at_trace = true,
                        Next::None => return Ok(()),
                    }
                }
            }
        }
    }

    /// Passes over a value that is not an object; false when it is not even a value.
    fn pass_over(&mut self) -> Result<bool, Halt> {
        match Cursor::new(self.feed.bytes(), 0).peek() {
            Ok(b'n' | b't' | b'f' | b'-' | b'0'..=b'9') => self.other_member(b"").map(|()| true),
            _ => Ok(false),
        }
    }

    /// The trace the feed stands at. False: it was lost, and the feed stands somewhere inside it.
    fn element(&mut self) -> Result<bool, Halt> {
        match decode::trace(self.feed.bytes(), self.matcher) {
            Ok((trace, length)) => {
                self.accept(trace, length);
                return Ok(true);
            }
            Err(Stop::More) => {}
            Err(Stop::Bad(_)) => return self.lost(Loss::Malformed),
            Err(Stop::Deep(_)) => return self.lost(Loss::TooDeep),
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
                return self.lost(Loss::TooLarge);
            }
            let more = self.feed.more();
            if !matches!(more, Ok(true)) {
                let lost = self.lost(Loss::CutOff)?;
                return more.map(|_| lost).map_err(Halt::from);
            }
        };
        match decode::trace(&self.feed.bytes()[..end], self.matcher) {
            Ok((trace, length)) => {
                self.accept(trace, length);
                Ok(true)
            }
            Err(Stop::Deep(_)) => self.lost(Loss::TooDeep),
            Err(_) => self.lost(Loss::Malformed),
        }
    }

    fn accept(&mut self, trace: Trace, length: usize) {
        self.feed.consume(length);
        self.tally.present += 1;
        self.tally.parsed += 1;
        (self.sink)(trace);
    }

    /// Counts the trace the feed stands at as lost and steps into it.
    fn lost(&mut self, loss: Loss) -> Result<bool, Halt> {
        let at = self.feed.position();
        self.tally.lose(loss, at);
        self.feed.consume(1);
        Ok(false)
    }

    /// Looks for the next trace behind damage: `{"traceID": "<hex>", "spans"`, which cannot occur inside a string
    /// because its quotes would be escaped there. Brackets are no guide any more.
    fn resume(&mut self) -> Result<Next, Halt> {
        let finder = Finder::new(b"\"traceID\"");
        loop {
            let bytes = self.feed.bytes();
            let mut from = 0;
            let mut keep = None;
            while let Some(found) = finder.find(&bytes[from..]).map(|found| from + found) {
                match opens_trace(bytes, found) {
                    Ok(Some(start)) => {
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
            let length = bytes.len();
            let keep = keep.unwrap_or(length.saturating_sub(64).max(from));
            self.feed.consume(keep);
            if !self.feed.more()? {
                let rest = self.feed.bytes().len();
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
