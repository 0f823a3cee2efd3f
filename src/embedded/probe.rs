//! Measures the replication link the way somebody outside would: sends something, and looks until it is there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::miniature::Miniature;

/// Pause between two looks; what bounds the error of a measurement from above.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// Pause between two probes of the path.
const PATH_GAP: Duration = Duration::from_micros(300);
/// Pause between two writes into the stream: further apart than most jitter, so that one seldom waits for another.
const STREAM_GAP: Duration = Duration::from_millis(20);
/// Writes into the stream.
const STREAM_WRITES: usize = 15;
/// No probe is waited for longer than this.
const DEADLINE: Duration = Duration::from_secs(90);

/// Quantiles of what was measured, ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50_ms: f64,
    /// 99 % were faster.
    pub p99_ms: f64,
    /// How many came back.
    pub samples: usize,
}

/// What the link does at present.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The path without what is injected, each message on its own (`ping`).
    pub bare: Quantiles,
    /// The path as it is.
    pub path: Quantiles,
    /// The replication stream: written at the origin until visible at the replica, in order.
    pub stream: Quantiles,
}

/// Sends `count` probes along the path, as many without what is injected, and some writes through the stream, and
/// waits for all of them. Blocks.
pub fn measure(mini: &Miniature, count: usize) -> Measured {
    Measured { bare: path(mini, count, false), path: path(mini, count, true), stream: stream(mini) }
}

/// Each probe is on its way by itself; `under_way` holds when each is due.
fn path(mini: &Miniature, count: usize, injected: bool) -> Quantiles {
    let begin = Instant::now();
    let (mut sent, mut under_way, mut samples) = (0, Vec::new(), Vec::with_capacity(count));
    let mut next = begin;
    while samples.len() < count && begin.elapsed() < DEADLINE {
        let now = Instant::now();
        if sent < count && now >= next {
            under_way.push((now, now + Duration::from_micros(mini.posts.probe_us(injected))));
            sent += 1;
            next += PATH_GAP;
        }
        let seen = Instant::now();
        under_way.retain(|(from, due)| {
            let there = seen >= *due;
            if there {
                samples.push(seen - *from);
            }
            !there
        });
        std::thread::sleep(LOOK_EVERY);
    }
    quantiles(samples)
}

fn stream(mini: &Miniature) -> Quantiles {
    let begin = Instant::now();
    let base = mini.ids.random() & !0xffff;
    let (mut sent, mut under_way, mut samples) = (0_u64, HashMap::new(), Vec::new());
    let mut next = begin;
    while samples.len() < STREAM_WRITES && begin.elapsed() < DEADLINE {
        let now = Instant::now();
        if sent < STREAM_WRITES as u64 && now >= next {
            mini.posts.mark(base + sent, mini.clock.now_us());
            under_way.insert(base + sent, now);
            sent += 1;
            next += STREAM_GAP;
        }
        under_way.retain(|mark, from| {
            let there = mini.posts.take_mark(*mark, mini.clock.now_us()).is_some();
            if there {
                samples.push(from.elapsed());
            }
            !there
        });
        std::thread::sleep(LOOK_EVERY);
    }
    quantiles(samples)
}

fn quantiles(mut samples: Vec<Duration>) -> Quantiles {
    samples.sort_unstable();
    let at = |share: f64| {
        let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
        samples.get(index).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
    };
    Quantiles { p50_ms: at(0.5), p99_ms: at(0.99), samples: samples.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::spec::{Asked, Spec};
    use crate::embedded::config::Config;
    use crate::embedded::dist::Distribution;
    use crate::embedded::truth::Truth;
    use crate::experiment::Variant;

    #[test]
    fn what_is_injected_is_measured() {
        let mut config = Config::with_pair("A->B");
        config.replication.network_ms = Distribution::Constant(5.0);
        config.replication.processing_ms = Distribution::Constant(3.0);
        let mini = Miniature::new(config, Variant::Baseline, Truth::nowhere());
        let rule = Spec::check(Asked { delay_ms: 20.0, ..Asked::default() }).unwrap();
        mini.posts.set_rule(rule, None);
        let measured = measure(&mini, 50);
        // Never less than asked; how much more is the machine's business.
        assert!(measured.path.p50_ms >= 25.0 && measured.stream.p50_ms >= 28.0, "{measured:?}");
        assert!(measured.bare.p50_ms < measured.path.p50_ms, "{measured:?}");
        assert_eq!((measured.path.samples, measured.stream.samples), (50, STREAM_WRITES));
    }
}
