//! Quantiles with their uncertainty, also when some ends were not seen.
//!
//! Sources: order-statistic intervals: H. A. David, Order Statistics, 2.5;
//! E. L. Kaplan and P. Meier, JASA 53 (1958) with M. Greenwood's variance; intervals for their quantiles:
//! R. Brookmeyer and J. Crowley, Biometrics 38 (1982), from exact binomial bounds with the effective sample size of
//! F. J. Dorey and E. L. Korn, Statistics in Medicine 6 (1987): without censoring they are those of order statistics.

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

/// The order statistics of `values` (sorted) that enclose the quantile `q` with at least 95 % when `unseen` more
/// values may lie anywhere: for the lower end below all others, for the upper end above.
pub fn quantile_ends(values: &[i64], unseen: usize, q: f64) -> (Option<i64>, Option<i64>) {
    let (low, high) = quantile_ranks(values.len() + unseen, q);
    let at = |rank: usize| values.get(rank).copied();
    (low.and_then(|rank| rank.checked_sub(unseen)).and_then(at), high.and_then(at))
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
    /// How many uncensored windows would tell the height as exactly.
    worth: f64,
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
        let mut worth = None;
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
            if at_risk > ends {
                variance += ends / (at_risk * (at_risk - ends));
                worth = Some((1.0 - survival) / (survival * variance));
            }
            // At the bottom Greenwood's sum says nothing any more: as much is known as a step before.
            steps.push(Step { at, survival, worth: worth.unwrap_or(at_risk) });
        }
        Survival { steps }
    }

    /// The time by which a share `q` of the windows has ended; `None` when the curve does not come down that far.
    pub fn quantile(&self, q: f64) -> Option<i64> {
        // The curve is a product of rounded factors: a hair above the height is at the height.
        self.steps.iter().find(|step| step.survival <= 1.0 - q + 1e-12).map(|step| step.at)
    }

    /// A 95 % interval for [`Survival::quantile`]; `None` on a side that is not bounded by what was seen.
    pub fn quantile_interval(&self, q: f64) -> (Option<i64>, Option<i64>) {
        let first = |fits: &dyn Fn(&&Step) -> bool| self.steps.iter().find(fits).map(|step| step.at);
        (first(&|step| step.may_be_at_most(1.0 - q)), first(&|step| step.is_surely_at_most(1.0 - q)))
    }

    /// The distribution function: (time, share ended by then).
    pub fn ended_by(&self) -> impl ExactSizeIterator<Item = (i64, f64)> + '_ {
        self.steps.iter().map(|step| (step.at, 1.0 - step.survival))
    }
}

impl Step {
    /// Whether the lower confidence bound of the height is at most `height`.
    fn may_be_at_most(&self, height: f64) -> bool {
        let longer = self.survival * self.worth;
        longer <= 1e-9 || beta_below(height, longer, self.worth - longer + 1.0) >= TAIL
    }

    /// Whether the upper confidence bound of the height is at most `height`.
    fn is_surely_at_most(&self, height: f64) -> bool {
        let longer = self.survival * self.worth;
        beta_below(height, longer + 1.0, self.worth - longer) >= 1.0 - TAIL
    }
}

/// The distribution function of the beta distribution with parameters `a` and `b` at `x`.
fn beta_below(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || b <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean; above it the mirror image does.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_fraction(1.0 - x, b, a);
    }
    beta_fraction(x, a, b)
}

/// By its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), evaluated from the front.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    let front = (a * x.ln() + b * (-x).ln_1p() - a.ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    let apart_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut below, mut c, mut d) = (1.0, 1.0, 0.0);
    for i in 1..1000 {
        let m = f64::from(i / 2);
        let factor = if i % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / apart_from_zero(1.0 + factor * d);
        c = apart_from_zero(1.0 + factor / c);
        below *= c * d;
        if (c * d - 1.0).abs() < 1e-14 {
            break;
        }
    }
    front / below
}

/// The logarithm of the gamma function for positive `x`: Stirling's series, from where it is exact enough.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 12.0 {
        shift += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
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

    #[test]
    fn the_beta_distribution_agrees_with_the_binomial_one() {
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-11);
        assert!((ln_gamma(171.0) - (1..171).map(|i| f64::from(i).ln()).sum::<f64>()).abs() < 1e-10);
        // P(B >= k) of n trials with probability x is the beta distribution with k and n - k + 1 at x.
        for (n, q) in [(1, 0.3), (9, 0.5), (40, 0.02), (300, 0.9), (5_000, 0.99)] {
            let weights = binomial(n, q);
            let mut at_least = 1.0;
            for (i, weight) in weights.shares.iter().enumerate() {
                let k = weights.first + i;
                if k > 0 {
                    let got = beta_below(q, k as f64, (n - k + 1) as f64);
                    assert!((got - at_least).abs() < 1e-9, "{k} of {n} at {q}: {got} {at_least}");
                }
                at_least -= weight;
            }
        }
    }

    #[test]
    fn unseen_values_widen_both_ends() {
        let values: Vec<i64> = (0..100).collect();
        assert_eq!(quantile_ends(&values, 0, 0.5), (Some(39), Some(60)));
        let (low, high) = quantile_ends(&values, 10, 0.5);
        assert_eq!((low, high), (Some(44 - 10), Some(65)));
        assert_eq!(quantile_ends(&values, 40, 0.9), (Some(118 - 40), None));
    }

    proptest! {
        #[test]
        fn without_open_windows_the_ends_are_those_of_order_statistics(n in 5_usize..300, q in 0.05_f64..0.99) {
            let values: Vec<i64> = (0..n as i64).collect();
            let (low, high) = Survival::new(&values, &[]).quantile_interval(q);
            let (expected_low, expected_high) = quantile_ends(&values, 0, q);
            // A hair's difference in a probability may move an end by one.
            let near = |a: Option<i64>, b: Option<i64>, at_edge: i64| (a.unwrap_or(at_edge) - b.unwrap_or(at_edge)).abs() <= 1;
            assert!(near(low, expected_low, 0), "{low:?} {expected_low:?}");
            assert!(near(high, expected_high, n as i64), "{high:?} {expected_high:?}");
        }

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
