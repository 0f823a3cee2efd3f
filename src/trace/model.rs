//! One trace, reduced to what an observation needs: 72 bytes, so that a million fit in memory.

use std::fmt;

use super::shape::Field;

/// Identity of a trace: up to 32 hexadecimal digits, written as the store wrote them (leading zeros may be absent).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId {
    high: u64,
    low: u64,
    digits: u8,
}

impl TraceId {
    /// Reads 1 to 32 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<TraceId> {
        if text.is_empty() || text.len() > 32 {
            return None;
        }
        let mut value = 0_u128;
        for &byte in text {
            value = value << 4 | u128::from((byte as char).to_digit(16)?);
        }
        Some(TraceId { high: (value >> 64) as u64, low: value as u64, digits: text.len() as u8 })
    }

    /// The number itself, without regard to how many digits were written.
    pub fn value(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.value(), width = usize::from(self.digits))
    }
}

/// What became of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Seen {
    /// No span of its operation.
    #[default]
    NoSpan,
    /// The span is there, the tag (or the start time) is not.
    NoTag,
    /// A value of a type that cannot be used.
    WrongType,
    /// A number that cannot be right: not finite, negative where that is impossible, or far from the trace's start.
    OutOfRange,
    /// A usable value.
    Here,
}

impl Seen {
    fn from_bits(bits: u32) -> Seen {
        match bits & 7 {
            1 => Seen::NoTag,
            2 => Seen::WrongType,
            3 => Seen::OutOfRange,
            4 => Seen::Here,
            _ => Seen::NoSpan,
        }
    }
}

/// Values as they were decoded, before they are packed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Draft {
    pub(super) id: Option<TraceId>,
    pub(super) seen: [Seen; Field::COUNT],
    /// Integers as they are, durations as the bits of an `f64`, `found` as 0 or 1.
    pub(super) values: [i64; Field::COUNT],
    pub(super) doubled: bool,
    pub(super) spelled: bool,
}

const DOUBLED: u8 = 1;
const SPELLED: u8 = 2;

/// One trace with what it says about one notification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trace {
    id_high: u64,
    id_low: u64,
    post_id: i64,
    start_us: i64,
    barrier_ms: f64,
    replica_read_ms: f64,
    /// Written, queued, received, read: ms behind the reference instant.
    stamps: [i32; 4],
    /// Three bits of [`Seen`] per field; the top bit is `found`.
    state: u32,
    /// Notification size in the low 24 bits.
    size: [u8; 3],
    /// Digits of the id in the low six bits (0: no usable id), then the two flags.
    flags: u8,
}

const STAMPS: [Field; 4] = [Field::Written, Field::Queued, Field::Received, Field::Read];
/// Stamps beyond this (year 9999) are not instants.
const LAST_MS: i64 = 253_402_300_799_999;

impl Trace {
    /// Packs `draft`; what does not fit is marked out of range.
    pub(super) fn pack(mut draft: Draft) -> Trace {
        let value = |draft: &Draft, field: Field| draft.values[field as usize];
        let here = |draft: &Draft, field: Field| draft.seen[field as usize] == Seen::Here;
        if here(&draft, Field::Start) && !(0..=LAST_MS * 1000).contains(&value(&draft, Field::Start)) {
            draft.seen[Field::Start as usize] = Seen::OutOfRange;
        }
        let start_us = if here(&draft, Field::Start) { value(&draft, Field::Start) } else { reference_us(&draft) };
        let mut stamps = [0; 4];
        for (stamp, field) in stamps.iter_mut().zip(STAMPS) {
            if here(&draft, field) {
                match offset_ms(value(&draft, field), start_us) {
                    Some(offset) => *stamp = offset,
                    None => draft.seen[field as usize] = Seen::OutOfRange,
                }
            }
        }
        let size = value(&draft, Field::NotificationSize);
        if here(&draft, Field::NotificationSize) && !(0..1 << 24).contains(&size) {
            draft.seen[Field::NotificationSize as usize] = Seen::OutOfRange;
        }
        let kept =
            |field: Field| if draft.seen[field as usize] == Seen::Here { draft.values[field as usize] } else { 0 };
        let mut state = if kept(Field::Found) != 0 { 1 << 31 } else { 0 };
        for (index, seen) in draft.seen.iter().enumerate() {
            state |= (*seen as u32) << (3 * index);
        }
        let size = (kept(Field::NotificationSize) as u32).to_le_bytes();
        let id = draft.id.unwrap_or_default();
        Trace {
            id_high: id.high,
            id_low: id.low,
            post_id: kept(Field::Post),
            start_us,
            barrier_ms: f64::from_bits(kept(Field::Barrier) as u64),
            replica_read_ms: f64::from_bits(kept(Field::ReplicaRead) as u64),
            stamps,
            state,
            size: [size[0], size[1], size[2]],
            flags: id.digits | (u8::from(draft.doubled) * DOUBLED + u8::from(draft.spelled) * SPELLED) << 6,
        }
    }

    /// The trace's id; `None` when the store's is not hexadecimal.
    pub fn id(&self) -> Option<TraceId> {
        let digits = self.flags & 63;
        (digits != 0).then_some(TraceId { high: self.id_high, low: self.id_low, digits })
    }

    /// What became of `field`.
    pub fn seen(&self, field: Field) -> Seen {
        Seen::from_bits(self.state >> (3 * field as u32))
    }

    fn has(&self, field: Field) -> bool {
        self.seen(field) == Seen::Here
    }

    /// Whether every field is there.
    pub fn is_complete(&self) -> bool {
        Field::ALL.iter().all(|&field| self.has(field))
    }

    /// Whether an operation that carries tags occurred more than once (the last complete one counted).
    pub fn is_doubled(&self) -> bool {
        self.flags >> 6 & DOUBLED != 0
    }

    /// Whether `found` came as a word in quotes instead of a truth value.
    pub fn is_found_spelled(&self) -> bool {
        self.flags >> 6 & SPELLED != 0
    }

    /// Start of the request, us since the epoch.
    pub fn start_us(&self) -> Option<i64> {
        self.has(Field::Start).then_some(self.start_us)
    }

    /// An instant to place the trace in time when it has no start: its first stamp; us since the epoch.
    pub fn about_us(&self) -> Option<i64> {
        let stamped = STAMPS.iter().any(|&field| self.has(field));
        (self.has(Field::Start) || stamped).then_some(self.start_us)
    }

    /// The post's id.
    pub fn post_id(&self) -> Option<i64> {
        self.has(Field::Post).then_some(self.post_id)
    }

    fn stamp(&self, index: usize) -> Option<i64> {
        self.has(STAMPS[index]).then(|| self.start_us.div_euclid(1000) + i64::from(self.stamps[index]))
    }

    /// Post durable at the origin, ms since the epoch.
    pub fn written_ms(&self) -> Option<i64> {
        self.stamp(0)
    }

    /// Notification queued, ms since the epoch.
    pub fn queued_ms(&self) -> Option<i64> {
        self.stamp(1)
    }

    /// Notification received, ms since the epoch.
    pub fn received_ms(&self) -> Option<i64> {
        self.stamp(2)
    }

    /// About to read at the replica, ms since the epoch.
    pub fn read_ms(&self) -> Option<i64> {
        self.stamp(3)
    }

    /// Duration of the barrier, ms.
    pub fn barrier_ms(&self) -> Option<f64> {
        self.has(Field::Barrier).then_some(self.barrier_ms)
    }

    /// Duration of the replica's read, ms.
    pub fn replica_read_ms(&self) -> Option<f64> {
        self.has(Field::ReplicaRead).then_some(self.replica_read_ms)
    }

    /// Whether the post was found.
    pub fn found(&self) -> Option<bool> {
        self.has(Field::Found).then_some(self.state >> 31 != 0)
    }

    /// Size of the notification, bytes.
    pub fn notification_bytes(&self) -> Option<u32> {
        let [a, b, c] = self.size;
        self.has(Field::NotificationSize).then(|| u32::from_le_bytes([a, b, c, 0]))
    }
}

/// The instant stamps are kept relative to when the request's start is unknown: the first usable stamp.
fn reference_us(draft: &Draft) -> i64 {
    let stamp = |field: &&Field| {
        draft.seen[**field as usize] == Seen::Here && (0..=LAST_MS).contains(&draft.values[**field as usize])
    };
    STAMPS.iter().find(stamp).map_or(0, |&field| draft.values[field as usize] * 1000)
}

/// `ms` relative to `start_us`, when it is an instant less than 24 days away.
fn offset_ms(ms: i64, start_us: i64) -> Option<i32> {
    if !(0..=LAST_MS).contains(&ms) {
        return None;
    }
    i32::try_from(ms - start_us.div_euclid(1000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_fit() {
        assert_eq!(size_of::<Trace>(), 72);
    }

    #[test]
    fn ids_are_written_as_they_came() {
        for text in
            ["ec07045631910483", "0c07045631910483", "103653452932147f", "a", "00000000000000000000000000000001"]
        {
            assert_eq!(TraceId::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(TraceId::parse(b""), None);
        assert_eq!(TraceId::parse(b"not-hex"), None);
        assert_eq!(TraceId::parse(&[b'a'; 33]), None);
    }
}
