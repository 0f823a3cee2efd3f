//! Jaeger's query API over a [`TraceMemory`]: which traces a query means, and how they are written.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use serde_json::json;

use super::form::Form;
use super::spans::{Span, Tag, Trace, TraceMemory, Value};

/// Largest integer that a JSON reader is sure to keep; Jaeger writes what is beyond it as a string.
const SAFE_INTEGER: i64 = (1 << 53) - 1;
/// Traces returned when a query names no limit.
const DEFAULT_LIMIT: usize = 100;
/// How far back a query without `start` looks, us.
const DEFAULT_SPAN_US: u64 = 48 * 3600 * 1_000_000;
/// How far back dependencies look by default, ms.
const DEFAULT_LOOKBACK_MS: u64 = 24 * 3600 * 1000;

/// What `/api/traces` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceQuery {
    service: String,
    operation: Option<String>,
    limit: usize,
    start_us: u64,
    end_us: u64,
    min_us: Option<u64>,
    max_us: Option<u64>,
    tags: Vec<(String, String)>,
}

impl TraceQuery {
    /// Reads the arguments of a request at `now_us`. `lookback` is ignored, as Jaeger's server ignores it.
    ///
    /// # Errors
    /// Jaeger's message for a 400.
    pub fn parse(form: &Form, now_us: u64) -> Result<Self, String> {
        let number =
            |key: &str| form.get(key).map(|text| text.parse::<u64>().map_err(|_| unparsable(key, text))).transpose();
        let duration =
            |key: &str| form.get(key).map(|text| go_duration_us(text).ok_or_else(|| unparsable(key, text))).transpose();
        let service = form.get("service").ok_or("parameter 'service' is required")?.to_owned();
        let end_us = number("end")?.unwrap_or(now_us);
        let (min_us, max_us) = (duration("minDuration")?, duration("maxDuration")?);
        if let (Some(min), Some(max)) = (min_us, max_us)
            && min > max
        {
            return Err("'maxDuration' should be greater than 'minDuration'".into());
        }
        Ok(TraceQuery {
            service,
            operation: form.get("operation").filter(|name| *name != "all").map(str::to_owned),
            limit: number("limit")?.map_or(DEFAULT_LIMIT, |limit| limit as usize),
            start_us: number("start")?.unwrap_or_else(|| now_us.saturating_sub(DEFAULT_SPAN_US)),
            end_us,
            min_us,
            max_us,
            tags: tags(form)?,
        })
    }

    fn matches(&self, span: &Span) -> bool {
        span.service == self.service
            && self.operation.as_deref().is_none_or(|operation| operation == span.operation)
            && (self.start_us..=self.end_us).contains(&span.start_us)
            && self.min_us.is_none_or(|min| span.duration_us >= min)
            && self.max_us.is_none_or(|max| span.duration_us <= max)
            && self
                .tags
                .iter()
                .all(|(key, value)| span.tags.iter().any(|tag| tag.key == key && tag_text(&tag.value) == *value))
    }

    /// The newest traces with at least one span that matches, at most `limit` of them, oldest first.
    pub fn find(&self, memory: &TraceMemory) -> Vec<Trace> {
        let mut found: Vec<Trace> =
            memory.traces().into_iter().filter(|trace| trace.spans().any(|span| self.matches(span))).collect();
        found.sort_by_key(Trace::start_us);
        found.split_off(found.len().saturating_sub(self.limit))
    }
}

fn unparsable(key: &str, text: &str) -> String {
    format!("unable to parse param '{key}': invalid syntax: {text:?}")
}

/// `tag=key:value` and `tags={"key":"value"}`.
fn tags(form: &Form) -> Result<Vec<(String, String)>, String> {
    let mut tags = Vec::new();
    if let Some(text) = form.get("tag") {
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| format!("malformed 'tag' parameter, expecting key:value, received: {text}"))?;
        tags.push((key.to_owned(), value.to_owned()));
    }
    if let Some(text) = form.get("tags") {
        let map: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|_| "malformed 'tags' parameter, cannot unmarshal JSON".to_owned())?;
        tags.extend(map);
    }
    Ok(tags)
}

/// A Go duration (`1.5ms`, `2s`) in us.
fn go_duration_us(text: &str) -> Option<u64> {
    let units = [("ns", 0.001), ("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7), ("h", 3.6e9)];
    let (unit, factor) = units.into_iter().find(|(unit, _)| {
        text.strip_suffix(unit).is_some_and(|number| number.ends_with(|c: char| c.is_ascii_digit() || c == '.'))
    })?;
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    (number >= 0.0).then_some((number * factor) as u64)
}

fn tag_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
    }
}

/// What comes before the traces of an answer, and after them.
pub const FRAME: (&str, &str) = ("{\"data\":[", "],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}");

/// Writes `trace` as Jaeger does.
pub fn write_trace(out: &mut Vec<u8>, trace: &Trace) {
    let mut processes: Vec<&'static str> = Vec::new();
    push(out, format_args!("{{\"traceID\":\"{:016x}\",\"spans\":[", trace.id));
    for (i, span) in trace.spans().enumerate() {
        let process = processes.iter().position(|s| *s == span.service).unwrap_or_else(|| {
            processes.push(span.service);
            processes.len() - 1
        });
        if i > 0 {
            out.push(b',');
        }
        write_span(out, trace.id, span, process + 1);
    }
    push(out, format_args!("],\"processes\":{{"));
    for (i, service) in processes.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let tags = r#"{"key":"ip","type":"string","value":"127.0.0.1"}"#;
        push(out, format_args!("{comma}\"p{}\":{{\"serviceName\":{},\"tags\":[", i + 1, quoted(service)));
        push(out, format_args!("{{\"key\":\"hostname\",\"type\":\"string\",\"value\":{}}},{tags}]}}", quoted(service)));
    }
    push(out, format_args!("}},\"warnings\":null}}"));
}

fn write_span(out: &mut Vec<u8>, trace: u64, span: &Span, process: usize) {
    push(
        out,
        format_args!(
            "{{\"traceID\":\"{trace:016x}\",\"spanID\":\"{:016x}\",\"flags\":1,\"operationName\":{},\"references\":[",
            span.id,
            quoted(span.operation)
        ),
    );
    if span.parent != 0 {
        let parent = span.parent;
        push(
            out,
            format_args!("{{\"refType\":\"CHILD_OF\",\"traceID\":\"{trace:016x}\",\"spanID\":\"{parent:016x}\"}}"),
        );
    }
    push(out, format_args!("],\"startTime\":{},\"duration\":{},\"tags\":[", span.start_us, span.duration_us));
    for tag in &span.tags {
        write_tag(out, tag);
        out.push(b',');
    }
    push(
        out,
        format_args!(
            "{{\"key\":\"internal.span.format\",\"type\":\"string\",\"value\":\"jaeger\"}}],\"logs\":[],\
             \"processID\":\"p{process}\",\"warnings\":null}}"
        ),
    );
}

fn write_tag(out: &mut Vec<u8>, tag: &Tag) {
    let key = quoted(tag.key);
    match &tag.value {
        Value::Text(text) => {
            push(out, format_args!("{{\"key\":{key},\"type\":\"string\",\"value\":{}}}", quoted(text)));
        }
        Value::Bool(value) => push(out, format_args!("{{\"key\":{key},\"type\":\"bool\",\"value\":{value}}}")),
        Value::Int(value) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(value) => {
            push(out, format_args!("{{\"key\":{key},\"type\":\"int64\",\"value\":{value}}}"));
        }
        Value::Int(value) => push(out, format_args!("{{\"key\":{key},\"type\":\"int64\",\"value\":\"{value}\"}}")),
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    out.write_fmt(text).ok();
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// What `/api/dependencies` was asked for: a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyQuery {
    start_us: u64,
    end_us: u64,
}

impl DependencyQuery {
    /// Reads the arguments of a request at `now_us`.
    ///
    /// # Errors
    /// Jaeger's message for a 400.
    pub fn parse(form: &Form, now_us: u64) -> Result<Self, String> {
        let number = |key: &str, default: u64| match form.get(key) {
            Some(text) => text.parse::<u64>().map_err(|_| unparsable(key, text)),
            None => Ok(default),
        };
        let end_ms = number("endTs", now_us / 1000 + 1)?;
        let lookback_ms = number("lookback", DEFAULT_LOOKBACK_MS)?;
        let end_us = end_ms.saturating_mul(1000);
        Ok(DependencyQuery { start_us: end_ms.saturating_sub(lookback_ms).saturating_mul(1000), end_us })
    }

    /// The edges: spans whose parent belongs to another service, counted by the two services, over traces with a span
    /// in the window.
    pub fn find(&self, memory: &TraceMemory) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut edges = BTreeMap::new();
        for trace in memory.traces() {
            if !trace.spans().any(|span| (self.start_us..=self.end_us).contains(&span.start_us)) {
                continue;
            }
            let services: HashMap<u64, &'static str> = trace.spans().map(|span| (span.id, span.service)).collect();
            for span in trace.spans() {
                if let Some(parent) = services.get(&span.parent).filter(|parent| **parent != span.service) {
                    *edges.entry((*parent, span.service)).or_insert(0) += 1;
                }
            }
        }
        edges
    }
}

/// The answer to `/api/dependencies`.
pub fn dependencies_json(edges: &BTreeMap<(&'static str, &'static str), u64>) -> serde_json::Value {
    let edge =
        |((parent, child), count): (&(&str, &str), &u64)| json!({"parent": parent, "child": child, "callCount": count});
    json!({"data": edges.iter().map(edge).collect::<Vec<_>>(), "total": 0, "limit": 0, "offset": 0, "errors": null})
}

/// An answer that lists names.
pub fn names_json<'a>(names: impl IntoIterator<Item = &'a str>) -> serde_json::Value {
    let names: Vec<&str> = names.into_iter().collect();
    json!({"data": names, "total": names.len(), "limit": 0, "offset": 0, "errors": null})
}

/// Jaeger's form of an error.
pub fn error_json(code: u16, message: &str) -> serde_json::Value {
    json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": code, "msg": message}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u64, parent: u64, service: &'static str, start_us: u64) -> Span {
        Span::begin(id, parent, service, "op", start_us)
    }

    fn memory() -> TraceMemory {
        let memory = TraceMemory::new(100);
        for trace in 1..=5_u64 {
            let at = trace * 1_000_000;
            let mut store = span(3, 2, "b", at + 20).end(at + 70);
            store.int("composepost_id", 1_072_742_703_109_908_468);
            store.bool("ok", true);
            memory.record(trace, vec![span(1, 0, "a", at).end(at + 100), span(2, 1, "b", at + 10), store]);
        }
        memory
    }

    fn query(text: &str) -> Result<Vec<u64>, String> {
        let query = TraceQuery::parse(&Form::parse(text.as_bytes()), 10_000_000)?;
        Ok(query.find(&memory()).iter().map(|trace| trace.id).collect())
    }

    #[test]
    fn queries_find_what_jaeger_finds() {
        assert_eq!(query("service=a").unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(query("service=a&limit=2&lookback=1ms").unwrap(), [4, 5]);
        assert_eq!(query("service=a&start=2000000&end=4000000").unwrap(), [2, 3, 4]);
        assert_eq!(query("service=c").unwrap(), [0; 0]);
        assert_eq!(query("service=b&minDuration=40us").unwrap().len(), 5);
        assert_eq!(query("service=b&minDuration=1ms").unwrap(), [0; 0]);
        assert_eq!(query("service=b&tag=ok:true&operation=op").unwrap().len(), 5);
        assert_eq!(query("service=a&tag=ok:true").unwrap(), [0; 0]);
        assert_eq!(query("limit=1").unwrap_err(), "parameter 'service' is required");
        assert!(query("service=a&limit=x").unwrap_err().contains("'limit'"));
    }

    #[test]
    fn edges_count_spans_with_a_parent_elsewhere() {
        let window = DependencyQuery::parse(&Form::parse(b"lookback=604800000"), 10_000_000).unwrap();
        assert_eq!(window.find(&memory()), BTreeMap::from([(("a", "b"), 5)]));
        let narrow = DependencyQuery::parse(&Form::parse(b"endTs=2500&lookback=1000"), 0).unwrap();
        assert_eq!(narrow.find(&memory()), BTreeMap::from([(("a", "b"), 1)]));
    }

    #[test]
    fn traces_are_written_as_jaeger_writes_them() {
        let mut out = Vec::new();
        write_trace(&mut out, &memory().trace(1).unwrap());
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["traceID"], "0000000000000001");
        assert_eq!(json["spans"][0]["references"], json!([]));
        let reference = json!([{"refType": "CHILD_OF", "traceID": "0000000000000001", "spanID": "0000000000000002"}]);
        assert_eq!(json["spans"][2]["references"], reference);
        let id = json!({"key": "composepost_id", "type": "int64", "value": "1072742703109908468"});
        assert_eq!(json["spans"][2]["tags"][0], id);
        assert_eq!(json["spans"][2]["tags"][1], json!({"key": "ok", "type": "bool", "value": true}));
        assert_eq!(
            (&json["spans"][2]["processID"], &json["processes"]["p2"]["serviceName"]),
            (&json!("p2"), &json!("b"))
        );
        assert_eq!((&json["spans"][0]["startTime"], &json["spans"][0]["duration"]), (&json!(1_000_000), &json!(100)));
    }

    #[test]
    fn go_durations() {
        let parsed = ["1.5ms", "2s", "3us", "1m", "12", "x"].map(go_duration_us);
        assert_eq!(parsed, [Some(1500), Some(2_000_000), Some(3), Some(60_000_000), None, None]);
    }
}
