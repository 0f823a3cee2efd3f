//! A one-way link between the origin and the replica: distance, processing at the far end, injected delay, and the
//! order a stream keeps.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand_pcg::Pcg64;
use tokio::sync::Notify;

use super::config::LinkConfig;
use super::dist::generator;
use crate::delay::spec::{Sampler, Spec};

/// What the sender's timer of a stream waits before it sends a lost segment again, us (the least a kernel uses).
const RETRANSMIT_US: u64 = 200_000;
/// A rule at work.
#[derive(Debug)]
struct Injector {
    rule: Spec,
    delays: Sampler,
    losses: Pcg64,
}

impl Injector {
    fn new(mut rng: Pcg64) -> Self {
        let rule = Spec::zero();
        Injector { rule, delays: Sampler::new(rule, rng.random(), 0), losses: rng }
    }

    fn set(&mut self, rule: Spec) {
        self.rule = rule;
        self.delays.respec(rule);
    }

    fn delay_us(&mut self) -> u64 {
        (self.delays.next_ns() + 500) / 1000
    }

    /// What the retransmissions of a lost message cost; each lost copy doubles the timer.
    fn retransmit_us(&mut self) -> u64 {
        let (mut spent, mut timer) = (0, RETRANSMIT_US);
        let percent = self.rule.asked().loss_percent;
        while percent > 0.0 && self.losses.random::<f64>() * 100.0 < percent {
            spent += timer;
            timer = (timer * 2).min(60_000_000);
        }
        spent
    }

    /// How long `bytes` occupy the wire.
    fn wire_us(&self, bytes: usize) -> u64 {
        self.rule.bytes_per_second().map_or(0, |rate| (bytes as f64 / rate * 1e6).round() as u64)
    }
}

/// A stream of messages that arrive late and in order.
#[derive(Debug)]
pub struct Link<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    config: LinkConfig,
}

#[derive(Debug)]
struct State<T> {
    /// Due instant (us since the epoch) and message; due never decreases.
    queue: VecDeque<(u64, T)>,
    last_due: u64,
    wire_free: u64,
    distance: Pcg64,
    processing: Pcg64,
    injector: Injector,
    /// Generator and injector of probes: they must not disturb the stream's own sequence.
    probe_distance: Pcg64,
    probe: Injector,
}

impl<T> Link<T> {
    /// The link called `name`, empty.
    pub fn new(config: LinkConfig, seed: u64, name: &str) -> Self {
        let rng = |part: &str| generator(seed, &format!("{name} {part}"));
        let state = State {
            queue: VecDeque::new(),
            last_due: 0,
            wire_free: 0,
            distance: rng("distance"),
            processing: rng("processing"),
            injector: Injector::new(rng("injected")),
            probe_distance: rng("probe distance"),
            probe: Injector::new(rng("probe injected")),
        };
        Link { state: Mutex::new(state), changed: Notify::new(), config }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message of `bytes` at `now_us`; returns when it is due at the far end, in no case before an earlier
    /// message (a stream keeps its order).
    pub fn send(&self, now_us: u64, bytes: usize, message: T) -> u64 {
        let mut state = self.state();
        let on_wire = now_us.max(state.wire_free) + state.injector.wire_us(bytes);
        state.wire_free = on_wire;
        let State { distance, processing, injector, .. } = &mut *state;
        let travel = self.config.network_ms.sample_us(distance) + injector.delay_us() + injector.retransmit_us();
        let arrived = on_wire + travel + self.config.processing_ms.sample_us(processing);
        let due = arrived.max(state.last_due);
        state.last_due = due;
        state.queue.push_back((due, message));
        let first = state.queue.len() == 1;
        drop(state);
        if first {
            self.changed.notify_waiters();
            self.changed.notify_one();
        }
        due
    }

    /// Takes the next message if it is due at `now_us`, with its due instant.
    pub fn take_due(&self, now_us: u64) -> Option<(u64, T)> {
        let mut state = self.state();
        match state.queue.front() {
            Some((due, _)) if *due <= now_us => state.queue.pop_front(),
            _ => None,
        }
    }

    /// When the next message is due (us since the epoch).
    pub fn next_due(&self) -> Option<u64> {
        self.state().queue.front().map(|(due, _)| *due)
    }

    /// Messages on their way.
    pub fn under_way(&self) -> usize {
        self.state().queue.len()
    }

    /// Resolves once a message was put on the idle link.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The rule in force.
    pub fn rule(&self) -> Spec {
        self.state().injector.rule
    }

    /// Puts `rule` in force for what is sent from now on; what is on its way keeps its due instant. A seed begins the
    /// jitter's sequence anew.
    pub fn set_rule(&self, rule: Spec, seed: Option<u64>) {
        let mut state = self.state();
        if let Some(seed) = seed {
            state.injector = Injector::new(generator(seed, "injected"));
            state.probe = Injector::new(generator(seed, "probe injected"));
        }
        state.injector.set(rule);
        state.probe.set(rule);
    }

    /// How long a lone small message takes to reach the far end, us: the path as `ping` sees it, with what is injected
    /// or without it.
    pub fn probe_us(&self, injected: bool) -> u64 {
        let mut state = self.state();
        let State { probe_distance, probe, .. } = &mut *state;
        let added = if injected { probe.delay_us() + probe.retransmit_us() } else { 0 };
        self.config.network_ms.sample_us(probe_distance) + added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::spec::Asked;
    use crate::embedded::dist::Distribution;
    use proptest::prelude::{prop_assert, proptest};

    fn rule(asked: Asked) -> Spec {
        Spec::check(asked).unwrap()
    }

    fn link(network_ms: Distribution) -> Link<u32> {
        Link::new(LinkConfig { network_ms, processing_ms: Distribution::Constant(0.0) }, 3, "test")
    }

    #[test]
    fn a_rule_adds_to_what_is_sent_after_it() {
        let link = link(Distribution::Constant(50.0));
        assert_eq!(link.send(1_000_000, 100, 1), 1_050_000);
        link.set_rule(rule(Asked { delay_ms: 100.0, ..Asked::default() }), None);
        assert_eq!(link.send(1_001_000, 100, 2), 1_151_000);
        link.set_rule(Spec::zero(), None);
        // The third would arrive first and may not overtake.
        assert_eq!(link.send(1_002_000, 100, 3), 1_151_000);
        assert_eq!(link.take_due(1_049_999), None);
        assert_eq!(link.take_due(1_050_000), Some((1_050_000, 1)));
        assert_eq!(link.under_way(), 2);
    }

    #[test]
    fn rate_makes_messages_queue_on_the_wire() {
        let link = link(Distribution::Constant(0.0));
        link.set_rule(rule(Asked { rate_mbit: Some(8.0), ..Asked::default() }), None);
        assert_eq!([link.send(0, 1000, 1), link.send(0, 1000, 2)], [1000, 2000]);
    }

    #[test]
    fn a_seed_repeats_the_jitter_and_probes_do_not_disturb_it() {
        let asked = Asked { delay_ms: 100.0, jitter_ms: 10.0, loss_percent: 20.0, ..Asked::default() };
        let drawn = |probes: usize| -> Vec<u64> {
            let link = link(Distribution::Constant(0.0));
            link.set_rule(rule(asked), Some(5));
            for _ in 0..probes {
                link.probe_us(true);
            }
            (0..100).map(|i| link.send(i * 10_000_000, 1, 0) - i * 10_000_000).collect()
        };
        assert_eq!(drawn(0), drawn(7));
        let (low, lost) = (drawn(0).into_iter().min().unwrap(), drawn(0).into_iter().max().unwrap());
        assert!((90_000..110_000).contains(&low) && lost > 290_000, "{low} {lost}");
    }

    proptest! {
        #[test]
        fn order_is_kept_under_any_jitter(delay in 0.0_f64..200.0, share in 0.0_f64..1.0, gaps in proptest::collection::vec(0_u64..20_000, 1..80)) {
            let link = link(Distribution::Lognormal { median: 20.0, sigma: 1.0 });
            let asked = Asked { delay_ms: delay, jitter_ms: delay * share, loss_percent: 5.0, ..Asked::default() };
            link.set_rule(rule(asked), None);
            let (mut now, mut last) = (0, 0);
            for gap in gaps {
                now += gap;
                let due = link.send(now, 300, 0);
                prop_assert!(due >= last && due >= now);
                last = due;
            }
        }
    }
}
