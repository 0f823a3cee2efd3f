//! What is delayed: pairs of services, from the command line or a matrix file, and how it changes over time.
//!
//! ```yaml
//! # matrix.yml
//! pairs:
//!   - { from: post-storage-redis-eu, to: post-storage-redis-us, delay_ms: 100, jitter_ms: 10, distribution: normal }
//!   - { from: write-home-timeline-rabbitmq-eu, to: write-home-timeline-rabbitmq-us, port: 5672, delay_ms: 5, both: true }
//! ```
//! ```yaml
//! # schedule.yml
//! starts: run          # or `now`, the default
//! repeat: false
//! steps:
//!   - { at_s: 0, delay_ms: 20 }
//!   - { at_s: 30, delay_ms: 100, jitter_ms: 10, distribution: pareto }
//! ```

use serde::{Deserialize, Serialize};

use super::DelayError;
use super::spec::{Asked, Distribution, Spec};

/// Data of `from` reaches `to` later.
#[derive(Clone, Debug, PartialEq)]
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
pub enum Starts {
    /// When the rule comes into force.
    #[default]
    Now,
    /// With the next run's load; until then the first step holds.
    Run,
}

/// Changes over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When its clock starts.
    #[serde(default)]
    pub starts: Starts,
    /// Begin anew after the last step has lasted as long as the one before it.
    #[serde(default)]
    pub repeat: bool,
    /// What holds from when.
    pub steps: Vec<Step>,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// From this time on, s.
    pub at_s: f64,
    /// Delay, ms.
    pub delay_ms: f64,
    /// Jitter, ms.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Correlation, %.
    #[serde(default)]
    pub correlation_percent: f64,
    /// Shape of the jitter.
    #[serde(default)]
    pub distribution: Distribution,
    /// Packets lost, %.
    #[serde(default)]
    pub loss_percent: f64,
    /// Bandwidth, Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<f64>,
}

impl Step {
    /// What holds during it.
    ///
    /// # Errors
    /// [`DelayError::Refused`].
    pub fn spec(&self) -> Result<Spec, DelayError> {
        Spec::check(Asked {
            delay_ms: self.delay_ms,
            jitter_ms: self.jitter_ms,
            correlation_percent: self.correlation_percent,
            distribution: self.distribution,
            loss_percent: self.loss_percent,
            rate_mbit: self.rate_mbit,
        })
    }
}

impl Schedule {
    /// Checks the steps: at least one, the first at 0, times rising, each specification sound.
    ///
    /// # Errors
    /// [`DelayError::Refused`] naming the step.
    pub fn check(&self) -> Result<(), DelayError> {
        let refuse = |why: String| Err(DelayError::Refused(why));
        if self.steps.first().is_none_or(|first| first.at_s != 0.0) {
            return refuse("the schedule's first step must be at 0 s".to_owned());
        }
        for (index, step) in self.steps.iter().enumerate() {
            if let Err(error) = step.spec() {
                return refuse(format!("step {} of the schedule: {error}", index + 1));
            }
        }
        if let Some(at) = self.steps.windows(2).position(|w| !w[0].at_s.lt(&w[1].at_s) || !w[1].at_s.is_finite()) {
            return refuse(format!("step {} of the schedule does not come after the one before it", at + 2));
        }
        if self.repeat && self.steps.len() < 2 {
            return refuse("a schedule of one step has nothing to repeat".to_owned());
        }
        Ok(())
    }

    /// The step in force `elapsed_s` after the start.
    pub fn step_at(&self, elapsed_s: f64) -> usize {
        let mut elapsed = elapsed_s.max(0.0);
        if self.repeat
            && let [.., before, last] = self.steps.as_slice()
        {
            elapsed %= last.at_s + (last.at_s - before.at_s);
        }
        self.steps.iter().rposition(|step| step.at_s <= elapsed).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(repeat: bool, at: &[f64]) -> Schedule {
        let step = |at_s: &f64| Step {
            at_s: *at_s,
            delay_ms: 1.0,
            jitter_ms: 0.0,
            correlation_percent: 0.0,
            distribution: Distribution::Uniform,
            loss_percent: 0.0,
            rate_mbit: None,
        };
        Schedule { starts: Starts::Now, repeat, steps: at.iter().map(step).collect() }
    }

    #[test]
    fn steps_follow_the_clock_and_repeat() {
        let once = schedule(false, &[0.0, 10.0, 30.0]);
        assert_eq!([0.0, 9.9, 10.0, 29.0, 30.0, 1e6].map(|t| once.step_at(t)), [0, 0, 1, 1, 2, 2]);
        let again = schedule(true, &[0.0, 10.0]);
        assert_eq!([0.0, 10.0, 19.9, 20.0, 31.0].map(|t| again.step_at(t)), [0, 1, 1, 0, 1]);
    }

    #[test]
    fn schedules_that_cannot_be_followed_are_refused() {
        let said = |s: Schedule| s.check().unwrap_err().to_string();
        assert!(said(schedule(false, &[])).contains("first step must be at 0 s"));
        assert!(said(schedule(false, &[5.0])).contains("first step must be at 0 s"));
        assert!(said(schedule(false, &[0.0, 3.0, 3.0])).contains("step 3"));
        assert!(said(schedule(false, &[0.0, f64::NAN])).contains("step 2"));
        assert!(said(schedule(true, &[0.0])).contains("nothing to repeat"));
        let mut wrong = schedule(false, &[0.0, 1.0]);
        wrong.steps[1].jitter_ms = 5.0;
        assert!(said(wrong).contains("step 2 of the schedule: jitter 5 ms is larger"));
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
