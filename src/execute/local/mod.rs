//! Services as plain containers of one engine: images, networks, containers, readiness, logs, removal.

mod body;
mod containers;
mod debian;
mod images;
mod logs;
mod ready;
mod tree;

use std::path::Path;
use std::time::Duration;

use super::Outcome;
use super::docker::Engine;
use crate::error::{Exit, Fault, Result};
use crate::local::ContainerStep;
use crate::secret::Secret;
use crate::store::{StoreError, write_private};
use crate::ui;

pub(crate) use images::{ensure_helper, remove_helpers};
pub use logs::{Running, logs, post_sizes, running};
pub use ready::{host_of, is_here};

/// What can go wrong on one engine, besides what the engine itself says.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file system of an image could not be put together.
    #[error("cannot make image `{image}`")]
    Tree {
        /// The image.
        image: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is neither a registry nor a recipe for an image.
    #[error("no image `{image}`, and no way to make it here: {why}")]
    NoRecipe {
        /// The image.
        image: String,
        /// Why it could not be pulled.
        why: String,
    },
    /// Images are missing.
    #[error("the engine has no {}", quoted(.images))]
    NoImages {
        /// Their names.
        images: Vec<String>,
    },
    /// A name is taken by something that this deployment did not make.
    #[error("the {what} `{name}` is there already and belongs to somebody else")]
    Foreign {
        /// `container` or `network`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A container ended although it should go on.
    #[error("service `{service}` ended: {how}")]
    Ended {
        /// The service.
        service: String,
        /// Exit code and the like.
        how: String,
    },
    /// The deadline has passed.
    #[error("service `{service}` is not ready after {} s; last seen: {last_seen}", after.as_secs_f64())]
    NotReady {
        /// The service that was waited for.
        service: String,
        /// How long.
        after: Duration,
        /// What was seen last.
        last_seen: String,
    },
    /// There is no such service among the containers.
    #[error("no service `{service}` runs here")]
    NoSuchService {
        /// As given.
        service: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The store's size cannot be found out.
    #[error("cannot find out how large the posts are in `{service}`: {why}")]
    Sizes {
        /// The store.
        service: String,
        /// Why.
        why: String,
    },
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("image `{name}`")).collect();
    names.join(", ")
}

impl Fault for LocalError {
    fn exit(&self) -> Exit {
        match self {
            LocalError::NoSuchService { .. } => Exit::Usage,
            LocalError::NoRecipe { .. } => Exit::Unreachable,
            _ => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            LocalError::NoRecipe { image, .. } => Some(format!(
                "where a registry can be reached: `docker pull {image}`; then `docker save` and `docker load`"
            )),
            LocalError::NoImages { .. } => Some("build or fetch them first with `maestro build`".into()),
            LocalError::Foreign { what, name } => Some(format!("look at it with `docker {what} inspect {name}`")),
            LocalError::NotReady { .. } => Some("give it more time with --timeout S, or look at the log above".into()),
            LocalError::NoSuchService { known, .. } if known.is_empty() => {
                Some("nothing runs: start the application with `maestro run`".into())
            }
            LocalError::NoSuchService { known, .. } => Some(format!("services: {}", known.join(", "))),
            _ => None,
        }
    }
}

/// Ensures the state that `step` names, on this machine's engine.
pub(super) async fn execute(step: &ContainerStep) -> Result<Outcome> {
    let engine = Engine::local()?;
    match step {
        ContainerStep::EnsureOwnImage { image, again } => {
            if images::ensure_own(&engine, image, *again).await? {
                ui::note(format_args!("made {image} from this program"));
            }
        }
        ContainerStep::EnsurePublicImage { image, again } => images::ensure_public(&engine, image, *again).await?,
        ContainerStep::EnsureImages { images } => {
            engine.version().await?;
            containers::ensure_images(&engine, images).await?;
        }
        ContainerStep::EnsureNetwork { name, network, labels } => {
            containers::ensure_network(&engine, name, network, labels).await?;
        }
        ContainerStep::EnsureVolume { name, volume, labels } => {
            containers::ensure_volume(&engine, name, volume, labels).await?;
        }
        ContainerStep::EnsureSecret { path } => ensure_secret(path)?,
        ContainerStep::EnsureContainer(spec) => containers::ensure_container(&engine, spec).await?,
        ContainerStep::EnsureReady(spec) => return ready::wait(&engine, spec).await,
        ContainerStep::EnsureAlone { app, project, deployments } => {
            containers::end_others(&engine, app, project, deployments).await?;
        }
        ContainerStep::EnsureGone { app, project, deployments, images } => {
            containers::end_others(&engine, app, project, deployments).await?;
            let count = containers::remove_project(&engine, project, images).await?;
            ui::detail(format_args!("removed {}", ui::count(count, "container")));
            return Ok(Outcome::Stopped);
        }
        ContainerStep::TakeBack { project } => {
            let count = containers::take_back(&engine, project).await?;
            if count > 0 {
                ui::note(format_args!("took back {} that this run had started", ui::count(count, "container")));
                return Ok(Outcome::Stopped);
            }
        }
    }
    Ok(Outcome::Done)
}

/// A random password in a file that only its owner may read; one that is there already stays.
fn ensure_secret(path: &Path) -> Result<(), StoreError> {
    // An empty one is what an older maestro left when it was killed.
    match std::fs::metadata(path) {
        Ok(there) if there.len() > 0 => Ok(()),
        _ => write_private(path, Secret::generate().expose().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("portainer.password");
        ensure_secret(&path).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(first.len(), 24);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        ensure_secret(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        let other = dir.path().join("other");
        ensure_secret(&other).unwrap();
        assert_ne!(std::fs::read_to_string(&other).unwrap(), first);
    }
}
