//! Histograms of durations, and how they travel between processes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

/// The shortest duration that is told apart, ns.
const LOW_NS: u64 = 1_000;

/// The longest duration; what is longer is recorded as this, ns.
const HIGH_NS: u64 = 3_600_000_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

/// A histogram at rest: its encoded form, about 1 kB instead of 184.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Packed(String);

impl Packed {
    /// The histogram; empty when the text is not one.
    pub fn unpack(&self) -> Hist {
        Hist::decode(&self.0).unwrap_or_default()
    }

    /// Base64 of the compressed V2 encoding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Hist> for Packed {
    fn from(hist: &Hist) -> Self {
        Packed(hist.encode())
    }
}

/// Durations in ns, 1 us to 1 h with three significant digits. Its serialised form is the base64 of HdrHistogram's V2
/// compressed encoding, which other tools read and which merges exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Hist(Histogram<u64>);

impl Default for Hist {
    fn default() -> Self {
        Hist::new()
    }
}

impl Hist {
    /// An empty histogram.
    pub fn new() -> Self {
        #[allow(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
        Hist(Histogram::new_with_bounds(LOW_NS, HIGH_NS, DIGITS).expect("constant bounds"))
    }

    /// Adds one duration, ns.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds the same duration `count` times.
    pub fn record_n(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Adds many durations and returns how many they were; cheap where neighbours are almost alike.
    pub fn record_all(&mut self, all: impl Iterator<Item = u64>) -> u64 {
        let mut all = all.peekable();
        let mut total = 0;
        while let Some(first) = all.next() {
            let alike = self.0.lowest_equivalent(first)..=self.0.highest_equivalent(first);
            let mut count = 1;
            while all.next_if(|ns| alike.contains(ns)).is_some() {
                count += 1;
            }
            self.record_n(first, count);
            total += count;
        }
        total
    }

    /// Adds all samples of `other`; the result is what one histogram of all samples would be.
    pub fn add(&mut self, other: &Hist) {
        if self.0.add(&other.0).is_err() {
            // Only a histogram of another range, read from a foreign file, can fail to fit: enter its values one by one.
            for step in other.0.iter_recorded() {
                self.0.saturating_record_n(step.value_iterated_to(), step.count_at_value());
            }
        }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value below which `quantile` (0..1) of the samples lie, ns; 0 without samples.
    pub fn quantile(&self, quantile: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(quantile) }
    }

    /// The largest sample, ns; 0 without samples.
    pub fn max(&self) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.max() }
    }

    /// The mean, ns; 0 without samples.
    pub fn mean(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.mean() }
    }

    /// Number of samples in buckets at or below that of `ns`.
    pub fn count_up_to(&self, ns: u64) -> u64 {
        self.0.count_between(0, ns.min(HIGH_NS))
    }

    /// The histogram itself.
    pub fn inner(&self) -> &Histogram<u64> {
        &self.0
    }

    /// Base64 of the compressed V2 encoding.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        match V2DeflateSerializer::new().serialize(&self.0, &mut bytes) {
            Ok(_) => STANDARD.encode(bytes),
            // Writing into memory does not fail; an empty text is refused by `decode`.
            Err(_) => String::new(),
        }
    }

    /// Reads what [`Hist::encode`] (or another HdrHistogram library) wrote.
    ///
    /// # Errors
    /// A lower-case fragment.
    pub fn decode(text: &str) -> Result<Hist, String> {
        let bytes = STANDARD.decode(text.trim()).map_err(|error| format!("histogram is not base64: {error}"))?;
        let foreign: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("unusable histogram: {error}"))?;
        let mut hist = Hist::new();
        hist.add(&Hist(foreign));
        Ok(hist)
    }
}

impl Serialize for Hist {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Hist {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Hist::decode(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merged_histograms_equal_one_of_all_samples(
            parts in prop::collection::vec(prop::collection::vec(0_u64..7_200_000_000_000, 0..200), 1..6),
        ) {
            let (mut merged, mut whole) = (Hist::new(), Hist::new());
            for part in &parts {
                let mut hist = Hist::new();
                for &ns in part {
                    hist.record(ns);
                    whole.record(ns);
                }
                merged.add(&Hist::decode(&hist.encode()).unwrap());
            }
            prop_assert_eq!(merged, whole);
        }

        #[test]
        fn recording_many_is_recording_each(all in prop::collection::vec(0_u64..7_200_000_000_000, 0..200), near: bool) {
            let all: Vec<u64> = all.iter().map(|ns| if near { 5_000_000_000 + ns % 20_000_000 } else { *ns }).collect();
            let (mut many, mut each) = (Hist::new(), Hist::new());
            prop_assert_eq!(many.record_all(all.iter().copied()), all.len() as u64);
            all.iter().for_each(|&ns| each.record(ns));
            prop_assert_eq!(many, each);
        }

        #[test]
        fn decoding_garbage_is_an_error(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(Hist::decode(&text).is_err());
            prop_assert!(Hist::decode(&STANDARD.encode(bytes)).is_err());
        }
    }

    #[test]
    fn out_of_range_is_kept_at_the_bounds() {
        let mut hist = Hist::new();
        hist.record(0);
        hist.record(u64::MAX);
        assert_eq!(hist.count(), 2);
        assert!(hist.max() >= HIGH_NS);
    }
}
