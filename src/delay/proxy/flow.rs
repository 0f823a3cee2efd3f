//! One direction of one connection: bytes waiting for the instant at which they may go on. Pure: time is an argument.

use std::collections::VecDeque;

use crate::delay::spec::{Sampler, Spec};

/// What a stream may hold when neither rate nor delay says otherwise, bytes.
const LEAST: f64 = 1024.0 * 1024.0;
/// What a single stream may hold at most, bytes.
const MOST: f64 = 64.0 * 1024.0 * 1024.0;
/// Bandwidth a path without a rate is sized for, bytes/s (4 Gbit/s).
const ASSUMED_RATE: f64 = 5e8;

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The writer has closed its side in good order.
    Finished,
    /// The connection was reset.
    Reset,
}

/// What waits.
#[derive(Debug)]
enum Piece {
    Data(Vec<u8>),
    End(End),
}

/// What may go on now.
#[derive(Debug, PartialEq)]
pub(crate) enum Due<'a> {
    /// These bytes; say how many were taken with [`Flow::taken`].
    Data(&'a [u8]),
    /// The end of the direction.
    End(End),
    /// Nothing before this instant, ns.
    At(u64),
    /// Nothing waits.
    Nothing,
}

/// The bandwidth that all streams of a direction share.
#[derive(Debug, Default)]
pub(crate) struct Link {
    free_at: u64,
}

impl Link {
    /// When `length` bytes that arrive `now` have passed a link of `rate` bytes/s, ns.
    fn pass(&mut self, now: u64, length: usize, rate: Option<f64>) -> u64 {
        let Some(rate) = rate else { return now };
        let duration = (length as f64 / rate * 1e9) as u64;
        self.free_at = self.free_at.max(now) + duration;
        self.free_at
    }
}

/// Bytes of one direction in their order, each with the instant at which it may go on.
#[derive(Debug)]
pub(crate) struct Flow {
    sampler: Sampler,
    rate: Option<f64>,
    limit: usize,
    waiting: VecDeque<(u64, u64, Piece)>,
    offset: usize,
    queued: usize,
    latest: u64,
    ended: bool,
}

impl Flow {
    /// An empty direction.
    pub(crate) fn new(spec: Spec, seed: u64, stream: u64) -> Self {
        Flow {
            sampler: Sampler::new(spec, seed, stream),
            rate: spec.bytes_per_second(),
            limit: stream_limit(&spec),
            waiting: VecDeque::new(),
            offset: 0,
            queued: 0,
            latest: 0,
            ended: false,
        }
    }

    /// What arrives from here on is treated by `spec`; what waits keeps its instant.
    pub(crate) fn respec(&mut self, spec: Spec) {
        self.sampler.respec(spec);
        self.rate = spec.bytes_per_second();
        self.limit = stream_limit(&spec);
    }

    /// When data of `length` bytes that arrives `now` may go on. Never before what arrived earlier: a stream keeps
    /// its order, so a short delay behind a long one waits for it, as with netem under TCP.
    pub(crate) fn release(&mut self, now: u64, length: usize, link: &mut Link) -> u64 {
        let release = link.pass(now, length, self.rate) + self.sampler.next_ns();
        self.latest = self.latest.max(release);
        self.latest
    }

    /// Keeps `data` that arrived at `now` until `release`.
    pub(crate) fn push(&mut self, now: u64, release: u64, data: &[u8]) {
        self.queued += data.len();
        self.waiting.push_back((now, release, Piece::Data(data.to_vec())));
    }

    /// The direction ends after everything before it.
    pub(crate) fn push_end(&mut self, now: u64, end: End) {
        self.ended = true;
        let release = self.latest.max(now + self.sampler.next_ns());
        self.latest = release;
        self.waiting.push_back((now, release, Piece::End(end)));
    }

    /// What may go on at `now`.
    pub(crate) fn due(&self, now: u64) -> Due<'_> {
        match self.waiting.front() {
            None => Due::Nothing,
            Some((_, release, _)) if *release > now => Due::At(*release),
            Some((_, _, Piece::Data(data))) => Due::Data(&data[self.offset..]),
            Some((_, _, Piece::End(end))) => Due::End(*end),
        }
    }

    /// `length` of the bytes that were due have gone on. Gives arrival and release of a piece that is through.
    pub(crate) fn taken(&mut self, length: usize) -> Option<(u64, u64)> {
        self.queued -= length;
        self.offset += length;
        match self.waiting.front() {
            Some((arrived, release, Piece::Data(data))) if self.offset >= data.len() => {
                let stamps = (*arrived, *release);
                self.waiting.pop_front();
                self.offset = 0;
                Some(stamps)
            }
            _ => None,
        }
    }

    /// The end that was due has been passed on.
    pub(crate) fn pop_end(&mut self) {
        self.waiting.pop_front();
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.queued < self.limit
    }

    /// Whether the writer has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How much to read at once, so that a slow link passes small pieces evenly: 2 ms of it, 256 KiB without a rate.
    pub(crate) fn read_size(&self) -> usize {
        self.rate.map_or(super::READ, |rate| ((rate * 0.002) as usize).clamp(1460, super::READ))
    }
}

/// What a stream may hold: bandwidth x longest delay and a quarter more.
fn stream_limit(spec: &Spec) -> usize {
    let rate = spec.bytes_per_second().unwrap_or(ASSUMED_RATE);
    (1.25 * rate * spec.longest_ms() / 1e3).clamp(LEAST, MOST) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delay::spec::{Asked, Distribution};

    fn spec(delay_ms: f64, jitter_ms: f64, rate_mbit: Option<f64>) -> Spec {
        let distribution = if jitter_ms > 0.0 { Distribution::Normal } else { Distribution::Uniform };
        Spec::check(Asked { delay_ms, jitter_ms, distribution, rate_mbit, ..Asked::default() }).unwrap()
    }

    fn drain(flow: &mut Flow, now: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while let Due::Data(data) = flow.due(now) {
            out.extend_from_slice(data);
            let length = data.len();
            flow.taken(length);
        }
        out
    }

    #[test]
    fn data_waits_for_its_delay_and_the_end_waits_behind_it() {
        let mut flow = Flow::new(spec(100.0, 0.0, None), 1, 0);
        let mut link = Link::default();
        let release = flow.release(5, 3, &mut link);
        flow.push(5, release, b"abc");
        flow.push_end(6, End::Finished);
        assert_eq!(flow.due(99_000_000), Due::At(100_000_005));
        assert_eq!(drain(&mut flow, 100_000_005), b"abc");
        assert_eq!(flow.due(100_000_005), Due::At(100_000_006));
        assert_eq!(flow.due(100_000_006), Due::End(End::Finished));
        flow.pop_end();
        assert_eq!(flow.due(u64::MAX), Due::Nothing);
        assert!(flow.ended() && flow.is_empty());
    }

    #[test]
    fn a_rate_spaces_pieces_out_over_all_streams() {
        // 8 Mbit/s = 1 byte per us, shared by two streams.
        let (mut a, mut b) = (Flow::new(spec(1.0, 0.0, Some(8.0)), 1, 0), Flow::new(spec(1.0, 0.0, Some(8.0)), 1, 1));
        let mut link = Link::default();
        assert_eq!(a.release(0, 1000, &mut link), 2_000_000);
        assert_eq!(b.release(0, 1000, &mut link), 3_000_000);
        assert_eq!(a.release(10_000_000, 1000, &mut link), 12_000_000);
    }

    #[test]
    fn the_bound_follows_rate_times_delay() {
        assert_eq!(stream_limit(&spec(0.0, 0.0, None)), 1024 * 1024);
        assert_eq!(stream_limit(&spec(100.0, 0.0, Some(800.0))), 12_500_000);
        assert_eq!(stream_limit(&spec(5000.0, 0.0, None)), 64 * 1024 * 1024);
    }

    proptest! {
        #[test]
        fn whatever_the_jitter_bytes_keep_their_order_and_none_is_early(
            pieces in proptest::collection::vec((0u64..30_000_000, 1usize..50), 1..60), seed: u64, switch in 0usize..60,
        ) {
            let mut flow = Flow::new(spec(20.0, 10.0, None), seed, 0);
            let mut link = Link::default();
            let (mut now, mut sent, mut seen, mut last) = (0u64, Vec::new(), Vec::new(), 0u64);
            for (index, (gap, length)) in pieces.iter().enumerate() {
                if index == switch {
                    flow.respec(spec(1.0, 0.0, None));
                }
                now += gap;
                seen.extend(drain(&mut flow, now));
                let data: Vec<u8> = (0..*length).map(|i| (sent.len() + i) as u8).collect();
                let release = flow.release(now, data.len(), &mut link);
                prop_assert!(release >= now && release >= last);
                last = release;
                flow.push(now, release, &data);
                sent.extend(data);
            }
            seen.extend(drain(&mut flow, last));
            prop_assert_eq!(seen, sent);
            prop_assert_eq!(flow.queued(), 0);
        }
    }
}
