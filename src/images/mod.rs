//! Images as data: which are needed, from which contexts they are built, what is locked, how they travel. No engine here.
//!
//! ```text
//! (App, source tree, compose::File) ──plan──> steps: pull, build, generate, lock, save
//! folder + .dockerignore ──context──> tar with a digest      Dockerfile + remedies ──dockerfile──> Dockerfile
//! ```

mod bundle;
mod context;
mod dockerfile;
mod ignore;
mod lock;
mod needed;
mod sources;
mod step;

use std::path::PathBuf;

use crate::error::{Exit, Fault};

pub use bundle::{Bundle, BundleEntry, INDEX, mangled};
pub use context::{Context, Entry};
pub use dockerfile::{Replacement, bases, replaced};
pub use ignore::Ignore;
pub use lock::{Drift, Kind, Lock, Locked};
pub use needed::{Order, Plan, pin, plan};
pub use sources::tree;
pub use step::{Build, Generate, ImageStep};

/// What can go wrong before an engine is asked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The app's sources are not there.
    #[error("the sources of `{app}` are not in `{dir}`")]
    NoSources {
        /// The app.
        app: &'static str,
        /// Where they were looked for.
        dir: PathBuf,
    },
    /// A context's folder or Dockerfile is not there.
    #[error("`{tag}` is built from `{path}`, which is not there")]
    NoContext {
        /// The image.
        tag: String,
        /// The folder or file.
        path: PathBuf,
    },
    /// Something in a context cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A pattern of a `.dockerignore` is not one.
    #[error("`{path}` line {line}: `{pattern}` is no pattern ({why})")]
    Pattern {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// Images are not what the lock says.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Drift(Vec<Drift>),
    /// There is no lock to hold the images to.
    #[error("`{0}` holds no images of `{1}` to hold on to")]
    NoLock(PathBuf, String),
    /// A saved image is not what its index says.
    #[error("`{file}` is damaged: {why}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What differs.
        why: String,
    },
    /// A folder holds no saved images.
    #[error("no images in `{0}`")]
    Empty(PathBuf),
    /// Images for another architecture than the engine's.
    #[error("the engine runs {engine}, but {}", list(.images))]
    Architecture {
        /// The engine's architecture.
        engine: String,
        /// Images with what they are for.
        images: Vec<(String, String)>,
    },
    /// Images that could not be had.
    #[error("cannot get {}", .0.iter().map(|(image, why)| format!("`{image}` ({why})")).collect::<Vec<_>>().join(", "))]
    Unavailable(Vec<(String, String)>),
    /// A step of a build failed.
    #[error("building `{tag}` failed at {step}: {why}")]
    Build {
        /// The image.
        tag: String,
        /// Which step (`step 3/12 (RUN make)`).
        step: String,
        /// The engine's message.
        why: String,
        /// The whole log.
        log: PathBuf,
    },
    /// A generator failed.
    #[error("making {what} failed: {why}")]
    Generate {
        /// What it makes.
        what: String,
        /// Its exit code, or what is missing.
        why: String,
        /// The whole log.
        log: PathBuf,
    },
}

fn list(images: &[(String, String)]) -> String {
    images.iter().map(|(image, other)| format!("`{image}` is for {other}")).collect::<Vec<_>>().join(", ")
}

impl Fault for ImageError {
    fn exit(&self) -> Exit {
        match self {
            ImageError::NoSources { .. }
            | ImageError::NoContext { .. }
            | ImageError::Read { .. }
            | ImageError::Pattern { .. }
            | ImageError::Drift(_)
            | ImageError::NoLock(..)
            | ImageError::Empty(_)
            | ImageError::Architecture { .. } => Exit::Usage,
            ImageError::Unavailable(_) => Exit::Unreachable,
            ImageError::Build { .. } | ImageError::Generate { .. } | ImageError::Damaged { .. } => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ImageError::NoSources { .. } => {
                "fetch them with `maestro deps fetch`, or name another place with --app-dir DIR".into()
            }
            ImageError::Build { log, .. } | ImageError::Generate { log, .. } => {
                format!("the whole log is in {}", log.display())
            }
            ImageError::Drift(_) => "build without --locked to accept what is there and lock it again".into(),
            ImageError::NoLock(..) => "run `maestro build` once without --locked".into(),
            ImageError::Damaged { .. } => "save the images again with `maestro build --save DIR`".into(),
            ImageError::Architecture { .. } => {
                "build on a machine of that architecture, or point DOCKER_HOST at one".into()
            }
            ImageError::Unavailable(_) => {
                "load them from a folder that `maestro build --save` made with `maestro load DIR`".into()
            }
            _ => return None,
        })
    }
}
