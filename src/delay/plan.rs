//! What is delayed: pairs of services, from the command line or a matrix file, and how it changes over time.
//!
//! ```yaml
//! # matrix.yml
//! pairs:
//!   - { from: post-storage-redis-eu, to: post-storage-redis-us, delay_ms: 100, jitter_ms: 10, distribution: normal }
//!   - { from: write-home-timeline-rabbitmq-eu, to: write-home-timeline-rabbitmq-us, port: 5672, delay_ms: 5 }
//! ```
//! ```yaml
//! # schedule.yml
//! start: load          # with the next run's load, the default; or `now`
//! steps:
//!   - at_s: 0
//!     rule: { delay_ms: 20 }
//!   - at_s: 30
//!     rule: { delay_ms: 100, jitter_ms: 10, distribution: pareto }
//! ```

use serde::{Deserialize, Serialize};

use super::DelayError;
use super::spec::{Asked, Distribution, Spec};

/// No schedule is longer, s.
const LONGEST_S: f64 = 7.0 * 24.0 * 3600.0;

/// No application has more services that replicate to each other.
const MOST_PAIRS: usize = 1000;

/// Data of `from` reaches `to` later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The service that sends.
    pub from: String,
    /// The service that receives.
    pub to: String,
    /// The TCP port of whichever of the two accepts; every port when absent.
    pub port: Option<u16>,
    /// How much.
    pub spec: Spec,
    /// The other direction as well.
    pub both: bool,
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.from, if self.both { "<->" } else { "->" }, self.to)
    }
}

/// A matrix file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    pairs: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    from: String,
    to: String,
    port: Option<u16>,
    delay_ms: f64,
    #[serde(default)]
    jitter_ms: f64,
    #[serde(default)]
    correlation_percent: f64,
    #[serde(default)]
    distribution: Distribution,
    #[serde(default)]
    loss_percent: f64,
    rate_mbit: Option<f64>,
    #[serde(default)]
    both: bool,
}

impl Matrix {
    /// The pairs of the file, checked.
    ///
    /// # Errors
    /// [`DelayError::Refused`] naming the pair: a bad specification, a pair twice, or a service with itself.
    pub fn pairs(&self) -> Result<Vec<Pair>, DelayError> {
        let mut pairs: Vec<Pair> = Vec::new();
        if self.pairs.len() > MOST_PAIRS {
            return Err(DelayError::Refused(format!("the matrix has more than {MOST_PAIRS} pairs")));
        }
        for line in &self.pairs {
            let name = format!("{} -> {}", line.from, line.to);
            let asked = Asked {
                delay_ms: line.delay_ms,
                jitter_ms: line.jitter_ms,
                correlation_percent: line.correlation_percent,
                distribution: line.distribution,
                loss_percent: line.loss_percent,
                rate_mbit: line.rate_mbit,
            };
            let spec = Spec::check(asked).map_err(|error| DelayError::Refused(format!("{name}: {error}")))?;
            let clash = |p: &&Pair| {
                (p.from == line.from && p.to == line.to)
                    || ((p.both || line.both) && p.from == line.to && p.to == line.from)
            };
            if line.from == line.to {
                return Err(DelayError::Refused(format!("{name}: a service does not replicate to itself")));
            }
            if pairs.iter().find(clash).is_some() {
                return Err(DelayError::Refused(format!("{name} is given twice")));
            }
            let (from, to) = (line.from.clone(), line.to.clone());
            pairs.push(Pair { from, to, port: line.port, spec, both: line.both });
        }
        if pairs.is_empty() {
            return Err(DelayError::Refused("the matrix has no pairs".to_owned()));
        }
        Ok(pairs)
    }
}

/// When a schedule's clock starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the next run's load; until then nothing is delayed.
    #[default]
    Load,
    /// At once.
    Now,
}

/// Changes over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When its clock starts.
    #[serde(default)]
    pub start: Start,
    /// What holds from when, earliest first.
    pub steps: Vec<Step>,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// From this time on, s.
    pub at_s: f64,
    /// What holds.
    pub rule: Asked,
}

impl Schedule {
    /// Checks the steps: at least one, times rising, each specification sound. Gives what holds from which second on.
    ///
    /// # Errors
    /// [`DelayError::Refused`] naming the step.
    pub fn check(&self) -> Result<Vec<(f64, Spec)>, DelayError> {
        let refuse = |index: usize, why: String| Err(DelayError::Refused(format!("step {}: {why}", index + 1)));
        if self.steps.is_empty() {
            return Err(DelayError::Refused("a schedule needs at least one step".to_owned()));
        }
        let (mut before, mut checked) = (0.0, Vec::new());
        for (index, step) in self.steps.iter().enumerate() {
            if !step.at_s.is_finite() || step.at_s < before {
                return refuse(index, format!("at_s {} is not after the step above", step.at_s));
            }
            if step.at_s > LONGEST_S {
                return refuse(index, format!("at_s {} is beyond the 7 days that are supported", step.at_s));
            }
            before = step.at_s;
            match Spec::check(step.rule) {
                Ok(spec) => checked.push((step.at_s, spec)),
                Err(error) => return refuse(index, error.to_string()),
            }
        }
        Ok(checked)
    }

    /// The step in force `elapsed_s` after the start; `None` before the first one.
    pub fn step_at(&self, elapsed_s: f64) -> Option<usize> {
        self.steps.iter().rposition(|step| step.at_s <= elapsed_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(at: &[f64]) -> Schedule {
        let step = |at_s: &f64| Step { at_s: *at_s, rule: Asked { delay_ms: 1.0, ..Asked::default() } };
        Schedule { start: Start::Now, steps: at.iter().map(step).collect() }
    }

    #[test]
    fn steps_follow_the_clock() {
        let steps = schedule(&[1.0, 10.0, 30.0]);
        assert_eq!(
            [0.0, 1.0, 9.9, 10.0, 30.0, 1e6].map(|t| steps.step_at(t)),
            [None, Some(0), Some(0), Some(1), Some(2), Some(2)]
        );
    }

    #[test]
    fn schedules_that_cannot_be_followed_are_refused() {
        let said = |s: Schedule| s.check().unwrap_err().to_string();
        assert_eq!(said(schedule(&[])), "a schedule needs at least one step");
        assert_eq!(said(schedule(&[3.0, 2.0])), "step 2: at_s 2 is not after the step above");
        assert!(said(schedule(&[0.0, f64::NAN])).starts_with("step 2: at_s NaN"));
        assert!(said(schedule(&[1e300])).contains("beyond the 7 days"));
        let mut wrong = schedule(&[0.0, 1.0]);
        wrong.steps[1].rule.jitter_ms = 5.0;
        assert!(said(wrong).starts_with("step 2: jitter 5 ms is larger"));
    }

    #[test]
    fn the_file_reads_as_documented() {
        let text =
            "start: now\nsteps:\n  - at_s: 30\n    rule: { delay_ms: 100, jitter_ms: 10, distribution: pareto }\n";
        let read: Schedule = serde_saphyr::from_str(text).unwrap();
        assert_eq!((read.start, read.steps[0].rule.distribution), (Start::Now, Distribution::Pareto));
        assert!(serde_saphyr::from_str::<Schedule>("steps: [{at_s: 0, rule: {delay: 1}}]").is_err());
    }

    #[test]
    fn a_matrix_of_any_size_ends() {
        let line = |n: usize| format!("  - {{from: a{n}, to: b, delay_ms: 1}}\n");
        let text = format!("pairs:\n{}", (0..=MOST_PAIRS).map(line).collect::<String>());
        let error = serde_saphyr::from_str::<Matrix>(&text).unwrap().pairs().unwrap_err();
        assert!(error.to_string().contains("more than 1000 pairs"), "{error}");
    }

    #[test]
    fn a_matrix_names_the_pair_that_is_wrong() {
        let pairs = |text: &str| serde_saphyr::from_str::<Matrix>(text).unwrap().pairs();
        let good = pairs("pairs: [{from: a, to: b, delay_ms: 5}, {from: b, to: a, delay_ms: 6, port: 80}]").unwrap();
        assert_eq!((good.len(), good[0].to_string().as_str(), good[1].port), (2, "a -> b", Some(80)));
        let said = |text: &str| pairs(text).unwrap_err().to_string();
        assert!(said("pairs: [{from: a, to: b, delay_ms: -5}]").starts_with("a -> b: delay -5 ms"));
        assert!(said("pairs: [{from: a, to: a, delay_ms: 5}]").contains("itself"));
        let both = "pairs: [{from: a, to: b, delay_ms: 5, both: true}, {from: b, to: a, delay_ms: 6}]";
        assert_eq!(said(both), "b -> a is given twice");
        assert!(said("pairs: []").contains("no pairs"));
    }
}
