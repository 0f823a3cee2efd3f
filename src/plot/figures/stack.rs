//! A stacked bar: the baseline's window at the bottom, what antipode adds on top of it.

use crate::experiment::Variant;
use crate::plot::canvas::Rgb;
use crate::plot::figure::{Mark, pair_label};
use crate::plot::scale::short;
use crate::plot::table::variant_label;
use crate::stats::Interval;

use super::interval_text;

/// The windows of one zone pair at one rate, ms.
#[derive(Clone, Debug)]
pub struct Stack {
    /// `US->EU`.
    pub pair: String,
    /// Offered requests/s.
    pub rate: f64,
    /// Where the baseline ran.
    pub baseline: Option<Interval>,
    /// Where antipode ran.
    pub antipode: Option<Interval>,
}

impl Stack {
    /// The highest value shown.
    pub fn top(&self) -> f64 {
        [self.baseline, self.antipode].into_iter().flatten().map(|bar| bar.high).fold(0.0, f64::max)
    }

    /// (baseline, antipode - baseline), each rounded to whole ms before the difference is taken, as the Python tool
    /// tabulated them; but a negative overhead stays negative. Antipode alone is the whole of itself.
    pub fn rounded(&self) -> (Option<f64>, Option<f64>) {
        let whole = |bar: Option<Interval>| bar.map(|bar| bar.value.round_ties_even());
        let (baseline, antipode) = (whole(self.baseline), whole(self.antipode));
        (baseline, antipode.map(|antipode| antipode - baseline.unwrap_or(0.0)))
    }

    /// The bars at `x`.
    pub fn marks(&self, x: f64, width: f64, color: fn(Variant) -> Rgb) -> Vec<Mark> {
        let base = self.baseline.map_or(0.0, |bar| bar.value);
        let bar = |variant: Variant, from: f64, of: Interval, text: String| Mark::Bar {
            x,
            width,
            from,
            to: of.value,
            color: color(variant),
            over: of.value < from,
            interval: Some((of.low, of.high)),
            text,
            hover: self.hover(variant, of),
        };
        let mut marks = Vec::new();
        if let Some(baseline) = self.baseline {
            marks.push(bar(Variant::Baseline, 0.0, baseline, ms_text(baseline.value)));
        }
        if let Some(antipode) = self.antipode {
            let text =
                if self.baseline.is_some() { self.overhead(antipode.value - base) } else { ms_text(antipode.value) };
            marks.push(bar(Variant::Antipode, base, antipode, text));
        }
        marks
    }

    fn overhead(&self, overhead: f64) -> String {
        let text = match self.rounded() {
            (Some(baseline), Some(rounded)) if baseline >= 10.0 => short(rounded.abs()),
            _ => short(overhead.abs()),
        };
        if text == "0" {
            return "\u{b1} 0".to_owned();
        }
        if overhead < 0.0 { format!("\u{2212} {text}") } else { format!("+ {text}") }
    }

    fn hover(&self, variant: Variant, of: Interval) -> String {
        format!(
            "{} {} at {} req/s: p90 window {} ms",
            pair_label(&self.pair),
            variant_label(variant),
            short(self.rate),
            interval_text(of)
        )
    }
}

/// Whole ms where that says enough.
fn ms_text(ms: f64) -> String {
    if ms >= 10.0 { format!("{}", ms.round_ties_even()) } else { short(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(baseline: f64, antipode: f64) -> Stack {
        let exact = |value| Some(Interval { value, low: value, high: value });
        Stack { pair: "US->EU".into(), rate: 50.0, baseline: exact(baseline), antipode: exact(antipode) }
    }

    fn texts(stack: &Stack) -> Vec<String> {
        let text = |mark: Mark| if let Mark::Bar { text, .. } = mark { text } else { String::new() };
        stack.marks(0.0, 0.4, crate::plot::figure::color).into_iter().map(text).collect()
    }

    #[test]
    fn both_ends_are_rounded_before_the_difference() {
        assert_eq!(stack(139.5, 319.15).rounded(), (Some(140.0), Some(179.0)));
        assert_eq!(texts(&stack(139.5, 319.15)), ["140", "+ 179"]);
    }

    #[test]
    fn a_gain_is_shown_as_one() {
        let gain = stack(80.0, 71.2);
        assert_eq!(gain.rounded(), (Some(80.0), Some(-9.0)));
        assert_eq!(texts(&gain), ["80", "\u{2212} 9"]);
        assert!(matches!(gain.marks(0.0, 0.4, crate::plot::figure::color)[1], Mark::Bar { over: true, .. }));
    }

    #[test]
    fn small_windows_keep_their_digits() {
        assert_eq!(texts(&stack(2.34, 5.678)), ["2.34", "+ 3.34"]);
    }

    #[test]
    fn nothing_has_no_sign() {
        assert_eq!(texts(&stack(81.9, 81.6))[1], "\u{b1} 0");
    }
}
