//! Asked for is not obtained: compares what probes measured with what the specification promises. Pure.

use serde::{Deserialize, Serialize};

use super::spec::{Sampler, Spec};
use crate::stats::{quantile, sorted};

/// A delay counts as obtained when its median is within this, ms ...
const TOLERANCE_MS: f64 = 2.0;
/// ... or within this share of what was asked, whichever is larger.
const TOLERANCE_SHARE: f64 = 0.1;

/// Draws behind what is expected: the error of its median is a hundredth of the jitter.
const DRAWS: usize = 10_007;

/// What was obtained, beside what was asked. All times in ms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Samples behind it.
    pub samples: usize,
    /// Samples that never came back.
    pub lost: u64,
    /// Median round trip before the delay.
    pub before_p50_ms: f64,
    /// Median that the specification promises.
    pub expected_p50_ms: f64,
    /// 99th percentile that it promises.
    pub expected_p99_ms: f64,
    /// Median obtained: round trip now less `before_p50_ms`.
    pub obtained_p50_ms: f64,
    /// 99th percentile obtained.
    pub obtained_p99_ms: f64,
    /// How far the median may be off, given the tolerance and the number of samples.
    pub tolerance_ms: f64,
    /// Largest distance between the distributions of the samples and of the sampler (two-sample Kolmogorov-Smirnov).
    /// Absent without jitter, where there is no distribution, and with correlation, where samples are not independent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ks_distance: Option<f64>,
    /// Probability of such a distance between equal distributions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ks_p: Option<f64>,
}

/// The delays that a way through some delayed directions should show, sorted, ms.
#[derive(Clone, Debug)]
pub struct Expected {
    sorted_ms: Vec<f64>,
    independent: bool,
    constant_ms: f64,
}

impl Expected {
    /// What a way through every direction in `specs`, one after the other, should show: by the sampler itself, since
    /// the sum of two distributions has no simple quantiles.
    pub fn of(specs: &[Spec]) -> Self {
        let mut samplers: Vec<Sampler> = specs.iter().zip(1..).map(|(s, i)| Sampler::new(*s, 0x5eed, i)).collect();
        let draw = |_| samplers.iter_mut().map(|s| s.next_ns() as f64 / 1e6).sum::<f64>();
        let drawn: Vec<f64> = (0..DRAWS).map(draw).collect();
        Expected {
            sorted_ms: sorted(&drawn),
            independent: specs.iter().all(|spec| spec.asked().correlation_percent == 0.0),
            constant_ms: specs.iter().map(|spec| spec.asked().delay_ms).sum(),
        }
    }

    /// The quantile `q`, ms.
    pub fn at(&self, q: f64) -> f64 {
        quantile(&self.sorted_ms, q.clamp(0.0, 1.0)).unwrap_or(0.0)
    }

    fn has_jitter(&self) -> bool {
        self.sorted_ms.first() != self.sorted_ms.last()
    }

    /// How far the median of `n` samples may be off: the tolerance, and what chance does to a median.
    pub fn tolerance_ms(&self, n: usize) -> f64 {
        TOLERANCE_MS.max(TOLERANCE_SHARE * self.at(0.5)) + self.sampling_error(n)
    }

    /// How far the median of `n` samples of a sound delay strays: half the distance between the quantiles that
    /// enclose it with three standard deviations of the binomial distribution. Correlated samples count as a quarter
    /// each; every probe connection draws from a stream of its own, which bounds their dependence.
    fn sampling_error(&self, n: usize) -> f64 {
        if n == 0 {
            return 0.0;
        }
        let effective = if self.independent { n as f64 } else { n as f64 / 4.0 };
        let reach = (1.5 / effective.max(1.0).sqrt()).min(0.499);
        (self.at(0.5 + reach) - self.at(0.5 - reach)) / 2.0
    }

    /// Sorted draws with the spread of the `steady` round trips (sorted as well), ms.
    fn with_spread_of(&self, steady: &[f64]) -> Vec<f64> {
        // Both are sorted: walked in steps of a prime, the one meets the other's values in no order.
        let machine = |i: usize| steady[i * 7919 % steady.len()] - self.constant_ms;
        sorted(&self.sorted_ms.iter().enumerate().map(|(i, delay)| delay + machine(i)).collect::<Vec<_>>())
    }
}

/// Compares round trips `after_ns` with those from before and with what is `expected`. `steady_ns` are round trips
/// under the same delay without its jitter: their spread is the machine's own, and what the distribution of `after_ns`
/// is compared with is that spread plus what the sampler draws. The median is judged against `before_ns`, so it
/// contains whatever the backend itself costs.
pub fn compare(expected: &Expected, before_ns: &[u64], steady_ns: &[u64], after_ns: &[u64], lost: u64) -> Proof {
    let ms = |values: &[u64]| sorted(&values.iter().map(|ns| *ns as f64 / 1e6).collect::<Vec<_>>());
    let (before, steady, after) = (ms(before_ns), ms(steady_ns), ms(after_ns));
    let before_p50_ms = quantile(&before, 0.5).unwrap_or(0.0);
    let obtained = |q: f64| quantile(&after, q).map_or(0.0, |at| at - before_p50_ms);
    let shaped = expected.has_jitter() && expected.independent && !steady.is_empty();
    let ks = shaped.then(|| kolmogorov_smirnov(&after, &expected.with_spread_of(&steady)));
    Proof {
        samples: after.len(),
        lost,
        before_p50_ms,
        expected_p50_ms: expected.at(0.5),
        expected_p99_ms: expected.at(0.99),
        obtained_p50_ms: obtained(0.5),
        obtained_p99_ms: obtained(0.99),
        tolerance_ms: expected.tolerance_ms(after.len()),
        ks_distance: ks.map(|(distance, _)| distance),
        ks_p: ks.map(|(_, p)| p),
    }
}

impl Proof {
    /// Whether the delay was obtained.
    ///
    /// # Errors
    /// Why not, with both numbers.
    pub fn verdict(&self) -> Result<(), String> {
        let Proof { samples, lost, expected_p50_ms, obtained_p50_ms, tolerance_ms, .. } = *self;
        if samples == 0 {
            return Err(format!("no answer to any of {lost} probes"));
        }
        let off = obtained_p50_ms - expected_p50_ms;
        if off.abs() > tolerance_ms {
            return Err(format!(
                "asked for a median of {expected_p50_ms:.2} ms and obtained {obtained_p50_ms:.2} ms, off by more than \
                 {tolerance_ms:.2} ms"
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {:.2} ms (asked {:.2}), p99 {:.2} ms (asked {:.2}), {} samples, {} lost",
            self.obtained_p50_ms,
            self.expected_p50_ms,
            self.obtained_p99_ms,
            self.expected_p99_ms,
            self.samples,
            self.lost
        )
    }
}

/// The two-sample Kolmogorov-Smirnov test of sorted samples: the largest distance between the empirical
/// distributions and the asymptotic probability of one at least as large between equal ones (M. A. Stephens, JRSS B
/// 1970, for the correction to finite samples).
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> (f64, f64) {
    if a.is_empty() || b.is_empty() {
        return (0.0, 1.0);
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut distance) = (0, 0, 0f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        while i < a.len() && a[i] <= at {
            i += 1;
        }
        while j < b.len() && b[j] <= at {
            j += 1;
        }
        distance = distance.max((i as f64 / n - j as f64 / m).abs());
    }
    let root = (n * m / (n + m)).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    // For small lambda the series does not converge, and the probability is 1 to many digits.
    if lambda < 0.2 {
        return (distance, 1.0);
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k * k) * lambda * lambda).exp()
    };
    (distance, (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::spec::{Asked, Distribution};

    fn spec(delay_ms: f64, jitter_ms: f64, distribution: Distribution) -> Spec {
        Spec::check(Asked { delay_ms, jitter_ms, distribution, ..Asked::default() }).unwrap()
    }

    fn measured(spec: Spec, seed: u64, n: usize, shift_ms: f64) -> Vec<u64> {
        let mut sampler = Sampler::new(spec, seed, 9);
        (0..n as u64).map(|i| sampler.next_ns() + 100_000 + 1000 * (i % 50) + (shift_ms * 1e6) as u64).collect()
    }

    #[test]
    fn a_sound_delay_is_accepted_whatever_its_shape() {
        for distribution in Distribution::ALL {
            for (delay, jitter) in [(5.0, 0.5), (100.0, 10.0), (100.0, 100.0)] {
                let asked = spec(delay, jitter, distribution);
                let steady = measured(spec(delay, 0.0, Distribution::Uniform), 3, 300, 0.0);
                let proof = compare(&Expected::of(&[asked]), &[120_000; 9], &steady, &measured(asked, 3, 300, 0.0), 0);
                assert_eq!(proof.verdict(), Ok(()), "{asked}: {proof}");
                assert!(proof.ks_p.unwrap() > 0.001, "{asked}: p {:?}", proof.ks_p);
            }
        }
    }

    #[test]
    fn a_wrong_one_is_not() {
        let before = vec![100_000; 50];
        let asked = spec(100.0, 0.0, Distribution::Uniform);
        let late = compare(&Expected::of(&[asked]), &before, &[], &measured(asked, 3, 100, 12.0), 0);
        let said = late.verdict().unwrap_err();
        assert!(said.contains("median of 100.00 ms and obtained 112.02 ms, off by more than 10.00 ms"), "{said}");
        let none = compare(&Expected::of(&[asked]), &before, &[], &before, 0);
        assert!(none.verdict().is_err());
        let silent = compare(&Expected::of(&[asked]), &before, &[], &[], 30);
        assert_eq!(silent.verdict(), Err("no answer to any of 30 probes".to_owned()));
    }

    #[test]
    fn another_shape_with_the_same_median_is_told_apart() {
        let steady = measured(spec(100.0, 0.0, Distribution::Uniform), 3, 300, 0.0);
        let asked = spec(100.0, 20.0, Distribution::Normal);
        let other = spec(100.0, 20.0, Distribution::Uniform);
        let proof = compare(&Expected::of(&[asked]), &[100_000], &steady, &measured(other, 3, 400, 0.0), 0);
        assert!(proof.ks_p.unwrap() < 0.001, "p {:?}", proof.ks_p);
    }

    #[test]
    fn both_directions_add_up() {
        let there_and_back =
            Expected::of(&[spec(20.0, 0.0, Distribution::Uniform), spec(30.0, 5.0, Distribution::Normal)]);
        assert!((there_and_back.at(0.5) - 50.0).abs() < 0.2, "{}", there_and_back.at(0.5));
        let proof = compare(&there_and_back, &[1_000_000], &[], &[51_000_000; 30], 0);
        assert_eq!((proof.obtained_p50_ms, proof.verdict()), (50.0, Ok(())));
    }

    #[test]
    fn the_distance_is_the_largest_step() {
        let (distance, p) = kolmogorov_smirnov(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]);
        assert_eq!(distance, 0.5);
        assert!((0.4..0.8).contains(&p));
        assert_eq!(kolmogorov_smirnov(&[1.0], &[]), (0.0, 1.0));
    }
}
