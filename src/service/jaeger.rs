//! `jaeger`: takes spans in (OTLP/JSON on port 4318) and answers Jaeger's query API (port 16686).

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rpc;
use super::settings::{COLLECTOR_PORT, QUERY_PORT, Settings};
use crate::embedded::query::query_api;
use crate::embedded::spans::{Span, TraceMemory};
use crate::error::Result;

/// Traces kept unless `MAESTRO_TRACES` says otherwise; the oldest go first.
const TRACES: u64 = 2_000_000;
/// Different names of services, operations and tags that are told apart.
const NAMES: usize = 4096;
/// A larger batch of spans is refused.
const BATCH_LIMIT: usize = 64 << 20;

/// Serves the role.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let limit = usize::try_from(settings.number("MAESTRO_TRACES", TRACES)?).unwrap_or(usize::MAX);
    let memory = Arc::new(TraceMemory::new(limit));
    let collector = Router::new()
        .route("/v1/traces", post(take))
        .layer(axum::extract::DefaultBodyLimit::max(BATCH_LIMIT))
        .with_state(memory.clone());
    let (collecting, querying) = tokio::join!(
        rpc::serve("collector", settings.listen(COLLECTOR_PORT)?, collector),
        rpc::serve("query API", settings.listen(QUERY_PORT)?, query_api(memory)),
    );
    collecting?;
    querying?;
    Ok(())
}

/// What of an OTLP export request is understood.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    #[serde(default)]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default)]
    spans: Vec<OtlpSpan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtlpSpan {
    trace_id: String,
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    name: String,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    key: String,
    value: AttributeValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum AttributeValue {
    StringValue(String),
    BoolValue(bool),
    IntValue(IntText),
    #[serde(untagged)]
    Other(Value),
}

/// OTLP/JSON writes 64-bit numbers as strings; numbers are taken too.
#[derive(Deserialize)]
#[serde(untagged)]
enum IntText {
    Text(String),
    Number(i64),
}

async fn take(State(memory): State<Arc<TraceMemory>>, body: Bytes) -> (StatusCode, Json<Value>) {
    match take_in(&memory, &body) {
        Ok(()) => (StatusCode::OK, Json(json!({}))),
        Err(why) => (StatusCode::BAD_REQUEST, Json(json!({"message": why}))),
    }
}

/// Records the spans of an export request; nothing of it when a part cannot be understood.
fn take_in(memory: &TraceMemory, body: &[u8]) -> Result<(), String> {
    let export: Export = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let mut taken = Vec::new();
    for resource in export.resource_spans {
        let service = resource.resource.attributes.iter().find(|attribute| attribute.key == "service.name");
        let service = match service.map(|attribute| &attribute.value) {
            Some(AttributeValue::StringValue(name)) => intern(name)?,
            _ => return Err("a resource without `service.name`".into()),
        };
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            taken.push(read_span(service, span)?);
        }
    }
    for (trace, span) in taken {
        memory.record(trace, vec![span]);
    }
    Ok(())
}

fn read_span(service: &'static str, otlp: OtlpSpan) -> Result<(u64, Span), String> {
    // The services use 64-bit trace ids, which OTLP writes with leading zeros.
    let trace = hex(otlp.trace_id.get(otlp.trace_id.len().saturating_sub(16)..).unwrap_or_default())?;
    let parent = if otlp.parent_span_id.is_empty() { 0 } else { hex(&otlp.parent_span_id)? };
    let (start, end) = (micros(&otlp.start_time_unix_nano)?, micros(&otlp.end_time_unix_nano)?);
    let mut span = Span::begin(hex(&otlp.span_id)?, parent, service, intern(&otlp.name)?, start).end(end);
    for Attribute { key, value } in otlp.attributes {
        let key = intern(&key)?;
        match value {
            AttributeValue::StringValue(text) => span.text(key, text),
            AttributeValue::BoolValue(bool) => span.bool(key, bool),
            AttributeValue::IntValue(IntText::Number(int)) => span.int(key, int),
            AttributeValue::IntValue(IntText::Text(text)) => {
                span.int(key, text.parse().map_err(|_| format!("`{text}` is not a whole number"))?);
            }
            AttributeValue::Other(other) => span.text(key, other.to_string()),
        }
    }
    Ok((trace, span))
}

fn hex(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| format!("`{text}` is not an id"))
}

fn micros(nanos: &str) -> Result<u64, String> {
    nanos.parse::<u64>().map(|nanos| nanos / 1000).map_err(|_| format!("`{nanos}` is not a time"))
}

/// `name` for ever: names are few and come again with every span. A sender with ever new names is refused.
fn intern(name: &str) -> Result<&'static str, String> {
    static KNOWN: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        return Ok(known);
    }
    if known.len() >= NAMES {
        return Err(format!("more than {NAMES} names"));
    }
    let leaked: &'static str = String::leak(name.to_owned());
    known.insert(leaked);
    Ok(leaked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(span: Value) -> Vec<u8> {
        let resource =
            json!({"attributes": [{"key": "service.name", "value": {"stringValue": "compose-post-service"}}]});
        json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}).to_string().into_bytes()
    }

    #[test]
    fn spans_arrive_with_types_and_parents() {
        let memory = TraceMemory::new(10);
        let span = json!({
            "traceId": "000000000000000000000000000000ab", "spanId": "0000000000000002", "parentSpanId": "01",
            "name": "_ComposeAndUpload", "startTimeUnixNano": "5000", "endTimeUnixNano": "9000",
            "attributes": [
                {"key": "composepost_id", "value": {"intValue": "1072742703109908468"}},
                {"key": "consistency_bool", "value": {"boolValue": false}},
                {"key": "x", "value": {"doubleValue": 1.5}},
            ],
        });
        take_in(&memory, &export(span)).unwrap();
        let trace = memory.trace(0xab).unwrap();
        let span = trace.spans().next().unwrap();
        assert_eq!((span.id, span.parent, span.start_us, span.duration_us), (2, 1, 5, 4));
        assert_eq!((span.service, span.operation, span.tags.len()), ("compose-post-service", "_ComposeAndUpload", 3));
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        let memory = TraceMemory::new(10);
        let bad =
            json!({"traceId": "zz", "spanId": "1", "name": "n", "startTimeUnixNano": "1", "endTimeUnixNano": "2"});
        assert_eq!(take_in(&memory, &export(bad)).unwrap_err(), "`zz` is not an id");
        assert!(take_in(&memory, b"<html>").is_err());
        assert_eq!(memory.counts(), (0, 0));
    }
}
