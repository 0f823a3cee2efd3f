//! Adaptive rounds: `window.p90 ci < 5%` asks for rounds until the interval of a metric's median is that tight.

use super::metrics::Metrics;
use crate::error::Plain;
use crate::stats;

/// The half width of a metric's interval, relative to its median, must fall below `share`.
#[derive(Clone, Debug, PartialEq)]
pub struct Until {
    /// A name that [`Metrics::get`] knows.
    pub metric: String,
    /// 0..1.
    pub share: f64,
}

impl Until {
    /// Reads `METRIC ci < PERCENT%`.
    ///
    /// # Errors
    /// Exit code 2 with the form.
    pub fn parse(text: &str) -> Result<Until, Plain> {
        let wrong = |why: &str| {
            Plain::usage(format!("condition `{text}`: {why}"))
                .with_hint("form: \"window.p90 ci < 5%\"; metrics: throughput, violations, latency.p50|p90|p99, window.p50|p90|p99")
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [metric, "ci", "<", share] = words.as_slice() else {
            return Err(wrong("not of the form `METRIC ci < PERCENT%`"));
        };
        if !Metrics::knows(metric) {
            return Err(wrong(&format!("unknown metric `{metric}`")));
        }
        let percent = share.strip_suffix('%').and_then(|p| p.parse::<f64>().ok()).filter(|p| *p > 0.0 && p.is_finite());
        let Some(percent) = percent else { return Err(wrong("the limit must be a percentage above 0")) };
        Ok(Until { metric: (*metric).to_owned(), share: percent / 100.0 })
    }

    /// The relative half width over `rounds`; absent while it cannot be told (fewer than three rounds, or no value).
    pub fn width(&self, rounds: &[Metrics]) -> Option<f64> {
        let values: Vec<f64> = rounds.iter().filter_map(|m| m.get(&self.metric)).collect();
        if values.len() < 3 {
            return None;
        }
        let interval = stats::median_interval(&values)?;
        let half = (interval.high - interval.low) / 2.0;
        if half == 0.0 {
            return Some(0.0);
        }
        (interval.value != 0.0).then(|| half / interval.value.abs())
    }

    /// Whether the rounds so far are enough.
    pub fn reached(&self, rounds: &[Metrics]) -> bool {
        self.width(rounds).is_some_and(|width| width < self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(p90: f64) -> Metrics {
        Metrics { window_ms: [None, Some(p90), None], ..Metrics::default() }
    }

    #[test]
    fn tight_rounds_reach_it_and_wide_ones_do_not() {
        let until = Until::parse("window.p90 ci < 5%").unwrap();
        let tight: Vec<Metrics> = [100.0, 101.0, 99.0, 100.5, 100.2].map(window).to_vec();
        let wide: Vec<Metrics> = [100.0, 150.0, 50.0, 120.0, 80.0].map(window).to_vec();
        assert!(until.reached(&tight));
        assert!(!until.reached(&wide));
        assert!(!until.reached(&tight[..2]));
    }

    #[test]
    fn the_form_is_checked() {
        for text in ["", "window.p90 < 5%", "window.p91 ci < 5%", "window.p90 ci < 5", "window.p90 ci < -5%"] {
            assert!(Until::parse(text).is_err(), "{text}");
        }
    }
}
