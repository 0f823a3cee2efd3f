//! `maestro delay`: puts the post stores further apart, proves it, and takes it back.

mod containers;
mod embedded;
mod guard;
mod show;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use containers::{again, clear, find, sites, standing};
pub(crate) use guard::Guard;

use crate::Context;
use crate::command::Selection;
use crate::delay::spec::{Asked, Distribution, Spec};
use crate::delay::{self, Schedule};
use crate::error::{Plain, Result};
use crate::store::read_yaml;
use crate::target::Runtime;
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub delay_ms: f64,
    pub jitter_ms: f64,
    pub correlation_percent: f64,
    pub distribution: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub both: bool,
    pub loss_percent: f64,
    pub rate_mbit: Option<f64>,
    pub matrix: Option<PathBuf>,
    pub schedule: Option<PathBuf>,
    pub backend: String,
    pub lease: Duration,
    pub seed: u64,
    pub off: bool,
    pub show: bool,
}

impl Request {
    /// The one delay that the options describe.
    fn spec(&self) -> Result<Spec, delay::DelayError> {
        Spec::check(Asked {
            delay_ms: self.delay_ms,
            jitter_ms: self.jitter_ms,
            correlation_percent: self.correlation_percent,
            distribution: Distribution::parse(&self.distribution).unwrap_or_default(),
            loss_percent: self.loss_percent,
            rate_mbit: self.rate_mbit,
        })
    }

    /// The checked file of `--schedule`.
    fn schedule(&self) -> Result<Option<Schedule>> {
        let Some(path) = &self.schedule else { return Ok(None) };
        let schedule: Schedule = read_yaml(path)?;
        schedule.check().map_err(|error| Plain::usage(format!("`{}`: {error}", path.display())))?;
        Ok(Some(schedule))
    }

    /// The delay that a sweep file asks for, everything else at its default.
    pub(crate) fn of_sweep(selection: Selection, delay: &crate::sweep::DelaySpec) -> Self {
        Request {
            selection,
            delay_ms: delay.delay_ms,
            jitter_ms: delay.jitter_ms,
            correlation_percent: 0.0,
            distribution: delay.distribution.clone(),
            from: None,
            to: None,
            both: false,
            loss_percent: 0.0,
            rate_mbit: None,
            matrix: None,
            schedule: None,
            backend: "auto".into(),
            lease: Duration::from_secs(7200),
            seed: 1,
            off: false,
            show: false,
        }
    }
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    match super::target(&request.selection)?.runtime() {
        Runtime::InProcess => embedded::run(context, &request).await,
        Runtime::Containers | Runtime::Swarm => containers::run(context, &request).await,
    }
}

/// The helper inside a container's network namespace: `serve --dir DIR --lease S [--no-owner]` keeps a delay in force,
/// `ask --dir DIR JSON` asks a running one and prints its answer.
pub(crate) async fn helper(args: &[String]) -> Result<()> {
    let usage = || Plain::usage("delay-helper: serve --dir DIR [--lease S] [--no-owner] | ask --dir DIR REQUEST");
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let dir = PathBuf::from(value("--dir").map_or("/run/maestro-delay", String::as_str));
    match args.first().map(String::as_str) {
        Some("serve") => {
            let lease = value("--lease").map_or(Ok(7200.0), |s| s.parse::<f64>()).map_err(|_| usage())?;
            let lease = Duration::try_from_secs_f64(lease).map_err(|_| usage())?;
            let owner = !args.iter().any(|a| a == "--no-owner");
            Ok(delay::serve(delay::Options { dir, lease, owner }).await?)
        }
        Some("ask") => {
            let request = args.last().ok_or_else(usage)?;
            let request = serde_json::from_str(request).map_err(|error| Plain::usage(format!("request: {error}")))?;
            match delay::control(&dir, &request).await? {
                delay::Reply::Refused { message, exit } => Err(delay::DelayError::Helper { message, exit }.into()),
                reply => {
                    ui::out(serde_json::to_string(&reply).unwrap_or_default());
                    Ok(())
                }
            }
        }
        _ => Err(usage().into()),
    }
}
