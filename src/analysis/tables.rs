//! The files of a run in the Python tool's form (`traces.csv`, `traces.info`) and `windows.csv`.

use std::io::{self, Write};

use super::describe::{Description, describe, table};
use super::{Conditions, Sorted, Use, lag_us, window_us};
use crate::trace::Trace;

/// Sums for `info.yml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Observations.
    pub count: u64,
    /// Of these, not found.
    pub not_found: u64,
    /// Size of their notifications, bytes.
    pub notification_bytes: u64,
}

impl Totals {
    /// Sums over the observations.
    pub fn of(sorted: &Sorted<'_>) -> Totals {
        sorted.observations().fold(Totals::default(), |sum, trace| Totals {
            count: sum.count + 1,
            not_found: sum.not_found + u64::from(trace.found() == Some(false)),
            notification_bytes: sum.notification_bytes + u64::from(trace.notification_bytes().unwrap_or(0)),
        })
    }
}

/// A numeric column of `traces.csv`.
type Column = (&'static str, fn(&Trace) -> Option<f64>);

/// The numeric columns of `traces.csv`, in its order. Differences are raw, not corrected for clocks.
const COLUMNS: [Column; 6] = [
    ("consistency_mongoread_duration", Trace::replica_read_ms),
    ("notification_size_bytes", |trace| trace.notification_bytes().map(f64::from)),
    ("wht_antipode_duration", Trace::barrier_ms),
    ("post_notification_diff_ms", |trace| Some((trace.read_ms()? - trace.written_ms()?) as f64)),
    ("wht_queue_duration", |trace| Some((trace.received_ms()? - trace.queued_ms()?) as f64)),
    ("wht_vl_duration", |trace| Some((trace.read_ms()? * 1000 - trace.start_us()?) as f64 / 1000.0)),
];

/// Writes `traces.csv`: one line per observation, in the order in which they came.
///
/// # Errors
/// Those of `to`.
pub fn traces_csv(to: &mut dyn Write, sorted: &Sorted<'_>) -> io::Result<()> {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    writeln!(to, "ts;consistency_bool;{}", names.join(";"))?;
    for trace in sorted.observations() {
        write_instant(to, trace.start_us().unwrap_or(0))?;
        write!(to, ";{}", if trace.found() == Some(true) { "True" } else { "False" })?;
        for (name, of) in &COLUMNS {
            match of(trace) {
                Some(bytes) if *name == "notification_size_bytes" => write!(to, ";{bytes}")?,
                Some(value) => write!(to, ";{value:?}")?,
                None => write!(to, ";")?,
            }
        }
        writeln!(to)?;
    }
    Ok(())
}

/// `2021-10-18 11:00:00.119528`, UTC.
fn write_instant(to: &mut dyn Write, us: i64) -> io::Result<()> {
    let (days, in_day) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(days);
    let seconds = in_day / 1_000_000;
    let (hour, minute, second, part) = (seconds / 3600, seconds / 60 % 60, seconds % 60, in_day % 1_000_000);
    write!(to, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{part:06}")
}

/// Year, month and day of a day since 1970-01-01 (H. Hinnant, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `traces.info`: messages skipped, share of inconsistencies, and three tables `width` characters wide.
pub fn traces_info(sorted: &Sorted<'_>, skipped: u64, width: usize) -> String {
    let totals = Totals::of(sorted);
    let share = totals.not_found as f64 / totals.count as f64;
    let tables = [
        ("TOTALS", described(sorted, |_| true)),
        ("--- INCONSISTENCIES", described(sorted, |trace| trace.found() == Some(false))),
        ("--- CONSISTENCIES", described(sorted, |trace| trace.found() == Some(true))),
    ];
    let mut text = format!("{skipped} messages skipped due to missing information\n% inconsistencies: {share:?}\n");
    for (title, columns) in tables {
        text.push_str(&format!("\n{title}\n{}", table(&columns, width)));
    }
    text
}

fn described(sorted: &Sorted<'_>, of: impl Fn(&Trace) -> bool) -> Vec<(&'static str, Description)> {
    let column = |(name, value): &Column| {
        let mut values: Vec<f64> = sorted.observations().filter(|trace| of(trace)).filter_map(value).collect();
        (*name, describe(&mut values))
    };
    COLUMNS.iter().map(column).collect()
}

/// Writes `windows.csv`: every trace of the run with a stamp, complete or a lower bound; windows and lags corrected
/// for the clocks.
///
/// # Errors
/// Those of `to`.
pub fn windows_csv(to: &mut dyn Write, sorted: &Sorted<'_>, conditions: &Conditions<'_>) -> io::Result<()> {
    writeln!(
        to,
        "trace_id;post_id;start_us;written_ms;queued_ms;received_ms;read_ms;found;window_ms;notification_lag_ms;\
         barrier_ms;replica_read_ms;notification_bytes;censored"
    )?;
    for (trace, used) in sorted.traces.iter().zip(&sorted.uses) {
        let (window, censored) = match used {
            Use::Observation => (window_us(trace, conditions.window_clock), "false"),
            Use::Open => (sorted.open_us(trace), "true"),
            Use::Lost | Use::Excluded(_) => continue,
        };
        cell(to, trace.id().as_ref(), "")?;
        cell(to, trace.post_id(), ";")?;
        cell(to, trace.start_us(), ";")?;
        for stamp in [trace.written_ms(), trace.queued_ms(), trace.received_ms(), trace.read_ms()] {
            cell(to, stamp, ";")?;
        }
        cell(to, trace.found(), ";")?;
        cell(to, window.map(Ms), ";")?;
        cell(to, lag_us(trace, conditions.lag_clock).map(Ms), ";")?;
        cell(to, trace.barrier_ms(), ";")?;
        cell(to, trace.replica_read_ms(), ";")?;
        cell(to, trace.notification_bytes(), ";")?;
        writeln!(to, ";{censored}")?;
    }
    Ok(())
}

fn cell(to: &mut dyn Write, value: Option<impl std::fmt::Display>, before: &str) -> io::Result<()> {
    match value {
        Some(value) => write!(to, "{before}{value}"),
        None => write!(to, "{before}"),
    }
}

/// Microseconds, written as milliseconds: `63` or `62.750`.
struct Ms(i64);

impl std::fmt::Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 % 1000 == 0 {
            return write!(f, "{}", self.0 / 1000);
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:03}", self.0.abs() / 1000, self.0.abs() % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_spelled_with_six_digits() {
        let spelled = |us| {
            let mut text = Vec::new();
            write_instant(&mut text, us).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(spelled(1_634_554_800_119_528), "2021-10-18 11:00:00.119528");
        assert_eq!(spelled(1_634_554_800_000_000), "2021-10-18 11:00:00.000000");
        assert_eq!(spelled(951_782_399_999_999), "2000-02-28 23:59:59.999999");
        assert_eq!(spelled(951_782_400_000_000), "2000-02-29 00:00:00.000000");
        assert_eq!(spelled(0), "1970-01-01 00:00:00.000000");
    }

    #[test]
    fn microseconds_read_as_milliseconds() {
        assert_eq!(
            [0, 63_000, 62_750, -250, -1_000].map(|us| Ms(us).to_string()),
            ["0", "63", "62.750", "-0.250", "-1"]
        );
    }
}
