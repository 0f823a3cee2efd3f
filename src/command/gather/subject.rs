//! What is gathered: which app and run, from where, and what is known about the run beforehand.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Request;
use crate::Context;
use crate::app::{APPS, App, Replication};
use crate::embedded::client::Client;
use crate::error::{Plain, Result};
use crate::experiment::{TargetName, Variant};
use crate::store::{CONTROLLER, Deployment, RunDir, RunRecord, State, StoreError, parse_yaml};

/// The run and its circumstances.
pub(super) struct Subject {
    pub(super) app: &'static App,
    pub(super) replication: &'static Replication,
    pub(super) target: Option<TargetName>,
    /// The state that led to the run; empty when only files are analysed.
    pub(super) state: State,
    pub(super) deployment: Option<Deployment>,
    /// Where results go.
    pub(super) run: Option<RunDir>,
    /// `run.yml`; old runs have none.
    pub(super) record: Option<RunRecord>,
    /// As written in the placement.
    pub(super) zone_pair: Option<String>,
    jaeger: Option<String>,
}

impl Subject {
    /// Finds it from what was asked and from the state of the target.
    ///
    /// # Errors
    /// Exit code 2 with the next move, when there is no run or no address to read from.
    pub(super) fn find(context: &Context, request: &Request) -> Result<Subject> {
        if let Some(app) = request.selection.app {
            // Before anything is missed that it could never have.
            app.replication("gather")?;
        }
        let target = request.selection.target;
        let mut state = match target {
            Some(target) => context.store.read_state(target)?,
            None => State::default(),
        };
        let run = run_dir(context, request, target, &state)?;
        let mut record = None;
        if let Some(run) = &run {
            record = optional(run.read_record())?;
            if request.run.is_some()
                && let Some(own) = optional(State::read(&run.file(".last.yml")))?
            {
                state = own;
            }
        }
        let app = app(request, &state, record.as_ref())?;
        let replication = app.replication("gather")?;
        let deployment = deployment(context, target, app, &state, record.as_ref())?;
        let zone_pair = zone_pair(context, record.as_ref(), deployment.as_ref(), &state);
        let known = deployment.as_ref().and_then(|deployment| deployment.jaeger_url.clone());
        let jaeger = request.jaeger.clone().or(known);
        let subject = Subject { app, replication, target, state, deployment, run, record, zone_pair, jaeger };
        if request.traces.is_empty() {
            subject.jaeger_url()?;
        }
        Ok(subject)
    }

    /// The miniature that the run's traces are read from, if it is one: it knows what is still on its way.
    pub(super) fn miniature(&self) -> Option<Client> {
        let deployment = self.deployment.as_ref().filter(|d| d.target == TargetName::Embedded && d.pid.is_some())?;
        let url = deployment.jaeger_url.as_deref().filter(|url| self.jaeger.as_deref() == Some(*url))?;
        Some(Client::of_admin(url))
    }

    /// The address of the trace API.
    ///
    /// # Errors
    /// Exit code 2 when nobody named one.
    pub(super) fn jaeger_url(&self) -> Result<&str> {
        self.jaeger.as_deref().ok_or_else(|| {
            let hint = match self.target {
                Some(target) => format!(
                    "start it with: maestro --{target} {} run, or name the API with --jaeger URL",
                    self.app.name
                ),
                None => "name a target, or the API with --jaeger URL, or saved answers with --traces FILE".to_owned(),
            };
            Plain::usage("no trace API is known to read from").with_hint(hint).into()
        })
    }

    /// With or without lineage.
    pub(super) fn variant(&self) -> Variant {
        let deployed = self.deployment.as_ref().and_then(|deployment| deployment.variant);
        let recorded = self.record.as_ref().map(|record| record.variant);
        recorded.or(self.state.antipode.map(Variant::from_antipode)).or(deployed).unwrap_or(Variant::Baseline)
    }

    /// First due instant and end of the load, us since the epoch on the clock of the host where requests come in.
    pub(super) fn load_us(&self) -> Option<(i64, Option<i64>)> {
        let record = self.record.as_ref().filter(|record| record.started_us > 0)?;
        let entry = record.clock_hosts.as_ref().map_or("", |hosts| hosts.entry.as_str());
        let ahead = super::conditions::between(&record.clock_offsets, CONTROLLER, entry);
        let ahead_us = ahead.map_or(0, |offset| offset.us.round() as i64);
        Some((record.started_us + ahead_us, record.ended_us.map(|end| end + ahead_us)))
    }

    /// The window of traces to ask for, us since the epoch: the load, and what it left behind.
    pub(super) fn asked_us(&self, now_us: i64) -> Option<(i64, i64)> {
        let (begin, end) = self.load_us()?;
        let end = end.unwrap_or(now_us);
        Some((begin - super::conditions::SLACK_US, end + super::conditions::SLACK_US))
    }

    /// How many traces there may be.
    pub(super) fn expected(&self) -> Option<u64> {
        let record = self.record.as_ref()?;
        let planned = (record.workload.rate * record.workload.duration_s).max(0.0) as u64;
        Some(record.load.as_ref().map_or(planned, |load| load.sent.max(load.ok)))
    }

    /// What the verdict is about, in one line.
    pub(super) fn title(&self, context: &Context) -> String {
        let pair = self.zone_pair.as_deref().map(|pair| format!("  {}", pair.to_uppercase())).unwrap_or_default();
        let place = match &self.run {
            Some(run) => context.store.relative(run.path()),
            None => "saved answers".to_owned(),
        };
        format!("{} {}{pair}  {place}", self.app.name, self.variant())
    }
}

/// A file that need not be there.
fn optional<T>(read: Result<T, StoreError>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where the run's files are: named, else the last workload's.
fn run_dir(context: &Context, request: &Request, target: Option<TargetName>, state: &State) -> Result<Option<RunDir>> {
    if let Some(path) = &request.run {
        return Ok(Some(RunDir::new(path)));
    }
    if let Some(path) = &state.local_gather_path {
        return Ok(Some(RunDir::new(local(context, path))));
    }
    if !request.traces.is_empty() {
        return Ok(None);
    }
    let Some(target) = target else {
        request.selection.target()?;
        return Ok(None);
    };
    let app = request.selection.app.unwrap_or(&APPS[0]);
    let endpoint = app.endpoints.first().map_or("ENDPOINT", |endpoint| endpoint.name);
    let hint = format!("first: maestro --{target} {} wkld -E {endpoint} -d 60 -r 100 -c 4 -t 2", app.name);
    Err(Plain::usage(format!("no workload has run on `{target}` yet")).with_hint(hint).into())
}

/// A recorded path; the Python tool wrote those of gcp as seen inside its container.
fn local(context: &Context, path: &str) -> PathBuf {
    let there = context.store.resolve(path);
    match Path::new(path).strip_prefix("/code") {
        Ok(inside) if !there.exists() => context.store.resolve(inside),
        _ => there,
    }
}

fn app(request: &Request, state: &State, record: Option<&RunRecord>) -> Result<&'static App> {
    let recorded = record.and_then(|record| App::find(&record.app));
    if request.selection.app.is_none()
        && let Some(app) = recorded
    {
        return Ok(app);
    }
    match request.selection.app(state) {
        // Saved answers alone: any app will do when the traces of all look alike.
        Err(_) if request.selection.target.is_none() && alike() => Ok(&APPS[0]),
        other => other,
    }
}

/// Whether the traces of all apps that have windows look alike.
fn alike() -> bool {
    let mut shapes = APPS.iter().filter_map(|app| app.replication.as_ref()).map(|replication| &replication.shape);
    let first = shapes.next();
    shapes.all(|shape| Some(shape) == first)
}

/// The deployment's record; checkouts of the Python tool have none.
fn deployment(
    context: &Context,
    target: Option<TargetName>,
    app: &App,
    state: &State,
    record: Option<&RunRecord>,
) -> Result<Option<Deployment>> {
    let tag = record.map(|record| record.deployment.clone()).or_else(|| state.tag.clone());
    match (target.or(record.map(|record| record.target)), tag) {
        (Some(target), Some(tag)) => optional(context.store.read_deployment(target, app.name, &tag)),
        _ => Ok(None),
    }
}

fn zone_pair(
    context: &Context,
    record: Option<&RunRecord>,
    deployment: Option<&Deployment>,
    state: &State,
) -> Option<String> {
    #[derive(Deserialize)]
    struct Placement {
        replication_pair: Option<String>,
    }
    let recorded = record.map(|record| record.placement.zone_pair.clone()).filter(|pair| !pair.is_empty());
    let deployed = || deployment.map(|deployment| deployment.zone_pair.clone()).filter(|pair| !pair.is_empty());
    let configured = || {
        let (text, path) = context.store.read_config(state.config.as_deref()?).ok()?;
        parse_yaml::<Placement>(&path, &text).ok()?.replication_pair
    };
    recorded.or_else(deployed).or_else(configured)
}
