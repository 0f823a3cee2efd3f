//! The few estimators that figures, summaries and comparisons share. Pure: numbers in, numbers out, and the same
//! numbers for the same input (resampling is seeded).

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The 97.5 % point of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// Resamples behind one bootstrap interval.
const RESAMPLES: usize = 2000;

/// A value with the ends of its 95 % interval, all in one unit.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Quantile `q` (0..=1) of `sorted` ascending values by linear interpolation at `(n - 1) q`, as numpy and pandas do.
/// `None` for no values.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (a, b) = (*sorted.get(below)?, *sorted.get((below + 1).min(last))?);
    let part = position - below as f64;
    // numpy's two branches: counted from the nearer neighbour.
    Some(if part >= 0.5 { b - (b - a) * (1.0 - part) } else { a + (b - a) * part })
}

/// [`quantile`] of values in any order.
pub fn quantile_of(values: &[f64], q: f64) -> Option<f64> {
    quantile(&sorted(values), q)
}

/// The median; the mean of the two middle values when their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile_of(values, 0.5)
}

/// A sorted copy (by the total order of floats).
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// Wilson's 95 % score interval of the share `k / n` (E. B. Wilson, JASA 1927). With `n` = 0 nothing is known: 0..1.
pub fn wilson(k: u64, n: u64) -> Interval {
    if n == 0 {
        return Interval { value: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, p) = (n as f64, k as f64 / n as f64);
    let z2 = Z95 * Z95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let low = if k == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if p == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Interval { value: p, low, high }
}

/// Percentile bootstrap of the median of `rounds` (one value per round): requests inside a round are correlated, so
/// whole rounds are drawn. `None` for fewer than two rounds, where there is nothing to resample.
pub fn median_interval(rounds: &[f64]) -> Option<Interval> {
    if rounds.len() < 2 {
        return None;
    }
    let value = median(rounds)?;
    let mut random = Pcg64Mcg::seed_from_u64(0x6d61_6573);
    let draws: Vec<f64> = (0..RESAMPLES).filter_map(|_| median(&resample(rounds, &mut random))).collect();
    let draws = sorted(&draws);
    Some(Interval { value, low: quantile(&draws, 0.025)?, high: quantile(&draws, 0.975)? })
}

/// Percentile bootstrap of `statistic(b) - statistic(a)` where each side is a set of rounds and whole rounds are
/// drawn. `None` when a side has fewer than two rounds or a statistic is undefined.
pub fn difference_interval(a: &[f64], b: &[f64]) -> Option<Interval> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let value = median(b)? - median(a)?;
    let mut random = Pcg64Mcg::seed_from_u64(0x6d61_6574);
    let mut draws = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let (from_a, from_b) = (resample(a, &mut random), resample(b, &mut random));
        draws.push(median(&from_b)? - median(&from_a)?);
    }
    let draws = sorted(&draws);
    Some(Interval { value, low: quantile(&draws, 0.025)?, high: quantile(&draws, 0.975)? })
}

fn resample(values: &[f64], random: &mut Pcg64Mcg) -> Vec<f64> {
    values.iter().map(|_| values[random.random_range(0..values.len())]).collect()
}

/// Parts into which a run is cut for [`parts_interval`].
const PARTS: usize = 10;

/// The 97.5 % point of Student's distribution with `PARTS - 1` degrees of freedom.
const T95: f64 = 2.262_157;

/// A 95 % interval for `value`, a number of one whole run, from the same number of every second of it: the run is cut
/// into ten parts longer than what ties neighbouring seconds together, whose means are then nearly independent (batch
/// means: B. Schmeiser, Operations Research 30 (1982)). `None` for fewer than ten seconds.
pub fn parts_interval(value: f64, seconds: &[f64]) -> Option<Interval> {
    let length = seconds.len() / PARTS;
    if length == 0 {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let parts: Vec<f64> = seconds.chunks_exact(length).take(PARTS).map(mean).collect();
    let centre = mean(&parts);
    let squares: f64 = parts.iter().map(|part| (part - centre).powi(2)).sum();
    let half = T95 * (squares / (PARTS as f64 - 1.0) / PARTS as f64).sqrt();
    Some(Interval { value, low: value - half, high: value + half })
}

/// Cliff's delta in -1..=1: how much more often a value of `b` is above one of `a` than below it. 0 means that
/// neither side tends to be larger, 1 that every value of `b` is above every value of `a`.
pub fn cliffs_delta(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let a = sorted(a);
    let mut sum = 0.0;
    for value in b {
        let below = a.partition_point(|x| x < value);
        let not_above = a.partition_point(|x| x <= value);
        sum += below as f64 - (a.len() - not_above) as f64;
    }
    Some(sum / (a.len() as f64 * b.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_as_numpy_does() {
        // numpy.percentile([1, 2, 3, 10], [0, 25, 50, 90, 100]) == [1, 1.75, 2.5, 7.9, 10]
        let values = [10.0, 1.0, 3.0, 2.0];
        let got: Vec<f64> = [0.0, 0.25, 0.5, 0.9, 1.0].iter().map(|&q| quantile_of(&values, q).unwrap()).collect();
        for (got, expected) in got.iter().zip([1.0, 1.75, 2.5, 7.9, 10.0]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn wilson_agrees_with_published_examples() {
        // R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        for (k, n, low, high) in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)] {
            let interval = wilson(k, n);
            assert!((interval.low - low).abs() < 5e-5 && (interval.high - high).abs() < 5e-5, "{k}/{n} {interval:?}");
        }
    }

    #[test]
    fn no_violation_seen_is_an_upper_bound() {
        let interval = wilson(0, 100);
        assert_eq!((interval.value, interval.low), (0.0, 0.0));
        assert!((interval.high - 0.036_99).abs() < 1e-4, "{interval:?}");
        assert_eq!(wilson(7, 7).high, 1.0);
        assert_eq!(wilson(0, 0), Interval { value: 0.0, low: 0.0, high: 1.0 });
    }

    #[test]
    fn one_round_has_no_interval_and_two_span_their_range() {
        assert_eq!(median_interval(&[3.0]), None);
        let two = median_interval(&[1.0, 2.0]).unwrap();
        assert_eq!((two.value, two.low, two.high), (1.5, 1.0, 2.0));
        assert_eq!(median_interval(&[1.0, 5.0, 2.0]), median_interval(&[1.0, 5.0, 2.0]));
    }

    #[test]
    fn a_shift_of_all_rounds_is_found_and_none_is_not() {
        let a = [10.0, 11.0, 12.0, 10.5];
        let b = [20.0, 21.0, 22.0, 20.5];
        let shift = difference_interval(&a, &b).unwrap();
        assert!(shift.low > 0.0 && (shift.value - 10.0).abs() < 1e-9, "{shift:?}");
        let none = difference_interval(&a, &a).unwrap();
        assert!(none.low <= 0.0 && none.high >= 0.0, "{none:?}");
    }

    #[test]
    fn a_run_in_parts_has_the_interval_of_its_parts() {
        // Mean 5.5 and standard deviation 3.0277 of 1..=10: half is 2.262157 * 3.0277 / sqrt(10).
        let seconds: Vec<f64> = (1..=10).flat_map(|part| [f64::from(part) - 0.25, f64::from(part) + 0.25]).collect();
        let interval = parts_interval(5.0, &seconds).unwrap();
        assert!((interval.high - 7.165_85).abs() < 1e-4 && (interval.low - 2.834_15).abs() < 1e-4, "{interval:?}");
        assert_eq!(parts_interval(5.0, &seconds[..9]), None);
    }

    #[test]
    fn cliffs_delta_counts_ties_as_nothing() {
        assert_eq!(cliffs_delta(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
        assert_eq!(cliffs_delta(&[1.0, 2.0], &[1.0, 2.0]), Some(0.0));
        assert_eq!(cliffs_delta(&[3.0], &[1.0, 3.0]), Some(-0.5));
    }
}
