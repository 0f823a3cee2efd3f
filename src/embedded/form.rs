//! Arguments of a request, in its query or its form-encoded body.

use axum::body::Body;
use http_body_util::BodyExt;

/// nginx's limit on a request's body, bytes.
const BODY_LIMIT: usize = 1 << 20;

/// `key=value&...` with percent-encoding undone. A key that comes twice keeps its first value.
#[derive(Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Parses `encoded`; nothing is an error, bytes that are no UTF-8 are replaced.
    pub fn parse(encoded: &[u8]) -> Self {
        let pairs = encoded.split(|&b| b == b'&').filter(|part| !part.is_empty()).map(|part| {
            let at = part.iter().position(|&b| b == b'=');
            let (key, value) = at.map_or((part, &[][..]), |at| (&part[..at], &part[at + 1..]));
            (decode(key), decode(value))
        });
        Form(pairs.collect())
    }

    /// Reads the form in `body`; `None` for a body that is too large or broken off. What is beyond the limit is read
    /// and dropped (nginx's lingering close), so that the client reads its answer instead of a reset.
    pub async fn read(mut body: Body) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else { continue };
            length += data.len();
            if length <= BODY_LIMIT {
                bytes.extend_from_slice(&data);
            }
        }
        (length <= BODY_LIMIT).then(|| Form::parse(&bytes))
    }

    /// The value of `key`, unless it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
}

fn decode(encoded: &[u8]) -> String {
    let nibble = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    loop {
        match rest {
            [] => break,
            [b'+', tail @ ..] => {
                bytes.push(b' ');
                rest = tail;
            }
            [b'%', high, low, tail @ ..] if nibble(*high).is_some() && nibble(*low).is_some() => {
                bytes.push(nibble(*high).unwrap_or(0) << 4 | nibble(*low).unwrap_or(0));
                rest = tail;
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A whole number the way Lua's `tonumber` reads one: blanks around it, an exponent or `.0` are fine.
pub fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let value: f64 = text.parse().ok()?;
        (value.fract() == 0.0 && value.abs() < 9.0e15).then_some(value as i64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let form = Form::parse(b"a=1&text=x%20y+z%2&empty=&a=2&flag&%C3%A9=%ff");
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.get("text"), Some("x y z%2"));
        assert_eq!(form.get("empty"), None);
        assert_eq!(form.get("flag"), None);
        assert_eq!(form.get("é"), Some("\u{fffd}"));
    }

    #[test]
    fn integers_are_read_as_lua_reads_them() {
        assert_eq!(
            [integer("12"), integer(" 7 "), integer("1e3"), integer("2.0")].map(Option::unwrap),
            [12, 7, 1000, 2]
        );
        assert_eq!([integer("x"), integer("1.5"), integer("nan")], [None; 3]);
    }
}
