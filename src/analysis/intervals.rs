//! Quantiles with their uncertainty, also when some ends were not seen.
//!
//! Sources: order-statistic intervals: H. A. David, Order Statistics, 2.5;
//! E. L. Kaplan and P. Meier, JASA 53 (1958) with M. Greenwood's variance; intervals for their quantiles:
//! R. Brookmeyer and J. Crowley, Biometrics 38 (1982), on the log(-log) scale.

/// The 97.5 % point of the normal distribution: two-sided 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// Half of what a 95 % interval leaves out.
const TAIL: f64 = 0.025;

/// Ranks (from 0) of the order statistics that enclose the quantile `q` of `n` independent values with at least 95 %:
/// `None` on a side where the sample does not reach far enough.
pub fn quantile_ranks(n: usize, q: f64) -> (Option<usize>, Option<usize>) {
    if n == 0 {
        return (None, None);
    }
    let weights = binomial(n, q);
    // Largest l with P(B < l) <= TAIL: the l-th smallest (from 1) is not above the quantile.
    let mut below = 0.0;
    let mut low = weights.first;
    for weight in &weights.shares {
        if below + weight > TAIL {
            break;
        }
        below += weight;
        low += 1;
    }
    let mut above = 0.0;
    let mut high = weights.first + weights.shares.len();
    for weight in weights.shares.iter().rev() {
        if above + weight > TAIL {
            break;
        }
        above += weight;
        high -= 1;
    }
    (low.checked_sub(1), (high < n + 1).then(|| high - 1))
}

/// The part of a binomial distribution that matters.
struct Binomial {
    first: usize,
    shares: Vec<f64>,
}

/// Probabilities of a binomial distribution from its mode outwards until they vanish.
fn binomial(n: usize, q: f64) -> Binomial {
    let odds = q / (1.0 - q);
    let mode = (((n + 1) as f64 * q) as usize).min(n);
    let mut up = Vec::new();
    let mut weight = 1.0;
    for i in mode..n {
        weight *= (n - i) as f64 / (i + 1) as f64 * odds;
        if weight < 1e-18 {
            break;
        }
        up.push(weight);
    }
    let mut shares = Vec::new();
    weight = 1.0;
    for i in (0..mode).rev() {
        weight *= (i + 1) as f64 / (n - i) as f64 / odds;
        if weight < 1e-18 {
            break;
        }
        shares.push(weight);
    }
    let first = mode - shares.len();
    shares.reverse();
    shares.push(1.0);
    shares.extend(up);
    let total: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= total);
    Binomial { first, shares }
}

/// One step of a [`Survival`] curve.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    /// Where the curve falls.
    at: i64,
    /// Its height from there on.
    survival: f64,
    /// Greenwood's sum up to there.
    variance: f64,
}

/// A Kaplan-Meier curve: the share of windows longer than a given time when some are known only as lower bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survival {
    steps: Vec<Step>,
}

impl Survival {
    /// The curve for ended windows and for those `open` ones of which only a lower bound is known. Both sorted.
    /// A window that is open at the instant when another ends counts as longer.
    pub fn new(ended: &[i64], open: &[i64]) -> Survival {
        let mut steps = Vec::new();
        let (mut survival, mut variance) = (1.0, 0.0);
        let mut closed = 0;
        let mut left = 0;
        while closed < ended.len() {
            let at = ended[closed];
            while left < open.len() && open[left] < at {
                left += 1;
            }
            let at_risk = (ended.len() - closed + open.len() - left) as f64;
            let ends = ended[closed..].iter().take_while(|&&end| end == at).count();
            closed += ends;
            let ends = ends as f64;
            survival *= 1.0 - ends / at_risk;
            variance += if at_risk > ends { ends / (at_risk * (at_risk - ends)) } else { f64::INFINITY };
            steps.push(Step { at, survival, variance });
        }
        Survival { steps }
    }

    /// The time by which a share `q` of the windows has ended; `None` when the curve does not come down that far.
    pub fn quantile(&self, q: f64) -> Option<i64> {
        self.first_at_most(1.0 - q, |step| step.survival)
    }

    /// A 95 % interval for [`Survival::quantile`]; `None` on a side that is not bounded by what was seen.
    pub fn quantile_interval(&self, q: f64) -> (Option<i64>, Option<i64>) {
        let low = self.first_at_most(1.0 - q, |step| step.bound(Z));
        let high = self.first_at_most(1.0 - q, |step| step.bound(-Z));
        (low, high)
    }

    fn first_at_most(&self, height: f64, of: impl Fn(&Step) -> f64) -> Option<i64> {
        // The curve is a product of rounded factors: a hair above the height is at the height.
        self.steps.iter().find(|step| of(step) <= height + 1e-12).map(|step| step.at)
    }

    /// The distribution function: (time, share ended by then).
    pub fn ended_by(&self) -> impl ExactSizeIterator<Item = (i64, f64)> + '_ {
        self.steps.iter().map(|step| (step.at, 1.0 - step.survival))
    }
}

impl Step {
    /// The lower (`z` > 0) or upper (`z` < 0) confidence bound of the height.
    fn bound(&self, z: f64) -> f64 {
        if self.survival <= 0.0 || self.survival >= 1.0 {
            return self.survival;
        }
        let error = self.variance.sqrt() / self.survival.ln().abs();
        self.survival.powf((z * error).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    #[test]
    fn ranks_agree_with_tables() {
        // 95 % intervals for a median: Conover, Practical Nonparametric Statistics, and any sign-test table.
        assert_eq!(quantile_ranks(10, 0.5), (Some(1), Some(8)));
        assert_eq!(quantile_ranks(20, 0.5), (Some(5), Some(14)));
        assert_eq!(quantile_ranks(5, 0.5), (None, None));
        assert_eq!(quantile_ranks(6, 0.5), (Some(0), Some(5)));
        // No upper bound for the 99th percentile of 50 values.
        assert_eq!(quantile_ranks(50, 0.99).1, None);
        let (low, high) = quantile_ranks(1_000_000, 0.99);
        assert!(low.unwrap() > 989_700 && high.unwrap() < 990_300);
    }

    #[test]
    fn a_survival_curve_from_a_textbook() {
        // Remission of 6-MP patients (Freireich 1963): 6,6,6,7,10,13,16,22,23 and 6+,9+,10+,11+,17+,19+,20+,25+,...
        let ended = [6, 6, 6, 7, 10, 13, 16, 22, 23];
        let open = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35];
        let curve = Survival::new(&ended, &open);
        let heights: Vec<f64> = curve.ended_by().map(|(_, share)| 1.0 - share).collect();
        for (got, known) in heights.iter().zip([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]) {
            assert!((got - known).abs() < 6e-4, "{heights:?}");
        }
        assert_eq!(curve.quantile(0.5), Some(23));
        assert_eq!(curve.quantile(0.9), None);
        assert_eq!(curve.quantile_interval(0.5), (Some(13), None));
    }

    proptest! {
        #[test]
        fn without_open_windows_the_curve_is_the_empirical_one(mut ended in prop::collection::vec(0_i64..50, 1..200)) {
            ended.sort_unstable();
            let curve = Survival::new(&ended, &[]);
            for (at, share) in curve.ended_by() {
                let by_then = ended.iter().filter(|&&end| end <= at).count();
                assert!((share - by_then as f64 / ended.len() as f64).abs() < 1e-9);
            }
        }

        #[test]
        fn ranks_enclose_enough(n in 1_usize..400, q in 0.05_f64..0.95) {
            let (low, high) = quantile_ranks(n, q);
            let weights = binomial(n, q);
            let mass = |from: usize, to: usize| -> f64 {
                weights.shares.iter().enumerate()
                    .filter(|(i, _)| (from..=to).contains(&(weights.first + i))).map(|(_, w)| w).sum()
            };
            // P(l <= B <= u - 1) with ranks from 1.
            let from = low.map_or(0, |low| low + 1);
            let to = high.map_or(n, |high| high);
            assert!(mass(from, to) >= 0.95 - 1e-9, "{low:?} {high:?}");
        }
    }
}
