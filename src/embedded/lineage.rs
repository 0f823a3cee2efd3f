//! Lineage: the writes a request made, carried with its notification, and the barrier that waits for them.

use std::time::Duration;

use serde_json::{Value, json};

use super::clock::Clock;
use super::config::BarrierConfig;
use super::ids::{ObjectId, hex, uuid_text};
use super::store::PostStore;

/// The lineage of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Its id, also kept with every document of it.
    pub id: u128,
    /// Its writes.
    pub writes: Vec<ObjectId>,
}

impl Lineage {
    /// An empty lineage.
    pub fn new(id: u128) -> Self {
        Lineage { id, writes: Vec::new() }
    }

    /// The text that travels inside the notification: JSON, indented by four.
    pub fn encode(&self) -> String {
        let writes: Vec<Value> = self.writes.iter().map(|write| json!({"wid": hex(write)})).collect();
        let value = json!({"value0": {"_id": uuid_text(self.id), "_wid_list": writes}});
        let mut text = Vec::new();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"    "));
        // A value of strings and lists always has a JSON form.
        serde::Serialize::serialize(&value, &mut serializer).ok();
        String::from_utf8(text).unwrap_or_default()
    }

    /// Reads what [`Lineage::encode`] wrote.
    pub fn decode(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let inner = value.get("value0")?;
        let id = u128::from_str_radix(&inner.get("_id")?.as_str()?.replace('-', ""), 16).ok()?;
        let writes = inner.get("_wid_list")?.as_array()?;
        let writes = writes.iter().map(|write| object_id(write.get("wid")?.as_str()?)).collect::<Option<Vec<_>>>()?;
        Some(Lineage { id, writes })
    }
}

fn object_id(hex: &str) -> Option<ObjectId> {
    if hex.len() != 24 || !hex.is_ascii() {
        return None;
    }
    let mut id = [0; 12];
    for (i, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(id)
}

/// How a barrier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierEnd {
    /// Everything the request wrote is visible here.
    Visible,
    /// The deadline passed first.
    TimedOut,
}

/// Waits until a document of the lineage, and then each of its writes, is visible at the replica. Pauses double from
/// look to look up to the longest; nothing waits beyond the deadline.
pub async fn barrier(store: &PostStore, clock: &Clock, lineage: &Lineage, config: &BarrierConfig) -> BarrierEnd {
    let micros = |ms: f64| (ms * 1000.0) as u64;
    let deadline = clock.now_us() + micros(config.deadline_ms);
    let longest = micros(config.longest_pause_ms);
    let mut pause = micros(config.first_pause_ms);
    let mut pending = lineage.writes.as_slice();
    let mut known = false;
    loop {
        let now = clock.now_us();
        known = known || store.replica_has_lineage(lineage.id, now);
        while known && pending.first().is_some_and(|write| store.replica_has_write(write, now)) {
            pending = &pending[1..];
        }
        if known && pending.is_empty() {
            return BarrierEnd::Visible;
        }
        if now >= deadline {
            return BarrierEnd::TimedOut;
        }
        tokio::time::sleep(Duration::from_micros(pause.min(deadline - now))).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_survives_its_journey() {
        let lineage = Lineage { id: 0x1234_5678_9abc_4def_8123_4567_89ab_cdef, writes: vec![[7; 12], [255; 12]] };
        let text = lineage.encode();
        assert!(
            text.contains("\n    \"value0\": {\n        \"_id\": \"12345678-9abc-4def-8123-456789abcdef\""),
            "{text}"
        );
        assert_eq!(Lineage::decode(&text), Some(lineage));
        assert_eq!(Lineage::decode(&Lineage::new(5).encode()), Some(Lineage::new(5)));
        for bad in ["", "{}", "[]", r#"{"value0":{"_id":"zz","_wid_list":[]}}"#] {
            assert_eq!(Lineage::decode(bad), None);
        }
    }
}
