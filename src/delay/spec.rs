//! What a delayed path does to data: the typed specification and the seeded sampler of its delays.
//!
//! The distributions are those of Linux' netem, so that both backends mean the same by the same words. netem
//! (`net/sched/sch_netem.c`, `tabledist`) draws `delay + jitter * table[u]` where the table, made by iproute2's
//! `netem/{normal,pareto,paretonormal}.c`, holds the quantile function below at evenly spaced u; without a table it
//! draws uniformly from `delay - jitter .. delay + jitter`. Negative results are sent at once, that is, they count
//! as 0. Two consequences surprise people and are kept on purpose: the shaped distributions are cut off at 4 jitters,
//! and `pareto`'s median is 0.32 jitters below `delay`.
//!
//! Correlation is where this deviates. netem mixes the previous random number into the next one, which narrows a
//! uniform jitter and, because the result is then taken modulo the table's size, has no effect on the shaped ones
//! (Jurgelionis et al., "An Empirical Study of NetEm Network Emulation Functionalities", ICCCN 2011). Here the delays
//! are driven by a Gaussian AR(1) process whose coefficient is the asked correlation, so the distribution asked for
//! is kept exactly and each delay still depends on the one before it.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::DelayError;

/// The largest delay, ms. netem's tick of 64 ns ends at 274 s; nothing that replicates lives with more than this.
pub const MAX_MS: f64 = 120_000.0;

/// Where netem's tables end, in jitters.
const CUT: f64 = 4.0;

/// Shape of the jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Evenly between delay - jitter and delay + jitter.
    #[default]
    Uniform,
    /// Gaussian with standard deviation = jitter.
    Normal,
    /// Pareto with shape 3, shifted: long tail to the right.
    Pareto,
    /// A quarter normal, three quarters pareto.
    ParetoNormal,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Distribution; 4] =
        [Distribution::Uniform, Distribution::Normal, Distribution::Pareto, Distribution::ParetoNormal];

    /// The word on the command line and in netem.
    pub fn as_str(self) -> &'static str {
        match self {
            Distribution::Uniform => "uniform",
            Distribution::Normal => "normal",
            Distribution::Pareto => "pareto",
            Distribution::ParetoNormal => "paretonormal",
        }
    }

    /// The distribution called `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Distribution::ALL.into_iter().find(|d| d.as_str() == word)
    }

    /// Quantile function in jitters from the delay, for `u` in 0..1.
    pub fn quantile(self, u: f64) -> f64 {
        match self {
            Distribution::Uniform => 2.0 * u - 1.0,
            Distribution::Normal => normal_quantile(u).clamp(-CUT, CUT),
            // iproute2, netem/pareto.c: a = 3, `(pow(u, -1/a) - 1.5) * 4/3`.
            Distribution::Pareto => (((1.0 - u).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0).min(CUT),
            // iproute2, netem/paretonormal.c: both at the same u, weighted 1 : 3.
            Distribution::ParetoNormal => {
                0.25 * Distribution::Normal.quantile(u) + 0.75 * Distribution::Pareto.quantile(u)
            }
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one direction of a path does to data. Every value of this type has passed [`Spec::check`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Asked", into = "Asked")]
pub struct Spec(Asked);

/// The same as typed or read from a file, before it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Delay, ms.
    #[serde(default)]
    pub delay_ms: f64,
    /// Jitter, ms: half width of `uniform`, scale of the others.
    #[serde(default)]
    pub jitter_ms: f64,
    /// How much a delay depends on the one before it, %.
    #[serde(default)]
    pub correlation_percent: f64,
    /// Shape of the jitter.
    #[serde(default)]
    pub distribution: Distribution,
    /// Share of packets lost, %.
    #[serde(default)]
    pub loss_percent: f64,
    /// Bandwidth, Mbit/s; unlimited when absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<f64>,
}

impl TryFrom<Asked> for Spec {
    type Error = DelayError;

    fn try_from(asked: Asked) -> Result<Self, DelayError> {
        Spec::check(asked)
    }
}

impl From<Spec> for Asked {
    fn from(spec: Spec) -> Self {
        spec.0
    }
}

impl Spec {
    /// No delay at all: the path through the backend, for measuring what the backend itself adds.
    pub fn zero() -> Self {
        Spec(Asked::default())
    }

    /// The same without its jitter.
    pub fn steady(&self) -> Self {
        let asked = Asked { jitter_ms: 0.0, correlation_percent: 0.0, distribution: Distribution::Uniform, ..self.0 };
        Spec(asked)
    }

    /// Checks what was asked for.
    ///
    /// # Errors
    /// [`DelayError::Refused`] naming the combination and the reason.
    pub fn check(asked: Asked) -> Result<Self, DelayError> {
        let refuse = |why: String| Err(DelayError::Refused(why));
        let asked = Asked { rate_mbit: asked.rate_mbit.filter(|rate| *rate != 0.0), ..asked };
        let Asked { delay_ms, jitter_ms, correlation_percent, distribution, loss_percent, rate_mbit } = asked;
        for (name, value) in [("delay", delay_ms), ("jitter", jitter_ms)] {
            if !value.is_finite() || value < 0.0 {
                return refuse(format!("{name} {value} ms: data cannot arrive before it was sent"));
            }
        }
        for (name, value) in [("correlation", correlation_percent), ("loss", loss_percent)] {
            if !(0.0..=100.0).contains(&value) {
                return refuse(format!("{name} {value} %: a share is between 0 and 100 %"));
            }
        }
        if delay_ms > MAX_MS {
            return refuse(format!("delay {delay_ms} ms is longer than the {} s that are supported", MAX_MS / 1e3));
        }
        if jitter_ms > delay_ms {
            return refuse(format!(
                "jitter {jitter_ms} ms is larger than the delay of {delay_ms} ms: part of it would have to be negative"
            ));
        }
        if jitter_ms == 0.0 && distribution != Distribution::Uniform {
            return refuse(format!("distribution `{distribution}` shapes the jitter, and the jitter is 0"));
        }
        if jitter_ms == 0.0 && correlation_percent > 0.0 {
            return refuse(format!("correlation {correlation_percent} % relates jitters, and the jitter is 0"));
        }
        if correlation_percent == 100.0 {
            return refuse("correlation 100 %: every delay would equal the first one".to_owned());
        }
        if loss_percent == 100.0 {
            return refuse("loss 100 %: nothing would arrive".to_owned());
        }
        if let Some(rate) = rate_mbit
            && !(0.001..=1e6).contains(&rate)
        {
            return refuse(format!("rate {rate} Mbit/s is outside 0.001 to 1000000"));
        }
        Ok(Spec(asked))
    }

    /// What was asked for.
    pub fn asked(&self) -> &Asked {
        &self.0
    }

    /// Quantile `u` (0..1) of the delays, ms.
    pub fn quantile_ms(&self, u: f64) -> f64 {
        (self.0.delay_ms + self.0.jitter_ms * self.0.distribution.quantile(u)).max(0.0)
    }

    /// The longest delay that can be drawn, ms.
    pub fn longest_ms(&self) -> f64 {
        let widest = if self.0.distribution == Distribution::Uniform { 1.0 } else { CUT };
        self.0.delay_ms + self.0.jitter_ms * widest
    }

    /// Bandwidth, bytes/s.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.0.rate_mbit.map(|mbit| mbit * 1e6 / 8.0)
    }

    /// Whether data passes unchanged.
    pub fn is_zero(&self) -> bool {
        self.0.delay_ms == 0.0 && self.0.loss_percent == 0.0 && self.0.rate_mbit.is_none()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { delay_ms, jitter_ms, correlation_percent, distribution, loss_percent, rate_mbit } = self.0;
        write!(f, "{delay_ms} ms")?;
        if jitter_ms > 0.0 {
            write!(f, " +- {jitter_ms} ms {distribution}")?;
        }
        if correlation_percent > 0.0 {
            write!(f, ", correlation {correlation_percent} %")?;
        }
        if loss_percent > 0.0 {
            write!(f, ", loss {loss_percent} %")?;
        }
        if let Some(rate) = rate_mbit {
            write!(f, ", {rate} Mbit/s")?;
        }
        Ok(())
    }
}

/// Draws delays. Equal specification, seed and stream give equal delays.
#[derive(Clone, Debug)]
pub struct Sampler {
    spec: Spec,
    rng: Pcg64Mcg,
    state: Option<f64>,
}

impl Sampler {
    /// A sampler for stream number `stream` (each connection and direction has its own).
    pub fn new(spec: Spec, seed: u64, stream: u64) -> Self {
        // The odd constant (the golden ratio, as in splitmix64) keeps neighbouring streams apart before seeding.
        let mixed = seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Sampler { spec, rng: Pcg64Mcg::seed_from_u64(mixed), state: None }
    }

    /// The same random stream with another specification from here on.
    pub fn respec(&mut self, spec: Spec) {
        self.spec = spec;
    }

    /// The next delay, ns.
    pub fn next_ns(&mut self) -> u64 {
        if self.spec.0.jitter_ms == 0.0 {
            return ns(self.spec.0.delay_ms);
        }
        let u = self.next_u();
        ns(self.spec.quantile_ms(u))
    }

    fn next_u(&mut self) -> f64 {
        let uniform: f64 = self.rng.random();
        let rho = self.spec.0.correlation_percent / 100.0;
        if rho == 0.0 {
            return uniform;
        }
        // Kept off the ends, where the quantile is infinite.
        let fresh = normal_quantile(uniform.clamp(1e-12, 1.0 - 1e-12));
        let z = self.state.map_or(fresh, |last| rho * last + (1.0 - rho * rho).sqrt() * fresh);
        self.state = Some(z);
        normal_cdf(z).min(1.0 - f64::EPSILON)
    }
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

/// Quantile of the standard normal distribution (P. J. Acklam's rational approximation, relative error 1.2e-9);
/// infinite at 0 and 1.
pub(crate) fn normal_quantile(u: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let horner = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    if u <= 0.0 {
        f64::NEG_INFINITY
    } else if u >= 1.0 {
        f64::INFINITY
    } else if u < 0.02425 {
        let q = (-2.0 * u.ln()).sqrt();
        horner(&C, q) / (horner(&D, q) * q + 1.0)
    } else if u > 1.0 - 0.02425 {
        -normal_quantile(1.0 - u)
    } else {
        let q = u - 0.5;
        let r = q * q;
        horner(&A, r) * q / (horner(&B, r) * r + 1.0)
    }
}

/// Distribution function of the standard normal distribution (Chebyshev fit of erfc, W. H. Press et al., Numerical
/// Recipes, 6.2; relative error below 1.2e-7).
pub(crate) fn normal_cdf(z: f64) -> f64 {
    const C: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let x = -z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let tail = t * (-x * x + C.iter().fold(0.0, |sum, c| sum * t + c)).exp();
    0.5 * if x >= 0.0 { tail } else { 2.0 - tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(delay_ms: f64, jitter_ms: f64, distribution: Distribution) -> Asked {
        Asked { delay_ms, jitter_ms, distribution, ..Asked::default() }
    }

    fn draw(spec: Spec, n: usize) -> Vec<f64> {
        let mut sampler = Sampler::new(spec, 7, 0);
        (0..n).map(|_| sampler.next_ns() as f64 / 1e6).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn deviation(values: &[f64]) -> f64 {
        let mean = mean(values);
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn bad_combinations_are_refused_with_their_reason() {
        let said = |asked: Asked| Spec::check(asked).expect_err("refused").to_string();
        assert!(said(asked(-1.0, 0.0, Distribution::Uniform)).contains("before it was sent"));
        assert!(said(asked(f64::NAN, 0.0, Distribution::Uniform)).contains("delay NaN ms"));
        assert!(said(asked(5.0, 6.0, Distribution::Uniform)).contains("jitter 6 ms is larger than the delay of 5 ms"));
        assert!(said(asked(5.0, 0.0, Distribution::Pareto)).contains("`pareto` shapes the jitter"));
        assert!(said(asked(1e9, 0.0, Distribution::Uniform)).contains("longer than the 120 s"));
        assert!(said(Asked { correlation_percent: 25.0, ..asked(5.0, 0.0, Distribution::Uniform) }).contains("25 %"));
        assert!(said(Asked { loss_percent: 101.0, ..asked(5.0, 0.0, Distribution::Uniform) }).contains("loss 101 %"));
        assert!(said(Asked { rate_mbit: Some(-1.0), ..asked(5.0, 0.0, Distribution::Uniform) }).contains("rate -1"));
    }

    #[test]
    fn it_reads_back_what_it_writes_and_checks_what_it_reads() {
        let spec = Spec::check(asked(100.0, 10.0, Distribution::Normal)).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
        assert_eq!(spec.to_string(), "100 ms +- 10 ms normal");
        let wrong = serde_json::from_str::<Spec>(r#"{"delay_ms": 1, "jitter_ms": 2}"#);
        assert!(wrong.unwrap_err().to_string().contains("larger than the delay"));
    }

    /// Moments of iproute2's shipped tables (normal.dist, pareto.dist, paretonormal.dist), computed from those files.
    #[test]
    fn the_shapes_have_the_moments_of_netems_tables() {
        for (distribution, mu, sigma) in [
            (Distribution::Uniform, 0.0, 1.0 / 3f64.sqrt()),
            (Distribution::Normal, 0.0, 1.0),
            (Distribution::Pareto, -0.0335, 0.8197),
            (Distribution::ParetoNormal, -0.0253, 0.8339),
        ] {
            let values = draw(Spec::check(asked(1000.0, 100.0, distribution)).unwrap(), 200_000);
            assert!((mean(&values) - 1000.0 - 100.0 * mu).abs() < 1.0, "{distribution}: mean {}", mean(&values));
            assert!((deviation(&values) - 100.0 * sigma).abs() < 1.0, "{distribution}: sd {}", deviation(&values));
        }
    }

    #[test]
    fn correlation_keeps_the_distribution_and_relates_neighbours() {
        for distribution in Distribution::ALL {
            let free = Spec::check(asked(100.0, 20.0, distribution)).unwrap();
            let bound = Spec::check(Asked { correlation_percent: 75.0, ..*free.asked() }).unwrap();
            let (free, bound) = (draw(free, 100_000), draw(bound, 400_000));
            assert!((deviation(&free) - deviation(&bound)).abs() < 0.5, "{distribution}");
            let middle = mean(&bound);
            let centred: Vec<f64> = bound.iter().map(|v| v - middle).collect();
            let lag: f64 =
                centred.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / centred.iter().map(|v| v * v).sum::<f64>();
            assert!((0.65..0.78).contains(&lag), "{distribution}: lag-1 correlation {lag}");
        }
    }

    #[test]
    fn the_normal_functions_undo_each_other() {
        for i in 1..1000 {
            let u = f64::from(i) / 1000.0;
            assert!((normal_cdf(normal_quantile(u)) - u).abs() < 1e-6, "{u}");
        }
        assert!((normal_quantile(0.975) - 1.959_963_985).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn every_accepted_spec_draws_within_its_bounds(
            delay in 0.0..500.0f64, share in 0.0..=1.0f64, correlation in 0.0..99.0f64, shape in 0usize..4, seed: u64,
        ) {
            let jitter = delay * share;
            let distribution = if jitter == 0.0 { Distribution::Uniform } else { Distribution::ALL[shape] };
            let correlation_percent = if jitter == 0.0 { 0.0 } else { correlation };
            let asked = Asked { correlation_percent, ..asked(delay, jitter, distribution) };
            let spec = Spec::check(asked).unwrap();
            let mut a = Sampler::new(spec, seed, 3);
            let mut b = Sampler::new(spec, seed, 3);
            for _ in 0..200 {
                let drawn = a.next_ns();
                prop_assert_eq!(drawn, b.next_ns());
                prop_assert!(drawn as f64 / 1e6 <= spec.longest_ms() + 1e-6);
            }
        }

        #[test]
        fn no_numbers_make_it_panic(
            delay_ms: f64, jitter_ms: f64, correlation_percent: f64, loss_percent: f64, rate_mbit: Option<f64>,
        ) {
            let distribution = Distribution::Normal;
            let asked = Asked { delay_ms, jitter_ms, correlation_percent, distribution, loss_percent, rate_mbit };
            if let Ok(spec) = Spec::check(asked) {
                prop_assert!(Sampler::new(spec, 1, 1).next_ns() < 10 * 120_000_000_000);
            }
        }

        #[test]
        fn quantiles_never_fall(shape in 0usize..4, a in 0.0..1.0f64, b in 0.0..1.0f64) {
            let q = |u| Distribution::ALL[shape].quantile(u);
            prop_assert!((q(a.min(b))) <= q(a.max(b)));
        }
    }
}
