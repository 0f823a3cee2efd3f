//! `maestro wkld`: offers a load to the running application (or to any URL) and keeps what was measured.

mod clients;
mod clocks;
mod drive;
mod find_max;
mod host;
mod probe;
pub(crate) mod record;
pub(crate) mod requests;
mod sender;
mod steps;
mod storage;
pub(crate) mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::storage::Storage;
use crate::Context;
use crate::app::{App, EndpointKind};
use crate::command::{Current, Selection, machines};
use crate::error::{Exit, Plain, Result};
use crate::store::{RunDir, RunRecord, Status};
use crate::ui;
use crate::wkld::Workload;
use crate::wkld::probe::ProbeReport;
use crate::wkld::report::Report;
use crate::wkld::schedule::{Piece, Rate, parse_ramp};
use crate::wkld::script::Script;
use crate::wkld::tls::Trust;
use requests::Requests;
use sender::{Sender, Sent};
use worker::{ASSIGNMENT_FORMAT, Assignment};

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub endpoint: Option<String>,
    pub nodes: Vec<String>,
    pub connections: usize,
    pub duration: Duration,
    pub threads: usize,
    pub rate: Option<f64>,
    pub warmup: Duration,
    pub arrivals: String,
    pub ramp: Option<String>,
    pub seed: u64,
    pub pace: String,
    pub max_connections: Option<usize>,
    pub timeout: Duration,
    pub drain: Duration,
    pub start_at: Option<f64>,
    pub script: Option<PathBuf>,
    pub script_args: Vec<String>,
    pub url: Option<String>,
    pub out: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub probe: f64,
    pub find_max: bool,
    pub slo: String,
    pub round: u32,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    if let Some(url) = &request.url {
        return drive_url(context, &request, describe(&request)?, url).await;
    }
    let current = super::current(context, &request.selection)?;
    super::still_running(context, &current.deployment)?;
    let endpoint = endpoint_name(&current, &request)?;
    if let Some(EndpointKind::Steps(list)) = current.app.endpoint(&endpoint).map(|e| e.kind) {
        return tokio::task::block_in_place(|| steps::run(context, &current, &request, list));
    }
    let workload = describe(&request)?;
    let (assignment, sender) = assign(context, &request, workload, &current, &endpoint)?;
    if context.dry_run {
        ui::out(plan_line(&assignment, sender.clients()));
        return Ok(());
    }
    let job = Job { context, request: &request, assignment: &assignment, sender: &sender, endpoint: &endpoint };
    if request.find_max {
        return search(&job, current).await;
    }
    let (dir, sent) = offer(&job, current).await?;
    show(context, &sent.report, Some(&dir));
    conclude(sent, Some(&context.store.relative(dir.path())))
}

/// A load that a deployment is offered.
struct Job<'a> {
    context: &'a Context,
    request: &'a Request,
    assignment: &'a Assignment,
    sender: &'a Sender,
    endpoint: &'a str,
}

/// Sends the workload and records it; the run's directory, for whoever goes on from there (`sweep`).
pub(crate) async fn perform(context: &Context, request: Request) -> Result<RunDir> {
    let workload = describe(&request)?;
    let current = super::current(context, &request.selection)?;
    super::still_running(context, &current.deployment)?;
    let endpoint = endpoint_name(&current, &request)?;
    let (assignment, sender) = assign(context, &request, workload, &current, &endpoint)?;
    let job = Job { context, request: &request, assignment: &assignment, sender: &sender, endpoint: &endpoint };
    let (dir, sent) = offer(&job, current).await?;
    conclude(sent, Some(&context.store.relative(dir.path())))?;
    Ok(dir)
}

/// The generator on a client host: a workload on stdin, its report on stdout.
pub(crate) async fn worker() -> Result<()> {
    worker::run().await
}

/// Who sends, and everything that the sending hosts need to know.
fn assign(
    context: &Context,
    request: &Request,
    mut workload: Workload,
    current: &Current,
    endpoint: &str,
) -> Result<(Assignment, Sender)> {
    let sender = Sender::of(context, current, request)?;
    workload.clients = sender.clients().len().max(1) as u64;
    let inside = !sender.clients().is_empty();
    let requests = match &request.script {
        Some(path) => Requests::Script(deployed_script(current, request, path, inside)?),
        None => Requests::of_endpoint(&context.store, current, endpoint, inside)?,
    };
    if request.probe > 0.0 {
        probe::of(current.app, endpoint)?;
    }
    let format = ASSIGNMENT_FORMAT;
    let assignment =
        Assignment { format, workload, requests, trust: trust(request)?, probe: request.probe, attended: false };
    Ok((assignment, sender))
}

/// Makes the run's directory, sends the load, and writes what was measured.
async fn offer(job: &Job<'_>, mut current: Current) -> Result<(RunDir, Sent)> {
    let Job { context, assignment, .. } = *job;
    let _lock = context.store.lock("wkld")?;
    let loading = Duration::from_nanos(assignment.workload.schedule().duration_ns());
    let delay = super::delay::Guard::start(context, &current, loading).await?;
    let (dir, mut run) = record::begin(job, &current, &assignment.workload)?;
    remember(job, &mut current, &run, &dir)?;
    let storage = Storage::before(context, &current).await;
    let mut sent = match job.sender.send(assignment).await {
        Ok(sent) => sent,
        Err(error) => return Err(gave_up(&dir, &mut run, error)),
    };
    let void = delay.end().await;
    sent.lost.extend(machines::lost(context, &current).await);
    machines::spent(&current.deployment, &mut run.other);
    record::finish(&dir, &mut run, &sent, &assignment.requests.shown_url(), void)?;
    if let Some(storage) = storage {
        storage.after(&dir).await?;
    }
    Ok((dir, sent))
}

/// `--find-max` on a deployment: every step is a run of its own.
async fn search(job: &Job<'_>, mut current: Current) -> Result<()> {
    let Job { context, request, assignment, sender, .. } = *job;
    let _lock = context.store.lock("wkld")?;
    let url = assignment.requests.shown_url();
    let keep = |step: &Assignment, sent: &Sent| {
        let (dir, mut run) = record::begin(job, &current, &step.workload)?;
        remember(job, &mut current, &run, &dir)?;
        record::finish(&dir, &mut run, sent, &url, Vec::new())?;
        Ok(Some(dir))
    };
    find_max::run(context, (assignment, sender), request.rate, &request.slo, keep).await
}

/// `--url`: no deployment; wrk2's text is the result, and `--out` keeps the rest.
async fn drive_url(context: &Context, request: &Request, workload: Workload, url: &str) -> Result<()> {
    let requests = match &request.script {
        Some(path) => Requests::Script(Script::read(path, url, request.script_args.clone())?),
        None => Requests::Url { url: url.to_owned() },
    };
    let (format, trust, sender) = (ASSIGNMENT_FORMAT, trust(request)?, Sender::here());
    let assignment = Assignment { format, workload, requests, trust, probe: 0.0, attended: false };
    if request.probe > 0.0 {
        return Err(Plain::usage("--probe needs a deployment, not --url").into());
    }
    if context.dry_run {
        ui::out(plan_line(&assignment, &[]));
        return Ok(());
    }
    if request.find_max {
        return find_max::run(context, (&assignment, &sender), request.rate, &request.slo, |_, _| Ok(None)).await;
    }
    let sent = sender.send(&assignment).await?;
    let report = &sent.report;
    let text = record::wrk2_text(report, url, assignment.workload.schedule().duration_ns() as f64 / 1e9);
    if let Some(out) = &request.out {
        let dir = RunDir::new(out);
        crate::store::write_atomic(&dir.client_out(0), text.as_bytes())?;
        record::write_measured(&dir, report)?;
    }
    if !context.json {
        ui::out_raw(text);
    }
    show(context, report, None);
    conclude(sent, request.out.as_ref().map(|out| out.display().to_string()).as_deref())
}

/// The script with the deployment's front ends as `HOST_EU` and `HOST_US`.
fn deployed_script(current: &Current, request: &Request, path: &Path, inside: bool) -> Result<Script> {
    let origin = requests::url_for(current, &current.deployment.origin_url, inside)?;
    let replica = requests::url_for(current, &current.deployment.replica_url, inside)?;
    let path_of = |endpoint: &str| requests::path_of(current.app, endpoint).unwrap_or("/");
    let url = format!("{origin}{}", request.endpoint.as_deref().map_or("/", path_of));
    let mut script = Script::read(path, &url, request.script_args.clone())?;
    script.env.insert("HOST_EU".into(), origin);
    script.env.insert("HOST_US".into(), replica);
    Ok(script)
}

fn trust(request: &Request) -> Result<Trust> {
    match (&request.ca, request.insecure) {
        (_, true) => Ok(Trust::Anyone),
        (Some(path), false) => Trust::with_file(path).map_err(|error| {
            Plain::usage(format!("cannot read the certificates `{}`: {error}", path.display())).into()
        }),
        (None, false) => Ok(Trust::Public),
    }
}

/// Whether a load on one of the endpoints of `app` can be offered at all, before anything runs.
///
/// # Errors
/// Exit code 2 with what cannot be used.
pub(crate) fn check(app: &App, request: &Request) -> Result<()> {
    describe(request)?;
    let name = request.endpoint.as_deref().unwrap_or_default();
    match requests::known(app, name)?.kind {
        EndpointKind::Steps(_) => {
            Err(Plain::usage(format!("endpoint `{name}` is a list of steps, not a load at a rate")).into())
        }
        _ => Ok(()),
    }
}

/// The workload that the options describe, checked.
fn describe(request: &Request) -> Result<Workload> {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let usage = |why: String| Plain::usage(why);
    let pieces = match (&request.ramp, request.rate) {
        (Some(ramp), _) => parse_ramp(ramp).map_err(usage)?,
        (None, Some(rate)) => {
            let rate = Rate::new(rate);
            vec![Piece { duration_ns: ns(request.duration), from: rate, to: rate }]
        }
        (None, None) if request.find_max => {
            let rate = Rate::new(1.0);
            vec![Piece { duration_ns: ns(request.duration), from: rate, to: rate }]
        }
        (None, None) => return Err(Plain::usage("no rate given").with_hint("add -r REQUESTS_PER_SECOND").into()),
    };
    let workload = Workload {
        pieces,
        arrivals: request.arrivals.parse().map_err(usage)?,
        seed: request.seed,
        warmup_ns: ns(request.warmup),
        connections: request.connections,
        max_connections: request.max_connections.unwrap_or(request.connections),
        threads: request.threads,
        pace: request.pace.parse().map_err(usage)?,
        timeout_ns: ns(request.timeout),
        drain_ns: ns(request.drain),
        start_at_us: request.start_at.map(|seconds| (seconds * 1e6) as i64),
        client: 0,
        clients: 1,
    };
    workload.check()?;
    Ok(workload)
}

/// The endpoint's name; a script's own name when only a script is given.
fn endpoint_name(current: &Current, request: &Request) -> Result<String> {
    let known = || current.app.endpoints.iter().map(|endpoint| endpoint.name).collect::<Vec<_>>().join(", ");
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = request
        .endpoint
        .clone()
        .or_else(|| request.script.as_ref().map(stem))
        .ok_or_else(|| Plain::usage("no endpoint given").with_hint(format!("add -E with one of: {}", known())))?;
    // The name becomes a directory.
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && name != "..";
    if request.script.is_some() && !fits {
        let hint = "give the run a name of letters, digits, `-`, `_` and `.` with -E";
        return Err(Plain::usage(format!("`{name}` cannot name a run")).with_hint(hint).into());
    }
    Ok(name)
}

fn plan_line(assignment: &Assignment, clients: &[String]) -> String {
    let workload = &assignment.workload;
    let schedule = workload.schedule();
    let from = if clients.is_empty() { String::new() } else { format!(" from each of {}", clients.join(", ")) };
    format!(
        "send {:.0} requests in {} s to {} over {} and {}{from}",
        schedule.expected(),
        schedule.duration_ns() as f64 / 1e9,
        assignment.requests.shown_url(),
        ui::count(workload.connections, "connection"),
        ui::count(workload.threads, "thread"),
    )
}

/// Links the next commands to this run.
fn remember(job: &Job<'_>, current: &mut Current, run: &RunRecord, dir: &RunDir) -> Result<()> {
    let Job { context, request, .. } = *job;
    let state = &mut current.state;
    state.wkld_duration = Some(run.workload.duration_s);
    state.wkld_rate = Some(run.workload.rate);
    state.wkld_connections = Some(request.connections);
    state.wkld_threads = Some(request.threads);
    state.wkld_tag = Some(run.tag.clone());
    state.wkld_endpoint = Some(run.endpoint.clone());
    // Relative to the root, so that the root may be moved, and may have a name that is no text.
    state.local_gather_path = Some(context.store.relative(dir.path()));
    context.store.write_state(current.target, state)?;
    Ok(())
}

/// The load could not be started: the record says so.
fn gave_up(dir: &RunDir, run: &mut RunRecord, error: crate::error::Error) -> crate::error::Error {
    run.ended_us = Some(jiff::Timestamp::now().as_microsecond());
    run.outcome.add(Status::Void, error.line());
    // The first error is the one to tell.
    dir.write_record(run).ok();
    error
}

/// Prints the result: a few lines, or JSON.
fn show(context: &Context, report: &Report, dir: Option<&RunDir>) {
    if context.json {
        let mut summary = report.summary();
        if let (Some(map), Some(dir)) = (summary.as_object_mut(), dir) {
            map.insert("run".into(), context.store.relative(dir.path()).into());
        }
        ui::out(serde_json::to_string_pretty(&summary).unwrap_or_default());
        return;
    }
    let outcome = record::outcome(report);
    let void = if outcome.status == Status::Void { "the run is void: " } else { "" };
    for reason in &outcome.reasons {
        ui::warn(format_args!("{void}{reason}"));
    }
    let Some(dir) = dir else { return };
    let latency = report.latency_with_bounds();
    let ms = |q: f64| latency.quantile(q) as f64 / 1e6;
    let lag = report.histograms.lag_woke_late.quantile(0.99) as f64 / 1e6;
    ui::out(format!(
        "{} of {} requests ok, {:.2} requests/s; latency p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms; \
         client late by {lag:.3} ms at p99 ({} pace)",
        report.counts.ok,
        report.counts.due,
        report.throughput(),
        ms(0.5),
        ms(0.9),
        ms(0.99),
        report.pace.as_str(),
    ));
    if let Some(probe) = &report.probe {
        ui::out(probe_line(probe));
    }
    ui::out(format!("run: {}", context.store.relative(dir.path())));
}

fn probe_line(probe: &ProbeReport) -> String {
    let ms = |q: f64| probe.visibility.quantile(q) as f64 / 1e6;
    format!(
        "probe: {} of {} first reads missed the post; visible after p50 {:.1} ms, p99 {:.1} ms ({} never, {} not probed)",
        probe.first_misses,
        probe.probed,
        ms(0.5),
        ms(0.99),
        probe.never,
        probe.skipped
    )
}

/// Runs the script's `done`, and gives the exit code that the run deserves.
fn conclude(sent: Sent, run: Option<&str>) -> Result<()> {
    let Sent { report, scripts, lost, .. } = sent;
    let kept = run.map_or_else(String::new, |run| format!("; what was measured is in `{run}`"));
    if let Some(error) = &report.script_error {
        return Err(Plain::usage(format!("{error}{kept}")).into());
    }
    if let Some(scripts) = scripts
        && let Ok(scripts) = scripts.lock()
    {
        scripts.done(&report)?;
    }
    if report.interrupted {
        let seconds = report.measured_s;
        return Err(Plain::new(Exit::Interrupted, format!("interrupted after {seconds:.1} s of load{kept}")).into());
    }
    if !lost.is_empty() {
        return Err(Plain::new(Exit::RunVoid, format!("{}{kept}", lost.join("; "))).into());
    }
    Ok(())
}
