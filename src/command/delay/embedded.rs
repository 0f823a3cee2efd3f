//! `delay` on the embedded target: the miniature delays its own replication link.

use super::Request;
use crate::Context;
use crate::app::{App, Lacking};
use crate::command::{self, Current};
use crate::delay::proof::Expected;
use crate::delay::spec::Spec;
use crate::delay::{Schedule, Start};
use crate::embedded::client::Client;
use crate::embedded::control::LinkOrder;
use crate::embedded::probe::Measured;
use crate::error::{Exit, Fault, Plain, Result};
use crate::execute::embedded::require;
use crate::store::DelayRecord;
use crate::ui;

/// Probes per measurement.
const PROBES: usize = 400;

/// The delay asked for was not obtained.
#[derive(Debug, thiserror::Error)]
#[error("asked for a median delay of {asked:.1} ms, obtained {obtained:.1} ms: off by more than {tolerance:.1} ms")]
struct NotObtained {
    asked: f64,
    obtained: f64,
    tolerance: f64,
}

impl Fault for NotObtained {
    fn exit(&self) -> Exit {
        Exit::StepFailed
    }

    fn hint(&self) -> Option<String> {
        Some("the rule was removed again; a machine short of CPU time is the usual reason".into())
    }
}

/// Carries it out.
pub(super) async fn run(context: &Context, request: &Request) -> Result<()> {
    let mut current = command::current(context, &request.selection)?;
    let stores = fits(request, current.app)?;
    let schedule = request.schedule()?;
    let rules = rules(request, schedule.as_ref())?;
    if context.dry_run {
        ui::out(dry(request, &rules, stores));
        return Ok(());
    }
    let _lock = if request.show { None } else { Some(context.store.lock("delay")?) };
    let deployment = &current.deployment;
    let dir = context.store.deploy_dir(current.target, current.app.name, &deployment.tag);
    let client = Client::new(&require(&dir, current.app.name, deployment.variant, deployment.pid)?);
    if request.show {
        return tokio::task::block_in_place(|| show(context, &client, &current));
    }
    let delay = tokio::task::block_in_place(|| put(request, &client, schedule.as_ref(), &rules))?;
    current.deployment.delay = delay;
    context.store.write_deployment(&current.deployment)?;
    Ok(())
}

/// The ends of the miniature's one link; refuses what it cannot do.
fn fits(request: &Request, app: &App) -> Result<(&'static str, &'static str)> {
    let (from, to) = app.stores().ok_or(Lacking::Stores(app.name))?;
    let other = |given: &Option<String>, only: &str| given.as_deref().is_some_and(|given| given != only);
    if other(&request.from, from) || other(&request.to, to) || request.both || request.matrix.is_some() {
        return Err(Plain::usage(format!("the miniature has one link that can be delayed, `{from}` to `{to}`"))
            .with_hint("leave --from, --to, --both and --matrix out")
            .into());
    }
    if request.backend != "auto" {
        return Err(Plain::usage(format!("`--backend {}` has no meaning inside the miniature", request.backend))
            .with_hint("it delays its own link; leave --backend out")
            .into());
    }
    Ok((from, to))
}

/// What is to be in force, with the second it starts at; one rule unless there is a schedule.
fn rules(request: &Request, schedule: Option<&Schedule>) -> Result<Vec<(f64, Spec)>> {
    Ok(match schedule {
        Some(schedule) => schedule.check()?,
        None if request.off || request.show => vec![(0.0, Spec::zero())],
        None => vec![(0.0, request.spec()?)],
    })
}

fn listed(rules: &[(f64, Spec)]) -> impl Iterator<Item = String> {
    rules.iter().map(|(at_s, rule)| format!("{at_s} s: {rule}"))
}

fn dry(request: &Request, rules: &[(f64, Spec)], (from, to): (&str, &str)) -> String {
    if request.show {
        return format!("plan: show the delay between {from} and {to}");
    }
    let steps: Vec<String> = listed(rules).map(|step| format!("   - at {step}")).collect();
    format!("plan: delay {from} to {to}, measured before and after\n{}", steps.join("\n"))
}

/// Puts the rules in force, one after the other if there are several, and measures each; what is to be recorded.
fn put(
    request: &Request,
    client: &Client,
    schedule: Option<&Schedule>,
    rules: &[(f64, Spec)],
) -> Result<Option<DelayRecord>> {
    let off = LinkOrder { rule: Spec::zero(), seed: None, lease_s: None };
    let mut worst: Option<DelayRecord> = None;
    for (_, rule) in rules {
        let lease_s = Some(request.lease.as_secs_f64()).filter(|_| !rule.is_zero());
        client.set_link(&LinkOrder { rule: *rule, seed: Some(request.seed), lease_s })?;
        let measured = client.probe(PROBES)?;
        if let Err(error) = verify(rule, &measured) {
            client.set_link(&off)?;
            return Err(error.into());
        }
        ui::note(report(rule, &measured));
        let record = record(rule, &measured);
        if !rule.is_zero() && worst.as_ref().is_none_or(|w| record.obtained_p50_ms > w.obtained_p50_ms) {
            worst = Some(record);
        }
    }
    if let (Some(schedule), Some(path)) = (schedule, &request.schedule) {
        client.set_link(&LinkOrder { seed: Some(request.seed), ..off })?;
        client.follow(schedule)?;
        let start = if schedule.start == Start::Load { "with the next post" } else { "now" };
        ui::note(format_args!("{} of {} start {start}", ui::count(rules.len(), "step"), path.display()));
        let asked = format!("{}: {}", path.display(), listed(rules).collect::<Vec<_>>().join("; "));
        return Ok(worst.map(|worst| DelayRecord { asked, ..worst }));
    }
    Ok(worst)
}

/// What the rule added to the path, median and 99th percentile, ms.
fn added(measured: &Measured) -> (f64, f64) {
    (measured.path.p50_ms - measured.bare.p50_ms, measured.path.p99_ms - measured.bare.p50_ms)
}

/// Off by more than max(2 ms, 10 %), beyond what chance does to a median, is not what was asked for.
fn verify(rule: &Spec, measured: &Measured) -> Result<(), NotObtained> {
    let expected = Expected::of(&[*rule]);
    let (asked, (obtained, _)) = (expected.at(0.5), added(measured));
    let tolerance = expected.tolerance_ms(measured.path.samples);
    if (obtained - asked).abs() <= tolerance { Ok(()) } else { Err(NotObtained { asked, obtained, tolerance }) }
}

fn record(rule: &Spec, measured: &Measured) -> DelayRecord {
    let (obtained_p50_ms, obtained_p99_ms) = added(measured);
    DelayRecord {
        asked: rule.to_string(),
        backend: "embedded".into(),
        obtained_p50_ms,
        obtained_p99_ms,
        ..DelayRecord::default()
    }
}

fn report(rule: &Spec, measured: &Measured) -> String {
    let (asked50, asked99) = (rule.quantile_ms(0.5), rule.quantile_ms(0.99));
    let (got50, got99) = added(measured);
    format!(
        "{rule} on the replication link\n  asked      p50 {asked50:7.1} ms   p99 {asked99:7.1} ms\n  obtained   p50 \
         {got50:7.1} ms   p99 {got99:7.1} ms   ({} probes, path without it {:.1} ms)\n  a post is visible at the \
         replica after p50 {:.1} ms, p99 {:.1} ms",
        measured.path.samples, measured.bare.p50_ms, measured.stream.p50_ms, measured.stream.p99_ms
    )
}

fn show(context: &Context, client: &Client, current: &Current) -> Result<()> {
    let rule = client.link()?;
    let measured = client.probe(PROBES)?;
    if context.json {
        ui::out(serde_json::json!({"rule": rule, "measured": measured, "recorded": current.deployment.delay}));
    } else {
        ui::out(report(&rule, &measured));
    }
    Ok(())
}
