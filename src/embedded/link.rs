//! A one-way link between the origin and the replica: distance, processing at the far end, injected delay, and the
//! order a stream keeps.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand_distr::StandardNormal;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::config::LinkConfig;
use super::dist::{generator, normal_cdf};

/// What the sender's timer of a stream waits before it sends a lost segment again, us (the least a kernel uses).
const RETRANSMIT_US: u64 = 200_000;
/// The largest deviation that netem's tables hold, in units of the jitter.
const TABLE_TOP: f64 = 32_767.0 / 8_192.0;

/// How jitter is distributed around the delay; the names and shapes are netem's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Equally likely within delay - jitter .. delay + jitter.
    #[default]
    Uniform,
    /// Gaussian with the jitter as standard deviation.
    Normal,
    /// Pareto with tail index 3.
    Pareto,
    /// A quarter normal, three quarters Pareto.
    ParetoNormal,
}

impl Shape {
    /// The deviation, in units of the jitter, at the quantile whose standard normal deviate is `z`.
    fn deviation(self, z: f64) -> f64 {
        // iproute2's pareto.c: U^(-1/3), moved to mean 0 and scaled by 4/3, cut where its table ends.
        let pareto = || (((1.0 - normal_cdf(z)).max(1e-12).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0).min(TABLE_TOP);
        match self {
            Shape::Uniform => 2.0 * normal_cdf(z) - 1.0,
            Shape::Normal => z,
            Shape::Pareto => pareto(),
            Shape::ParetoNormal => 0.25 * z + 0.75 * pareto(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Uniform => "uniform",
            Shape::Normal => "normal",
            Shape::Pareto => "pareto",
            Shape::ParetoNormal => "paretonormal",
        })
    }
}

/// Delay injected into a link on top of its own distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkRule {
    /// Added to every message, ms.
    pub delay_ms: f64,
    /// Spread around the delay, ms.
    pub jitter_ms: f64,
    /// How much a message's jitter resembles the one before, percent. The distribution itself stays as asked
    /// (netem's mixing narrows it).
    pub correlation_percent: f64,
    /// Shape of the jitter.
    pub distribution: Shape,
    /// Share of messages lost on the way, percent; a stream sends them again after its retransmission timer.
    pub loss_percent: f64,
    /// Bandwidth, Mbit/s; 0 is unlimited.
    pub rate_mbit: f64,
}

impl LinkRule {
    /// Whether anything is injected at all.
    pub fn is_off(&self) -> bool {
        self.delay_ms == 0.0 && self.jitter_ms == 0.0 && self.loss_percent == 0.0 && self.rate_mbit == 0.0
    }

    /// Whether the values make sense together.
    ///
    /// # Errors
    /// One sentence saying what does not.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, top: f64, unit: &str| {
            if value.is_finite() && (0.0..=top).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} must be between 0 and {top} {unit}, not {value}"))
            }
        };
        within("delay", self.delay_ms, 600_000.0, "ms")?;
        within("jitter", self.jitter_ms, 600_000.0, "ms")?;
        within("correlation", self.correlation_percent, 100.0, "%")?;
        within("loss", self.loss_percent, 99.0, "%")?;
        within("rate", self.rate_mbit, 1e6, "Mbit/s")?;
        if self.jitter_ms > self.delay_ms {
            return Err(format!("jitter {} ms is larger than the delay {} ms", self.jitter_ms, self.delay_ms));
        }
        if self.jitter_ms == 0.0 && self.distribution != Shape::Uniform {
            return Err(format!("distribution `{}` needs a jitter above 0", self.distribution));
        }
        Ok(())
    }

    /// How far the median of `samples` messages may stray from [`LinkRule::expected_ms`] by chance alone, ms: four
    /// standard errors, wider when neighbours resemble each other.
    pub fn chance_ms(&self, samples: usize) -> f64 {
        // Standard error of a median: sqrt(pi/2) * sd / sqrt(n); for every shape here the jitter is at least the
        // spread around the median.
        let rho = (self.correlation_percent / 100.0).min(0.99);
        4.0 * 1.2533 * self.jitter_ms * ((1.0 + rho) / (1.0 - rho)).sqrt() / (samples.max(1) as f64).sqrt()
    }

    /// The delay (ms) that half of the messages, and 99 % of them, are to stay below; loss and rate left aside.
    pub fn expected_ms(&self) -> (f64, f64) {
        let at = |z: f64| (self.delay_ms + self.jitter_ms * self.distribution.deviation(z)).max(0.0);
        (at(0.0), at(2.326_348))
    }
}

impl fmt::Display for LinkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() {
            return f.write_str("no delay");
        }
        write!(f, "{} ms", self.delay_ms)?;
        if self.jitter_ms > 0.0 {
            write!(f, " +- {} ms {}", self.jitter_ms, self.distribution)?;
        }
        if self.correlation_percent > 0.0 {
            write!(f, ", correlation {} %", self.correlation_percent)?;
        }
        if self.loss_percent > 0.0 {
            write!(f, ", loss {} %", self.loss_percent)?;
        }
        if self.rate_mbit > 0.0 {
            write!(f, ", rate {} Mbit/s", self.rate_mbit)?;
        }
        Ok(())
    }
}

/// A rule at work.
#[derive(Debug)]
struct Injector {
    rule: LinkRule,
    /// The last message's deviate: an autoregressive Gaussian, mapped through the shape's quantiles.
    z: f64,
    rng: Pcg64,
}

impl Injector {
    fn new(rng: Pcg64) -> Self {
        Injector { rule: LinkRule::default(), z: 0.0, rng }
    }

    fn delay_us(&mut self) -> u64 {
        let fresh: f64 = self.rng.sample(StandardNormal);
        let rho = self.rule.correlation_percent / 100.0;
        self.z = rho * self.z + (1.0 - rho * rho).sqrt() * fresh;
        let ms = self.rule.delay_ms + self.rule.jitter_ms * self.rule.distribution.deviation(self.z);
        (ms.max(0.0) * 1000.0).round() as u64
    }

    /// What the retransmissions of a lost message cost; each lost copy doubles the timer.
    fn retransmit_us(&mut self) -> u64 {
        let (mut spent, mut timer) = (0, RETRANSMIT_US);
        while self.rule.loss_percent > 0.0 && self.rng.random::<f64>() * 100.0 < self.rule.loss_percent {
            spent += timer;
            timer = (timer * 2).min(60_000_000);
        }
        spent
    }

    /// How long `bytes` occupy the wire.
    fn wire_us(&self, bytes: usize) -> u64 {
        if self.rule.rate_mbit == 0.0 { 0 } else { (bytes as f64 * 8.0 / self.rule.rate_mbit).round() as u64 }
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
    pub fn rule(&self) -> LinkRule {
        self.state().injector.rule
    }

    /// Puts `rule` in force for what is sent from now on; what is on its way keeps its due instant. A seed begins the
    /// jitter's sequence anew.
    pub fn set_rule(&self, rule: LinkRule, seed: Option<u64>) {
        let mut state = self.state();
        if let Some(seed) = seed {
            state.injector = Injector::new(generator(seed, "injected"));
            state.probe = Injector::new(generator(seed, "probe injected"));
        }
        state.injector.rule = rule;
        state.probe.rule = rule;
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
    use crate::embedded::dist::Distribution;
    use proptest::prelude::{prop_assert, proptest};

    fn link(network_ms: Distribution) -> Link<u32> {
        Link::new(LinkConfig { network_ms, processing_ms: Distribution::Constant(0.0) }, 3, "test")
    }

    #[test]
    fn a_rule_adds_to_what_is_sent_after_it() {
        let link = link(Distribution::Constant(50.0));
        assert_eq!(link.send(1_000_000, 100, 1), 1_050_000);
        link.set_rule(LinkRule { delay_ms: 100.0, ..LinkRule::default() }, None);
        assert_eq!(link.send(1_001_000, 100, 2), 1_151_000);
        link.set_rule(LinkRule::default(), None);
        // The third would arrive first and may not overtake.
        assert_eq!(link.send(1_002_000, 100, 3), 1_151_000);
        assert_eq!(link.take_due(1_049_999), None);
        assert_eq!(link.take_due(1_050_000), Some((1_050_000, 1)));
        assert_eq!(link.under_way(), 2);
    }

    #[test]
    fn rate_makes_messages_queue_on_the_wire() {
        let link = link(Distribution::Constant(0.0));
        link.set_rule(LinkRule { rate_mbit: 8.0, ..LinkRule::default() }, None);
        assert_eq!([link.send(0, 1000, 1), link.send(0, 1000, 2)], [1000, 2000]);
    }

    #[test]
    fn shapes_have_the_quantiles_of_netems_tables() {
        let rule = |distribution| LinkRule { delay_ms: 100.0, jitter_ms: 10.0, distribution, ..LinkRule::default() };
        let cases = [
            (Shape::Uniform, 100.0, 109.8),
            (Shape::Normal, 100.0, 123.263),
            (Shape::Pareto, 96.799, 139.999),
            (Shape::ParetoNormal, 97.599, 135.815),
        ];
        for (shape, p50, p99) in cases {
            let (got50, got99) = rule(shape).expected_ms();
            assert!((got50 - p50).abs() < 0.01 && (got99 - p99).abs() < 0.01, "{shape}: {got50} {got99}");
            let link = link(Distribution::Constant(0.0));
            link.set_rule(rule(shape), None);
            let mut samples: Vec<f64> = (0..20_000).map(|_| link.probe_us(true) as f64 / 1000.0).collect();
            samples.sort_by(f64::total_cmp);
            assert!((samples[10_000] - p50).abs() < 0.4, "{shape}: {}", samples[10_000]);
            assert!((samples[19_800] - p99).abs() < 1.2, "{shape}: {}", samples[19_800]);
        }
    }

    #[test]
    fn correlation_keeps_the_distribution_and_ties_neighbours() {
        let link = link(Distribution::Constant(0.0));
        let rule = LinkRule { delay_ms: 100.0, jitter_ms: 50.0, correlation_percent: 90.0, ..LinkRule::default() };
        link.set_rule(rule, None);
        let samples: Vec<f64> = (0..50_000).map(|_| link.probe_us(true) as f64 / 1000.0 - 100.0).collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / samples.len() as f64;
        let variance = mean(&mut samples.iter().map(|x| x * x));
        let neighbours = mean(&mut samples.windows(2).map(|w| w[0] * w[1])) / variance;
        // Uniform on +-50 has variance 833; the correlation of the uniforms is a little below that of the Gaussians.
        assert!((variance - 833.0).abs() < 60.0, "{variance}");
        assert!((0.85..0.92).contains(&neighbours), "{neighbours}");
    }

    #[test]
    fn senseless_rules_are_refused_with_the_reason() {
        let refused = |rule: LinkRule| rule.check().unwrap_err();
        let base = LinkRule { delay_ms: 10.0, ..LinkRule::default() };
        assert!(refused(LinkRule { delay_ms: -1.0, ..base }).contains("delay"));
        assert!(refused(LinkRule { jitter_ms: 11.0, ..base }).contains("larger than the delay"));
        assert!(refused(LinkRule { distribution: Shape::Pareto, ..base }).contains("needs a jitter"));
        assert!(refused(LinkRule { correlation_percent: 101.0, ..base }).contains("correlation"));
        assert!(refused(LinkRule { delay_ms: f64::NAN, ..base }).contains("delay"));
    }

    proptest! {
        #[test]
        fn order_is_kept_under_any_jitter(delay in 0.0_f64..200.0, share in 0.0_f64..1.0, gaps in proptest::collection::vec(0_u64..20_000, 1..80)) {
            let link = link(Distribution::Lognormal { median: 20.0, sigma: 1.0 });
            let rule = LinkRule { delay_ms: delay, jitter_ms: delay * share, loss_percent: 5.0, ..LinkRule::default() };
            prop_assert!(rule.check().is_ok());
            link.set_rule(rule, None);
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
