//! `maestro gather`: waits for the last notifications, reads the traces of a run, and writes what they say into the
//! run's directory.

mod conditions;
mod drain;
mod files;
mod queue;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use crate::Context;
use crate::analysis::{self, SourceFacts, Summary};
use crate::command::Selection;
use crate::error::{Exit, Plain, Result};
use crate::store::RunDir;
use crate::trace::jaeger::{Jaeger, Wanted};
use crate::trace::{Tally, Trace, file};
use crate::ui;

use queue::Brokers;
use subject::Subject;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub jaeger: Option<String>,
    pub traces: Vec<PathBuf>,
    pub deps: Option<PathBuf>,
    pub brokers: Vec<String>,
    pub run: Option<PathBuf>,
    pub service: Option<String>,
    pub drain_timeout: Duration,
    pub warmup: Option<Duration>,
}

/// What was gathered.
pub(crate) struct Gathered {
    /// What the traces say.
    pub summary: Summary,
    /// Where it was written; nowhere when only files were analysed and no run was named.
    pub run: Option<RunDir>,
    title: String,
}

/// Everything read from the trace store or from files.
struct Readings {
    traces: Vec<Trace>,
    tally: Tally,
    notified: Option<u64>,
    facts: SourceFacts,
    pending: analysis::Pending,
    read_at_us: Option<i64>,
}

/// Carries it out and says what came of it.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let json = context.json;
    let gathered = gather(context, request).await?;
    if json {
        let section = serde_json::to_string_pretty(&gathered.summary).unwrap_or_default();
        ui::out(section);
        return Ok(());
    }
    analysis::verdict(&gathered.title, &gathered.summary).iter().for_each(ui::out);
    match &gathered.run {
        Some(run) => ui::out(format_args!("  files         {}", context.store.relative(run.path()))),
        None => ui::note("nothing was written: name a directory with --run DIR"),
    }
    for flag in &gathered.summary.flags {
        ui::warn(flag);
    }
    Ok(())
}

/// Carries it out without a word on stdout.
pub(crate) async fn gather(context: &Context, request: Request) -> Result<Gathered> {
    let subject = Subject::find(context, &request)?;
    let live = request.traces.is_empty() && request.jaeger.is_none();
    if let Some(deployment) = subject.deployment.as_ref().filter(|_| live) {
        super::still_running(context, deployment)?;
    }
    if context.dry_run {
        return Err(Plain::usage("gather reads and writes its own files only; there is no plan to show").into());
    }
    let brokers = if request.traces.is_empty() { Brokers::find(context, &request, &subject).await } else { None };
    let context = context.clone();
    let worked = tokio::task::spawn_blocking(move || work(&context, &request, subject, brokers)).await;
    worked.map_err(|error| Plain::new(Exit::Bug, format!("gather ended early: {error}")))?
}

fn work(context: &Context, request: &Request, subject: Subject, brokers: Option<Brokers>) -> Result<Gathered> {
    let readings = if request.traces.is_empty() {
        read_server(request, &subject, brokers)?
    } else {
        read_files(request, &subject)?
    };
    let conditions = conditions::conditions(context, request, &subject, &readings);
    let sorted = analysis::sort(&readings.traces, &conditions);
    let summary = analysis::summarise(&sorted, &conditions, &readings.tally, readings.facts.clone());
    if let Some(run) = &subject.run {
        files::write(&files::Written {
            context,
            subject: &subject,
            run,
            sorted: &sorted,
            conditions: &conditions,
            summary: &summary,
            notified: readings.notified,
        })?;
    }
    if summary.violations.n == 0 {
        return Err(nothing(&summary, &readings, &subject).into());
    }
    Ok(Gathered { summary, title: subject.title(context), run: subject.run })
}

fn read_files(request: &Request, subject: &Subject) -> Result<Readings> {
    let (mut traces, mut tally) = (Vec::new(), Tally::default());
    for path in &request.traces {
        file::read(path, &subject.replication.shape, &mut tally, &mut |trace| traces.push(trace))?;
    }
    let notified = match &request.deps {
        None => None,
        Some(path) => {
            let text = crate::store::read_text(path)?;
            let calls = crate::trace::jaeger::calls_into(&text, subject.replication.notified_service);
            warn_without_edge(calls, subject);
            calls
        }
    };
    let facts = SourceFacts {
        from: request.traces.iter().map(|path| path.display().to_string()).collect(),
        answers: request.traces.len() as u64,
        bytes: tally.bytes,
        damage: tally.damage.clone(),
        drained: analysis::Drained {
            by: "none",
            last_seen: "not known: saved answers were read".to_owned(),
            ..analysis::Drained::default()
        },
    };
    Ok(Readings { traces, tally, notified, facts, pending: analysis::Pending::Unknown, read_at_us: None })
}

fn read_server(request: &Request, subject: &Subject, brokers: Option<Brokers>) -> Result<Readings> {
    let jaeger = Jaeger::new(subject.jaeger_url()?)?;
    let now = jiff::Timestamp::now();
    let sent_until_us = subject.load_us().and_then(|(_, end)| end).unwrap_or(now.as_microsecond());
    let counted_from_us = sent_until_us + queue::REFRESH.as_micros() as i64;
    let watched = drain::Watched { jaeger: &jaeger, subject, brokers, counted_from_us };
    let drained = drain::drain(watched, request.drain_timeout)?;
    let now = jiff::Timestamp::now();
    let notified = jaeger.calls_into(subject.replication.notified_service, now.as_millisecond())?;
    warn_without_edge(notified, subject);
    let service = request.service.as_deref().unwrap_or(subject.replication.traced_service);
    let expected = subject.expected().max(notified);
    let wanted = Wanted { service, window_us: subject.asked_us(now.as_microsecond()), expected };
    let mut traces = Vec::new();
    let fetched = jaeger.read(&wanted, &subject.replication.shape, &mut traces)?;
    if fetched.tally.present == 0 {
        return Err(empty_store(&jaeger, service).into());
    }
    let facts = SourceFacts {
        from: vec![jaeger.base().to_owned()],
        answers: fetched.pages,
        bytes: fetched.tally.bytes,
        damage: fetched.tally.damage.clone(),
        drained: drained.facts,
    };
    let read_at_us = Some(now.as_microsecond());
    Ok(Readings { traces, tally: fetched.tally, notified, facts, pending: drained.pending, read_at_us })
}

fn warn_without_edge(notified: Option<u64>, subject: &Subject) {
    if notified.is_none() {
        let service = subject.replication.notified_service;
        ui::warn(format_args!(
            "no dependency leads into `{service}`: notifications are counted from the traces instead"
        ));
    }
}

/// Which services the store knows, when it has nothing for the one asked for.
fn empty_store(jaeger: &Jaeger, service: &str) -> Plain {
    let message = format!("no traces of service `{service}` at `{}`", jaeger.base());
    let hint = match jaeger.services() {
        Ok(known) if known.is_empty() => "the trace store is empty: run a workload first".to_owned(),
        Ok(known) if known.iter().any(|name| name == service) => {
            "the service is known, but no trace lies in the run's time window".to_owned()
        }
        Ok(known) => format!("services it knows: {}", known.join(", ")),
        Err(_) => "check that this is the address of a trace query API".to_owned(),
    };
    Plain::new(Exit::StepFailed, message).with_hint(hint)
}

/// What to say when there is not one complete observation.
fn nothing(summary: &Summary, readings: &Readings, subject: &Subject) -> Plain {
    let read = readings.tally.present;
    let mut causes: Vec<(&String, &u64)> = summary.ledger.lost.iter().collect();
    causes.sort_by(|a, b| b.1.cmp(a.1));
    let main = causes.first().map(|(cause, count)| format!("; mostly {cause} ({count})")).unwrap_or_default();
    let left: u64 = summary.excluded.values().sum();
    let left = if left > 0 { format!("; {left} left out") } else { String::new() };
    let message = format!("not one complete observation in {read} traces{main}{left}");
    Plain::new(Exit::RunVoid, message).with_hint(format!(
        "an observation needs the spans {}, {}, {} and {} with their tags",
        subject.replication.shape.post.operation,
        subject.replication.shape.written.operation,
        subject.replication.shape.queued.operation,
        subject.replication.shape.read.operation
    ))
}
