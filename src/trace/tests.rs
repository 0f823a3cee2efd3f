//! The parser against a reference that reads the same answer with serde_json, against damage, and against itself.

use std::io::Cursor;

use proptest::prelude::{any, prop, proptest};
use serde_json::Value;

use super::{Field, Loss, Place, ResponseError, Seen, Shape, Tally, Trace, TraceId, read_here};

const fn fanout(tag: &'static str) -> Place {
    Place { operation: "FanoutHomeTimelines", tag }
}

const SHAPE: Shape = Shape {
    start: "/wrk2-api/post/compose",
    post: Place { operation: "_ComposeAndUpload", tag: "composepost_id" },
    written: Place { operation: "StorePost", tag: "poststorage_post_written_ts" },
    queued: Place { operation: "_UploadHomeTimelineHelper", tag: "wht_start_queue_ts" },
    received: fanout("wht_start_worker_ts"),
    read: fanout("poststorage_read_notification_ts"),
    barrier: fanout("wht_antipode_duration"),
    found: fanout("consistency_bool"),
    replica_read: fanout("consistency_mongoread_duration"),
    notification_size: fanout("notification_size_bytes"),
};

fn fixture(case: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/gather/{case}/input.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

struct Read {
    traces: Vec<Trace>,
    tally: Tally,
    error: Option<ResponseError>,
}

fn read(body: &[u8], size: usize) -> Read {
    let (mut traces, mut tally) = (Vec::new(), Tally::default());
    let done = read_here(Cursor::new(body.to_vec()), size, &SHAPE, &mut tally, &mut |trace| traces.push(trace));
    Read { traces, tally, error: done.err() }
}

/// What one trace says, as comparable text.
fn said(trace: &Trace) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        trace.id().map(|id| id.value()),
        trace.post_id(),
        trace.start_us(),
        trace.written_ms(),
        trace.queued_ms(),
        trace.received_ms(),
        trace.read_ms(),
        trace.barrier_ms(),
        trace.found(),
        trace.replica_read_ms(),
        trace.notification_bytes(),
        Field::ALL.map(|field| trace.seen(field)),
    )
}

/// The same by the book: the whole document in memory, the last complete span of an operation, the first tag of a name.
fn reference(body: &[u8]) -> Option<Vec<String>> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let data = document.as_object()?.get("data")?.as_array()?;
    Some(data.iter().filter(|trace| trace.is_object()).map(reference_trace).collect())
}

fn reference_trace(trace: &Value) -> String {
    let mut seen = [Seen::NoSpan; Field::COUNT];
    let mut values = [const { Value::Null }; Field::COUNT];
    for span in trace["spans"].as_array().into_iter().flatten() {
        let name = span["operationName"].as_str().unwrap_or_default();
        let fields = |with_tag: bool| {
            Field::ALL.into_iter().filter(move |&f| SHAPE.place(f).0 == name && SHAPE.place(f).1.is_some() == with_tag)
        };
        for field in fields(false) {
            values[field as usize] = span["startTime"].clone();
            seen[field as usize] =
                if span.get("startTime").is_some() { whole(&span["startTime"]).0 } else { Seen::NoTag };
        }
        let mut own: Vec<(Field, Seen, Value)> = Vec::new();
        for field in fields(true) {
            let tags = span["tags"].as_array().into_iter().flatten();
            let value = tags.filter(|tag| tag["key"].as_str() == SHAPE.place(field).1).find_map(|tag| tag.get("value"));
            let state = value.map_or(Seen::NoTag, |value| match field {
                Field::Found => truth(value).0,
                Field::Barrier | Field::ReplicaRead => number(value).0,
                _ => whole(value).0,
            });
            own.push((field, state, value.cloned().unwrap_or_default()));
        }
        let had = own.iter().all(|(field, ..)| seen[*field as usize] == Seen::Here);
        if !had || own.iter().all(|(_, state, _)| *state == Seen::Here) {
            for (field, state, value) in own {
                (seen[field as usize], values[field as usize]) = (state, value);
            }
        }
    }
    reference_said(trace, seen, &values)
}

fn reference_said(trace: &Value, mut seen: [Seen; Field::COUNT], values: &[Value; Field::COUNT]) -> String {
    const LAST_MS: i64 = 253_402_300_799_999;
    let stamps = [Field::Written, Field::Queued, Field::Received, Field::Read];
    let int = |field: Field| whole(&values[field as usize]).1;
    let here = |seen: &[Seen], field: Field| seen[field as usize] == Seen::Here;
    if here(&seen, Field::Start) && !(0..=LAST_MS * 1000).contains(&int(Field::Start)) {
        seen[Field::Start as usize] = Seen::OutOfRange;
    }
    let start = if here(&seen, Field::Start) {
        int(Field::Start)
    } else {
        let usable = stamps.into_iter().find(|&f| here(&seen, f) && (0..=LAST_MS).contains(&int(f)));
        usable.map_or(0, |field| int(field) * 1000)
    };
    for field in stamps {
        let ms = int(field);
        if here(&seen, field) && (!(0..=LAST_MS).contains(&ms) || i32::try_from(ms - start.div_euclid(1000)).is_err()) {
            seen[field as usize] = Seen::OutOfRange;
        }
    }
    if here(&seen, Field::NotificationSize) && !(0..1 << 24).contains(&int(Field::NotificationSize)) {
        seen[Field::NotificationSize as usize] = Seen::OutOfRange;
    }
    let id = trace["traceID"].as_str().and_then(|id| TraceId::parse(id.as_bytes())).map(|id| id.value());
    let whole_of = |field| here(&seen, field).then(|| int(field));
    let float_of = |field: Field| here(&seen, field).then(|| number(&values[field as usize]).1);
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        id,
        whole_of(Field::Post),
        whole_of(Field::Start),
        whole_of(Field::Written),
        whole_of(Field::Queued),
        whole_of(Field::Received),
        whole_of(Field::Read),
        float_of(Field::Barrier),
        here(&seen, Field::Found).then(|| truth(&values[Field::Found as usize]).1),
        float_of(Field::ReplicaRead),
        whole_of(Field::NotificationSize),
        seen,
    )
}

fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim_ascii().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn whole(value: &Value) -> (Seen, i64) {
    let Some(text) = words(value) else { return (Seen::WrongType, 0) };
    if let Ok(whole) = text.parse::<i64>() {
        return (Seen::Here, whole);
    }
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() <= 1 && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return (Seen::OutOfRange, 0);
    }
    match text.parse::<f64>() {
        Ok(float) if !float.is_finite() || float.abs() > 9_007_199_254_740_992.0 => (Seen::OutOfRange, 0),
        Ok(float) if float.fract() == 0.0 => (Seen::Here, float as i64),
        _ => (Seen::WrongType, 0),
    }
}

fn number(value: &Value) -> (Seen, f64) {
    match words(value).and_then(|text| text.parse::<f64>().ok()) {
        Some(number) if number.is_finite() => (Seen::Here, number),
        Some(_) => (Seen::OutOfRange, 0.0),
        None => (Seen::WrongType, 0.0),
    }
}

fn truth(value: &Value) -> (Seen, bool) {
    match value {
        Value::Bool(truth) => (Seen::Here, *truth),
        Value::String(text) => match text.as_str() {
            "true" | "True" => (Seen::Here, true),
            "false" | "False" => (Seen::Here, false),
            _ => (Seen::WrongType, false),
        },
        _ => (Seen::WrongType, false),
    }
}

#[test]
fn every_case_reads_as_the_reference_reads_it() {
    for case in ["small", "missing_spans", "duplicate_spans", "value_types_numbers", "single", "ts_mixed_zero_us"] {
        let body = fixture(case);
        let expected = reference(&body).unwrap();
        for size in [1, 7, 64, 1000, 1 << 20] {
            if size == 1 && body.len() > 60_000 {
                continue;
            }
            let got = read(&body, size);
            assert!(got.error.is_none() && got.tally.lost.is_empty() && got.tally.damage.is_none(), "{case} {size}");
            assert_eq!(got.traces.iter().map(said).collect::<Vec<_>>(), expected, "{case} {size}");
            assert_eq!(got.tally.bytes, body.len() as u64);
        }
    }
}

#[test]
fn spaces_and_line_ends_change_nothing() {
    let value: Value = serde_json::from_slice(&fixture("small")).unwrap();
    let pretty = serde_json::to_vec_pretty(&value).unwrap();
    assert_eq!(read(&pretty, 100).traces.iter().map(said).collect::<Vec<_>>(), reference(&pretty).unwrap());
}

/// An answer with the traces `elements`.
fn answer(elements: &[&str]) -> Vec<u8> {
    format!(r#"{{"data":[{}],"total":0,"errors":null}}"#, elements.join(",")).into_bytes()
}

fn elements(case: &str) -> Vec<String> {
    let value: Value = serde_json::from_slice(&fixture(case)).unwrap();
    value["data"].as_array().unwrap().iter().map(Value::to_string).collect()
}

/// Reads `bad` between two good traces: both good ones must come out, and the bad one must be lost for `loss`.
fn between_good_ones(bad: &str, loss: Option<Loss>) -> Read {
    let good = elements("small");
    let body = answer(&[&good[0], bad, &good[1]]);
    let got = read(&body, 4096);
    let expected = reference(&answer(&[&good[0], &good[1]])).unwrap();
    let said: Vec<String> = got.traces.iter().map(said).collect();
    assert_eq!(said.first(), expected.first());
    assert_eq!(said.last(), expected.last());
    match loss {
        Some(loss) => assert_eq!(got.tally.lost.get(&loss), Some(&1), "{:?}", got.tally),
        None => assert!(got.tally.lost.is_empty(), "{:?}", got.tally),
    }
    assert_eq!(got.tally.parsed + got.tally.lost.values().sum::<u64>(), got.tally.present);
    assert_eq!(got.tally.present, 3);
    got
}

#[test]
fn what_cannot_be_read_is_lost_alone_and_named() {
    let depth = 100_000;
    let deep = format!(r#"{{"traceID":"ab","spans":[],"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let got = between_good_ones(&deep, Some(Loss::TooDeep));
    assert!(got.tally.damage.unwrap().starts_with("nested deeper than 128 levels at byte "));
    between_good_ones(r#"{"traceID":"ab","spans":[{"operationName":NaN..}]}"#, Some(Loss::Malformed));
    between_good_ones(r#"{"traceID":"ab" "spans":[]}"#, Some(Loss::Malformed));
    between_good_ones(r#"{"traceID":"ab","spans":[{"a":01}]}"#, Some(Loss::Malformed));
    between_good_ones(r#"{"traceID":"ab","spans":[{]}"#, Some(Loss::Malformed));
    between_good_ones(r#"{"traceID":"ab","spans":[}"#, Some(Loss::Malformed));
    between_good_ones("null", Some(Loss::NotATrace));
    between_good_ones("-7", Some(Loss::NotATrace));
    between_good_ones(r#"["traceID"]"#, Some(Loss::NotATrace));
    let huge = format!(r#"{{"traceID":"ab","x":"{}"}}"#, "y".repeat(20 << 20));
    between_good_ones(&huge, Some(Loss::TooLarge));
}

#[test]
fn odd_but_whole_traces_are_read() {
    between_good_ones(r#"{}"#, None);
    between_good_ones(r#"{"spans":null}"#, None);
    between_good_ones(r#"{"traceID":7,"spans":[null,{},{"tags":3,"operationName":null}]}"#, None);
    between_good_ones(&format!(r#"{{"traceID":"ab","spans":[],"x":{}{}}}"#, "[".repeat(60), "]".repeat(60)), None);
    let long = format!(r#"{{"traceID":"ab","x":"{}"}}"#, "y\\\"".repeat(2 << 20));
    between_good_ones(&long, None);
}

/// A trace with one tag of the fan-out span.
fn with_tag(tag: &str, value: &str) -> Trace {
    let span = format!(r#"{{"tags":[{{"key":"{tag}","value":{value}}}],"operationName":"FanoutHomeTimelines"}}"#);
    let got = read(&answer(&[&format!(r#"{{"traceID":"ab","spans":[{span}]}}"#)]), 64);
    assert_eq!(got.traces.len(), 1, "{tag} {value}: {:?}", got.tally);
    got.traces[0]
}

#[test]
fn values_are_taken_by_what_they_say_not_by_how_they_are_typed() {
    let size = |value| with_tag("notification_size_bytes", value);
    for good in ["790", "\"790\"", "7.9e2", "790.0", "\" 790 \"", r#""\u0037\u0039\u0030""#] {
        assert_eq!(size(good).notification_bytes(), Some(790), "{good}");
    }
    for (bad, seen) in [
        ("-1", Seen::OutOfRange),
        ("1e300", Seen::OutOfRange),
        ("NaN", Seen::OutOfRange),
        ("\"Infinity\"", Seen::OutOfRange),
        ("99999999999999999999999999", Seen::OutOfRange),
        ("790.5", Seen::WrongType),
        ("\"\"", Seen::WrongType),
        ("true", Seen::WrongType),
        ("null", Seen::WrongType),
        ("[790]", Seen::WrongType),
        ("{}", Seen::WrongType),
    ] {
        assert_eq!(size(bad).seen(Field::NotificationSize), seen, "{bad}");
    }
    let found = |value| with_tag("consistency_bool", value);
    assert_eq!(found("false").found(), Some(false));
    assert_eq!((found("\"false\"").found(), found("\"false\"").is_found_spelled()), (Some(false), true));
    assert_eq!(found("\"True\"").found(), Some(true));
    assert_eq!(found("1").seen(Field::Found), Seen::WrongType);
    assert_eq!(with_tag("wht_start_worker_ts", "1634554800053").received_ms(), Some(1_634_554_800_053));
    assert_eq!(with_tag("wht_start_worker_ts", "-5").seen(Field::Received), Seen::OutOfRange);
}

#[test]
fn answers_of_no_use_are_refused_by_name() {
    let refused = |body: &str| read(body.as_bytes(), 16).error.map(|error| error.to_string());
    assert_eq!(refused("").unwrap(), "the answer is empty");
    assert_eq!(refused(" \n").unwrap(), "the answer is empty");
    assert_eq!(refused("\n<!doctype html>").unwrap(), "the answer is HTML, not JSON");
    assert_eq!(refused("404 page not found").unwrap(), "the answer is not JSON: it starts with `404 page not found`");
    assert_eq!(refused("[]").unwrap(), "the answer is not JSON: it starts with `[]`");
    assert_eq!(refused("{}").unwrap(), "the answer has no `data` array");
    assert_eq!(refused(r#"{"data":{"a":[]}}"#).unwrap(), "the answer has no `data` array");
    assert_eq!(refused(r#"{"data":[],"errors":null}"#), None);
    assert_eq!(refused(r#"{"data":null,"total":0}"#), None);
    let said = read(br#"{"data":null,"errors":[{"code":400,"msg":"parameter 'service' is required"}]}"#, 9).tally;
    assert_eq!(said.server_error.as_deref(), Some("parameter 'service' is required"));
}

#[test]
fn a_byte_order_mark_is_no_content_however_it_arrives() {
    let body = b"\xef\xbb\xbf{\"data\":[{\"traceID\":\"a\",\"spans\":[]}]}";
    for size in 1..body.len() {
        let read = read(body, size);
        assert_eq!((read.error.map(|error| error.to_string()), read.traces.len()), (None, 1), "in pieces of {size}");
    }
}

#[test]
fn a_long_string_beside_the_data_is_passed_over() {
    let body = format!(r#"{{"note":"{}","data":[{{"traceID":"a","spans":[]}}]}}"#, "n\\\"".repeat(3 << 20));
    assert_eq!(read(body.as_bytes(), 1 << 16).traces.len(), 1);
}

#[test]
fn a_cut_answer_keeps_what_came_before_the_cut() {
    let good = elements("small");
    let body = fixture("small");
    let whole = reference(&body).unwrap();
    for cut in (10..body.len()).step_by(911) {
        let got = read(&body[..cut], 777);
        let said: Vec<String> = got.traces.iter().map(said).collect();
        assert_eq!(said, whole[..said.len()], "cut at {cut}");
        assert!(got.tally.present <= good.len() as u64);
        assert_eq!(got.tally.parsed + got.tally.lost.values().sum::<u64>(), got.tally.present);
        assert!(got.tally.damage.is_some() || got.tally.present == good.len() as u64);
    }
}

/// One change to an answer.
#[derive(Clone, Copy, Debug)]
enum Change {
    Replace(u8),
    Remove,
    Insert(u8),
}

/// Makes one change inside trace number `which` and demands that all others come out as if nothing had happened.
fn assert_damage_stays_where_it_is(elements: &[String], which: usize, at: usize, change: Change, size: usize) {
    let mut parts: Vec<Vec<u8>> = elements.iter().map(|element| element.clone().into_bytes()).collect();
    let target = &mut parts[which];
    let at = at % target.len();
    match change {
        Change::Replace(byte) => target[at] = byte,
        Change::Remove => drop(target.remove(at)),
        Change::Insert(byte) => target.insert(at, byte),
    }
    let mut body = br#"{"data":["#.to_vec();
    body.extend(parts.join(&b','));
    body.extend_from_slice(br#"],"total":0,"errors":null}"#);
    let got = read(&body, size);
    let near =
        String::from_utf8_lossy(&parts[which][at.saturating_sub(30)..(at + 30).min(parts[which].len())]).into_owned();
    let context = || format!("trace {which}, byte {at} ({near}), {change:?}: {:?} {:?}", got.tally, got.error);
    assert!(got.error.is_none(), "{}", context());
    assert_eq!(got.tally.parsed + got.tally.lost.values().sum::<u64>(), got.tally.present, "{}", context());
    assert_eq!(got.tally.parsed, got.traces.len() as u64);
    let said: Vec<String> = got.traces.iter().map(said).collect();
    if let Some(expected) = reference(&body) {
        assert_eq!(said, expected, "{}", context());
        return;
    }
    assert_eq!(got.tally.present, elements.len() as u64, "{}", context());
    let untouched: Vec<String> =
        elements.iter().map(|element| reference_trace(&serde_json::from_str(element).unwrap())).collect();
    assert_eq!(said[..which.min(said.len())], untouched[..which], "{}", context());
    let after = elements.len() - which - 1;
    assert!(said.len() >= after, "{}", context());
    assert_eq!(said[said.len() - after..], untouched[which + 1..], "{}", context());
}

/// The bytes that give JSON its structure, and a few others.
const SHARP: &[u8] = b"\"\\{}[],: \n0aN-\x00\xff";

/// `count` changes at pseudo-random places of real-shaped answers.
fn mutate(count: u64, seed: u64) {
    let pools = [elements("small"), elements("value_types_numbers"), elements("duplicate_spans")];
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..count {
        let pool = &pools[random(pools.len())];
        let from = random(pool.len() - 3);
        let byte = if random(4) == 0 { random(256) as u8 } else { SHARP[random(SHARP.len())] };
        let change = [Change::Replace(byte), Change::Remove, Change::Insert(byte)][random(3)];
        let size = [3000, 16_384, 1 << 20][random(3)];
        assert_damage_stays_where_it_is(&pool[from..from + 3], random(3), random(1 << 30), change, size);
    }
}

/// `MAESTRO_TEST_FULL=1`: a hundred thousand, which takes a few minutes.
#[test]
fn one_damaged_byte_costs_at_most_its_own_trace() {
    let full = std::env::var_os("MAESTRO_TEST_FULL").is_some();
    mutate(if full { 100_000 } else { 2_000 }, 7);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_lose_count(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
        size in 1_usize..5000,
    ) {
        let mut body = fixture("single");
        for (from, to, byte) in &cuts {
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            let piece: Vec<u8> = body[from.min(to)..from.max(to)].iter().copied().take(700).collect();
            if byte % 3 == 0 {
                body.drain(from.min(to)..(from.min(to) + piece.len()).min(body.len() - 1));
            } else if byte % 3 == 1 {
                body.splice(from..from, piece);
            } else {
                body[from] = SHARP[usize::from(*byte) % SHARP.len()];
            }
        }
        let got = read(&body, size);
        assert_eq!(got.tally.parsed + got.tally.lost.values().sum::<u64>(), got.tally.present);
        assert_eq!(got.tally.parsed, got.traces.len() as u64);
        if let (Some(expected), None) = (reference(&body), &got.error) {
            assert_eq!(got.traces.iter().map(said).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn noise_is_refused_calmly(body in prop::collection::vec(any::<u8>(), 0..600), size in 1_usize..100) {
        let got = read(&body, size);
        assert_eq!(got.tally.parsed, got.traces.len() as u64);
    }
}
