//! Endpoints that are a list of requests, carried out once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::SeedableRng;

use super::Request;
use super::requests::find_graph;
use crate::Context;
use crate::app::{Draws, Graph, Side, Step};
use crate::command::Current;
use crate::error::{Exit, Plain, Result};
use crate::ui;
use crate::wkld::WkldError;

/// Progress is told after this many requests of one kind.
const TELL_EVERY: usize = 200;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Base URLs of the two front ends.
struct Doors {
    origin: String,
    replica: String,
}

/// Carries out the steps of an endpoint, `-c` of them at a time where their order does not matter.
pub(super) fn run(
    context: &Context,
    current: &Current,
    request: &Request,
    steps: fn(&mut Draws, &Graph) -> Vec<Step>,
) -> Result<()> {
    let url = |url: &Option<String>| url.clone().ok_or_else(|| super::requests::not_running(current));
    let doors = Doors { origin: url(&current.deployment.origin_url)?, replica: url(&current.deployment.replica_url)? };
    let graph = match find_graph(&context.store, current)? {
        Some(text) => Graph::parse(&text).map_err(WkldError::Unusable)?,
        None => {
            ui::detail("no data set here: using the built-in graph of the same size");
            Graph::synthetic()
        }
    };
    let steps = steps(&mut Draws::seed_from_u64(request.seed), &graph);
    if context.dry_run {
        for group in groups(&steps) {
            ui::out(format!("{} x {} ({})", group.len(), group[0].label, group[0].path));
        }
        return Ok(());
    }
    for group in groups(&steps) {
        if group.len() <= 2 || request.connections == 1 {
            in_order(&doors, group)?;
        } else {
            together(&doors, group, request.connections)?;
        }
    }
    Ok(())
}

/// Carries out steps that prepare a load; refusals are of no interest.
pub(super) fn prepare(origin: &str, replica: &str, steps: &[Step]) -> Result<()> {
    let doors = Doors { origin: origin.to_owned(), replica: replica.to_owned() };
    let agent = agent();
    steps.iter().try_for_each(|step| perform(&agent, &doors, step).map(|_| ()))
}

/// Neighbours of one kind.
fn groups(steps: &[Step]) -> Vec<&[Step]> {
    steps.chunk_by(|a, b| a.label == b.label).collect()
}

fn in_order(doors: &Doors, steps: &[Step]) -> Result<()> {
    let agent = agent();
    for (done, step) in steps.iter().enumerate() {
        let (status, body) = perform(&agent, doors, step)?;
        if steps.len() <= 2 {
            ui::out(format!("[{}] {status}", step.label));
            if !body.trim().is_empty() && (step.show || !(200..300).contains(&status)) {
                ui::out(body.trim_end());
            }
        } else {
            tell(step.label, done + 1);
        }
        if step.must && !(200..300).contains(&status) {
            return Err(refused(step, status, &body));
        }
    }
    finished(steps);
    Ok(())
}

/// Steps of one kind over several connections. A refused one (a user who exists already) is only counted.
fn together(doors: &Doors, steps: &[Step], connections: usize) -> Result<()> {
    let (next, done, refusals) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || -> Result<()> {
        let agent = agent();
        while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (status, body) = perform(&agent, doors, step)?;
            if !(200..300).contains(&status) {
                refusals.fetch_add(1, Ordering::Relaxed);
                if step.must {
                    return Err(refused(step, status, &body));
                }
            }
            tell(step.label, done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Plain::new(Exit::Bug, "a connection's thread panicked").into()))
        })
    })?;
    finished(steps);
    let refusals = refusals.load(Ordering::Relaxed);
    if refusals > 0 {
        ui::warn(format!("{refusals} of {} were refused (were they there already?)", steps.len()));
    }
    Ok(())
}

fn tell(label: &str, done: usize) {
    if done.is_multiple_of(TELL_EVERY) {
        ui::note(progress(label, done));
    }
}

fn finished(steps: &[Step]) {
    if steps.len() > 2 {
        ui::out(progress(steps[0].label, steps.len()));
    }
}

/// The progress lines of the original scripts; a friendship is two follows.
fn progress(label: &str, done: usize) -> String {
    match label {
        "Register User" => format!("Registered {done} users successfully"),
        _ => format!("{} edges finished", done / 2),
    }
}

fn refused(step: &Step, status: u16, body: &str) -> crate::error::Error {
    let why = body.lines().next().unwrap_or_default();
    Plain::new(Exit::StepFailed, format!("`{}` was answered {status}: {why}", step.label)).into()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build().into()
}

/// Sends one step: status and body.
fn perform(agent: &ureq::Agent, doors: &Doors, step: &Step) -> Result<(u16, String)> {
    let door = if step.side == Side::Replica { &doors.replica } else { &doors.origin };
    let url = format!("{door}{}", step.path);
    let answer = if step.post {
        agent.post(&url).content_type("application/x-www-form-urlencoded").send(&step.form)
    } else {
        agent.get(format!("{url}?{}", step.form)).call()
    };
    let failed = |error: ureq::Error| Plain::new(Exit::Unreachable, format!("`{}` at `{url}`: {error}", step.label));
    let mut answer = answer.map_err(failed)?;
    let body = answer.body_mut().read_to_string().map_err(failed)?;
    Ok((answer.status().as_u16(), body))
}
