//! One element of a response's `data` array -> [`Trace`].

use super::model::{Draft, Seen, Trace, TraceId};
use super::scan::{Cursor, Scalar, Scan, Text};
use super::shape::{Field, Matcher, Operation};

/// An object that stood where a trace should.
pub(super) struct Decoded {
    pub(super) trace: Trace,
    /// Bytes it took.
    pub(super) length: usize,
    /// Whether it has a member `spans`, as every trace does.
    pub(super) spans: bool,
}

/// Decodes the trace that starts at offset 0 of `bytes`.
pub(super) fn trace(bytes: &[u8], matcher: &Matcher) -> Scan<Decoded> {
    let mut cursor = Cursor::new(bytes, 0);
    let mut draft = Draft::default();
    let mut has_spans = false;
    cursor.object(|cursor, key| {
        if key.is(b"spans") {
            has_spans = true;
            draft.seen = Default::default();
            draft.doubled = false;
            draft.spelled = false;
            return spans(cursor, matcher, &mut draft);
        }
        if key.is(b"traceID") {
            draft.id = match cursor.scalar()? {
                Scalar::Text(text) => text.with(TraceId::parse).flatten(),
                _ => None,
            };
            return Ok(());
        }
        cursor.skip()
    })?;
    Ok(Decoded { trace: Trace::pack(draft), length: cursor.at(), spans: has_spans })
}

fn spans(cursor: &mut Cursor<'_>, matcher: &Matcher, draft: &mut Draft) -> Scan<()> {
    if cursor.peek()? != b'[' {
        return cursor.skip();
    }
    // Bit i: operation i has been seen.
    let mut met = 0_u32;
    cursor.array(|cursor| {
        if cursor.peek()? != b'{' {
            return cursor.skip();
        }
        let span = span(cursor, matcher)?;
        if let Some(index) = span.operation {
            let again = met >> index & 1 != 0;
            met |= 1 << index;
            merge(&span, &matcher.operations[index], again, draft);
        }
        Ok(())
    })
}

/// What one span says.
struct Span {
    operation: Option<usize>,
    start: (Seen, i64),
    tags: Tags,
}

/// The wanted tags of one span.
#[derive(Clone, Copy, Default)]
struct Tags {
    seen: [Seen; Field::COUNT],
    values: [i64; Field::COUNT],
    spelled: bool,
}

fn span<'a>(cursor: &mut Cursor<'a>, matcher: &Matcher) -> Scan<Span> {
    let mut span = Span { operation: None, start: (Seen::NoTag, 0), tags: Tags::default() };
    // Where the tags are, and for which operation they have been read.
    let mut tags_at: Option<Cursor<'a>> = None;
    let mut read_for = None;
    cursor.object(|cursor, key| {
        if key.is(b"operationName") {
            span.operation = match cursor.scalar()? {
                Scalar::Text(name) => find_operation(matcher, name),
                _ => None,
            };
        } else if key.is(b"startTime") {
            span.start = integer(cursor.scalar()?);
        } else if key.is(b"tags") {
            cursor.peek()?;
            tags_at = Some(*cursor);
            span.tags = Tags::default();
            match span.operation {
                Some(index) if !matcher.operations[index].tags.is_empty() => {
                    tags(cursor, &matcher.operations[index], &mut span.tags)?;
                    read_for = span.operation;
                }
                _ => {
                    cursor.skip()?;
                    read_for = None;
                }
            }
        } else if key.is(b"spans") {
            // A whole trace where a span should be: a bracket was damaged.
            return cursor.bad();
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    if let (Some(mut at), Some(index)) = (tags_at, span.operation)
        && read_for != span.operation
    {
        // The tags came before the name, or the name came twice.
        span.tags = Tags::default();
        tags(&mut at, &matcher.operations[index], &mut span.tags)?;
    }
    Ok(span)
}

#[inline(always)]
fn find_operation(matcher: &Matcher, name: Text<'_>) -> Option<usize> {
    matcher.operations.iter().position(|operation| name.is(operation.name.as_bytes()))
}

/// Reads the wanted tags of `operation`; the first of a name counts.
fn tags(cursor: &mut Cursor<'_>, operation: &Operation, into: &mut Tags) -> Scan<()> {
    if cursor.peek()? != b'[' {
        return cursor.skip();
    }
    cursor.array(|cursor| {
        if cursor.peek()? != b'{' {
            return cursor.skip();
        }
        let mut field = None;
        let mut value = None;
        cursor.object(|cursor, key| {
            if key.is(b"key") {
                field = match cursor.scalar()? {
                    Scalar::Text(name) => {
                        operation.tags.iter().find(|(tag, _)| name.is(tag.as_bytes())).map(|&(_, field)| field)
                    }
                    _ => None,
                };
            } else if key.is(b"value") {
                value = Some(cursor.scalar()?);
            } else {
                cursor.skip()?;
            }
            Ok(())
        })?;
        if let (Some(field), Some(value)) = (field, value)
            && into.seen[field as usize] == Seen::NoSpan
        {
            let (seen, number) = decode(field, value, &mut into.spelled);
            into.seen[field as usize] = seen;
            into.values[field as usize] = number;
        }
        Ok(())
    })
}

/// Takes over what `span` says. Of several spans of one operation the last complete one counts, else the last; the
/// tags of two spans are never mixed.
fn merge(span: &Span, operation: &Operation, again: bool, draft: &mut Draft) {
    if operation.start {
        (draft.seen[Field::Start as usize], draft.values[Field::Start as usize]) = span.start;
    }
    let complete = |seen: &[Seen; Field::COUNT]| operation.tags.iter().all(|(_, f)| seen[*f as usize] == Seen::Here);
    if again && !operation.tags.is_empty() {
        draft.doubled = true;
        if complete(&draft.seen) && !complete(&span.tags.seen) {
            return;
        }
    }
    for &(_, field) in &operation.tags {
        let index = field as usize;
        draft.seen[index] = span.tags.seen[index].max(Seen::NoTag);
        draft.values[index] = span.tags.values[index];
        if field == Field::Found {
            draft.spelled = span.tags.spelled;
        }
    }
}

fn decode(field: Field, value: Scalar<'_>, spelled: &mut bool) -> (Seen, i64) {
    match field {
        Field::Found => truth(value, spelled),
        Field::Barrier | Field::ReplicaRead => {
            let (seen, number) = number(value);
            (seen, number.to_bits() as i64)
        }
        _ => integer(value),
    }
}

/// A truth value; also one spelled out in quotes, which says the same.
fn truth(value: Scalar<'_>, spelled: &mut bool) -> (Seen, i64) {
    match value {
        Scalar::Bool(truth) => (Seen::Here, i64::from(truth)),
        Scalar::Text(text) => {
            let word = text.with(|bytes| match bytes {
                b"true" | b"True" => Some(1),
                b"false" | b"False" => Some(0),
                _ => None,
            });
            match word.flatten() {
                Some(truth) => {
                    *spelled = true;
                    (Seen::Here, truth)
                }
                None => (Seen::WrongType, 0),
            }
        }
        _ => (Seen::WrongType, 0),
    }
}

/// An integer, as a number or in quotes.
#[inline]
fn integer(value: Scalar<'_>) -> (Seen, i64) {
    let read = |bytes: &[u8]| {
        let text = bytes.trim_ascii();
        if let Some(short) = digits(text) {
            return (Seen::Here, short);
        }
        match std::str::from_utf8(text).ok().map(|text| (text.parse::<i64>(), text)) {
            Some((Ok(whole), _)) => (Seen::Here, whole),
            Some((Err(error), _)) if is_overflow(error.kind()) => (Seen::OutOfRange, 0),
            Some((_, text)) => whole_float(text),
            None => (Seen::WrongType, 0),
        }
    };
    match value {
        Scalar::Number(bytes) => read(bytes),
        Scalar::Text(text) => text.with(read).unwrap_or((Seen::WrongType, 0)),
        Scalar::Bool(_) | Scalar::Other => (Seen::WrongType, 0),
    }
}

fn is_overflow(kind: &std::num::IntErrorKind) -> bool {
    matches!(kind, std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow)
}

/// Up to 18 plain digits.
#[inline(always)]
fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// A whole number in floating-point notation (`1.634554800053e12`).
fn whole_float(text: &str) -> (Seen, i64) {
    match text.parse::<f64>() {
        Ok(float) if !float.is_finite() || float.abs() > 9_007_199_254_740_992.0 => (Seen::OutOfRange, 0),
        Ok(float) if float.fract() == 0.0 => (Seen::Here, float as i64),
        _ => (Seen::WrongType, 0),
    }
}

/// A finite number, as a number or in quotes.
#[inline]
fn number(value: Scalar<'_>) -> (Seen, f64) {
    let read =
        |bytes: &[u8]| match std::str::from_utf8(bytes.trim_ascii()).ok().and_then(|text| text.parse::<f64>().ok()) {
            Some(number) if number.is_finite() => (Seen::Here, number),
            Some(_) => (Seen::OutOfRange, 0.0),
            None => (Seen::WrongType, 0.0),
        };
    match value {
        Scalar::Number(bytes) => read(bytes),
        Scalar::Text(text) => text.with(read).unwrap_or((Seen::WrongType, 0.0)),
        Scalar::Bool(_) | Scalar::Other => (Seen::WrongType, 0.0),
    }
}
