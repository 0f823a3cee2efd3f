//! `maestro delay`: puts the post stores further apart, proves it, and takes it back.

mod embedded;

use std::path::PathBuf;
use std::time::Duration;

use crate::Context;
use crate::command::Selection;
use crate::error::Result;
use crate::target::Runtime;

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
        Runtime::Containers | Runtime::Swarm => Err(super::unavailable("delay")),
    }
}

/// The helper inside a container's network namespace.
pub(crate) async fn helper(_args: &[String]) -> Result<()> {
    Err(super::unavailable("delay-helper"))
}
