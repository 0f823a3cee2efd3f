//! Spans: made on the request path, sent to the collector beside it.
//!
//! A finished span goes into a bounded queue; a task sends the queue's content in batches as OTLP/JSON
//! (`POST /v1/traces`), which a stock Jaeger takes as well as the `jaeger` role. When the collector is away the batch
//! is kept and tried again; when the queue is full spans are dropped and counted, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::rpc::HttpClient;
use crate::ui;

/// The header (and message key) that carries a span's identity: `trace:span:parent:flags`, in hexadecimal.
pub(crate) const CARRIER: &str = "uber-trace-id";

/// Spans that may wait for the collector.
const QUEUE: usize = 65_536;
/// Spans in one batch.
const BATCH: usize = 512;
/// How long a batch is filled.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait for the collector's answer to one batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// The identity of a span, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    trace: u64,
    span: u64,
    /// Whether the trace is kept.
    kept: bool,
}

impl SpanContext {
    /// Reads `trace:span:parent:flags`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (trace, span, _parent, flags) = (number()?, number()?, number()?, number()?);
        (trace != 0 && span != 0).then_some(SpanContext { trace, span, kept: flags & 1 == 1 })
    }

    /// The caller's span, from a request's headers.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        SpanContext::parse(headers.get(CARRIER)?.to_str().ok()?)
    }
}

impl std::fmt::Display for SpanContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}:{:x}:0:{}", self.trace, self.span, u8::from(self.kept))
    }
}

/// A tag's value.
#[derive(Clone, Debug)]
pub(crate) enum Tag {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

struct Finished {
    context: SpanContext,
    parent: Option<u64>,
    operation: &'static str,
    start_ns: u128,
    end_ns: u128,
    tags: Vec<(&'static str, Tag)>,
}

/// Makes spans of one service.
#[derive(Clone)]
pub(crate) struct Tracer {
    queue: mpsc::Sender<Finished>,
    lost: Arc<AtomicU64>,
}

/// Ends the sending of spans in good order.
pub(crate) struct TracerEnd {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl TracerEnd {
    /// Sends what is still queued, once, and ends.
    pub(crate) async fn close(self) {
        if self.stop.send(()).is_ok() && tokio::time::timeout(SEND_TIMEOUT * 2, self.task).await.is_err() {
            ui::warn("the collector did not take the last spans");
        }
    }
}

impl Tracer {
    /// A tracer for `service` that sends to the collector at `address` (`host:port`).
    pub(crate) fn start(service: String, address: &str) -> (Tracer, TracerEnd) {
        let (queue, finished) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let lost = Arc::new(AtomicU64::new(0));
        let sender = Sender {
            service,
            url: format!("http://{address}/v1/traces"),
            client: HttpClient::new(SEND_TIMEOUT),
            lost: lost.clone(),
        };
        let task = tokio::spawn(sender.run(finished, stopped));
        (Tracer { queue, lost }, TracerEnd { stop, task })
    }

    /// A span below `parent`, or the first of a new trace.
    pub(crate) fn span(&self, parent: Option<SpanContext>, operation: &'static str) -> Span {
        let parent = parent.unwrap_or_else(|| SpanContext { trace: random_id(), span: 0, kept: true });
        self.begin(parent, operation)
    }

    /// The first span of a trace that nobody keeps.
    pub(crate) fn untraced(&self, operation: &'static str) -> Span {
        self.begin(SpanContext { trace: random_id(), span: 0, kept: false }, operation)
    }

    fn begin(&self, parent: SpanContext, operation: &'static str) -> Span {
        Span {
            tracer: self.clone(),
            context: SpanContext { span: random_id(), ..parent },
            parent: (parent.span != 0).then_some(parent.span),
            operation,
            start_ns: since_epoch().as_nanos(),
            started: Instant::now(),
            tags: Vec::new(),
        }
    }
}

fn random_id() -> u64 {
    rand::random::<u64>().max(1)
}

/// A span in the making. It ends when it is dropped, with the tags it has by then.
pub(crate) struct Span {
    tracer: Tracer,
    context: SpanContext,
    parent: Option<u64>,
    operation: &'static str,
    start_ns: u128,
    started: Instant,
    tags: Vec<(&'static str, Tag)>,
}

impl Span {
    /// Its identity, for children here and elsewhere.
    pub(crate) fn context(&self) -> SpanContext {
        self.context
    }

    /// A span below this one.
    pub(crate) fn child(&self, operation: &'static str) -> Span {
        self.tracer.span(Some(self.context), operation)
    }

    /// Adds a tag of text.
    pub(crate) fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.tags.push((key, Tag::Text(value.into())));
    }

    /// Adds a tag that is a whole number.
    pub(crate) fn int(&mut self, key: &'static str, value: i64) {
        self.tags.push((key, Tag::Int(value)));
    }

    /// Adds a tag that is yes or no.
    pub(crate) fn bool(&mut self, key: &'static str, value: bool) {
        self.tags.push((key, Tag::Bool(value)));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if !self.context.kept {
            return;
        }
        let finished = Finished {
            context: self.context,
            parent: self.parent,
            operation: self.operation,
            start_ns: self.start_ns,
            end_ns: self.start_ns + self.started.elapsed().as_nanos(),
            tags: std::mem::take(&mut self.tags),
        };
        if self.tracer.queue.try_send(finished).is_err() {
            self.tracer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Sender {
    service: String,
    url: String,
    client: HttpClient,
    lost: Arc<AtomicU64>,
}

impl Sender {
    async fn run(self, mut finished: mpsc::Receiver<Finished>, mut stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut told = 0;
        loop {
            let taken = tokio::select! {
                taken = finished.recv_many(&mut batch, BATCH) => taken,
                _ = &mut stopped => break,
            };
            if taken == 0 {
                return;
            }
            tokio::time::sleep(FLUSH_INTERVAL).await;
            while batch.len() < BATCH && finished.try_recv().map(|span| batch.push(span)).is_ok() {}
            if !self.send_until(&batch, &mut stopped).await {
                break;
            }
            batch.clear();
            told = self.report_lost(told);
        }
        while let Ok(span) = finished.try_recv() {
            batch.push(span);
        }
        if !batch.is_empty() && self.send(&batch).await.is_err() {
            ui::warn(format_args!("{} spans were not delivered", batch.len()));
        }
    }

    /// Sends until it succeeds; false when the tracer is to end before.
    async fn send_until(&self, batch: &[Finished], stopped: &mut oneshot::Receiver<()>) -> bool {
        let mut pause = FLUSH_INTERVAL;
        loop {
            if self.send(batch).await.is_ok() {
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = &mut *stopped => return false,
            }
            pause = (pause * 2).min(SEND_TIMEOUT);
        }
    }

    async fn send(&self, batch: &[Finished]) -> Result<(), ()> {
        let body = encode(&self.service, batch).to_string();
        let (status, _) = self.client.post_json(&self.url, None, body.into()).await.map_err(|_| ())?;
        if status.is_success() { Ok(()) } else { Err(()) }
    }

    fn report_lost(&self, told: u64) -> u64 {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > told {
            ui::warn(format_args!("{lost} spans dropped: the collector is too slow"));
        }
        lost
    }
}

/// A batch as an OTLP/JSON export request.
fn encode(service: &str, batch: &[Finished]) -> Value {
    let spans: Vec<Value> = batch.iter().map(encode_span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": "maestro"}, "spans": spans}],
    }]})
}

fn encode_span(span: &Finished) -> Value {
    let attributes: Vec<Value> = span
        .tags
        .iter()
        .map(|(key, tag)| match tag {
            Tag::Text(text) => json!({"key": key, "value": {"stringValue": text}}),
            Tag::Int(int) => json!({"key": key, "value": {"intValue": int.to_string()}}),
            Tag::Bool(bool) => json!({"key": key, "value": {"boolValue": bool}}),
        })
        .collect();
    json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "parentSpanId": span.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
        "name": span.operation,
        "kind": 2,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": attributes,
    })
}

/// Wall-clock time.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Wall-clock time in whole milliseconds, as the application stamps its tags.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Wall-clock time in whole microseconds.
pub(crate) fn now_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

/// A duration in milliseconds with six digits, as the application writes it.
pub(crate) fn ms_text(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_journey() {
        let context = SpanContext { trace: 0xabc, span: 7, kept: false };
        assert_eq!(SpanContext::parse(&context.to_string()), Some(context));
        assert_eq!(SpanContext::parse("0:0:0:1"), None);
        assert_eq!(SpanContext::parse("zz"), None);
    }

    #[test]
    fn a_batch_is_a_valid_otlp_request() {
        let finished = Finished {
            context: SpanContext { trace: 1, span: 2, kept: true },
            parent: Some(3),
            operation: "StorePost",
            start_ns: 10,
            end_ns: 25,
            tags: vec![("n", Tag::Int(-5)), ("ok", Tag::Bool(true)), ("t", Tag::Text("x".into()))],
        };
        let request = encode("post-storage-service-eu", &[finished]);
        let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["parentSpanId"], "0000000000000003");
        assert_eq!(span["endTimeUnixNano"], "25");
        assert_eq!(span["attributes"][0]["value"]["intValue"], "-5");
    }
}
