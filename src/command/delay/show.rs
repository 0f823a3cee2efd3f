//! `delay --show`: what is in force, and what it measures now.

use serde::Serialize;

use super::containers::{Site, deployment_label, helpers};
use crate::Context;
use crate::command::Current;
use crate::delay::attach::Attached;
use crate::delay::{Request, Status};
use crate::error::Result;
use crate::store::DelayRecord;
use crate::ui;

/// A helper and how it stands.
#[derive(Debug, Serialize)]
struct Shown {
    service: String,
    host: String,
    helper: String,
    status: Option<Status>,
    /// Why there is no status.
    silent: Option<String>,
}

/// Prints it.
pub(super) async fn run(context: &Context, current: &Current, sites: &[Site]) -> Result<()> {
    let all = helpers(sites, &deployment_label(current)).await?;
    let mut shown = Vec::new();
    for helper in &all {
        let (status, silent) = match helper.status().await {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error.line())),
        };
        let (service, host, name) = (helper.service.clone(), helper.host.clone(), helper.name.clone());
        shown.push(Shown { service, host, helper: name, status, silent });
    }
    let records = current.deployment.delay.as_ref().map(flat).unwrap_or_default();
    let mut measured = Vec::new();
    for record in records {
        measured.push((record, measure(&all, &shown, record).await));
    }
    if context.json {
        let now: Vec<_> =
            measured.iter().map(|(r, now)| serde_json::json!({"recorded": r, "now_p50_ms": now})).collect();
        ui::out(serde_json::json!({ "helpers": shown, "pairs": now }));
        return Ok(());
    }
    if shown.iter().all(|one| one.status.as_ref().is_none_or(|s| s.rules.is_empty())) && measured.is_empty() {
        ui::out("no delay is in force");
        return Ok(());
    }
    for one in &shown {
        ui::out(lines_of(one));
    }
    for (record, now) in measured {
        ui::out(line_of(record, now));
    }
    Ok(())
}

fn flat(record: &DelayRecord) -> Vec<&DelayRecord> {
    std::iter::once(record).chain(&record.others).collect()
}

/// The median that the path of `record` adds now, ms; `None` when it cannot be measured.
async fn measure(helpers: &[Attached], shown: &[Shown], record: &DelayRecord) -> Option<f64> {
    let (from, to) =
        record.pair.as_deref()?.split_once(" <-> ").or_else(|| record.pair.as_deref()?.split_once(" -> "))?;
    let port = shown.iter().find(|one| one.service == from)?.status.as_ref()?.echo_port;
    let prober = helpers.iter().find(|helper| helper.service == to)?;
    let peers = vec![format!("tasks.{from}"), from.to_owned()];
    let request = Request::Probe { peers, port, connections: 20, rounds: 2, patience_ms: 60_000.0 };
    let probed = prober.probe(&request).await.ok()?;
    let values: Vec<f64> = probed.samples_ns.iter().map(|ns| *ns as f64 / 1e6).collect();
    Some(crate::stats::median(&values)? - record.before_p50_ms.unwrap_or(0.0))
}

fn lines_of(one: &Shown) -> String {
    let Some(status) = &one.status else {
        let why = one.silent.as_deref().unwrap_or_default();
        return format!("{} ({}): the helper `{}` does not answer: {why}", one.service, one.host, one.helper);
    };
    let backend = status.backend.map_or("nothing in force", |backend| backend.as_str());
    let mut lines = vec![format!(
        "{} ({}): {backend}, {:.0} s of its lease left{}",
        one.service,
        one.host,
        status.lease_left_s,
        if status.restarts > 0 { format!(", restarted {} times", status.restarts) } else { String::new() }
    )];
    for rule in &status.rules {
        let addresses: Vec<String> = rule.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "  {}: from the peer {}, to it {}; peer {} ({})",
            rule.name,
            rule.from_peer,
            rule.to_peer,
            addresses.join(", "),
            ui::count(rule.address_changes as usize, "change")
        ));
        if let Some(proxy) = &rule.proxy {
            lines.push(format!(
                "    {} open, {} bytes from the peer, {} bytes held now, held p50 {:.2} ms, p99 {:.2} ms",
                ui::count(proxy.open as usize, "connection"),
                proxy.from_peer_bytes,
                proxy.queued_bytes,
                proxy.held_p50_ms,
                proxy.held_p99_ms
            ));
        }
        if let Some(drops) = rule.netem_drops {
            lines.push(format!("    {} dropped, {} held", drops, rule.netem_queued.unwrap_or(0)));
        }
    }
    lines.join("\n")
}

fn line_of(record: &DelayRecord, now: Option<f64>) -> String {
    let pair = record.pair.as_deref().unwrap_or_default();
    let then = format!("{pair}: {} by {}, obtained p50 {:.2} ms", record.asked, record.backend, record.obtained_p50_ms);
    match now {
        Some(now) => format!("{then}; measures {now:.2} ms now"),
        None => format!("{then}; cannot be measured now"),
    }
}
