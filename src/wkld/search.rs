//! The search for the highest rate that meets an objective: double until it is missed, then bisect. Pure; the caller
//! runs the load.

use std::fmt;
use std::str::FromStr;

use super::report::Report;

/// The share of due requests that must be answered 2xx within the load.
pub const GOODPUT: f64 = 0.99;

/// The search ends when the bounds are this close.
const CLOSE: f64 = 1.05;

/// It tries no more rates than this.
const LONGEST: usize = 24;

/// Rates beyond this are not tried, requests/s.
const HIGHEST: f64 = 2_000_000.0;

/// A bound on one quantile of the latency: `p99=500ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// The quantile, 0..1; 1 is the maximum.
    pub quantile: f64,
    /// The bound, ns.
    pub bound_ns: u64,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("unusable objective `{text}`: {why}; an example is p99=500ms");
        let (name, bound) = text.split_once('=').ok_or_else(|| bad("no `=`"))?;
        let quantile = match name.trim() {
            "max" => 1.0,
            name => {
                let percent = name.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok());
                percent.filter(|p| (0.0..=100.0).contains(p)).ok_or_else(|| bad("the quantile is p0..p100 or max"))?
                    / 100.0
            }
        };
        let bound = bound.trim();
        let digits = bound.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &bound[digits.len()..] {
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => return Err(bad("the bound is in us, ms or s")),
        };
        let value: f64 = digits.parse().map_err(|_| bad("the bound is not a number"))?;
        if !(value > 0.0 && value.is_finite()) {
            return Err(bad("the bound must be greater than 0"));
        }
        Ok(Objective { quantile, bound_ns: (value * unit) as u64 })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.bound_ns as f64 / 1e6;
        if self.quantile >= 1.0 { write!(f, "max={ms}ms") } else { write!(f, "p{}={ms}ms", self.quantile * 100.0) }
    }
}

/// One rate that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Offered, requests/s.
    pub rate: f64,
    /// 2xx answers/s.
    pub throughput: f64,
    /// Share of the due requests answered 2xx within the load.
    pub goodput: f64,
    /// The objective's quantile, ns.
    pub latency_ns: u64,
    /// It met the objective.
    pub met: bool,
    /// The client kept its schedule, so that a miss is the server's.
    pub sound: bool,
}

impl Point {
    /// The point of a report at `rate`.
    pub fn of(rate: f64, report: &Report, objective: &Objective) -> Point {
        let latency_ns = report.latency_with_bounds().quantile(objective.quantile);
        let goodput = report.counts.ok_in_time as f64 / report.counts.due.max(1) as f64;
        let sound = !matches!(report.verdict(), super::report::Verdict::ClientLimited(_));
        let met = latency_ns <= objective.bound_ns && goodput >= GOODPUT;
        Point { rate, throughput: report.throughput(), goodput, latency_ns, met, sound }
    }
}

/// The state of a search.
#[derive(Clone, Debug)]
pub struct Search {
    start: f64,
    points: Vec<Point>,
}

impl Search {
    /// A search that begins at `start` requests/s.
    pub fn new(start: f64) -> Self {
        Search { start, points: Vec::new() }
    }

    /// What was tried, in order.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Takes the result of a rate.
    pub fn add(&mut self, point: Point) {
        self.points.push(point);
    }

    /// The highest rate that met the objective, below every rate that missed it.
    pub fn best(&self) -> Option<&Point> {
        let missed = self.missed();
        let met = self.points.iter().filter(|point| point.met && point.rate < missed);
        met.max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    fn missed(&self) -> f64 {
        self.points.iter().filter(|point| !point.met).map(|point| point.rate).fold(f64::INFINITY, f64::min)
    }

    /// The next rate to try; none when the answer is known well enough.
    pub fn next(&self) -> Option<f64> {
        if self.points.len() >= LONGEST {
            return None;
        }
        let (low, high) = (self.best().map(|point| point.rate), self.missed());
        match low {
            None if self.points.is_empty() => Some(self.start),
            None => Some(high / 2.0).filter(|&rate| rate >= 0.5),
            Some(low) if high.is_infinite() => Some(low * 2.0).filter(|&rate| rate <= HIGHEST),
            Some(low) if high / low <= CLOSE => None,
            Some(low) => Some(tidy((low + high) / 2.0)),
        }
    }
}

/// Three significant digits: a rate that can be typed again.
fn tidy(rate: f64) -> f64 {
    let scale = 10_f64.powf(rate.log10().floor() - 2.0);
    (rate / scale).round() * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(capacity: f64, start: f64) -> Search {
        let mut search = Search::new(start);
        while let Some(rate) = search.next() {
            let met = rate <= capacity;
            search.add(Point { rate, throughput: rate.min(capacity), goodput: 1.0, latency_ns: 0, met, sound: true });
        }
        search
    }

    proptest! {
        #[test]
        fn the_capacity_is_found_within_five_per_cent(capacity in 1.0_f64..900_000.0, start in 1.0_f64..10_000.0) {
            let search = search(capacity, start);
            let best = search.best().map(|point| point.rate).unwrap_or_default();
            prop_assert!(best <= capacity && best >= capacity / CLOSE / 1.01, "{} of {}", best, capacity);
            prop_assert!(search.points().len() <= LONGEST);
        }
    }

    #[test]
    fn nothing_is_good_enough() {
        let search = search(0.0, 100.0);
        assert!(search.best().is_none() && search.points().len() < 12);
    }

    #[test]
    fn objectives_are_read_and_shown() {
        for (text, quantile, ns, shown) in [
            ("p99=500ms", 0.99, 500_000_000, "p99=500ms"),
            ("p99.9=1.5s", 0.999, 1_500_000_000, "p99.9=1500ms"),
            ("max=20us", 1.0, 20_000, "max=0.02ms"),
        ] {
            let objective: Objective = text.parse().unwrap();
            assert!((objective.quantile - quantile).abs() < 1e-12);
            assert_eq!((objective.bound_ns, objective.to_string().as_str()), (ns, shown));
        }
        for text in ["p99", "p101=1ms", "q=1ms", "p99=1", "p99=-1ms", "p99=xms", "p99=0ms"] {
            assert!(text.parse::<Objective>().unwrap_err().contains("an example is p99=500ms"), "{text}");
        }
    }
}
