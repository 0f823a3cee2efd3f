//! A load from client hosts: every one gets its share and the same instant to start at, their seconds are shown together
//! while it lasts, and their reports add up exactly. A client that is lost is told of; the others go on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::clocks::Look;
use super::drive::{Watch, progress};
use super::worker::{Assignment, Told};
use crate::error::{Error, Exit, Plain, Result};
use crate::execute::cluster::{Generator, Hosts};
use crate::execute::until_interrupted;
use crate::ui;
use crate::wkld::report::{Report, Second};

/// Between the last look at the clients and the start of their load: a connection of each to the front ends, and some.
const LEAD: Duration = Duration::from_secs(1);

/// A report that has not come this long after the last answer could have come is not going to come.
const GRACE: Duration = Duration::from_secs(10);

/// How long a probe may go on after the load.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// Client hosts that can be told to send.
pub(super) struct Clients<'a> {
    pub(super) hosts: &'a Hosts,
    /// Their names; a client's number is its place here.
    pub(super) names: &'a [String],
    /// SHA-256 of their copies of this program.
    pub(super) tool: &'a str,
    /// The deployment's tag.
    pub(super) tag: &'a str,
}

/// What clients measured, by their numbers, with their instants on this machine's clock.
pub(super) struct Measured {
    pub(super) parts: Vec<(usize, Report)>,
    /// Those that did not report, and why.
    pub(super) lost: Vec<String>,
}

/// What is heard of a client.
enum Event {
    Second(Box<Second>),
    Said(String),
    Ended(Result<Box<Report>>),
}

impl Clients<'_> {
    /// Sends the load. `took` is how long a short conversation with the slowest client takes.
    ///
    /// # Errors
    /// When a client cannot be started, or none has reported.
    pub(super) async fn send(&self, assignment: &Assignment, clocks: &Look, took: Duration) -> Result<Measured> {
        let now_us = jiff::Timestamp::now().as_microsecond();
        let start_us = assignment.workload.start_at_us.unwrap_or(now_us + (LEAD + 3 * took).as_micros() as i64);
        if start_us <= now_us {
            let ago = (now_us - start_us) as f64 / 1e6;
            return Err(Plain::usage(format!("the instant to start at has passed {ago:.3} s ago")).into());
        }
        let generators = self.start(assignment, start_us, clocks).await?;
        let deadline = Instant::now() + Duration::from_micros((start_us - now_us) as u64) + patience(assignment);
        let (stop, stopped) = watch::channel(false);
        let signals = tokio::spawn(stop_on_signals(stop));
        let (tell, told) = mpsc::unbounded_channel();
        for (number, generator) in generators.into_iter().enumerate() {
            let stopped = stopped.clone();
            tokio::spawn(attend(number, generator, tell.clone(), stopped, deadline));
        }
        drop(tell);
        let measured = self.listen(told, progress(&assignment.workload), clocks).await;
        signals.abort();
        measured
    }

    async fn start(&self, assignment: &Assignment, start_us: i64, clocks: &Look) -> Result<Vec<Generator>> {
        let shares = assignment.split(self.names.len() as u64, start_us);
        let starting = self.names.iter().zip(shares).map(|(name, mut share)| async move {
            // Every client starts by its own clock.
            share.workload.start_at_us = Some(start_us + clocks.ahead_us(name));
            let line = serde_json::to_string(&share).map_err(|error| Plain::new(Exit::Bug, error.to_string()))?;
            Generator::start(&self.hosts.remote(name)?, self.tool, self.tag, &line).await
        });
        futures_util::future::try_join_all(starting).await
    }

    /// Listens to all clients until the last one has ended.
    async fn listen(
        &self,
        mut told: mpsc::UnboundedReceiver<(usize, Event)>,
        watch: Watch,
        clocks: &Look,
    ) -> Result<Measured> {
        let mut live = Live { watch, clients: self.names.len(), seconds: BTreeMap::new() };
        let mut measured = Measured { parts: Vec::new(), lost: Vec::new() };
        let mut first: Option<Error> = None;
        while let Some((number, event)) = told.recv().await {
            let name = &self.names[number];
            match event {
                Event::Second(second) => live.add(&second),
                Event::Said(line) => ui::service_line(number, name, &line),
                Event::Ended(Ok(mut report)) => {
                    report.started_us -= clocks.ahead_us(name);
                    report.ended_us -= clocks.ahead_us(name);
                    measured.parts.push((number, *report));
                    live.without_one();
                }
                Event::Ended(Err(error)) => {
                    let why = format!("client `{name}` was lost: {}", error.line());
                    ui::warn(&why);
                    measured.lost.push(why);
                    first.get_or_insert(error);
                    live.without_one();
                }
            }
        }
        measured.parts.sort_by_key(|(number, _)| *number);
        match first {
            Some(error) if measured.parts.is_empty() => Err(error),
            _ => Ok(measured),
        }
    }
}

/// From the start of the load to the latest sensible report.
fn patience(assignment: &Assignment) -> Duration {
    let workload = &assignment.workload;
    let probing = if assignment.probe > 0.0 { PROBE_LIMIT } else { Duration::ZERO };
    Duration::from_nanos(workload.schedule().duration_ns() + workload.drain_ns) + probing + GRACE
}

/// Passes on what one client says until it has ended.
async fn attend(
    number: usize,
    mut generator: Generator,
    tell: mpsc::UnboundedSender<(usize, Event)>,
    mut stopped: watch::Receiver<bool>,
    deadline: Instant,
) {
    let mut report = None;
    let mut stopping = false;
    let ended = loop {
        let line = tokio::select! {
            line = generator.line() => line,
            asked = stopped.changed(), if !stopping => {
                stopping = true;
                if asked.is_ok() {
                    generator.stop().await;
                }
                continue;
            }
            () = tokio::time::sleep_until(deadline) => {
                let why = format!("it did not report within {} s after the last request", GRACE.as_secs());
                break Err(Plain::new(Exit::Unreachable, why).into());
            }
        };
        let event = match line.as_deref().map(serde_json::from_str::<Told>) {
            None => break generator.end().await,
            Some(Ok(Told::Second(second))) => Event::Second(second),
            Some(Ok(Told::Report(done))) => {
                report = Some(done);
                continue;
            }
            // A script prints what it likes.
            Some(Err(_)) => Event::Said(line.unwrap_or_default()),
        };
        // Nobody listens any more only when this program is about to end.
        tell.send((number, event)).ok();
    };
    let ended = match (ended, report) {
        (Err(error), _) => Err(error),
        (Ok(()), Some(report)) => Ok(report),
        (Ok(()), None) => Err(Plain::new(Exit::StepFailed, "it ended without a report").into()),
    };
    tell.send((number, Event::Ended(ended))).ok();
}

/// The first signal ends the load, and its reports are waited for; the second one ends this process.
async fn stop_on_signals(stop: watch::Sender<bool>) {
    until_interrupted().await;
    stop.send_replace(true);
    until_interrupted().await;
    std::process::exit(Exit::Interrupted as i32);
}

/// The seconds of all clients together.
struct Live {
    watch: Watch,
    /// Clients that still send.
    clients: usize,
    /// Seconds that are not complete, and how many clients have told of each.
    seconds: BTreeMap<u64, (Second, usize)>,
}

impl Live {
    fn add(&mut self, second: &Second) {
        match self.seconds.get_mut(&second.second) {
            Some((sum, clients)) => {
                sum.add(second);
                *clients += 1;
            }
            None => {
                self.seconds.insert(second.second, (second.clone(), 1));
            }
        }
        self.show();
    }

    fn without_one(&mut self) {
        self.clients = self.clients.saturating_sub(1);
        self.show();
    }

    /// Shows what is complete, in order.
    fn show(&mut self) {
        while let Some(entry) = self.seconds.first_entry()
            && entry.get().1 >= self.clients
        {
            (self.watch)(&entry.remove().0);
        }
    }
}
