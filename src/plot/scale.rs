//! Axes without a picture: how values map to lengths, which limits suit them, and where the ticks are.

/// How an axis maps values to lengths.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Proportionally.
    Linear,
    /// By the decimal logarithm; values must be positive.
    Log,
    /// Named places at 0, 1, 2, ...
    Category(Vec<String>),
    /// Shares 0..1 by -log10(1 - share): 90 %, 99 %, 99.9 % are equally far apart.
    Nines,
}

/// A scale with its limits in the axis's own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The mapping.
    pub kind: Kind,
    /// The value at the start.
    pub low: f64,
    /// The value at the end.
    pub high: f64,
}

/// A tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where, in the axis's unit.
    pub at: f64,
    /// What it says; minor ticks say nothing.
    pub label: Label,
}

/// What a tick says.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// Nothing: a minor tick.
    None,
    /// Text.
    Text(String),
    /// Ten to this power.
    Power(i32),
}

/// The space that matplotlib leaves beyond the outermost values, as a share of their span.
const MARGIN: f64 = 0.05;

impl Scale {
    /// Limits that hold `values` with a margin. Values that the kind cannot show (0 on a logarithmic axis) are ignored.
    pub fn around(kind: Kind, values: impl IntoIterator<Item = f64>) -> Self {
        let mut scale = Scale { kind, low: 0.0, high: 1.0 };
        let usable = |value: &f64| value.is_finite() && (scale.kind != Kind::Log || *value > 0.0);
        let values: Vec<f64> = values.into_iter().filter(usable).map(|value| scale.project(value)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return Scale { low: scale.unproject(0.0), high: scale.unproject(1.0), ..scale };
        }
        let smallest = match scale.kind {
            Kind::Log | Kind::Nines => 0.1,
            _ => 1e-9_f64.max(high.abs() * 0.02),
        };
        let margin = ((high - low) * MARGIN).max(smallest);
        scale.low = scale.unproject(low - margin);
        scale.high = scale.unproject(high + margin);
        scale
    }

    /// From 0 to a little above the largest of `values` (or below 0 when some are negative).
    pub fn from_zero(values: impl IntoIterator<Item = f64>, headroom: f64) -> Self {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low == high {
            high = 1.0;
        }
        Scale { kind: Kind::Linear, low: low * headroom, high: high * headroom }
    }

    /// The same scale with a little room below 0, so that marks at 0 are not hidden by the axis.
    pub fn with_floor(mut self) -> Self {
        self.low = self.low.min(-0.03 * self.high);
        self
    }

    /// Places for `names`.
    pub fn category(names: Vec<String>) -> Self {
        let high = names.len() as f64 - 0.5;
        Scale { kind: Kind::Category(names), low: -0.5, high }
    }

    fn project(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Linear | Kind::Category(_) => value,
            Kind::Log => value.max(f64::MIN_POSITIVE).log10(),
            Kind::Nines => -(1.0 - value.clamp(0.0, 1.0 - 1e-12)).log10(),
        }
    }

    fn unproject(&self, length: f64) -> f64 {
        match self.kind {
            Kind::Linear | Kind::Category(_) => length,
            Kind::Log => 10_f64.powf(length),
            Kind::Nines => 1.0 - 10_f64.powf(-length.max(0.0)),
        }
    }

    /// Where `value` lies: 0 at the start, 1 at the end; outside of that beyond the limits.
    pub fn fraction(&self, value: f64) -> f64 {
        let (low, high) = (self.project(self.low), self.project(self.high));
        if high == low { 0.5 } else { (self.project(value) - low) / (high - low) }
    }

    /// [`Scale::fraction`] kept within the limits.
    pub fn clamped(&self, value: f64) -> f64 {
        self.fraction(value).clamp(0.0, 1.0)
    }

    /// At most about `room` labelled ticks, ascending, with minor ticks between them where they help.
    pub fn ticks(&self, room: usize) -> Vec<Tick> {
        let room = room.max(2);
        match &self.kind {
            Kind::Linear => linear_ticks(self.low, self.high, room),
            Kind::Log => log_ticks(self.low, self.high, room),
            Kind::Nines => nines_ticks(self.high, room),
            Kind::Category(names) => {
                let tick = |(i, name): (usize, &String)| Tick { at: i as f64, label: Label::Text(name.clone()) };
                names.iter().enumerate().map(tick).collect()
            }
        }
    }
}

/// The step 1, 2, 2.5 or 5 times a power of ten that gives at most `room` intervals.
fn nice_step(span: f64, room: usize) -> f64 {
    let raw = span / room as f64;
    let power = 10_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.into_iter().map(|step| step * power).find(|step| span / step <= room as f64 + 1e-9);
    step.unwrap_or(10.0 * power)
}

fn linear_ticks(low: f64, high: f64, room: usize) -> Vec<Tick> {
    let span = high - low;
    if span.is_nan() || span <= 0.0 || !span.is_finite() {
        return Vec::new();
    }
    let step = nice_step(span, room);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let tick = |i: i64| {
        let at = i as f64 * step;
        Tick { at, label: Label::Text(decimal(at, step)) }
    };
    (first..=last).map(tick).collect()
}

/// `value` with as many decimals as multiples of `step` need, and a true minus sign.
fn decimal(value: f64, step: f64) -> String {
    let mut decimals = 0;
    while decimals < 9 && ((step * 10_f64.powi(decimals)).round() - step * 10_f64.powi(decimals)).abs() > 1e-6 {
        decimals += 1;
    }
    let text = format!("{:.*}", decimals as usize, value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero { format!("\u{2212}{text}") } else { text }
}

fn log_ticks(low: f64, high: f64, room: usize) -> Vec<Tick> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let inside = |at: f64| at >= low * (1.0 - 1e-9) && at <= high * (1.0 + 1e-9);
    let decades = (first..=last).filter(|k| inside(10_f64.powi(*k))).count();
    if decades >= 2 {
        return decade_ticks(first, last, decades.div_ceil(room).max(1), inside);
    }
    for steps in [[1.0, 2.0, 5.0].as_slice(), &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]] {
        let places = (first..=last).flat_map(|k| steps.iter().map(move |step| step * 10_f64.powi(k)));
        let places: Vec<f64> = places.filter(|at| inside(*at)).collect();
        if (2..=room.max(3)).contains(&places.len()) {
            let tick = |at: f64| Tick { at, label: Label::Text(plain(at)) };
            return places.into_iter().map(tick).collect();
        }
    }
    // Less than a factor of two: ticks as on a linear axis, from which it hardly differs.
    let attempts = (room.min(5)..12).map(|room| linear_ticks(low, high, room));
    attempts.into_iter().find(|ticks| ticks.len() >= 2).unwrap_or_default()
}

/// Labelled powers of ten, every `every`-th; minor ticks at 2..9 times a power when all powers are labelled.
fn decade_ticks(first: i32, last: i32, every: usize, inside: impl Fn(f64) -> bool) -> Vec<Tick> {
    let mut ticks = Vec::new();
    for k in first..=last {
        let power = 10_f64.powi(k);
        if inside(power) {
            let labelled = k.rem_euclid(every as i32) == 0;
            ticks.push(Tick { at: power, label: if labelled { Label::Power(k) } else { Label::None } });
        }
        if every == 1 {
            let minor = (2..=9).map(|m| f64::from(m) * power).filter(|at| inside(*at));
            ticks.extend(minor.map(|at| Tick { at, label: Label::None }));
        }
    }
    ticks
}

/// 0, 90 %, 99 %, ... up to the share `high`.
fn nines_ticks(high: f64, room: usize) -> Vec<Tick> {
    let nines = (-(1.0 - high).max(1e-12).log10() + 1e-9).floor() as usize;
    let every = (nines + 1).div_ceil(room).max(1);
    let tick = |k: usize| {
        let text = match k {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            k => format!("99.{} %", "9".repeat(k - 2)),
        };
        Tick { at: 1.0 - 10_f64.powi(-(k as i32)), label: Label::Text(text) }
    };
    (0..=nines).step_by(every).map(tick).collect()
}

/// A positive number as short as it can be: `0.5`, `20`, `1500`.
fn plain(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `value` with three significant digits or as a whole number, and a true minus sign: `0.123`, `7.05`, `42.1`, `1540`.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        m if m >= 99.95 => format!("{m:.0}"),
        m if m >= 9.995 => format!("{m:.1}"),
        m if m >= 0.9995 || m == 0.0 => format!("{m:.2}"),
        m => format!("{m:.3}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if value < 0.0 && text != "0" { format!("\u{2212}{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(scale: &Scale, room: usize) -> Vec<String> {
        let text = |tick: Tick| match tick.label {
            Label::None => None,
            Label::Text(text) => Some(text),
            Label::Power(k) => Some(format!("1e{k}")),
        };
        scale.ticks(room).into_iter().filter_map(text).collect()
    }

    #[test]
    fn throughputs_get_whole_steps() {
        let scale = Scale::around(Kind::Linear, [49.8, 150.9]);
        assert_eq!(labels(&scale, 7), ["60", "80", "100", "120", "140"]);
    }

    #[test]
    fn several_decades_show_powers_and_minor_ticks() {
        let scale = Scale::around(Kind::Log, [62.0, 15_500.0]);
        assert_eq!(labels(&scale, 6), ["1e2", "1e3", "1e4"]);
        assert!(scale.ticks(6).len() > 15);
    }

    #[test]
    fn one_decade_or_less_still_has_readable_numbers() {
        assert_eq!(labels(&Scale::around(Kind::Log, [3.1, 27.0]), 6), ["5", "10", "20"]);
        assert_eq!(labels(&Scale::around(Kind::Log, [250.0, 1800.0]), 4), ["200", "500", "1000", "2000"]);
        assert!(labels(&Scale::around(Kind::Log, [70.0, 76.0]), 6).len() >= 2);
        assert!(labels(&Scale::around(Kind::Log, [0.21, 0.22]), 6).len() >= 2);
    }

    #[test]
    fn negative_numbers_have_a_true_minus() {
        let scale = Scale { kind: Kind::Linear, low: -20.0, high: 20.0 };
        assert_eq!(labels(&scale, 4), ["\u{2212}20", "\u{2212}10", "0", "10", "20"]);
        assert_eq!((short(-3.1234), short(0.0), short(1540.4)), ("\u{2212}3.12".into(), "0".into(), "1540".into()));
    }

    #[test]
    fn nines_are_equally_far_apart() {
        let scale = Scale { kind: Kind::Nines, low: 0.0, high: 0.9999 };
        assert_eq!(labels(&scale, 6), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        let gap = scale.fraction(0.99) - scale.fraction(0.9);
        assert!((scale.fraction(0.999) - scale.fraction(0.99) - gap).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn ticks_stay_inside_and_are_few(a in -1e6_f64..1e6, b in -1e6_f64..1e6, room in 2_usize..12) {
            let scale = Scale::around(Kind::Linear, [a, b]);
            let ticks = scale.ticks(room);
            prop_assert!(ticks.len() <= room + 1, "{} {room}", ticks.len());
            prop_assert!(ticks.iter().all(|tick| (-1e-6..=1.0 + 1e-6).contains(&scale.fraction(tick.at))));
        }

        #[test]
        fn logarithmic_axes_always_have_two_labels(a in 1e-3_f64..1e7, factor in 1.0_f64..1e6) {
            let scale = Scale::around(Kind::Log, [a, a * factor]);
            prop_assert!(labels(&scale, 6).len() >= 2, "{scale:?}");
            prop_assert!(scale.fraction(a) >= 0.0 && scale.fraction(a * factor) <= 1.0 + 1e-9);
        }
    }
}
