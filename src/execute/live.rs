//! Carries out steps for real.

use super::{Executor, Outcome, StepFuture, cluster, docker, embedded, local};
use crate::error::{Exit, Plain};
use crate::plan::Step;
use crate::store::{write_atomic, write_private};

/// The executor that changes the world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live;

impl Executor for Live {
    fn execute<'a>(&'a self, step: &'a Step) -> StepFuture<'a> {
        Box::pin(async move {
            match step {
                Step::EnsureFile { path, content, private } => {
                    let write = if *private { write_private } else { write_atomic };
                    write(path, content.as_bytes())?;
                    Ok(Outcome::Done)
                }
                Step::Embedded(step) => embedded::execute(step).await,
                Step::Container(step) => local::execute(step).await,
                Step::Cluster(step) => cluster::execute(step).await,
                // `gce::Cloud` has the connection that these need.
                Step::Cloud(step) => Err(Plain::new(Exit::Bug, format!("no cloud to do it in: {step}")).into()),
                Step::Image(step) => {
                    docker::build::ensure(&docker::Engine::local()?, step).await?;
                    Ok(Outcome::Done)
                }
            }
        })
    }
}
