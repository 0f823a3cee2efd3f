//! Synthetic traces of the socialNetwork compose path: nine spans, about 5.9 kB each, as Jaeger writes them.

/// Head, nine spans, tail; one per line.
const TEMPLATE: &str = include_str!("trace_template.txt");

/// What one trace says.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub id: u64,
    pub post: i64,
    pub start_us: i64,
    pub written_ms: i64,
    pub queued_ms: i64,
    pub received_ms: i64,
    pub read_ms: i64,
    pub found: bool,
    /// Without the span that ends it: the notification is still on its way, or the span got lost.
    pub ends: bool,
}

impl Made {
    /// Trace number `index` of a run that sends one request each `gap_us`.
    pub fn numbered(index: u64, begin_us: i64, gap_us: i64) -> Made {
        // SplitMix64: the same numbers everywhere, without a dependency.
        let mut state = index.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let random = state ^ state >> 31;
        let start_us = begin_us + index as i64 * gap_us + (random & 0xff) as i64;
        let written_ms = start_us / 1000 + 10 + (random >> 8 & 15) as i64;
        let queued_ms = written_ms + 3;
        let received_ms = queued_ms + 30 + (random >> 16 & 31) as i64;
        Made {
            id: random | 1 << 63,
            post: (random >> 1 | 1 << 61) as i64,
            start_us,
            written_ms,
            queued_ms,
            received_ms,
            read_ms: received_ms,
            found: random >> 24 & 31 != 0,
            ends: true,
        }
    }
}

enum Piece {
    Text(&'static str),
    Value(&'static str),
}

/// Writes traces.
pub struct TraceMaker {
    head: Vec<Piece>,
    spans: Vec<Vec<Piece>>,
    tail: Vec<Piece>,
}

impl TraceMaker {
    pub fn new() -> TraceMaker {
        let mut lines: Vec<Vec<Piece>> = TEMPLATE.lines().map(pieces).collect();
        let tail = lines.pop().unwrap_or_default();
        let head = lines.remove(0);
        TraceMaker { head, spans: lines, tail }
    }

    /// Appends one trace to `out`.
    pub fn write(&self, made: &Made, out: &mut Vec<u8>) {
        write_pieces(&self.head, made, out);
        let shown = if made.ends { self.spans.len() } else { self.spans.len() - 1 };
        for (index, span) in self.spans[..shown].iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_pieces(span, made, out);
        }
        write_pieces(&self.tail, made, out);
    }

    /// A whole answer with `traces`.
    pub fn answer<'a>(&self, traces: impl IntoIterator<Item = &'a Made>) -> Vec<u8> {
        let mut out = FRAME.0.to_vec();
        for (index, made) in traces.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.write(made, &mut out);
        }
        out.extend_from_slice(FRAME.1);
        out
    }
}

/// What stands around the traces of an answer.
pub const FRAME: (&[u8], &[u8]) = (br#"{"data":["#, br#"],"total":0,"limit":0,"offset":0,"errors":null}"#);

fn pieces(line: &'static str) -> Vec<Piece> {
    line.split('@')
        .enumerate()
        .map(|(i, part)| if i % 2 == 0 { Piece::Text(part) } else { Piece::Value(part) })
        .collect()
}

fn write_pieces(pieces: &[Piece], made: &Made, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Value(name) => write_value(name, made, out),
        }
    }
}

/// Every value has the same width in every trace, so that the length of an answer is known beforehand.
fn write_value(name: &str, made: &Made, out: &mut Vec<u8>) {
    match name {
        "id" => hex(made.id, out),
        "post" => decimal(made.post as u64, 19, out),
        "start" => decimal(made.start_us as u64, 16, out),
        "written" => decimal(made.written_ms as u64, 13, out),
        "queued" => decimal(made.queued_ms as u64, 13, out),
        "received" => decimal(made.received_ms as u64, 13, out),
        "read" => decimal(made.read_ms as u64, 13, out),
        "barrier" => {
            out.extend_from_slice(b"0.0");
            decimal(made.id % 100_000, 5, out);
        }
        "replica_read" => {
            out.extend_from_slice(b"0.");
            decimal(made.id % 1_000_000, 6, out);
        }
        "size" => decimal(700 + made.id % 200, 3, out),
        "found" => out.extend_from_slice(if made.found { b"true " } else { b"false" }),
        other => unreachable!("no value is called {other}"),
    }
}

fn hex(value: u64, out: &mut Vec<u8>) {
    for shift in (0..16).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * shift) & 15) as usize]);
    }
}

fn decimal(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + width, b'0');
    for digit in out[from..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}
