//! A pull scanner over JSON text that decodes only what it is asked for and skips the rest.
//!
//! What is skipped needs balanced brackets and closed strings and nothing more; what is decoded is checked.
//! Nothing here recurses, so nesting costs no stack.

use super::blocks::{Block, find_quote};

/// Nesting deeper than this, inside one trace, is refused: Jaeger's own answers go eight levels deep.
pub(super) const DEPTH_LIMIT: u64 = 128;

/// Why a scan stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ends here; more of it may follow.
    More,
    /// Not JSON at this offset.
    Bad(usize),
    /// Nested too deeply at this offset.
    Deep(usize),
}

/// Result of one scanning step.
pub(super) type Scan<T> = Result<T, Stop>;

/// The text between two quotes, as it stands in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl Text<'_> {
    /// Whether the decoded text is `plain`.
    #[inline(always)]
    pub(super) fn is(&self, plain: &[u8]) -> bool {
        if self.escaped { self.unescape().is_some_and(|text| text == plain) } else { self.raw == plain }
    }

    /// Calls `with` on the decoded bytes; `None` when an escape is not one of JSON's.
    #[inline(always)]
    pub(super) fn with<T>(&self, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if self.escaped { self.unescape().map(|text| with(&text)) } else { Some(with(self.raw)) }
    }

    #[cold]
    fn unescape(&self) -> Option<Vec<u8>> {
        let mut quoted = Vec::with_capacity(self.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.raw);
        quoted.push(b'"');
        serde_json::from_slice::<String>(&quoted).ok().map(String::into_bytes)
    }
}

/// A scalar as it stands in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    /// Between quotes.
    Text(Text<'a>),
    /// Digits and what belongs to a number; also `NaN` and `Infinity`, which some writers emit.
    Number(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// `null`, an object or an array.
    Other,
}

/// A place in JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    /// The offset of the next byte.
    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// "Not JSON here".
    pub(super) fn bad<T>(&self) -> Scan<T> {
        Err(Stop::Bad(self.at))
    }

    /// The next byte that is not white space, not consumed.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Scan<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Stop::More)
    }

    /// Consumes `byte`, which must be next.
    #[inline(always)]
    pub(super) fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.peek()? != byte {
            return self.bad();
        }
        self.at += 1;
        Ok(())
    }

    /// Consumes a string.
    #[inline(always)]
    pub(super) fn text(&mut self) -> Scan<Text<'a>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let Some(found) = find_quote(&self.bytes[self.at..]) else {
                return Err(Stop::More);
            };
            self.at += found + 1;
            if self.bytes[self.at - 1] == b'"' {
                return Ok(Text { raw: &self.bytes[start..self.at - 1], escaped });
            }
            escaped = true;
            if self.at == self.bytes.len() {
                return Err(Stop::More);
            }
            self.at += 1;
        }
    }

    /// Consumes an object; `member` is called behind each `"key":` and must consume the value.
    #[inline(always)]
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, Text<'a>) -> Scan<()>) -> Scan<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.text()?;
            self.expect(b':')?;
            member(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.bad(),
            }
        }
    }

    /// Consumes an array; `element` must consume each value.
    #[inline(always)]
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.bad(),
            }
        }
    }

    /// Consumes any value and keeps it when it is a scalar.
    #[inline(always)]
    pub(super) fn scalar(&mut self) -> Scan<Scalar<'a>> {
        match self.peek()? {
            b'"' => self.text().map(Scalar::Text),
            b'{' | b'[' => self.container().map(|()| Scalar::Other),
            _ => self.token(),
        }
    }

    /// Consumes any value.
    #[inline(always)]
    pub(super) fn skip(&mut self) -> Scan<()> {
        match self.peek()? {
            b'"' => self.text().map(drop),
            b'{' | b'[' => self.container(),
            _ => self.token().map(drop),
        }
    }

    /// Consumes a number or a word.
    #[inline(always)]
    fn token(&mut self) -> Scan<Scalar<'a>> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let Some(length) =
            rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'+' | b'.'))
        else {
            return Err(Stop::More);
        };
        let token = &rest[..length];
        let scalar = match token {
            b"true" => Scalar::Bool(true),
            b"false" => Scalar::Bool(false),
            b"null" => Scalar::Other,
            b"NaN" | b"Infinity" | b"-Infinity" => Scalar::Number(token),
            _ if is_number(token) => Scalar::Number(token),
            _ => return self.bad(),
        };
        self.at += length;
        Ok(scalar)
    }

    /// Consumes an object or an array without looking inside.
    #[inline(always)]
    fn container(&mut self) -> Scan<()> {
        let start = self.at;
        let mut skipper = Skipper::default();
        let end = skipper.run(&self.bytes[start..]);
        if skipper.deepest > DEPTH_LIMIT {
            return Err(Stop::Deep(start));
        }
        let end = end.ok_or(Stop::More)?;
        if skipper.mismatched {
            return self.bad();
        }
        self.at = start + end;
        Ok(())
    }
}

/// JSON's number grammar.
fn is_number(token: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(after) = rest.strip_prefix(b".") {
        let fraction = digits(after);
        if fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    }
    if let [b'e' | b'E', after @ ..] = rest {
        let after = after.strip_prefix(b"-").or(after.strip_prefix(b"+")).unwrap_or(after);
        return !after.is_empty() && digits(after) == after.len();
    }
    rest.is_empty()
}

/// Finds the end of an object or an array, over as many pieces of text as it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Skipper {
    depth: u64,
    /// One bit per open bracket, the innermost lowest: whether it is curly. Good for [`DEPTH_LIMIT`] of them.
    curly: u128,
    /// The deepest nesting seen.
    pub(super) deepest: u64,
    /// A bracket was closed by one of the other kind; the scan ended there.
    pub(super) mismatched: bool,
    in_string: bool,
    escaped: bool,
}

impl Skipper {
    /// Goes on in `bytes`; gives the offset behind the end, or behind a bracket that does not match, when it is there.
    /// The first byte of the first piece must be the opening bracket.
    #[inline]
    pub(super) fn run(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(block) = bytes.get(at..at + 64) {
            let mut whole = [0; 64];
            whole.copy_from_slice(block);
            if let Some(end) = self.block(&whole, 64) {
                return Some(at + end);
            }
            at += 64;
        }
        let rest = &bytes[at..];
        if rest.is_empty() {
            return None;
        }
        let mut padded = [0; 64];
        padded[..rest.len()].copy_from_slice(rest);
        self.block(&padded, rest.len()).map(|end| at + end)
    }

    /// One block of which `length` bytes are text (the others are zero).
    #[inline(always)]
    fn block(&mut self, bytes: &[u8; 64], length: usize) -> Option<usize> {
        let block = Block::of(bytes);
        let escaped = self.escapes(block.backslashes, length);
        let quotes = block.quotes & !escaped;
        let inside = prefix_xor(quotes) ^ 0_u64.wrapping_sub(u64::from(self.in_string));
        self.in_string = inside >> 63 != 0;
        let opens = block.opens & !inside;
        let mut brackets = (block.opens | block.closes) & !inside;
        while brackets != 0 {
            let bit = brackets & brackets.wrapping_neg();
            let kind = u128::from(block.curly & bit != 0);
            if opens & bit != 0 {
                self.depth += 1;
                self.deepest = self.deepest.max(self.depth);
                self.curly = self.curly << 1 | kind;
            } else {
                let matches = self.curly & 1 == kind || self.deepest > DEPTH_LIMIT;
                self.depth = self.depth.saturating_sub(1);
                self.curly >>= 1;
                self.mismatched = !matches;
                if self.depth == 0 || !matches {
                    return Some(bit.trailing_zeros() as usize + 1);
                }
            }
            brackets ^= bit;
        }
        None
    }

    /// Which bytes follow an odd number of backslashes (after simdjson's `json_escape_scanner`).
    #[inline(always)]
    fn escapes(&mut self, backslashes: u64, length: usize) -> u64 {
        const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;
        let carried = u64::from(self.escaped);
        if backslashes == 0 {
            self.escaped = false;
            return carried;
        }
        let starts = backslashes & !carried;
        let series = ((starts << 1) | ODD).wrapping_sub(starts) ^ ODD;
        let escaped = series ^ (backslashes | carried);
        let escaping = series & backslashes;
        self.escaped = escaping >> (length - 1) & 1 != 0;
        escaped
    }
}

/// Bit `i` of the result is the parity of bits `0..=i`.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    /// The end of the container that starts `text`, byte by byte, and whether the brackets match.
    fn naive_end(text: &[u8]) -> Option<(usize, bool)> {
        let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
        for (i, &byte) in text.iter().enumerate() {
            let literal = std::mem::take(&mut escaped);
            match byte {
                b'\\' if !literal => escaped = true,
                b'"' if !literal => in_string = !in_string,
                b'{' | b'[' if !in_string => open.push(byte),
                b'}' | b']' if !in_string => {
                    let matches = open.pop() == Some(byte - 2);
                    if open.is_empty() || !matches {
                        return Some((i + 1, matches));
                    }
                }
                _ => {}
            }
        }
        None
    }

    proptest! {
        #[test]
        fn a_container_ends_where_a_loop_says(
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..400),
            cut in 1_usize..100,
        ) {
            let alphabet = br#"{}[]{}"\\"aaaaa,:1 "#;
            let mut text = vec![b'{'];
            let mut open = vec![b'}'];
            for pick in picks {
                let mut byte = alphabet[pick.index(alphabet.len())];
                // Mostly the bracket that is due, so that containers grow.
                if matches!(byte, b'}' | b']') && text.len() % 7 > 0 {
                    byte = open.last().copied().unwrap_or(byte);
                }
                match byte {
                    b'{' | b'[' => open.push(byte + 2),
                    b'}' | b']' => drop(open.pop()),
                    _ => {}
                }
                text.push(byte);
            }
            let mut skipper = Skipper::default();
            let mut end = None;
            let mut at = 0;
            for piece in text.chunks(cut) {
                if let Some(found) = skipper.run(piece) {
                    end = Some((at + found, !skipper.mismatched));
                    break;
                }
                at += piece.len();
            }
            assert_eq!(end, naive_end(&text), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for good in ["0", "-0", "12", "1.5", "1e9", "1.25E-3", "-7.0e+2"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "0x1", "1.2.3", "+1", "abc"] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn escapes_are_seen_through() {
        let source = br#" "a\/b\u0041\\" , 5 "#;
        let mut cursor = Cursor::new(source, 0);
        let text = cursor.text().unwrap();
        assert!(text.is(b"a/bA\\"));
        cursor.expect(b',').unwrap();
        assert_eq!(cursor.scalar(), Ok(Scalar::Number(b"5")));
        assert_eq!(cursor.peek(), Err(Stop::More));
    }
}
