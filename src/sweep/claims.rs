//! Claims about an evaluation as data, and what a sweep's runs say about each: holds, does not hold, or cannot tell.

use std::path::Path;

use serde::Deserialize;

use super::metrics::Metrics;
use super::spec::SweepError;
use crate::experiment::Variant;
use crate::stats;
use crate::store::parse_yaml;

/// A file of claims.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Version of this file's form.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// The sweep that gives the runs.
    pub sweep: String,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// One claim.
#[derive(Clone, Debug, Deserialize)]
pub struct Claim {
    /// Short name.
    pub id: String,
    /// The claim in words.
    pub says: String,
    /// Who says so, and where.
    pub source: String,
    /// What is checked.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What is checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Some observation of the variant is a violation.
    Violated {
        /// Which variant.
        variant: Variant,
    },
    /// No observation of the variant is a violation.
    NeverViolated {
        /// Which variant.
        variant: Variant,
    },
    /// Going from baseline to antipode costs at most this share of the metric.
    Cost {
        /// `throughput` (less is worse) or a latency (more is worse).
        metric: String,
        /// %.
        limit_percent: f64,
    },
    /// Antipode adds more to the metric for one placement than for another.
    GrowsMore {
        /// A name that [`Metrics::get`] knows.
        metric: String,
        /// The placement that should grow more.
        far: String,
        /// The placement that should grow less.
        near: String,
    },
}

/// One run with the cell it belongs to.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The placement's stem.
    pub placement: String,
    /// Baseline or antipode.
    pub variant: Variant,
    /// Offered rate, requests/s.
    pub rate: f64,
    /// Round, from 0.
    pub round: u32,
    /// Its numbers.
    pub metrics: Metrics,
}

/// What the runs say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The whole interval is on the claim's side.
    Holds,
    /// The whole interval is on the other side.
    DoesNotHold,
    /// The interval contains the limit, or there is not enough data.
    CannotTell,
}

impl Judgement {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Judgement::Holds => "holds",
            Judgement::DoesNotHold => "does not hold",
            Judgement::CannotTell => "cannot tell",
        }
    }
}

impl Claims {
    /// Reads a claims file.
    ///
    /// # Errors
    /// [`SweepError`] with the place.
    pub fn parse(path: &Path, text: &str) -> Result<Claims, SweepError> {
        let claims: Claims = parse_yaml(path, text)?;
        let metric = |claim: &Claim| match &claim.kind {
            Kind::Cost { metric, .. } | Kind::GrowsMore { metric, .. } => Some(metric.clone()),
            Kind::Violated { .. } | Kind::NeverViolated { .. } => None,
        };
        match claims.claims.iter().filter_map(metric).find(|metric| !Metrics::knows(metric)) {
            Some(unknown) => {
                Err(SweepError::Spec { path: path.display().to_string(), why: format!("unknown metric `{unknown}`") })
            }
            None => Ok(claims),
        }
    }
}

/// What `runs` say about `claim`: the judgement and the numbers it rests on.
pub fn judge(claim: &Claim, runs: &[Observed]) -> (Judgement, String) {
    match &claim.kind {
        Kind::Violated { variant } => violated(*variant, runs),
        Kind::NeverViolated { variant } => never_violated(*variant, runs),
        Kind::Cost { metric, limit_percent } => cost(metric, *limit_percent, runs),
        Kind::GrowsMore { metric, far, near } => grows_more(metric, far, near, runs),
    }
}

/// Violations and observations of all runs of a variant.
fn counts(variant: Variant, runs: &[Observed]) -> (u64, u64) {
    let counts = runs.iter().filter(|run| run.variant == variant).filter_map(|run| run.metrics.violations);
    counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
}

/// `3 of 100 (1.03 to 8.45 %)`.
fn share((k, n): (u64, u64)) -> String {
    let interval = stats::wilson(k, n);
    format!("{k} of {n} ({:.2} to {:.2} %)", 100.0 * interval.low, 100.0 * interval.high)
}

/// One seen is proof; none seen is only an upper bound.
fn violated(variant: Variant, runs: &[Observed]) -> (Judgement, String) {
    match counts(variant, runs) {
        (_, 0) => (Judgement::CannotTell, format!("no observation of {variant}")),
        seen if seen.0 > 0 => (Judgement::Holds, share(seen)),
        seen => (Judgement::CannotTell, share(seen)),
    }
}

/// One seen disproves it; none seen counts only where so many observations would have shown what the other variant has.
fn never_violated(variant: Variant, runs: &[Observed]) -> (Judgement, String) {
    let other = if variant == Variant::Antipode { Variant::Baseline } else { Variant::Antipode };
    let (seen, without) = (counts(variant, runs), counts(other, runs));
    if seen.1 == 0 {
        return (Judgement::CannotTell, format!("no observation of {variant}"));
    }
    let apart = stats::wilson(seen.0, seen.1).high < stats::wilson(without.0, without.1).low;
    (side(seen.0 == 0 && apart, seen.0 > 0), format!("{}; {other} {}", share(seen), share(without)))
}

/// Baseline and antipode runs of the same placement, rate and round.
fn pairs(runs: &[Observed]) -> impl Iterator<Item = (&Observed, &Observed)> {
    let partner = |base: &Observed| {
        let (placement, rate, round) = (base.placement.clone(), base.rate, base.round);
        runs.iter().find(move |run| {
            run.variant == Variant::Antipode && run.placement == placement && run.rate == rate && run.round == round
        })
    };
    runs.iter().filter(|run| run.variant == Variant::Baseline).filter_map(move |base| Some((base, partner(base)?)))
}

fn cost(metric: &str, limit_percent: f64, runs: &[Observed]) -> (Judgement, String) {
    let sign = if metric == "throughput" { -1.0 } else { 1.0 };
    let share = |(base, antipode): (&Observed, &Observed)| {
        let (from, to) = (base.metrics.get(metric)?, antipode.metrics.get(metric)?);
        (from > 0.0).then(|| 100.0 * sign * (to - from) / from)
    };
    let costs: Vec<f64> = pairs(runs).filter_map(share).collect();
    let Some(interval) = stats::median_interval(&costs).filter(|_| costs.len() >= 3) else {
        return (Judgement::CannotTell, format!("{} of baseline and antipode", crate::ui::count(costs.len(), "pair")));
    };
    let numbers = format!(
        "median {:+.2} % ({:+.2} to {:+.2} %, {} pairs)",
        interval.value,
        interval.low,
        interval.high,
        costs.len()
    );
    (side(interval.high <= limit_percent, interval.low > limit_percent), numbers)
}

fn grows_more(metric: &str, far: &str, near: &str, runs: &[Observed]) -> (Judgement, String) {
    let growth = |placement: &str| -> Vec<f64> {
        let of =
            |(base, antipode): (&Observed, &Observed)| Some(antipode.metrics.get(metric)? - base.metrics.get(metric)?);
        pairs(runs).filter(|(base, _)| base.placement == placement).filter_map(of).collect()
    };
    let (far_growth, near_growth) = (growth(far), growth(near));
    let enough = far_growth.len() >= 2 && near_growth.len() >= 2;
    let Some(interval) = stats::difference_interval(&near_growth, &far_growth).filter(|_| enough) else {
        return (Judgement::CannotTell, format!("too few pairs of baseline and antipode for {far} and {near}"));
    };
    let numbers =
        format!("{far} grows {:+.1} more than {near} ({:+.1} to {:+.1})", interval.value, interval.low, interval.high);
    (side(interval.low > 0.0, interval.high < 0.0), numbers)
}

fn side(holds: bool, fails: bool) -> Judgement {
    match (holds, fails) {
        (true, _) => Judgement::Holds,
        (false, true) => Judgement::DoesNotHold,
        (false, false) => Judgement::CannotTell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(placement: &str, variant: Variant, round: u32, throughput: f64, window: f64, k: u64) -> Observed {
        let metrics = Metrics {
            throughput: Some(throughput),
            window_ms: [None, Some(window), None],
            violations: Some((k, 100)),
            ..Metrics::default()
        };
        Observed { placement: placement.into(), variant, rate: 100.0, round, metrics }
    }

    fn runs(antipode_throughput: f64) -> Vec<Observed> {
        let rounds = 0..6_u32;
        rounds
            .flat_map(|round| {
                let noise = f64::from(round % 3) * 0.1;
                [
                    run("us-eu", Variant::Baseline, round, 100.0 + noise, 80.0 + noise, 1),
                    run("us-eu", Variant::Antipode, round, antipode_throughput + noise, 82.0 + noise, 0),
                    run("us-sg", Variant::Baseline, round, 100.0 + noise, 140.0 + noise, 40),
                    run("us-sg", Variant::Antipode, round, antipode_throughput + noise, 170.0 + noise, 0),
                ]
            })
            .collect()
    }

    fn claims() -> Vec<Claim> {
        let text = include_str!("../../configs/reproduce/sosp23.yml");
        Claims::parse(Path::new("sosp23.yml"), text).unwrap().claims
    }

    fn judgement(id: &str, runs: &[Observed]) -> Judgement {
        judge(claims().iter().find(|claim| claim.id == id).unwrap(), runs).0
    }

    #[test]
    fn clear_data_gives_clear_judgements() {
        let good = runs(99.5);
        for id in ["violations", "barrier", "throughput", "window"] {
            assert_eq!(judgement(id, &good), Judgement::Holds, "{id}");
        }
        assert_eq!(judgement("throughput", &runs(80.0)), Judgement::DoesNotHold);
    }

    #[test]
    fn one_violation_decides_and_none_seen_needs_something_to_compare_with() {
        let mut broken = runs(99.5);
        broken[1].metrics.violations = Some((1, 100));
        assert_eq!(judgement("barrier", &broken), Judgement::DoesNotHold);
        let mut calm = runs(99.5);
        calm.iter_mut().for_each(|run| run.metrics.violations = Some((0, 100)));
        assert_eq!(judgement("barrier", &calm), Judgement::CannotTell, "the baseline has none either");
        assert_eq!(judgement("violations", &calm), Judgement::CannotTell, "none seen in 1200 is no proof of never");
    }

    #[test]
    fn too_little_data_cannot_tell() {
        for id in ["violations", "barrier", "throughput", "latency", "window"] {
            assert_eq!(judgement(id, &[]), Judgement::CannotTell, "{id}");
        }
    }
}
