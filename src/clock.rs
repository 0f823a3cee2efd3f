//! How far two clocks are apart, from timed exchanges between them. Pure.
//!
//! Each exchange is sent at `t1` and answered at `t4` by our clock, and stamped `t` in between by the other. Since the
//! stamp was made after sending and before the answer came back, the other clock is ahead by at most `t - t1` and by at
//! least `t - t4`: no assumption about the way there and back is needed. Many exchanges narrow the interval to that of
//! the quickest ones; its middle is the offset, half its width the bound.
//! Source: Cristian, "Probabilistic clock synchronization" (1989), and the intersection of Marzullo, "Maintaining the
//! time in a distributed system" (1984), which NTP uses.

/// One exchange, ns since the epoch on the clocks named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Sent, by our clock.
    pub sent: i64,
    /// Stamped, by the other clock.
    pub stamped: i64,
    /// Answered, by our clock.
    pub answered: i64,
}

/// How far another clock is ahead of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offset {
    /// Other minus ours, us.
    pub offset_us: f64,
    /// The true offset is within this of `offset_us`, us.
    pub bound_us: f64,
}

impl Offset {
    /// The offset of `other` relative to `self`, both measured against the same third clock.
    pub fn to(self, other: Offset) -> Offset {
        Offset { offset_us: other.offset_us - self.offset_us, bound_us: self.bound_us + other.bound_us }
    }
}

/// The offset that all exchanges allow. When they contradict each other (a clock was set meanwhile, or runs at another
/// rate), the one of the quickest exchange. `None` without a usable exchange.
pub fn offset(exchanges: &[Exchange]) -> Option<Offset> {
    let interval = |e: &Exchange| (e.stamped - e.answered, e.stamped - e.sent);
    let usable: Vec<(i64, i64)> = exchanges.iter().map(interval).filter(|(low, high)| low <= high).collect();
    let low = usable.iter().map(|(low, _)| *low).max()?;
    let high = usable.iter().map(|(_, high)| *high).min()?;
    let (low, high) = if low <= high { (low, high) } else { *usable.iter().min_by_key(|(low, high)| high - low)? };
    // The sum of two stamps of this century does not fit into 64 bits when they are years apart.
    let middle = (i128::from(low) + i128::from(high)) as f64 / 2.0;
    Some(Offset { offset_us: middle / 1e3, bound_us: (high - low) as f64 / 2e3 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::{Exchange, offset};

    proptest! {
        #[test]
        fn the_true_offset_is_within_the_bound(
            truth in -5_000_000_000i64..5_000_000_000,
            ways in prop::collection::vec((1i64..50_000_000, 1i64..50_000_000), 1..40),
        ) {
            let mut now = 1_700_000_000_000_000_000;
            let mut exchanges = Vec::new();
            for (there, back) in &ways {
                let sent = now;
                exchanges.push(Exchange { sent, stamped: sent + there + truth, answered: sent + there + back });
                now += there + back + 1000;
            }
            let found = offset(&exchanges).unwrap();
            let best = ways.iter().map(|(there, back)| there + back).min().unwrap() as f64 / 2e3;
            prop_assert!((found.offset_us - truth as f64 / 1e3).abs() <= found.bound_us + 1e-3);
            prop_assert!(found.bound_us <= best + 1e-3, "more exchanges never make it worse");
        }
    }

    #[test]
    fn a_clock_that_was_set_meanwhile_is_judged_by_the_quickest_exchange() {
        let exchange = |sent: i64, there: i64, back: i64, ahead: i64| Exchange {
            sent,
            stamped: sent + there + ahead,
            answered: sent + there + back,
        };
        let found = offset(&[exchange(0, 500, 500, 0), exchange(10_000, 100, 100, 9_000_000)]).unwrap();
        assert_eq!((found.offset_us, found.bound_us), (9000.0, 0.1));
    }

    #[test]
    fn nothing_usable_gives_nothing() {
        assert_eq!(offset(&[]), None);
        assert_eq!(offset(&[Exchange { sent: 10, stamped: 0, answered: 5 }]), None, "our own clock went back");
    }

    #[test]
    fn offsets_to_a_third_clock_combine() {
        let a = super::Offset { offset_us: 100.0, bound_us: 5.0 };
        let b = super::Offset { offset_us: -20.0, bound_us: 7.0 };
        assert_eq!(a.to(b), super::Offset { offset_us: -120.0, bound_us: 12.0 });
    }
}
