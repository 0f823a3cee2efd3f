//! wrk2's text report, equal to the digit: its units, widths and HDR arithmetic.
//!
//! wrk2 records microseconds in an HdrHistogram (C) of 1 us .. 24 h with 3 digits. Rank of a percentile =
//! floor(p/100 x n + 0.5), at least 1; percentile values are the highest equivalent ones, the maximum is the lowest
//! equivalent one, mean and deviation use the median equivalents.

use std::cmp::Ordering;
use std::fmt::Write;

use hdrhistogram::Histogram;

use super::sample::Hist;

/// The percentiles of the distribution block.
const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0];

/// Rows of the spectrum per halving of the distance to 100 %.
const TICKS: i64 = 5;

/// What the report says.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    /// Duration asked for, s.
    pub duration_s: f64,
    /// The URL.
    pub url: &'a str,
    /// Threads.
    pub threads: usize,
    /// Connections.
    pub connections: usize,
    /// Latencies.
    pub latency: &'a Hist,
    /// Answers per second of each thread and second.
    pub thread_rates: &'a [u64],
    /// Complete responses.
    pub requests: u64,
    /// Time that they took, s.
    pub runtime_s: f64,
    /// Bytes read.
    pub bytes: u64,
    /// Connect, read, write and timeout errors.
    pub socket_errors: [u64; 4],
    /// Responses other than 2xx and 3xx.
    pub bad_statuses: u64,
    /// Answers/s.
    pub rate: f64,
    /// Requests without an end, whose ages are in `latency` as lower bounds.
    pub unfinished: u64,
}

/// The report as wrk2 prints it with `-L`.
pub fn render(text: &Text<'_>) -> String {
    let latency = Micros::of(text.latency);
    let mut out = String::with_capacity(8192);
    // Writing into a string cannot fail.
    write_report(&mut out, text, &latency).ok();
    out
}

fn write_report(out: &mut String, text: &Text<'_>, latency: &Micros) -> std::fmt::Result {
    writeln!(out, "Running {} test @ {}", format_time_s(text.duration_s), text.url)?;
    writeln!(out, "  {} threads and {} connections", text.threads, text.connections)?;
    writeln!(out, "  Thread Stats{:>6}{:>11}{:>8}{:>12}", "Avg", "Stdev", "Max", "+/- Stdev")?;
    let spread = [latency.mean(), latency.deviation(), latency.max() as f64];
    write_stats(out, "Latency", spread, latency.within(), format_time_us)?;
    let rates = Rates::of(text.thread_rates);
    write_stats(out, "Req/Sec", [rates.mean, rates.deviation, rates.max], rates.within, format_metric)?;
    write_distribution(out, latency)?;
    let (runtime, read) = (format_time_us(text.runtime_s * 1e6), format_binary(text.bytes as f64));
    writeln!(out, "  {} requests in {runtime}, {read}B read", text.requests)?;
    if text.socket_errors.iter().any(|&n| n > 0) {
        let [connect, read, write, timeout] = text.socket_errors;
        writeln!(out, "  Socket errors: connect {connect}, read {read}, write {write}, timeout {timeout}")?;
    }
    if text.bad_statuses > 0 {
        writeln!(out, "  Non-2xx or 3xx responses: {}", text.bad_statuses)?;
    }
    if text.unfinished > 0 {
        writeln!(out, "  Unfinished requests: {} (their ages count as lower bounds)", text.unfinished)?;
    }
    writeln!(out, "Requests/sec: {:>9}", fixed(text.rate))?;
    writeln!(out, "Transfer/sec: {:>10}B", format_binary(text.bytes as f64 / text.runtime_s.max(1e-9)))
}

fn write_distribution(out: &mut String, latency: &Micros) -> std::fmt::Result {
    writeln!(out, "  Latency Distribution (HdrHistogram - Recorded Latency)")?;
    for percentile in PERCENTILES {
        let value = print_units(&format_time_us(latency.at(percentile) as f64), 10);
        writeln!(out, "{percentile:7.3}%{value}")?;
    }
    writeln!(out, "\n  Detailed Percentile spectrum:")?;
    write_spectrum(out, latency)?;
    writeln!(out, "{}", "-".repeat(58))
}

fn write_spectrum(out: &mut String, latency: &Micros) -> std::fmt::Result {
    writeln!(out, "{:>12} {:>12} {:>12} {:>12}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    for row in latency.spectrum() {
        let value = row.value as f64 / 1000.0;
        let distance = 1.0 / (1.0 - row.percentile / 100.0);
        let distance = if distance.is_finite() { format!("{distance:.2}") } else { "inf".into() };
        writeln!(out, "{value:12.3} {:12.6} {:>12} {distance:>12}", row.percentile / 100.0, row.count)?;
    }
    let (mean, deviation) = (latency.mean() / 1000.0, latency.deviation() / 1000.0);
    let max = latency.max() as f64 / 1000.0;
    let c = |value: f64| if value.is_nan() { "-nan".to_owned() } else { format!("{value:.3}") };
    writeln!(out, "#[Mean    = {:>12}, StdDeviation   = {:>12}]", c(mean), c(deviation))?;
    writeln!(out, "#[Max     = {:>12}, Total count    = {:>12}]", c(max), latency.0.len())?;
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", 27, 2048)
}

/// The percentile distribution file (`.hgrm`) that HdrHistogram's plotters read, in ms.
pub fn hgrm(latency: &Hist) -> String {
    let mut out = String::with_capacity(8192);
    // Writing into a string cannot fail.
    write_spectrum(&mut out, &Micros::of(latency)).ok();
    out
}

fn write_stats(
    out: &mut String,
    name: &str,
    [mean, deviation, max]: [f64; 3],
    within: f64,
    format: fn(f64) -> String,
) -> std::fmt::Result {
    write!(out, "    {name:<10}")?;
    for (value, width) in [(mean, 8), (deviation, 10), (max, 9)] {
        out.push_str(&print_units(&format(value), width));
    }
    writeln!(out, "{within:8.2}%")
}

/// A histogram as wrk2 keeps it: microseconds.
struct Micros(Histogram<u64>);

/// A row of the spectrum.
struct Row {
    value: u64,
    percentile: f64,
    count: u64,
}

impl Micros {
    fn of(hist: &Hist) -> Self {
        let ns = hist.inner();
        let mut micros = Micros::empty();
        for step in ns.iter_recorded() {
            let us = (ns.median_equivalent(step.value_iterated_to()) + 500) / 1000;
            micros.0.saturating_record_n(us, step.count_at_value());
        }
        micros
    }

    #[allow(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
    fn empty() -> Self {
        Micros(Histogram::new_with_bounds(1, 86_400_000_000, 3).expect("constant bounds"))
    }

    /// Highest equivalent value and count of every bucket that is not empty.
    fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    fn at(&self, percentile: f64) -> u64 {
        let total = self.0.len();
        let rank = ((percentile / 100.0 * total as f64 + 0.5) as u64).max(1);
        let mut seen = 0;
        for (value, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return value;
            }
        }
        0
    }

    fn max(&self) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.lowest_equivalent(self.0.max()) }
    }

    fn mean(&self) -> f64 {
        let total: u128 =
            self.buckets().map(|(value, n)| u128::from(self.0.median_equivalent(value)) * u128::from(n)).sum();
        total as f64 / self.0.len() as f64
    }

    fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = |(value, n): (u64, u64)| (self.0.median_equivalent(value) as f64 - mean).powi(2) * n as f64;
        (self.buckets().map(squares).sum::<f64>() / self.0.len() as f64).sqrt()
    }

    /// Per cent of the samples within one deviation of the mean.
    fn within(&self) -> f64 {
        let (mean, deviation) = (self.mean(), self.deviation());
        let near = |value: u64| (self.0.median_equivalent(value) as f64 - mean).abs() <= deviation;
        let inside: u64 = self.buckets().filter(|&(value, _)| near(value)).map(|(_, n)| n).sum();
        if self.0.is_empty() { 0.0 } else { 100.0 * inside as f64 / self.0.len() as f64 }
    }

    /// The rows of HdrHistogram's percentile iterator.
    fn spectrum(&self) -> Vec<Row> {
        let total = self.0.len();
        let mut rows = Vec::new();
        let (mut target, mut seen) = (0.0_f64, 0_u64);
        for (value, count) in self.buckets() {
            seen += count;
            while target <= 100.0 * seen as f64 / total as f64 {
                rows.push(Row { value, percentile: target, count: seen });
                let halvings = ((100.0 / (100.0 - target)).ln() / 2.0_f64.ln()) as i64 + 1;
                let ticks = TICKS.saturating_mul(1_i64.checked_shl(halvings as u32).unwrap_or(i64::MAX));
                target += 100.0 / ticks as f64;
                if seen == total {
                    // Nothing is left: the iterator ends with one row for all.
                    rows.push(Row { value, percentile: 100.0, count: seen });
                    break;
                }
            }
        }
        rows
    }
}

/// Mean, deviation and maximum of requests/s.
struct Rates {
    mean: f64,
    deviation: f64,
    max: f64,
    within: f64,
}

impl Rates {
    fn of(samples: &[u64]) -> Self {
        let n = samples.len() as f64;
        if samples.is_empty() {
            return Rates { mean: f64::NAN, deviation: f64::NAN, max: 0.0, within: 0.0 };
        }
        let values = || samples.iter().map(|&v| v as f64);
        let mean = values().sum::<f64>() / n;
        let spread =
            if samples.len() < 2 { 0.0 } else { values().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) };
        let deviation = spread.sqrt();
        let inside = values().filter(|v| (v - mean).abs() <= deviation).count() as f64;
        Rates { mean, deviation, max: values().fold(0.0, f64::max), within: 100.0 * inside / n }
    }
}

/// Pads as wrk2 does: two columns are kept for the unit.
fn print_units(text: &str, width: usize) -> String {
    let letters = text.chars().rev().take(2).filter(char::is_ascii_alphabetic).count();
    let pad = 2 - letters;
    let width = width - pad;
    let cut: String = text.chars().take(width).collect();
    format!("{cut:>width$}{}", &"  "[..pad])
}

/// `%.2f`, with C's spelling of what is not a number.
fn fixed(value: f64) -> String {
    if value.is_nan() { "-nan".into() } else { format!("{value:.2}") }
}

fn format_units(mut value: f64, scale: f64, units: &[&str], decimals: usize) -> String {
    let mut unit = units[0];
    for next in &units[1..] {
        if value < scale * 0.85 || value.is_nan() {
            break;
        }
        value /= scale;
        unit = next;
    }
    if value.is_nan() { format!("-nan{unit}") } else { format!("{value:.decimals$}{unit}") }
}

/// Microseconds with two decimals and the unit that wrk2 chooses.
pub fn format_time_us(us: f64) -> String {
    let whole = us.fract() == 0.0 && (850.0..51e6).contains(&us);
    if whole {
        let (by, unit) = if us >= 1e6 { (1_000_000, "s") } else { (1000, "ms") };
        return format!("{}{unit}", quotient(us as u64, by));
    }
    if us >= 1e6 { format_units(us / 1e6, 60.0, &["s", "m"], 2) } else { format_units(us, 1000.0, &["us", "ms"], 2) }
}

/// `n / by` with two decimals, as C prints a long double: where the third decimal is a lone 5 the direction follows from
/// the rounding of the quotient to 64 bits.
fn quotient(n: u64, by: u64) -> String {
    let (n, by) = (u128::from(n), u128::from(by));
    let (mut hundredths, rest) = (n * 100 / by, n * 100 % by);
    let up = match (2 * rest).cmp(&by) {
        Ordering::Equal => match long_double_error(n, by) {
            Ordering::Equal => hundredths % 2 == 1,
            error => error == Ordering::Greater,
        },
        above => above == Ordering::Greater,
    };
    hundredths += u128::from(up);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Whether the long double nearest to `n / by` (a mantissa of 64 bits) is above, below or at the true quotient.
fn long_double_error(n: u128, by: u128) -> Ordering {
    let mut shift = 64;
    while (n << shift) / by >= 1 << 64 {
        shift -= 1;
    }
    let scaled = n << shift;
    let (mut mantissa, rest) = (scaled / by, scaled % by);
    if 2 * rest > by || 2 * rest == by && mantissa % 2 == 1 {
        mantissa += 1;
    }
    (mantissa * by).cmp(&scaled)
}

fn format_time_s(s: f64) -> String {
    format_units(s, 60.0, &["s", "m"], 0)
}

fn format_metric(value: f64) -> String {
    format_units(value, 1000.0, &["", "k", "M", "G", "T"], 2)
}

fn format_binary(value: f64) -> String {
    format_units(value, 1024.0, &["", "K", "M", "G", "T"], 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples that fit a spectrum that wrk2 printed: every row's rank is at its value, and those between two rows may
    /// as well be at the later one's, except for `known`: a (rank, us) that the distribution block shows in between.
    fn samples_of(text: &str, known: Option<(u64, u64)>) -> Micros {
        let rows = text.lines().skip_while(|line| !line.contains("1/(1-Percentile)")).skip(2);
        let mut ranks: std::collections::BTreeMap<u64, u64> = rows
            .take_while(|line| !line.starts_with('#'))
            .map(|row| {
                let cells: Vec<&str> = row.split_whitespace().collect();
                let ms: f64 = cells[0].parse().unwrap();
                (cells[2].parse().unwrap(), (ms * 1000.0).round() as u64)
            })
            .collect();
        ranks.extend(known);
        let mut micros = Micros::empty();
        let mut seen = 0;
        for (rank, us) in ranks {
            micros.0.record_n(us, rank - seen).unwrap();
            seen = rank;
        }
        micros
    }

    fn block<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
        let start = text.find(from).unwrap();
        &text[start..start + text[start..].find(to).unwrap()]
    }

    #[test]
    fn distribution_and_spectrum_equal_wrk2s_own() {
        // In `fast`, 99 % is rank 3940 at 8.49 ms, between the rows of 3938 and 3943.
        for (name, known) in [("fast", Some((3940, 8487))), ("ms", None), ("errors", None), ("overload_seconds", None)]
        {
            let path = format!("{}/tests/fixtures/wrk2/{name}.out", env!("CARGO_MANIFEST_DIR"));
            let theirs = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
            let mut ours = String::new();
            write_distribution(&mut ours, &samples_of(&theirs, known)).unwrap();
            let start = "  Latency Distribution";
            assert_eq!(block(&ours, start, "#[Mean"), block(&theirs, start, "#[Mean"), "{name}");
            assert_eq!(block(&ours, "#[Max", "----"), block(&theirs, "#[Max", "----"), "{name}");
        }
    }

    #[test]
    fn units_step_up_as_wrk2s_do() {
        for (us, text) in [
            (0.0, "0.00us"),
            (849.0, "849.00us"),
            (850.0, "0.85ms"),
            (999_940.0, "999.94ms"),
            (1_000_000.0, "1.00s"),
            (50_990_000.0, "50.99s"),
            (51_000_000.0, "0.85m"),
            (7_200_000_000.0, "120.00m"),
        ] {
            assert_eq!(format_time_us(us), text);
        }
        assert_eq!((format_metric(849.9), format_metric(850.0)), ("849.90".into(), "0.85k".into()));
        assert_eq!((format_binary(870.0), format_binary(870.5)), ("870.00".into(), "0.85K".into()));
        assert_eq!((format_time_s(20.0), format_time_s(300.0)), ("20s".into(), "5m".into()));
        assert_eq!(print_units("1.00s", 10), "    1.00s ");
        assert_eq!(print_units("1.09ms", 10), "    1.09ms");
        assert_eq!(print_units("75.36", 10), "   75.36  ");
        assert_eq!(print_units("-nan", 8), "    -nan");
    }

    #[test]
    fn lines_of_the_golden_samples() {
        let mut line = String::new();
        write_stats(&mut line, "Latency", [1524.0, 1317.0, 4212.0], 78.947, format_time_us).unwrap();
        write_stats(&mut line, "Req/Sec", [10.09, 27.72, 142.0], 87.31, format_metric).unwrap();
        write_stats(&mut line, "Req/Sec", [f64::NAN, f64::NAN, 0.0], 0.0, format_metric).unwrap();
        assert_eq!(
            line,
            "    Latency     1.52ms    1.32ms   4.21ms   78.95%\n    Req/Sec    10.09     27.72   142.00     87.31%\n    \
             Req/Sec       -nan      -nan   0.00      0.00%\n"
        );
    }

    #[test]
    fn mean_and_deviation_use_median_equivalents() {
        let mut micros = Micros::empty();
        // Buckets are 2 us wide here, so both samples stand for 3001 us.
        micros.0.record_n(3000, 1).unwrap();
        micros.0.record_n(3001, 1).unwrap();
        assert_eq!((micros.mean(), micros.deviation(), micros.max(), micros.at(50.0)), (3001.0, 0.0, 3000, 3001));
    }
}
