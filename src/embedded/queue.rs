//! The notification queue: published at the origin, delivered at the replica after a delay of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::config::Config;
use super::link::Link;

/// One message as it lies in the queue.
#[derive(Clone, Debug)]
pub struct Message {
    /// The JSON body.
    pub body: Vec<u8>,
    /// Sent by the readiness probe.
    pub canary: bool,
}

/// What a notification says.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The request that composed the post.
    pub req_id: i64,
    /// The post.
    pub post_id: i64,
    /// Its author.
    pub user_id: i64,
    /// When it was stored, ms since the epoch.
    pub timestamp_ms: i64,
    /// Registered users it mentions.
    pub mentioned: Vec<i64>,
    /// The lineage, still encoded.
    pub lineage: String,
    /// Trace and parent span.
    pub carrier: (u64, u64),
}

impl Notification {
    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let carrier = format!("{:x}:{:x}:0:1", self.carrier.0, self.carrier.1);
        let value = json!({
            "req_id": self.req_id,
            "post_id": self.post_id,
            "user_id": self.user_id,
            "timestamp": self.timestamp_ms,
            "user_mentions_id": self.mentioned,
            "cscope_str": self.lineage,
            "carrier": {"uber-trace-id": carrier},
        });
        value.to_string().into_bytes()
    }

    /// Reads a message's body.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let number = |key: &str| value.get(key)?.as_i64();
        let carrier = value.get("carrier")?.get("uber-trace-id")?.as_str()?;
        let mut parts = carrier.split(':').map(|part| u64::from_str_radix(part, 16).ok());
        Some(Notification {
            req_id: number("req_id")?,
            post_id: number("post_id")?,
            user_id: number("user_id")?,
            timestamp_ms: number("timestamp")?,
            mentioned: value.get("user_mentions_id")?.as_array()?.iter().filter_map(Value::as_i64).collect(),
            lineage: value.get("cscope_str")?.as_str()?.to_owned(),
            carrier: (parts.next()??, parts.next()??),
        })
    }
}

/// The queue with its counters. Messages of the readiness probe are not counted.
#[derive(Debug)]
pub struct Queue {
    /// The way from broker to broker.
    pub link: Link<Message>,
    published: AtomicU64,
    delivered: AtomicU64,
    handled: AtomicU64,
    lost: AtomicU64,
}

/// The queue's counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// Notifications published.
    pub published: u64,
    /// Given to a consumer.
    pub delivered: u64,
    /// Handled to the end.
    pub handled: u64,
    /// Lost on the way (a fault).
    pub lost: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(config: &Config) -> Self {
        Queue {
            link: Link::new(config.queue.link(), config.seed, "queue"),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Publishes a message at `now_us`.
    pub fn publish(&self, message: Message, now_us: u64) {
        if !message.canary {
            self.published.fetch_add(1, Ordering::SeqCst);
        }
        let bytes = message.body.len();
        self.link.send(now_us, bytes, message);
    }

    /// Counts a message given to a consumer.
    pub fn count_delivered(&self) {
        self.delivered.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a message handled to the end.
    pub fn count_handled(&self) {
        self.handled.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a message that got lost after its delivery.
    pub fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    /// The counters. Read in the order in which a message passes them, last first, so that none is seen ahead of the
    /// one before it.
    pub fn counts(&self) -> QueueCounts {
        let (lost, handled) = (self.lost.load(Ordering::SeqCst), self.handled.load(Ordering::SeqCst));
        let delivered = self.delivered.load(Ordering::SeqCst);
        QueueCounts { published: self.published.load(Ordering::SeqCst), delivered, handled, lost }
    }
}

impl QueueCounts {
    /// Published and not yet with a consumer.
    pub fn depth(&self) -> u64 {
        self.published - self.delivered
    }

    /// Published and not yet handled.
    pub fn in_flight(&self) -> u64 {
        self.published - self.handled - self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::lineage::Lineage;

    #[test]
    fn a_notification_survives_its_journey() {
        let mut lineage = Lineage::new(9);
        let sent = Notification {
            req_id: 5,
            post_id: 1 << 60,
            user_id: 962,
            timestamp_ms: 1_700_000_000_123,
            mentioned: vec![3, 4],
            lineage: lineage.encode(),
            carrier: (0xabc, 0x12),
        };
        let body = sent.encode();
        assert_eq!(Notification::decode(&body), Some(sent.clone()));
        lineage.writes.push([1; 12]);
        let longer = Notification { lineage: lineage.encode(), ..sent }.encode();
        assert!(longer.len() - body.len() > 24, "one write id more: {} {}", body.len(), longer.len());
        assert_eq!(Notification::decode(b"{}"), None);
    }
}
