//! The top of the page: may the numbers be used, and what do they say, pair by pair.

use crate::compare::{Difference, Matched, Verdict, match_cells};
use crate::experiment::Variant;
use crate::plot::figure::pair_label;
use crate::plot::scale::short;
use crate::plot::table::{Cell, cell, cells, pairs, peak};
use crate::plot::{LeftOut, Run};
use crate::stats::wilson;
use crate::store::Status;

use super::html::{Html, escape};

/// Writes banner and cards.
pub fn write(html: &mut Html, runs: &[Run], left_out: &[LeftOut]) {
    banner(html, runs, left_out);
    let cells = cells(runs);
    html.raw("<div class=\"cards\">\n");
    for pair in pairs(&cells) {
        card(html, &cells, pair);
    }
    html.raw("</div>\n");
}

fn banner(html: &mut Html, runs: &[Run], left_out: &[LeftOut]) {
    let flagged: Vec<&Run> = runs.iter().filter(|run| run.status != Status::Complete).collect();
    let reasons = flagged.iter().map(|run| {
        let why =
            if run.reasons.is_empty() { format!("{:?}", run.status).to_lowercase() } else { run.reasons.join("; ") };
        (run.dir.as_str(), why)
    });
    let items: Vec<(&str, String)> =
        reasons.chain(left_out.iter().map(|run| (run.dir.as_str(), format!("left out: {}", run.why)))).collect();
    let count = |n: usize| if n == 1 { "1 run".to_owned() } else { format!("{n} runs") };
    if items.is_empty() {
        html.raw(&format!("<p class=\"banner\">{} without a flag.</p>\n", count(runs.len())));
        return;
    }
    if let Some(alarm) = crate::plot::void(runs) {
        html.raw(&format!("<p class=\"banner bad\">{}</p>\n", escape(&alarm)));
    }
    html.raw(&format!(
        "<div class=\"banner warn\">{} used, {} of them flagged; {} left out.<ul>",
        count(runs.len()),
        flagged.len(),
        count(left_out.len())
    ));
    for (dir, why) in items.iter().take(12) {
        html.raw(&format!("<li><code>{}</code>: {}</li>", escape(dir), escape(why)));
    }
    if items.len() > 12 {
        html.raw(&format!("<li>and {} more</li>", items.len() - 12));
    }
    html.raw("</ul></div>\n");
}

/// What one zone pair says at the rate that its variants are compared at.
fn card(html: &mut Html, cells: &[Cell<'_>], pair: &str) {
    let Some(rate) = peak(cells, pair) else { return };
    let (baseline, antipode) = (cell(cells, pair, Variant::Baseline, rate), cell(cells, pair, Variant::Antipode, rate));
    let variants = match (baseline, antipode) {
        (Some(_), Some(_)) => "<span class=\"b\">baseline</span> \u{2192} <span class=\"a\">antipode</span>",
        (Some(_), None) => "<span class=\"b\">baseline</span> only",
        _ => "<span class=\"a\">antipode</span> only",
    };
    let heading = format!("{} at {} req/s: {variants}", escape(&pair_label(pair)), short(rate));
    html.raw(&format!("<div class=\"card\"><h3 class=\"to\">{heading}</h3><div class=\"tiles\">\n"));
    violations_tile(html, baseline, antipode);
    let Some(one) = baseline.or(antipode) else { return };
    let matched = match_cells(baseline.unwrap_or(one), antipode.unwrap_or(one));
    let both = baseline.is_some() && antipode.is_some();
    for (metric, what) in [
        ("window.p90", "p90 consistency window (ms)"),
        ("latency.p90", "p90 latency (ms)"),
        ("throughput", "Throughput (req/s)"),
    ] {
        metric_tile(html, &matched, (metric, what), both, antipode.is_some());
    }
    html.raw("</div></div>\n");
}

fn tile(html: &mut Html, what: &str, to: &str, how: &str, class: &str) {
    html.raw(&format!(
        "<div class=\"tile\"><div class=\"what\">{what}</div><div class=\"to\">{to}</div><div class=\"how {class}\">{how}</div></div>\n"
    ));
}

fn violations_tile(html: &mut Html, baseline: Option<&Cell<'_>>, antipode: Option<&Cell<'_>>) {
    let counts = |cell: Option<&Cell<'_>>| cell.map(Cell::violations).filter(|(_, n)| *n > 0);
    let percent = |(k, n): (u64, u64)| format!("{} %", short(100.0 * k as f64 / n as f64));
    let words = |(k, n): (u64, u64)| {
        let share = wilson(k, n);
        if k == 0 {
            format!("0 of {n} (at most {} %)", short(share.high * 100.0))
        } else {
            format!("{k} of {n} ({}\u{2013}{} %)", short(share.low * 100.0), short(share.high * 100.0))
        }
    };
    let (before, after) = (counts(baseline), counts(antipode));
    let parts = [(before, "b"), (after, "a")];
    let to: Vec<String> = parts
        .iter()
        .filter_map(|(counts, class)| {
            counts.map(|counts| format!("<span class=\"{class}\">{}</span>", percent(counts)))
        })
        .collect();
    let how: Vec<String> = parts.iter().filter_map(|(counts, _)| counts.map(words)).collect();
    if to.is_empty() {
        return;
    }
    let class = match (before, after) {
        (Some((before, _)), Some((0, _))) if before > 0 => "good",
        (_, Some((after, _))) if after > 0 => "bad",
        _ => "",
    };
    tile(html, "Violations", &to.join(" \u{2192} "), &how.join(" \u{2192} "), class);
}

fn metric_tile(html: &mut Html, matched: &Matched, (metric, what): (&str, &str), both: bool, antipode: bool) {
    let Some(found) = matched.differences.iter().find(|difference| difference.metric == metric) else { return };
    let (Some(a), Some(b)) = (&found.a, &found.b) else { return };
    if both {
        let to =
            format!("<span class=\"b\">{}</span> \u{2192} <span class=\"a\">{}</span>", short(a.value), short(b.value));
        tile(html, what, &to, &escape(&change_text(found)), "");
    } else {
        let class = if antipode { "a" } else { "b" };
        let interval = a.interval.filter(|interval| interval.low < interval.high);
        let how = interval.map_or(String::new(), |i| format!("{}\u{2013}{}", short(i.low), short(i.high)));
        tile(html, what, &format!("<span class=\"{class}\">{}</span>", short(a.value)), &how, "");
    }
}

/// `+104 (+98 .. +112), +144 %`.
fn change_text(found: &Difference) -> String {
    let signed = |value: f64| if value > 0.0 { format!("+{}", short(value)) } else { short(value) };
    let Some(change) = found.change else { return String::new() };
    let mut text = signed(change);
    if let Some((low, high)) = found.interval {
        text.push_str(&format!(" ({} .. {})", signed(low), signed(high)));
    }
    if let Some(relative) = found.relative {
        text.push_str(&format!(", {} %", signed(relative)));
    }
    match found.verdict {
        Verdict::NoChange => format!("no change detected: {text}"),
        Verdict::Unknown => format!("{text}; one round, no interval"),
        _ => text,
    }
}
