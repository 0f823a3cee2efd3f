//! Reads what a load generator of wrk2's family printed: percentiles, the detailed spectrum and the totals.
//!
//! The text may come through a terminal (CRLF), carry values in us, ms, s, m or h, and may have been cut off; whatever
//! cannot be read is absent from the result, and the caller decides what it cannot do without.

/// What one client printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutFile {
    /// The short percentile list: (percent, milliseconds), ascending.
    pub percentiles: Vec<(f64, f64)>,
    /// The detailed spectrum, ascending by value.
    pub spectrum: Vec<Spectrum>,
    /// `N requests in ...`.
    pub requests: Option<u64>,
    /// `Requests/sec:`; all answers, whatever their status.
    pub requests_per_s: Option<f64>,
    /// `Non-2xx or 3xx responses:`.
    pub bad_status: u64,
    /// Sum of the four numbers of `Socket errors:`.
    pub socket_errors: u64,
}

/// One row of the detailed percentile spectrum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spectrum {
    /// Latency, ms.
    pub value_ms: f64,
    /// Share of requests at or below it, 0..=1.
    pub share: f64,
    /// Number of requests at or below it.
    pub count: u64,
}

/// Reads `text`. Never fails: see the module's contract.
pub fn parse(text: &str) -> OutFile {
    let mut out = OutFile::default();
    let mut percentiles_done = false;
    for line in text.lines().map(str::trim) {
        if let Some((percent, ms)) = percentile(line) {
            if !percentiles_done {
                out.percentiles.push((percent, ms));
                percentiles_done = percent >= 100.0;
            }
        } else if let Some(row) = spectrum(line) {
            // wrk2 prints a second, uncorrected spectrum on request; counts start again there.
            if out.spectrum.last().is_none_or(|last| last.count <= row.count && last.value_ms <= row.value_ms) {
                out.spectrum.push(row);
            }
        } else {
            total(line, &mut out);
        }
    }
    out
}

/// `90.000%   12.34ms`.
fn percentile(line: &str) -> Option<(f64, f64)> {
    let (percent, value) = line.split_once('%')?;
    let percent = number(percent)?;
    (0.0..=100.0).contains(&percent).then_some(())?;
    Some((percent, duration_ms(value.trim())?))
}

/// `47159.769     0.900000     40237        10.00`.
fn spectrum(line: &str) -> Option<Spectrum> {
    let mut fields = line.split_ascii_whitespace();
    let (value, share, count, _odds) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let share = number(share)?;
    (0.0..=1.0).contains(&share).then_some(())?;
    Some(Spectrum { value_ms: number(value)?, share, count: count.parse().ok()? })
}

fn total(line: &str, out: &mut OutFile) {
    if let Some(rate) = line.strip_prefix("Requests/sec:") {
        out.requests_per_s = number(rate);
    } else if let Some((count, _)) = line.split_once(" requests in ") {
        out.requests = count.trim().parse().ok();
    } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
        out.bad_status = count.trim().parse().unwrap_or(0);
    } else if let Some(counts) = line.strip_prefix("Socket errors:") {
        let count = |part: &str| part.split_ascii_whitespace().last().and_then(|n| n.parse::<u64>().ok());
        out.socket_errors = counts.split(',').filter_map(count).fold(0, u64::saturating_add);
    }
}

/// A finite number that is not negative.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0)
}

/// A duration with its unit, in ms: `850.00us`, `1.23ms`, `15.31s`, `1.96m`, `1.02h`.
pub fn duration_ms(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (value, unit) = text.split_at(digits);
    let value = number(value)?;
    // Times whole numbers wherever possible: 1.02 m is to be 61200 ms exactly, as in the Python tool.
    match unit.trim() {
        "us" => Some(value / 1000.0),
        "ms" => Some(value),
        "s" => Some(value * 1000.0),
        "m" => Some(value * 60.0 * 1000.0),
        "h" => Some(value * 3600.0 * 1000.0),
        _ => None,
    }
}

impl OutFile {
    /// The printed value at `percent`, ms.
    pub fn printed_ms(&self, percent: f64) -> Option<f64> {
        self.percentiles.iter().find(|(p, _)| (p - percent).abs() < 1e-9).map(|(_, ms)| *ms)
    }

    /// (ms, requests at or below it), ascending: from the spectrum, else from the short list.
    fn cumulative(&self) -> Vec<(f64, f64)> {
        if !self.spectrum.is_empty() {
            return self.spectrum.iter().map(|row| (row.value_ms, row.count as f64)).collect();
        }
        let total = self.requests.unwrap_or(1).max(1) as f64;
        self.percentiles.iter().map(|(percent, ms)| (*ms, percent / 100.0 * total)).collect()
    }
}

/// The latency at `share` (0..=1) over all clients together, ms. One client answers with the line it printed; several
/// are merged by adding their cumulative counts, linear between the rows of their spectra.
pub fn merged_ms(outs: &[OutFile], share: f64) -> Option<f64> {
    if let [one] = outs {
        return one.printed_ms(share * 100.0);
    }
    let curves: Vec<Vec<(f64, f64)>> = outs.iter().map(OutFile::cumulative).filter(|curve| !curve.is_empty()).collect();
    let total: f64 = curves.iter().filter_map(|curve| curve.last()).map(|(_, count)| count).sum();
    let mut high = curves.iter().filter_map(|curve| curve.last()).map(|(ms, _)| *ms).fold(f64::NAN, f64::max);
    let mut low = 0.0;
    if total <= 0.0 || high.is_nan() {
        return None;
    }
    let below = |ms: f64| curves.iter().map(|curve| count_at(curve, ms)).sum::<f64>();
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if below(middle) >= share * total { high = middle } else { low = middle }
    }
    Some(high)
}

/// Requests at or below `ms` on an ascending cumulative curve.
fn count_at(curve: &[(f64, f64)], ms: f64) -> f64 {
    let after = curve.partition_point(|(value, _)| *value <= ms);
    match (after.checked_sub(1).and_then(|i| curve.get(i)), curve.get(after)) {
        (None, _) => 0.0,
        (Some((_, count)), None) => *count,
        (Some((v0, c0)), Some((v1, c1))) => c0 + (c1 - c0) * ((ms - v0) / (v1 - v0)).clamp(0.0, 1.0),
    }
}

/// The distribution over all clients: (share, ms) at the shares of the first client's spectrum, ascending.
pub fn merged_spectrum(outs: &[OutFile]) -> Vec<(f64, f64)> {
    let shares: Vec<f64> = match outs.first() {
        Some(first) if !first.spectrum.is_empty() => first.spectrum.iter().map(|row| row.share).collect(),
        Some(first) => first.percentiles.iter().map(|(percent, _)| percent / 100.0).collect(),
        None => Vec::new(),
    };
    match outs {
        [one] if !one.spectrum.is_empty() => one.spectrum.iter().map(|row| (row.share, row.value_ms)).collect(),
        _ => shares.into_iter().filter_map(|share| Some((share, merged_ms(outs, share)?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "Running 5m test @ http://h/\r\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\r\n    \
        Latency   88424.57ms   11789.94ms 200429.02ms   72.11%\r\n 50.000%  850.00us\r\n 75.000%    1.69ms\r\n \
        90.000%   15.31s \r\n 99.000%    1.96m \r\n100.000%    1.02h \r\n\r\n  Detailed Percentile spectrum:\r\n\
        \r\n   47159.769     0.000000           44         1.00\r\n  117899.423     0.900000        40237        \
        10.00\r\n  205144.996     1.000000        44708          inf\r\n#[Mean    =    88424.567, StdDeviation   = \
        11789.942]\r\n  44708 requests in 5.00m, 8.10MB read\r\n  Socket errors: connect 1, read 2, write 3, timeout \
        4\r\n  Non-2xx or 3xx responses: 17\r\nRequests/sec:    149.03\r\nTransfer/sec:     27.65KB\r\n";

    #[test]
    fn every_unit_and_a_terminals_line_ends_are_read() {
        let out = parse(SAMPLE);
        let percents = [50.0, 75.0, 90.0, 99.0, 100.0].map(|percent| out.printed_ms(percent).unwrap());
        assert_eq!(percents, [0.85, 1.69, 15_310.0, 117_600.0, 3_672_000.0]);
        assert_eq!((out.requests, out.requests_per_s), (Some(44_708), Some(149.03)));
        assert_eq!((out.bad_status, out.socket_errors, out.spectrum.len()), (17, 10, 3));
    }

    #[test]
    fn a_cut_off_file_says_what_it_has() {
        let out = parse("Running 5m test\n  2 threads and 4 connections\n");
        assert_eq!(out, OutFile::default());
        assert_eq!(merged_ms(&[out], 0.9), None);
    }

    #[test]
    fn two_equal_clients_merge_into_the_same_distribution() {
        let mut out = parse(SAMPLE);
        let alone = out.spectrum[1].value_ms;
        let both = merged_ms(&[out.clone(), out.clone()], 0.9).unwrap();
        assert!((both / alone - 1.0).abs() < 1e-3, "{both} {alone}");
        out.spectrum.clear();
        assert!(merged_ms(&[out.clone(), out], 0.9).unwrap() > 0.0);
    }

    #[test]
    fn a_slow_client_moves_the_merged_tail() {
        let rows = |factor: f64| OutFile {
            spectrum: (0..=10)
                .map(|i| Spectrum { value_ms: f64::from(i) * factor, share: f64::from(i) / 10.0, count: i as u64 * 10 })
                .collect(),
            ..OutFile::default()
        };
        // Uniform on 0..10 ms and on 0..100 ms: 90 % of both together lie below 80 ms.
        let merged = merged_ms(&[rows(1.0), rows(10.0)], 0.9).unwrap();
        assert!((merged - 80.0).abs() < 1e-6, "{merged}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let out = parse(&text);
            prop_assert!(out.percentiles.iter().all(|(p, ms)| p.is_finite() && ms.is_finite()));
            merged_ms(&[out.clone(), out.clone()], 0.9);
            merged_spectrum(&[out.clone(), out]);
        }

        #[test]
        fn lines_like_wrk2s_are_read_back(value in 0.0_f64..1e6, unit in "us|ms|s|m|h", crlf: bool) {
            let end = if crlf { "\r\n" } else { "\n" };
            let out = parse(&format!(" 90.000%  {value:.2}{unit} {end}Requests/sec:  {value:.2}{end}"));
            prop_assert!(out.printed_ms(90.0).is_some());
            prop_assert!((out.requests_per_s.unwrap() - value).abs() <= 0.006);
        }

        #[test]
        fn garbled_files_do_not_panic(cut in 0_usize..600, flip in 0_usize..600, byte: u8) {
            let mut bytes = SAMPLE.as_bytes()[..cut.min(SAMPLE.len())].to_vec();
            if let Some(at) = bytes.get_mut(flip) { *at = byte }
            let out = parse(&String::from_utf8_lossy(&bytes));
            merged_ms(&[out.clone(), out.clone()], 0.99);
            merged_spectrum(&[out]);
        }
    }
}
