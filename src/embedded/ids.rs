//! Identifiers the way the application makes them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::RngExt;
use rand_pcg::Pcg64;

use super::dist::generator;

/// The application counts milliseconds since 2018-01-01 UTC.
const EPOCH_2018_MS: u64 = 1_514_764_800_000;

/// Makes post ids, request ids, trace and span ids, lineage ids and object ids.
#[derive(Debug)]
pub struct Ids {
    machine: u64,
    /// Last millisecond used for a post id, and how many it had.
    last: Mutex<(u64, u64)>,
    rng: Mutex<Pcg64>,
    objects: AtomicU32,
    process: [u8; 5],
}

/// A document id of the store: 4 bytes of seconds, 5 of process, 3 of counter.
pub type ObjectId = [u8; 12];

impl Ids {
    /// Ids for this process. Post ids start where the clock stands; everything else follows `seed` and `start_us`,
    /// so that a restarted miniature does not repeat itself.
    pub fn new(seed: u64, start_us: u64) -> Self {
        let mut rng = generator(seed ^ start_us.rotate_left(17), "ids");
        let process: [u8; 5] = rng.random();
        // Never zero: an id below 2^53 would be spelt as a number where readers expect a string.
        let machine = u64::from(std::process::id()) % 0x7fe + 1;
        Ids { machine, last: Mutex::new((0, 0)), rng: Mutex::new(rng), objects: AtomicU32::new(0), process }
    }

    /// A post id: 3 hex digits of machine, 10 of milliseconds since 2018, 3 of a counter; the top bit is clear. Later
    /// ids are larger.
    pub fn post(&self, now_us: u64) -> i64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = (now_us / 1000).saturating_sub(EPOCH_2018_MS).max(last.0);
        *last = match *last {
            (ms, count) if ms == now_ms && count == 0xfff => (now_ms + 1, 0),
            (ms, count) if ms == now_ms => (now_ms, count + 1),
            _ => (now_ms, 0),
        };
        (self.machine << 52 | (last.0 & 0xff_ffff_ffff) << 12 | last.1) as i64
    }

    /// A random non-zero 64-bit number, for traces and spans.
    pub fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random::<u64>().max(1)
    }

    /// A request id: 15 hex digits.
    pub fn request(&self) -> i64 {
        (self.random() >> 4) as i64
    }

    /// A random UUID (version 4).
    pub fn uuid(&self) -> u128 {
        let random: u128 = self.rng.lock().unwrap_or_else(PoisonError::into_inner).random();
        random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62)
    }

    /// A document id.
    pub fn object(&self, now_us: u64) -> ObjectId {
        let seconds = ((now_us / 1_000_000) as u32).to_be_bytes();
        let count = self.objects.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut id = [0; 12];
        id[..4].copy_from_slice(&seconds);
        id[4..9].copy_from_slice(&self.process);
        id[9..].copy_from_slice(&count[1..]);
        id
    }
}

/// `bytes` as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// `uuid` with its hyphens.
pub fn uuid_text(uuid: u128) -> String {
    let hex = format!("{uuid:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn post_ids_grow_and_need_64_bits() {
        let ids = Ids::new(1, 1_700_000_000_000_000);
        let made: Vec<i64> = (0..10_000).map(|i| ids.post(1_700_000_000_000_000 + i)).collect();
        assert!(made.windows(2).all(|w| w[0] < w[1]));
        assert!(made.iter().all(|&id| id > 1 << 53));
    }

    #[test]
    fn other_ids_have_their_form() {
        let ids = Ids::new(1, 5);
        assert!(ids.request() < 1 << 60);
        let uuid = uuid_text(ids.uuid());
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        let (a, b) = (ids.object(1_700_000_000_000_000), ids.object(1_700_000_000_000_000));
        assert_eq!(a[..9], b[..9]);
        assert_ne!(a, b);
        assert_eq!(hex(&a).len(), 24);
    }
}
