//! Spans of requests, and the memory that keeps the newest traces.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The value of a tag, with Jaeger's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `string`.
    Text(String),
    /// `bool`.
    Bool(bool),
    /// `int64`.
    Int(i64),
}

/// A tag of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// Its key.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
}

/// A finished span. Times are us (start since the epoch).
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its id within the trace.
    pub id: u64,
    /// The span it is a child of; 0 for a root.
    pub parent: u64,
    /// The service that made it.
    pub service: &'static str,
    /// What it does.
    pub operation: &'static str,
    /// Begin.
    pub start_us: u64,
    /// Length.
    pub duration_us: u64,
    /// Its tags.
    pub tags: Vec<Tag>,
}

impl Span {
    /// A span that begins at `start_us` and has no length yet.
    pub fn begin(id: u64, parent: u64, service: &'static str, operation: &'static str, start_us: u64) -> Self {
        Span { id, parent, service, operation, start_us, duration_us: 0, tags: Vec::new() }
    }

    /// Adds a string tag.
    pub fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.tags.push(Tag { key, value: Value::Text(value.into()) });
    }

    /// Adds a bool tag.
    pub fn bool(&mut self, key: &'static str, value: bool) {
        self.tags.push(Tag { key, value: Value::Bool(value) });
    }

    /// Adds an int64 tag.
    pub fn int(&mut self, key: &'static str, value: i64) {
        self.tags.push(Tag { key, value: Value::Int(value) });
    }

    /// Ends the span at `now_us`.
    #[must_use]
    pub fn end(mut self, now_us: u64) -> Self {
        self.duration_us = now_us.saturating_sub(self.start_us);
        self
    }
}

/// Spans of one trace that were reported together.
pub type Batch = Arc<[Span]>;

/// A trace as a query finds it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its id.
    pub id: u64,
    /// Its spans, in batches as they were reported.
    pub batches: Vec<Batch>,
}

impl Trace {
    /// All its spans.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.batches.iter().flat_map(|batch| batch.iter())
    }

    /// When its first span begins, us since the epoch.
    pub fn start_us(&self) -> u64 {
        self.spans().map(|span| span.start_us).min().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct State {
    traces: HashMap<u64, Vec<Batch>>,
    order: VecDeque<u64>,
    services: BTreeSet<&'static str>,
    dropped: u64,
}

/// The newest traces, up to a limit.
#[derive(Debug)]
pub struct TraceMemory {
    state: Mutex<State>,
    limit: usize,
}

impl TraceMemory {
    /// A memory of `limit` traces.
    pub fn new(limit: usize) -> Self {
        TraceMemory { state: Mutex::default(), limit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds finished spans to the trace `id`. The oldest trace goes when there is one too many; what comes in for a
    /// trace that has gone begins it anew, as it does in Jaeger.
    pub fn record(&self, id: u64, spans: Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        let mut state = self.state();
        for span in &spans {
            if !state.services.contains(span.service) {
                state.services.insert(span.service);
            }
        }
        let batch: Batch = spans.into();
        if let Some(batches) = state.traces.get_mut(&id) {
            batches.push(batch);
            return;
        }
        state.traces.insert(id, vec![batch]);
        state.order.push_back(id);
        if state.order.len() > self.limit
            && let Some(oldest) = state.order.pop_front()
        {
            state.traces.remove(&oldest);
            state.dropped += 1;
        }
    }

    /// All traces, oldest first.
    pub fn traces(&self) -> Vec<Trace> {
        let state = self.state();
        let trace = |id: &u64| state.traces.get(id).map(|batches| Trace { id: *id, batches: batches.clone() });
        state.order.iter().filter_map(trace).collect()
    }

    /// The trace `id`.
    pub fn trace(&self, id: u64) -> Option<Trace> {
        self.state().traces.get(&id).map(|batches| Trace { id, batches: batches.clone() })
    }

    /// Services that ever reported a span.
    pub fn services(&self) -> Vec<&'static str> {
        self.state().services.iter().copied().collect()
    }

    /// Traces held, and traces let go to stay within the limit.
    pub fn counts(&self) -> (usize, u64) {
        let state = self.state();
        (state.order.len(), state.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u64) -> Span {
        Span::begin(id, 0, "s", "o", id * 10)
    }

    #[test]
    fn spans_of_a_trace_meet_and_the_oldest_trace_goes() {
        let memory = TraceMemory::new(2);
        memory.record(1, vec![span(1)]);
        memory.record(2, vec![span(2)]);
        memory.record(1, vec![span(3)]);
        assert_eq!(memory.trace(1).unwrap().spans().map(|s| s.id).collect::<Vec<_>>(), [1, 3]);
        memory.record(3, vec![span(4)]);
        assert_eq!(memory.traces().iter().map(|t| t.id).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(memory.counts(), (2, 1));
    }
}
