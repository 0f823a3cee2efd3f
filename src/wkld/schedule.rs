//! When requests are due: pure arithmetic from a request's index to its instant, in integers.
//!
//! A request's *position* is its place on the axis of cumulated load, in femto-requests (10^-15 requests): index i has
//! position i x 10^15 under constant arrivals, and the sum of i+1 seeded Exp(1) draws under Poisson arrivals. The load's
//! profile (pieces of constant or linear rate) turns a position into nanoseconds after the start. With rates in
//! micro-requests/s, `rate x ns` is exactly femto-requests, so a constant rate needs one integer division and no rate
//! of up to six decimals is ever rounded.

use std::str::FromStr;
use std::sync::Arc;

use rand::SeedableRng;
use rand_distr::{Distribution, Exp1};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

/// Femto-requests in one request.
const UNIT: u128 = 1_000_000_000_000_000;

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// Requests per second, exact to six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Rate(u64);

impl Rate {
    /// The nearest rate with six decimals to `per_second` requests/s (negative and NaN become 0).
    pub fn new(per_second: f64) -> Self {
        Rate((per_second * 1e6).round() as u64)
    }

    /// Requests per second.
    pub fn per_second(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl From<f64> for Rate {
    fn from(per_second: f64) -> Self {
        Rate::new(per_second)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.per_second()
    }
}

/// A stretch of time with a constant rate or a linear change of rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Length, ns.
    pub duration_ns: u64,
    /// Rate at its start.
    pub from: Rate,
    /// Rate at its end.
    pub to: Rate,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// With exponential gaps from the run's seed.
    Poisson,
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Arrivals::Constant),
            "poisson" => Ok(Arrivals::Poisson),
            other => Err(format!("unknown arrivals `{other}`; known: constant, poisson")),
        }
    }
}

/// Parses a ramp: `SECONDS:RATE` or `SECONDS:FROM-TO`, joined by commas (`10:50-100,30:100`).
///
/// # Errors
/// A lower-case fragment that names the piece.
pub fn parse_ramp(text: &str) -> Result<Vec<Piece>, String> {
    text.split(',').map(parse_piece).collect()
}

fn parse_piece(text: &str) -> Result<Piece, String> {
    let bad = |why: &str| format!("ramp piece `{text}`: {why}");
    let number = |part: &str, what: &str| match part.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(bad(&format!("`{part}` is not a {what}"))),
    };
    let (seconds, rates) = text.split_once(':').ok_or_else(|| bad("expected SECONDS:RATE or SECONDS:FROM-TO"))?;
    let seconds = number(seconds, "number of seconds")?;
    let (from, to) = rates.split_once('-').unwrap_or((rates, rates));
    let (from, to) = (number(from, "rate")?, number(to, "rate")?);
    if !(1e-3..=31_536_000.0).contains(&seconds) {
        return Err(bad("a piece lasts from 1 ms to a year"));
    }
    if from > 1e7 || to > 1e7 {
        return Err(bad("a rate above 10 million requests/s is beyond any client"));
    }
    Ok(Piece { duration_ns: (seconds * 1e9) as u64, from: Rate::new(from), to: Rate::new(to) })
}

/// A piece with what came before it.
#[derive(Clone, Copy, Debug)]
struct Placed {
    piece: Piece,
    start_ns: u64,
    base: u128,
    area: u128,
}

impl Placed {
    /// Nanoseconds after the piece's start at which `offset` femto-requests have become due.
    fn invert(&self, offset: u128) -> u64 {
        let (from, to) = (self.piece.from.0, self.piece.to.0);
        if from == to {
            return (offset / u128::from(from.max(1))) as u64;
        }
        // Smallest root of `from t + (to - from) t^2 / 2D = offset`, in the form that does not cancel. 53 bits leave
        // an error below 1 ns for pieces of up to a month.
        let (r0, r1, d, p) = (from as f64, to as f64, self.piece.duration_ns as f64, offset as f64);
        let root = (r0 * r0 + 2.0 * (r1 - r0) / d * p).max(0.0).sqrt();
        let t = 2.0 * p / (r0 + root).max(f64::MIN_POSITIVE);
        (t as u64).min(self.piece.duration_ns.saturating_sub(1))
    }
}

/// The load's profile over time, with its arrival process.
#[derive(Clone, Debug)]
pub struct Schedule {
    pieces: Arc<[Placed]>,
    arrivals: Arrivals,
    seed: u64,
    total: u128,
    duration_ns: u64,
}

impl Schedule {
    /// The schedule of `pieces`, one after the other, with `arrivals` drawn from `seed`.
    pub fn new(pieces: &[Piece], arrivals: Arrivals, seed: u64) -> Self {
        let (mut start_ns, mut base) = (0_u64, 0_u128);
        let mut placed = Vec::with_capacity(pieces.len());
        for &piece in pieces {
            let area = (u128::from(piece.from.0) + u128::from(piece.to.0)) * u128::from(piece.duration_ns) / 2;
            placed.push(Placed { piece, start_ns, base, area });
            start_ns += piece.duration_ns;
            base += area;
        }
        Schedule { pieces: placed.into(), arrivals, seed, total: base, duration_ns: start_ns }
    }

    /// Length of the load, ns.
    pub fn duration_ns(&self) -> u64 {
        self.duration_ns
    }

    /// The expected number of requests (exact under constant arrivals, up to rounding).
    pub fn expected(&self) -> f64 {
        self.total as f64 / UNIT as f64
    }

    /// The mean rate over the whole load, requests/s.
    pub fn mean_rate(&self) -> f64 {
        self.expected() / (self.duration_ns.max(1) as f64 / 1e9)
    }

    /// The due instant of request `index` under constant arrivals, ns after the start; none past the end.
    pub fn due(&self, index: u64) -> Option<u64> {
        self.at(u128::from(index) * UNIT, &mut 0)
    }

    /// The instant of a position; `cursor` remembers the piece, since positions only grow.
    fn at(&self, position: u128, cursor: &mut usize) -> Option<u64> {
        if position >= self.total {
            return None;
        }
        while position >= self.pieces[*cursor].base + self.pieces[*cursor].area {
            *cursor += 1;
        }
        let placed = &self.pieces[*cursor];
        Some(placed.start_ns + placed.invert(position - placed.base))
    }

    /// The requests `first`, `first + stride`, ... of the one shared sequence.
    pub fn dues(&self, first: u64, stride: u64) -> Dues {
        let draws = match self.arrivals {
            Arrivals::Constant => None,
            Arrivals::Poisson => Some(Pcg64Mcg::seed_from_u64(self.seed)),
        };
        let mut dues = Dues { schedule: self.clone(), index: first, stride, cursor: 0, position: 0, draws, even: None };
        dues.pass(first + 1);
        dues
    }

    /// The instants of `index`, `index + stride`, ... as far as they lie in the piece `cursor`, if its rate is constant.
    fn even(&self, cursor: usize, index: u64, stride: u64) -> Option<Even> {
        let Placed { piece, start_ns, base, .. } = *self.pieces.get(cursor)?;
        let rate = u128::from(piece.from.0);
        if piece.from != piece.to || rate == 0 {
            return None;
        }
        let (offset, step) = ((u128::from(index) * UNIT).checked_sub(base)?, u128::from(stride) * UNIT);
        Some(Even {
            next_ns: start_ns.checked_add(u64::try_from(offset / rate).ok()?)?,
            rest: (offset % rate) as u64,
            step_ns: u64::try_from(step / rate).ok()?,
            step_rest: (step % rate) as u64,
            rate: piece.from.0,
            end_ns: start_ns + piece.duration_ns,
        })
    }
}

/// Evenly spaced instants: what the division of each index's position gives, with the remainder carried from one to the
/// next instead of a 128-bit division for each (the client walks millions of them).
#[derive(Clone, Debug)]
struct Even {
    next_ns: u64,
    rest: u64,
    step_ns: u64,
    step_rest: u64,
    rate: u64,
    /// End of the piece.
    end_ns: u64,
}

impl Iterator for Even {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let due = Some(self.next_ns).filter(|&due| due < self.end_ns)?;
        self.rest += self.step_rest;
        let carry = self.rest >= self.rate;
        self.rest -= if carry { self.rate } else { 0 };
        self.next_ns = due.saturating_add(self.step_ns).saturating_add(u64::from(carry));
        Some(due)
    }
}

/// The due instants of one thread's share, ns after the start, in order.
#[derive(Clone, Debug)]
pub struct Dues {
    schedule: Schedule,
    index: u64,
    stride: u64,
    cursor: usize,
    /// Under Poisson arrivals: the position of the next request.
    position: u128,
    draws: Option<Pcg64Mcg>,
    /// Under constant arrivals in a piece of constant rate: the rest of it.
    even: Option<Even>,
}

impl Dues {
    /// Walks `n` gaps of the shared Poisson sequence. Every thread walks all of them, so the sequence is the same for
    /// any number of threads.
    fn pass(&mut self, n: u64) {
        let Some(draws) = &mut self.draws else { return };
        for _ in 0..n {
            let gap: f64 = Exp1.sample(draws);
            self.position += (gap * UNIT as f64) as u128;
        }
    }
}

impl Iterator for Dues {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if let Some(due) = self.even.as_mut().and_then(Even::next) {
            self.index += self.stride;
            return Some(due);
        }
        self.next_anywhere()
    }
}

impl Dues {
    /// The next instant, whatever the piece is like.
    fn next_anywhere(&mut self) -> Option<u64> {
        let position = if self.draws.is_some() { self.position } else { u128::from(self.index) * UNIT };
        let due = self.schedule.at(position, &mut self.cursor)?;
        self.index += self.stride;
        self.pass(self.stride);
        self.even = match self.draws {
            None => self.schedule.even(self.cursor, self.index, self.stride),
            Some(_) => None,
        };
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn constant(rate: f64, seconds: u64) -> Schedule {
        let rate = Rate::new(rate);
        Schedule::new(&[Piece { duration_ns: seconds * SECOND, from: rate, to: rate }], Arrivals::Constant, 1)
    }

    #[test]
    fn whole_and_fractional_rates_are_exact() {
        assert_eq!(constant(1000.0, 1).dues(0, 1).count(), 1000);
        assert_eq!(constant(1000.0, 1).due(999), Some(999_000_000));
        assert_eq!(constant(0.1, 30).dues(0, 1).collect::<Vec<_>>(), [0, 10 * SECOND, 20 * SECOND]);
        assert_eq!(constant(3.0, 10).due(29), Some(9_666_666_666));
        assert_eq!(constant(33.333_333, 3600).dues(0, 1).count(), 120_000);
    }

    #[test]
    fn a_ramp_holds_and_climbs() {
        let pieces = parse_ramp("10:50-100,2:100,1:0,1:10").unwrap();
        let schedule = Schedule::new(&pieces, Arrivals::Constant, 1);
        let dues: Vec<u64> = schedule.dues(0, 1).collect();
        let between = |a: u64, b: u64| dues.iter().filter(|&&d| d >= a * SECOND && d < b * SECOND).count();
        assert_eq!((between(0, 10), between(10, 12), between(12, 13), between(13, 14)), (750, 200, 0, 10));
        assert_eq!(between(0, 1), 53, "50.5..55 requests/s in the first second: 52.5 and the one at 0");
    }

    #[test]
    fn a_climb_from_nothing_and_a_fall_to_nothing() {
        for text in ["4:0-100", "4:100-0"] {
            let dues: Vec<u64> = Schedule::new(&parse_ramp(text).unwrap(), Arrivals::Constant, 1).dues(0, 1).collect();
            assert_eq!(dues.len(), 200, "{text}");
            assert!(dues.windows(2).all(|w| w[0] < w[1]), "{text}");
        }
    }

    #[test]
    fn poisson_gaps_have_coefficient_of_variation_one_and_the_asked_rate() {
        let rate = Rate::new(1000.0);
        let piece = Piece { duration_ns: 100 * SECOND, from: rate, to: rate };
        let dues: Vec<u64> = Schedule::new(&[piece], Arrivals::Poisson, 7).dues(0, 1).collect();
        let gaps: Vec<f64> = dues.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 1e6 - 1.0).abs() < 0.01, "mean gap {mean} ns");
        assert!((deviation / mean - 1.0).abs() < 0.02, "coefficient of variation {}", deviation / mean);
    }

    #[test]
    fn unusable_ramps_name_the_piece() {
        for (text, why) in [
            ("10", "expected SECONDS:RATE"),
            ("x:5", "`x` is not a number of seconds"),
            ("5:1,3:y", "`3:y`"),
            ("0:5", "lasts from"),
            ("5:-3", "is not a rate"),
            ("5:1e12", "beyond any client"),
            ("nan:4", "not a number"),
        ] {
            let error = parse_ramp(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn due_of_i_is_i_over_rate(micro in 1_u64..1_000_000_000_000, index in 0_u64..1_000_000) {
            let rate = Rate(micro);
            let pieces = [Piece { duration_ns: u64::MAX / 4, from: rate, to: rate }];
            let due = Schedule::new(&pieces, Arrivals::Constant, 1).due(index);
            let exact = u128::from(index) * UNIT / u128::from(micro);
            prop_assert_eq!(due.map(u128::from), (exact < u128::from(u64::MAX / 4)).then_some(exact));
        }

        #[test]
        fn walking_gives_what_each_index_gives(
            rates in prop::collection::vec((1_u64..5_000_000_000, 1_u64..5_000_000_000, any::<bool>(), 1_u64..400), 1..5),
            (first, stride) in (0_u64..9, 1_u64..9),
        ) {
            let piece = |&(from, to, same, ms): &(u64, u64, bool, u64)| {
                Piece { duration_ns: ms * 999_983, from: Rate(from), to: Rate(if same { from } else { to }) }
            };
            let pieces: Vec<Piece> = rates.iter().map(piece).collect();
            let schedule = Schedule::new(&pieces, Arrivals::Constant, 1);
            let each: Vec<u64> = (0..).map_while(|n| schedule.due(first + n * stride)).collect();
            prop_assert_eq!(schedule.dues(first, stride).collect::<Vec<_>>(), each);
        }

        #[test]
        fn threads_share_one_sequence(
            threads in 1_u64..9,
            poisson: bool,
            seed: u64,
            rates in prop::collection::vec((0.0_f64..500.0, 0.0_f64..500.0, 1_u64..3000), 1..5),
        ) {
            let pieces: Vec<Piece> = rates
                .iter()
                .map(|&(a, b, ms)| Piece { duration_ns: ms * 1_000_000, from: Rate::new(a), to: Rate::new(b) })
                .collect();
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let schedule = Schedule::new(&pieces, arrivals, seed);
            let whole: Vec<u64> = schedule.dues(0, 1).collect();
            prop_assert!(whole.is_sorted());
            prop_assert!(whole.iter().all(|&due| due < schedule.duration_ns()));
            let mut parts: Vec<u64> = (0..threads).flat_map(|k| schedule.dues(k, threads)).collect();
            parts.sort_unstable();
            prop_assert_eq!(parts, whole);
        }
    }
}
