//! The summary in about ten lines, for a person.

use super::summary::{Estimate, Series, Summary, WindowKind};

/// The lines; labels on the left.
pub fn verdict(title: &str, summary: &Summary) -> Vec<String> {
    let mut lines = vec![title.to_owned()];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<13} {text}"));
    say("violations", violations(summary));
    let end = match summary.window_ends_with {
        WindowKind::Visibility => "until visible (behind the barrier)",
        WindowKind::Attempt => "until the read is attempted",
    };
    say("window", format!("{}  {end}", series(&summary.window)));
    say("notification", format!("{}  queued until received", series(&summary.notification_lag)));
    if summary.window_ends_with == WindowKind::Visibility {
        say("barrier", series(&summary.barrier));
    }
    say("complete", complete(summary));
    for line in losses(summary) {
        say("lost", line);
    }
    if !summary.excluded.is_empty() {
        let parts: Vec<String> = summary.excluded.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        say("left out", parts.join(", "));
    }
    say("clocks", clocks(summary));
    say("in flight", summary.source.drained.last_seen.clone());
    lines
}

fn violations(summary: &Summary) -> String {
    let seen = &summary.violations;
    let (Some(share), Some([low, high])) = (seen.share, seen.wilson95) else {
        return "no observation".to_owned();
    };
    let percent = share * 100.0;
    if seen.k == 0 {
        return format!("none in {}; with 95 % confidence at most {:.2} %", seen.n, high * 100.0);
    }
    format!("{} of {} = {percent:.2} %  (95 %: {:.2} to {:.2} %)", seen.k, seen.n, low * 100.0, high * 100.0)
}

fn series(series: &Series) -> String {
    if series.count + series.censored == 0 {
        return "nothing seen".to_owned();
    }
    let part = |name: &str, estimate: &Estimate| match estimate {
        Estimate { value: Some(value), low, high } => {
            format!("{name} {} ms [{}, {}]", ms(*value), bound(*low), bound(*high))
        }
        Estimate { low, .. } => format!("{name} beyond {} ms", bound(*low)),
    };
    let parts = [part("p50", &series.p50), part("p90", &series.p90), part("p99", &series.p99)];
    let open = match series.censored {
        0 => String::new(),
        count if series.estimator == "Kaplan-Meier" => format!("  ({count} lower bounds)"),
        count => format!("  ({count} not seen)"),
    };
    format!("{}{open}", parts.join("  "))
}

fn ms(value: f64) -> String {
    let text = if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    match text.trim_end_matches('0').trim_end_matches('.') {
        "" | "-" | "-0" => "0".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn bound(value: Option<f64>) -> String {
    value.map_or_else(|| "?".to_owned(), ms)
}

fn complete(summary: &Summary) -> String {
    let complete = &summary.complete;
    let share =
        complete.share.map_or_else(|| "nothing to measure".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let flag = if complete.enough { "" } else { "  FLAGGED: below 99 %" };
    format!("{share}: {} of {} {}{flag}", complete.used, complete.of, complete.basis)
}

/// At most three causes, then the rest in one number.
fn losses(summary: &Summary) -> Vec<String> {
    let lost = &summary.ledger.lost;
    let mut by_size: Vec<(&String, &u64)> = lost.iter().collect();
    by_size.sort_by(|a, b| b.1.cmp(a.1));
    let mut lines: Vec<String> = by_size.iter().take(3).map(|(cause, count)| format!("{count}: {cause}")).collect();
    let rest: u64 = by_size.iter().skip(3).map(|(_, count)| **count).sum();
    if rest > 0 {
        lines.push(format!("{rest}: other causes (see summary.json)"));
    }
    lines
}

fn clocks(summary: &Summary) -> String {
    let negative = match summary.window.negative {
        0 => "no negative window".to_owned(),
        count => format!("{count} negative windows"),
    };
    match summary.clock_bound_ms {
        Some(bound) => {
            format!("corrected by {} ms, known to +- {} ms; {negative}", ms(summary.clock.window_offset_ms), ms(bound))
        }
        None => format!("offset between the hosts not measured; {negative}"),
    }
}
