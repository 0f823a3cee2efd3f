//! The tables of the page: measurements, runs with links to their raw files, the ledger, and the conditions.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::experiment::Variant;
use crate::plot::Run;
use crate::plot::figure::pair_label;
use crate::plot::scale::short;
use crate::plot::table::{self, throughput, variant_label, violation_percent, window_interval};
use crate::stats::{Interval, wilson};
use crate::store::{RunRecord, Status};

use super::Reported;
use super::html::{Cell, Html, escape};

/// Medians over rounds, one row per zone pair, variant and rate.
pub fn cells(html: &mut Html, runs: &[Run]) {
    let heads = [
        "pair",
        "variant",
        "rate",
        "rounds",
        "throughput",
        "latency p50 ms",
        "p90 ms",
        "p99 ms",
        "window p90 ms (95 %)",
        "violations",
        "of",
        "% (95 % Wilson)",
    ];
    let rows: Vec<Vec<Cell>> = table::cells(runs).iter().map(cell_row).collect();
    html.table(&heads, &rows);
}

fn cell_row(cell: &table::Cell<'_>) -> Vec<Cell> {
    let number = |value: Option<f64>| Cell::number(value, short);
    let latency =
        |of: fn(&crate::plot::run_data::Load) -> Option<f64>| number(cell.median(|run| run.load.as_ref().and_then(of)));
    let between = |interval: Option<Interval>| {
        let interval_text = |value: f64| match interval {
            Some(i) if i.low < i.high => format!("{} ({}\u{2013}{})", short(value), short(i.low), short(i.high)),
            _ => short(value),
        };
        Cell::number(interval.map(|interval| interval.value), interval_text)
    };
    let (k, n) = cell.violations();
    let counted = |value: f64| (n > 0).then_some(value);
    let share = wilson(k, n);
    let percent = Interval { value: share.value * 100.0, low: share.low * 100.0, high: share.high * 100.0 };
    vec![
        Cell::text(pair_label(cell.pair)),
        Cell::text(variant_label(cell.variant)),
        number(Some(cell.rate)),
        number(Some(cell.runs.len() as f64)),
        number(cell.median(throughput)),
        latency(|load| load.p50_ms),
        latency(|load| Some(load.p90_ms)),
        latency(|load| load.p99_ms),
        between(window_interval(cell)),
        number(counted(k as f64)),
        number(counted(n as f64)),
        between((n > 0).then_some(percent)),
    ]
}

/// Every run, with links to what is in its directory.
pub fn runs(html: &mut Html, runs: &[Reported], base: &Path) {
    let heads = [
        "pair",
        "variant",
        "rate",
        "throughput",
        "p90 ms",
        "window p50",
        "p90",
        "p99",
        "violations %",
        "complete %",
        "status",
        "files",
    ];
    let rows: Vec<Vec<Cell>> = runs.iter().map(|reported| run_row(reported, base)).collect();
    html.table(&heads, &rows);
}

fn run_row(reported: &Reported, base: &Path) -> Vec<Cell> {
    let run = &reported.run;
    let number = |value: Option<f64>| Cell::number(value, short);
    let window = |of: fn(&crate::plot::run_data::Traces) -> Option<f64>| number(run.traces.as_ref().and_then(of));
    vec![
        Cell::text(pair_label(&run.pair)),
        Cell::text(variant_label(run.variant)),
        number(Some(run.rate)),
        number(throughput(run)),
        number(table::latency_p90(run)),
        window(|traces| traces.p50.value),
        window(|traces| traces.p90.value),
        window(|traces| traces.p99.value),
        number(violation_percent(run)),
        number(run.completeness.map(|share| (share * 1000.0).floor() / 10.0)),
        status(run),
        Cell { wrap: true, ..Cell::html(links(&reported.path, base)) },
    ]
}

fn status(run: &Run) -> Cell {
    let (word, class) = match run.status {
        Status::Complete => ("complete", "good"),
        Status::Flagged => ("flagged", "warn"),
        Status::Running => ("unfinished", "warn"),
        Status::Interrupted => ("interrupted", "warn"),
        Status::Void => ("void", "bad"),
    };
    let why = escape(&run.reasons.join("; "));
    Cell::html(format!("<span class=\"{class}\" title=\"{why}\">{word}</span>"))
}

/// Links to the directory and to the raw files in it, sorted by name.
fn links(path: &Path, base: &Path) -> String {
    let link = |target: &Path, text: &str| format!("<a href=\"{}\">{}</a>", escape(&href(target, base)), escape(text));
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut parts = vec![link(path, &name)];
    let known = ["run.yml", "info.yml", "summary.json", "traces.csv", "windows.csv", "traces.info", "timeline.csv"];
    parts.extend(known.iter().filter(|file| path.join(file).is_file()).map(|file| link(&path.join(file), file)));
    parts.join(" ")
}

/// `target` as seen from `base`, percent-encoded.
fn href(target: &Path, base: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (target, base) = (absolute(target), absolute(base));
    let parts = |path: &Path| -> Vec<PathBuf> {
        path.components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| PathBuf::from(part.as_os_str()))
            .collect()
    };
    let (to, from) = (parts(&target), parts(&base));
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - shared);
    let down = to[shared..].iter().map(|part| encode(&part.to_string_lossy()));
    up.chain(down).collect::<Vec<_>>().join("/")
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Where requests were lost, run by run.
pub fn ledger(html: &mut Html, runs: &[Reported]) {
    let with: Vec<(&Reported, &crate::store::Ledger)> =
        runs.iter().filter_map(|reported| Some((reported, reported.record.as_ref()?.ledger.as_ref()?))).collect();
    if with.is_empty() {
        html.raw(
            "<p>These runs have no ledger (<code>run.yml</code>); their traces say how many messages lacked a part: ",
        );
        html.raw(&completeness_range(runs));
        html.raw("</p>\n");
        return;
    }
    let heads = ["pair", "variant", "rate", "run", "due", "sent", "2xx", "traced", "complete", "used", "lost to"];
    let row = |(reported, ledger): &(&Reported, &crate::store::Ledger)| {
        let run = &reported.run;
        let count = |n: u64| Cell::number(Some(n as f64), |n| format!("{n:.0}"));
        let lost: Vec<String> = ledger.lost.iter().map(|(why, n)| format!("{n} {why}")).collect();
        vec![
            Cell::text(pair_label(&run.pair)),
            Cell::text(variant_label(run.variant)),
            Cell::number(Some(run.rate), short),
            Cell::text(run.dir.rsplit('/').next().unwrap_or_default()),
            count(ledger.due),
            count(ledger.sent),
            count(ledger.ok),
            count(ledger.traced),
            count(ledger.complete),
            count(ledger.used),
            Cell { wrap: true, ..Cell::text(lost.join(", ")) },
        ]
    };
    html.table(&heads, &with.iter().map(row).collect::<Vec<_>>());
}

fn completeness_range(runs: &[Reported]) -> String {
    let shares: Vec<f64> = runs.iter().filter_map(|reported| reported.run.completeness).collect();
    let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shares.iter().copied().fold(0.0, f64::max);
    if shares.is_empty() {
        return "nothing is known.".into();
    }
    let percent = |share: f64| short((share * 1000.0).floor() / 10.0);
    format!("{}\u{2013}{} % complete.", percent(low), percent(high))
}

/// What all runs share, and what differs between them.
pub fn conditions(html: &mut Html, runs: &[Reported]) {
    let records: Vec<&RunRecord> = runs.iter().filter_map(|reported| reported.record.as_deref()).collect();
    let variants = |variant: Variant| runs.iter().filter(|reported| reported.run.variant == variant).count();
    html.raw(&format!(
        "<p>{} runs of the baseline, {} with Antipode.</p>\n",
        variants(Variant::Baseline),
        variants(Variant::Antipode)
    ));
    if records.is_empty() {
        html.raw("<p>These runs carry no record of their conditions (<code>run.yml</code>).</p>\n");
        return;
    }
    let flat: Vec<Vec<(String, String)>> = records.iter().map(|record| flatten(record)).collect();
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in flat.iter().flatten() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let value =
        |run: &[(String, String)], key: &str| run.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    let (mut same, mut varies) = (String::new(), String::new());
    for key in keys {
        let values: Vec<String> = flat.iter().filter_map(|run| value(run, key)).collect();
        let mut distinct = values.clone();
        distinct.sort();
        distinct.dedup();
        let shown = if distinct.len() == 1 { distinct[0].clone() } else { summary(&distinct) };
        let row = format!("<dt>{}</dt><dd>{}</dd>\n", escape(key), escape(&shown));
        if distinct.len() == 1 && values.len() == flat.len() { same.push_str(&row) } else { varies.push_str(&row) }
    }
    html.raw(&format!("<h3>The same for all</h3><dl>{same}</dl>\n"));
    if !varies.is_empty() {
        html.raw(&format!("<details><summary>What differs between runs</summary><dl>{varies}</dl></details>\n"));
    }
}

/// Some of many values.
fn summary(distinct: &[String]) -> String {
    let numbers: Option<Vec<f64>> = distinct.iter().map(|text| text.parse().ok()).collect();
    match numbers {
        Some(numbers) if distinct.len() > 6 => {
            let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{low} .. {high} ({} values)", distinct.len())
        }
        _ if distinct.len() > 6 => format!("{} and {} more", distinct[..5].join(", "), distinct.len() - 5),
        _ => distinct.join(", "),
    }
}

/// A record as `key.key: value`, without what the other tables show.
fn flatten(record: &RunRecord) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let Ok(Value::Object(map)) = serde_json::to_value(record) else { return rows };
    let elsewhere = ["format", "load", "ledger", "outcome", "tag", "deployment"];
    for (key, value) in map.iter().filter(|(key, _)| !elsewhere.contains(&key.as_str())) {
        flatten_value(key, value, &mut rows);
    }
    rows
}

fn flatten_value(key: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(inner, value)| flatten_value(&format!("{key}.{inner}"), value, rows))
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                flatten_value(&format!("{key}[{i}]"), item, rows);
            }
        }
        Value::Null => {}
        Value::String(text) => rows.push((key.to_owned(), text.clone())),
        Value::Number(us) if key.ends_with("_us") => {
            rows.push((key.to_owned(), instant(us.as_i64(), &value.to_string())))
        }
        other => rows.push((key.to_owned(), other.to_string())),
    }
}

/// An instant in us since the epoch as UTC; anything else as it is.
fn instant(us: Option<i64>, text: &str) -> String {
    let plausible = us.filter(|us| *us > 1_000_000_000_000_000);
    let time = plausible.and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| text.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_to_the_page() {
        let link = |target: &str, base: &str| href(Path::new(target), Path::new(base));
        assert_eq!(link("/r/gather/a b/info.yml", "/r"), "gather/a%20b/info.yml");
        assert_eq!(link("/r/gather/x", "/r/reports/new"), "../../gather/x");
    }

    #[test]
    fn many_values_are_summed_up() {
        let numbers: Vec<String> = (1..=10).map(|n| n.to_string()).collect();
        assert_eq!(summary(&numbers), "1 .. 10 (10 values)");
        let names: Vec<String> = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(summary(&names), "a, b");
    }
}
