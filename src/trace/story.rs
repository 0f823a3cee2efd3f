//! One trace in full, for a person: every span on one time line, and where the window went.

use std::collections::HashMap;
use std::io::Cursor;

use serde_json::Value;

use super::model::Trace;
use super::response::Tally;
use super::{Shape, read_here};

/// Characters of a bar.
const BAR: i64 = 32;

/// The traces of an answer for which `wanted` is true of the id or of the post id, as they stand in it.
pub fn find(answer: &Value, shape: &Shape, wanted: &str) -> Option<Value> {
    let traces = answer["data"].as_array()?;
    let is_wanted = |trace: &&Value| {
        let id = trace["traceID"].as_str().unwrap_or_default();
        id.trim_start_matches('0') == wanted.trim_start_matches('0')
            || reduced(trace, shape).and_then(|trace| trace.post_id()).is_some_and(|post| post.to_string() == wanted)
    };
    traces.iter().find(is_wanted).cloned()
}

/// The same trace as gather sees it.
pub fn reduced(trace: &Value, shape: &Shape) -> Option<Trace> {
    let answer = serde_json::json!({ "data": [trace] }).to_string();
    let (mut found, mut tally) = (None, Tally::default());
    read_here(Cursor::new(answer.into_bytes()), 1 << 20, shape, &mut tally, &mut |trace| found = Some(trace)).ok()?;
    found
}

struct Line {
    start: i64,
    duration: i64,
    depth: usize,
    name: String,
}

/// The spans as lines: begin and duration in ms, a bar, service and operation, indented below their parents.
pub fn timeline(trace: &Value) -> Vec<String> {
    let lines = lines(trace);
    let begin = lines.iter().map(|line| line.start).min().unwrap_or(0);
    let end = lines.iter().map(|line| line.start + line.duration).max().unwrap_or(begin);
    let whole = (end - begin).max(1);
    let ms = |us: i64| us as f64 / 1000.0;
    let shown = |line: &Line| {
        let from = (line.start - begin) * BAR / whole;
        let long = (line.duration * BAR / whole).clamp(1, (BAR - from).max(1));
        let (before, bar) = (" ".repeat(from as usize), "=".repeat(long as usize));
        let rest = " ".repeat((BAR - from - long).max(0) as usize);
        let (at, took, indent) = (ms(line.start - begin), ms(line.duration), "  ".repeat(line.depth.min(12)));
        format!("{at:>10.3}  {took:>10.3}  |{before}{bar}{rest}|  {indent}{}", line.name)
    };
    let mut text = vec![format!("{:>10}  {:>10}  {:<34}  span", "begin ms", "took ms", "")];
    text.extend(lines.iter().map(shown));
    text
}

fn lines(trace: &Value) -> Vec<Line> {
    let empty = Vec::new();
    let spans = trace["spans"].as_array().unwrap_or(&empty);
    let parent = |span: &Value| span["references"][0]["spanID"].as_str().map(str::to_owned);
    let parents: HashMap<&str, Option<String>> =
        spans.iter().filter_map(|span| Some((span["spanID"].as_str()?, parent(span)))).collect();
    let depth = |span: &Value| {
        let mut depth = 0;
        let mut above = parent(span);
        // A cycle of parents cannot be longer than the trace.
        while let Some(id) = above.filter(|_| depth < spans.len()) {
            depth += 1;
            above = parents.get(id.as_str()).cloned().flatten();
        }
        depth
    };
    let service = |span: &Value| {
        let process = span["processID"].as_str().unwrap_or_default();
        trace["processes"][process]["serviceName"].as_str().unwrap_or("?").to_owned()
    };
    let mut lines: Vec<Line> = spans
        .iter()
        .map(|span| Line {
            start: span["startTime"].as_i64().unwrap_or(0),
            duration: span["duration"].as_i64().unwrap_or(0).max(0),
            depth: depth(span),
            name: format!("{}  {}", service(span), span["operationName"].as_str().unwrap_or("?")),
        })
        .collect();
    lines.sort_by_key(|line| (line.start, line.depth));
    lines
}

/// Where the window of `trace` went, step by step.
pub fn window(trace: &Trace) -> Vec<String> {
    let (Some(written), Some(read)) = (trace.written_ms(), trace.read_ms()) else {
        return vec!["no window: the post was not seen written and read".to_owned()];
    };
    let mut lines = vec![format!("window {} ms, from written to read", read - written)];
    let step = |name: &str, from: Option<i64>, to: Option<i64>| {
        let took = to.zip(from).map_or_else(|| "?".to_owned(), |(to, from)| (to - from).to_string());
        format!("  {took:>8} ms  {name}")
    };
    lines.push(step("written until queued", trace.written_ms(), trace.queued_ms()));
    lines.push(step("queued until received: the notification's way", trace.queued_ms(), trace.received_ms()));
    lines.push(step("received until read: the barrier, if there is one", trace.received_ms(), trace.read_ms()));
    if let Some(barrier) = trace.barrier_ms() {
        lines.push(format!("  {barrier:>8.3} ms  of that in the barrier"));
    }
    if let Some(replica_read) = trace.replica_read_ms() {
        lines.push(format!("  {replica_read:>8.3} ms  for the read itself"));
    }
    lines.push(match trace.found() {
        Some(true) => "the post was found".to_owned(),
        Some(false) => "VIOLATION: the post was not there yet".to_owned(),
        None => "whether the post was found is not recorded".to_owned(),
    });
    lines
}
