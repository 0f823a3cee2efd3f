//! Sizes, durations and CPU shares as compose files write them.

use std::time::Duration;

/// Bytes of `3000000000`, `50M`, `1.5g`, `64kb`, `2GiB`; powers of 1024, as engines count.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let scaled = number.parse::<f64>().ok()? * f64::from(2_u8).powi(shift);
    (scaled.is_finite() && scaled < 9e18).then_some(scaled as u64)
}

/// A duration as Go writes it: `90s`, `1m30s`, `1.5h`, `500ms`, `250us`, `1d` is not one. A bare number is seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u64>() {
        return Some(Duration::from_secs(seconds)).filter(|d| d.as_nanos() <= u128::from(u64::MAX >> 1));
    }
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(end);
        let units = [("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
        let long = [("m", 60_000_000_000), ("h", 3_600_000_000_000)];
        let (unit, scale) = units.into_iter().chain(long).find(|(unit, _)| after.starts_with(unit))?;
        nanoseconds = nanoseconds.checked_add(scaled(number, scale)?)?;
        rest = &after[unit.len()..];
    }
    let fits = u64::try_from(nanoseconds).ok().filter(|n| *n <= u64::MAX >> 1 && !text.trim().is_empty())?;
    Some(Duration::from_nanos(fits))
}

/// Billionths of a CPU of `0.5`.
pub(super) fn cpus(text: &str) -> Option<u64> {
    let nano = scaled(text.trim(), 1_000_000_000)?;
    u64::try_from(nano).ok().filter(|n| *n <= u64::MAX >> 1)
}

/// `number` (with a decimal point or without) times `scale`, exactly.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() { Some(0) } else { text.parse::<u128>().ok().filter(|_| !text.starts_with('+')) }
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    digits(whole)?.checked_mul(scale)?.checked_add(digits(fraction)?.checked_mul(scale)? / power)
}

/// A whole number, octal when it begins with `0` (as file modes are written).
pub(super) fn mode(text: &str) -> Option<u32> {
    let text = text.trim();
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty())) {
        Some(octal) => u32::from_str_radix(octal, 8).ok(),
        None => text.parse().ok(),
    }
    .filter(|mode| *mode <= 0o7777)
}

/// `true`, `yes`, `on` and their opposites.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The shortest whole form of a duration (`90s`, `1500ms`).
pub(super) fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    for (scale, unit) in [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")] {
        if nanoseconds.is_multiple_of(scale) {
            return format!("{}{unit}", nanoseconds / scale);
        }
    }
    format!("{nanoseconds}ns")
}

/// `0.5` of 500 000 000 billionths.
pub(super) fn show_cpus(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("3000000000", 3_000_000_000), ("50M", 52_428_800), ("1.5g", 1_610_612_736), ("64kb", 65_536)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!((size("x"), size("5 parsecs"), size("99999999t"), size("-1")), (None, None, None, None));
    }

    #[test]
    fn durations_are_exact() {
        for (text, ms) in [("1m30s", 90_000), ("500ms", 500), ("0.1s", 100), ("1.5h", 5_400_000), ("7", 7_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1x", "1d", "-1s", "1s 2", "99999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn cpus_and_modes() {
        assert_eq!((cpus("0.5"), cpus("2"), cpus(""), cpus("x")), (Some(500_000_000), Some(2_000_000_000), None, None));
        assert_eq!((show_cpus(500_000_000), show_cpus(2_000_000_000)), ("0.5".into(), "2".into()));
        assert_eq!(
            (mode("0440"), mode("0o1777"), mode("448"), mode("9999999")),
            (Some(0o440), Some(0o1777), Some(448), None)
        );
    }
}
