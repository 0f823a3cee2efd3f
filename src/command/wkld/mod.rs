//! `maestro wkld`: offers a load to the running application (or to any URL) and keeps what was measured.

mod host;
mod record;
mod requests;
mod steps;
mod storage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::storage::Storage;
use crate::Context;
use crate::app::EndpointKind;
use crate::command::{Current, Selection};
use crate::error::{Exit, Plain, Result};
use crate::store::{RunDir, RunRecord};
use crate::ui;
use crate::wkld::report::{Report, Second};
use crate::wkld::schedule::{Piece, Rate, parse_ramp};
use crate::wkld::tls::Trust;
use crate::wkld::{self, Stop, WkldError, Workload};
use requests::Requests;

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
    pub probe: f64,
    pub find_max: bool,
    pub slo: String,
    pub round: u32,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let workload = describe(&request)?;
    workload.check()?;
    if let Some(url) = &request.url {
        return drive_url(context, &request, &workload, url).await;
    }
    let current = super::current(context, &request.selection)?;
    let endpoint = endpoint_name(&current, &request)?;
    let requests = Requests::of_endpoint(&context.store, &current, &endpoint)?;
    super::still_running(context, &current.deployment)?;
    if let Some(EndpointKind::Steps(list)) = current.app.endpoint(&endpoint).map(|e| e.kind) {
        return tokio::task::block_in_place(|| steps::run(context, &current, &request, list));
    }
    if context.dry_run {
        ui::out(plan_line(&workload, &requests));
        return Ok(());
    }
    let (dir, report) = offer(context, &request, current, &workload, &requests, &endpoint).await?;
    show(context, &report, Some(&dir));
    end(&report, Some(&context.store.relative(dir.path())))
}

/// Sends the workload and records it; the run's directory, for whoever goes on from there (`sweep`).
pub(crate) async fn perform(context: &Context, request: Request) -> Result<RunDir> {
    let workload = describe(&request)?;
    workload.check()?;
    let current = super::current(context, &request.selection)?;
    let endpoint = endpoint_name(&current, &request)?;
    let requests = Requests::of_endpoint(&context.store, &current, &endpoint)?;
    super::still_running(context, &current.deployment)?;
    let (dir, report) = offer(context, &request, current, &workload, &requests, &endpoint).await?;
    end(&report, Some(&context.store.relative(dir.path())))?;
    Ok(dir)
}

/// Makes the run's directory, sends the load, and writes what was measured.
async fn offer(
    context: &Context,
    request: &Request,
    mut current: Current,
    workload: &Workload,
    requests: &Requests,
    endpoint: &str,
) -> Result<(RunDir, Report)> {
    let _lock = context.store.lock("wkld")?;
    let (dir, mut run) = record::begin(context, &current, request, endpoint, workload)?;
    remember(context, &mut current, request, &run, &dir)?;
    let storage = tokio::task::block_in_place(|| Storage::before(&current))?;
    let report = match load(workload, requests, &Trust::default()).await {
        Ok(report) => report,
        Err(error) => return Err(gave_up(&dir, &mut run, error)),
    };
    let text = record::wrk2_text(&report, &requests.shown_url(), run.workload.duration_s);
    record::finish(&dir, &mut run, &report, &text)?;
    if let Some(storage) = storage {
        tokio::task::block_in_place(|| storage.after(&dir))?;
    }
    Ok((dir, report))
}

/// `--url`: no deployment, no run directory; wrk2's text is the result.
async fn drive_url(context: &Context, request: &Request, workload: &Workload, url: &str) -> Result<()> {
    let requests = Requests::Url { url: url.to_owned() };
    if context.dry_run {
        ui::out(plan_line(workload, &requests));
        return Ok(());
    }
    let report = load(workload, &requests, &Trust::default()).await?;
    if !context.json {
        ui::out_raw(record::wrk2_text(&report, url, request.duration.as_secs_f64()));
    }
    show(context, &report, None);
    end(&report, None)
}

/// The generator on a client host: a workload on stdin, its report on stdout.
pub(crate) async fn worker() -> Result<()> {
    Err(super::unavailable("worker"))
}

/// The workload that the options describe.
fn describe(request: &Request) -> Result<Workload> {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let usage = |why: String| Plain::usage(why);
    let pieces = match (&request.ramp, request.rate) {
        (Some(ramp), _) => parse_ramp(ramp).map_err(usage)?,
        (None, Some(rate)) => {
            let rate = Rate::new(rate);
            vec![Piece { duration_ns: ns(request.duration), from: rate, to: rate }]
        }
        (None, None) => return Err(Plain::usage("no rate given").with_hint("add -r REQUESTS_PER_SECOND").into()),
    };
    Ok(Workload {
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
    })
}

fn endpoint_name(current: &Current, request: &Request) -> Result<String> {
    request.endpoint.clone().ok_or_else(|| {
        let known: Vec<&str> = current.app.endpoints.iter().map(|endpoint| endpoint.name).collect();
        Plain::usage("no endpoint given").with_hint(format!("add -E with one of: {}", known.join(", "))).into()
    })
}

fn plan_line(workload: &Workload, requests: &Requests) -> String {
    let schedule = workload.schedule();
    format!(
        "send {:.0} requests in {} s to {} over {} and {}",
        schedule.expected(),
        schedule.duration_ns() as f64 / 1e9,
        requests.shown_url(),
        ui::count(workload.connections, "connection"),
        ui::count(workload.threads, "thread"),
    )
}

/// Sends the load from threads of its own while ^C is listened for.
async fn load(workload: &Workload, requests: &Requests, trust: &Trust) -> Result<Report> {
    let stop = Arc::new(Stop::default());
    let watcher = tokio::spawn(stop_on_signal(Arc::clone(&stop)));
    let (workload, requests, trust) = (workload.clone(), requests.clone(), trust.clone());
    let done = tokio::task::spawn_blocking(move || -> std::result::Result<Report, WkldError> {
        let hosts = requests.hosts(&trust)?;
        let mut sources = requests.sources(&hosts, workload.seed)?;
        let whole = workload.schedule().duration_ns() / 1_000_000_000;
        let progress = ui::Progress::new("load", whole.max(1));
        let mut watch = |second: &Second| progress.set((second.second + 1).min(whole.max(1)), &line_of(second));
        wkld::run(&workload, hosts, &mut *sources, &stop, &mut watch)
    });
    let report = done.await.map_err(|error| Plain::new(Exit::Bug, format!("the load generator panicked: {error}")))?;
    watcher.abort();
    Ok(report?)
}

async fn stop_on_signal(stop: Arc<Stop>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    stop.stop();
}

/// One second in a few words.
fn line_of(second: &Second) -> String {
    let p99 = second.latency.unpack().quantile(0.99) as f64 / 1e6;
    let errors: u64 = second.errors.values().sum();
    let failed = if errors > 0 { format!(", {errors} failed") } else { String::new() };
    format!("{} due, {} ok{failed}, p99 {p99:.1} ms", second.due, second.ok)
}

/// Links the next commands to this run.
fn remember(context: &Context, current: &mut Current, request: &Request, run: &RunRecord, dir: &RunDir) -> Result<()> {
    let state = &mut current.state;
    state.wkld_duration = Some(run.workload.duration_s);
    state.wkld_rate = Some(run.workload.rate);
    state.wkld_connections = Some(request.connections);
    state.wkld_threads = Some(request.threads);
    state.wkld_tag = Some(run.tag.clone());
    state.wkld_endpoint = Some(run.endpoint.clone());
    state.local_gather_path = Some(dir.path().display().to_string());
    context.store.write_state(current.target, state)?;
    Ok(())
}

/// The load could not be started: the record says so.
fn gave_up(dir: &RunDir, run: &mut RunRecord, error: crate::error::Error) -> crate::error::Error {
    run.ended_us = Some(jiff::Timestamp::now().as_microsecond());
    run.outcome.add(crate::store::Status::Void, error.line());
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
    for reason in &outcome.reasons {
        ui::warn(reason);
    }
    let Some(dir) = dir else { return };
    let latency = report.latency_with_bounds();
    let ms = |q: f64| latency.quantile(q) as f64 / 1e6;
    let lag = report.histograms.lag_woke_late.quantile(0.99) as f64 / 1e6;
    ui::out(format!(
        "{} of {} requests ok, {:.2} requests/s; latency p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms; \
         client late by {lag:.3} ms at p99 ({} pace)",
        report.ok,
        report.due,
        report.throughput(),
        ms(0.5),
        ms(0.9),
        ms(0.99),
        report.pace.as_str(),
    ));
    ui::out(format!("run: {}", context.store.relative(dir.path())));
}

/// The exit code that the run deserves.
fn end(report: &Report, run: Option<&str>) -> Result<()> {
    let kept = run.map_or_else(String::new, |run| format!("; what was measured is in `{run}`"));
    if let Some(error) = &report.script_error {
        return Err(Plain::usage(format!("{error}{kept}")).into());
    }
    if report.interrupted {
        let seconds = report.measured_s;
        return Err(Plain::new(Exit::Interrupted, format!("interrupted after {seconds:.1} s of load{kept}")).into());
    }
    Ok(())
}
