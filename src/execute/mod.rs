//! The one door to the world: carries out plans.

pub(crate) mod cluster;
pub mod docker;
pub mod embedded;
pub mod gce;
pub mod git;
pub mod inspect;
mod live;
pub mod local;
pub mod ssh;

use std::future::Future;
use std::pin::Pin;

use futures_util::future::join_all;

use crate::cloud::provision::Made;
use crate::cluster::Facts;
use crate::error::{Exit, Plain, Result};
use crate::plan::{Plan, Step};
use crate::ui;

pub use live::Live;

/// What a step found out, for the plan or the record that comes after it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The state is ensured; nothing more to say.
    Done,
    /// The application answers at these base URLs.
    Serving {
        /// The origin's front end.
        origin_url: String,
        /// The replica's front end.
        replica_url: String,
        /// The trace query API.
        jaeger_url: String,
        /// Process id, where it is a process of this machine.
        pid: Option<u32>,
    },
    /// Nothing runs any more.
    Stopped,
    /// What a look at the hosts found.
    Hosts(Box<Facts>),
    /// SHA-256 of this program's copies on the hosts, hex.
    Tool(String),
    /// Images on the hosts and their ids.
    Images(Vec<(String, String)>),
    /// Machines that run and let us in.
    Machines(Vec<Made>),
    /// Swarm node ids by host.
    Nodes(Vec<(String, String)>),
}

/// The future of one step.
pub type StepFuture<'a> = Pin<Box<dyn Future<Output = Result<Outcome>> + Send + 'a>>;

/// Carries out steps: for real ([`Live`]) or, in tests, from a script.
pub trait Executor: Sync {
    /// Ensures the state that `step` names.
    fn execute<'a>(&'a self, step: &'a Step) -> StepFuture<'a>;
}

/// Carries out `plan`, stage after stage, the steps of a stage side by side. A failed stage ends the plan after the
/// stage's other steps have ended, so that nothing is left half-way unseen.
///
/// # Errors
/// The first failed step's error.
pub async fn carry_out(executor: &dyn Executor, plan: &Plan) -> Result<Vec<Outcome>> {
    carry_out_until(executor, plan, std::future::pending()).await
}

/// As [`carry_out`], until `stop`: what is being changed then is brought to its end, what only waits is given up, and
/// nothing further is begun. So nothing comes into being after the return.
///
/// # Errors
/// Exit code 130 when it was stopped; otherwise the first failed step's error.
pub async fn carry_out_until(
    executor: &dyn Executor,
    plan: &Plan,
    stop: impl Future<Output = ()>,
) -> Result<Vec<Outcome>> {
    let interrupted = || Plain::new(Exit::Interrupted, "interrupted");
    let mut stop = std::pin::pin!(stop);
    let mut stopped = false;
    let mut outcomes = Vec::new();
    for stage in &plan.stages {
        ui::detail(format_args!("{}: {}", plan.title, stage.name));
        let mut steps = std::pin::pin!(join_all(stage.steps.iter().map(|step| executor.execute(step))));
        let results = tokio::select! {
            results = &mut steps => results,
            () = &mut stop => {
                stopped = true;
                if stage.steps.iter().all(Step::only_waits) {
                    return Err(interrupted().into());
                }
                steps.await
            }
        };
        for result in results {
            outcomes.push(result?);
        }
        if stopped {
            return Err(interrupted().into());
        }
    }
    Ok(outcomes)
}

/// Returns when the user (SIGINT) or somebody else (SIGTERM) wants the process to end. From the first call on these
/// signals no longer end it by themselves.
pub async fn until_interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        ui::warn("cannot listen for signals");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
