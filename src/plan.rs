//! Plans as data: what is to be done, in stages, before anything is done. `--dry-run` prints them.
//!
//! A step names the state that it ensures, so it may be carried out twice. When a later step needs a value that an
//! earlier one finds out, the plan ends there and the next one is made from the typed outcome.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud::provision::CloudStep;
use crate::cluster::ClusterStep;
use crate::experiment::Variant;
use crate::images::ImageStep;
use crate::local::ContainerStep;

/// Everything that one command is going to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What it is for, e.g. `run socialNetwork on embedded`.
    pub title: String,
    /// Carried out one after the other.
    pub stages: Vec<Stage>,
}

/// Steps that may be carried out side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it achieves.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// One thing to ensure.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A file below the working root has this content.
    EnsureFile {
        /// Where.
        path: PathBuf,
        /// What.
        content: String,
        /// Only its owner may read it.
        private: bool,
    },
    /// Something about the embedded miniature.
    Embedded(EmbeddedStep),
    /// Something about containers of one engine.
    Container(ContainerStep),
    /// Something about a swarm of hosts.
    Cluster(ClusterStep),
    /// Something about machines of a cloud.
    Cloud(CloudStep),
    /// Something about the images of this machine's engine.
    Image(ImageStep),
}

/// States of the embedded miniature.
#[derive(Clone, Debug, PartialEq)]
pub enum EmbeddedStep {
    /// It runs in this variant and answers a canary post end to end.
    EnsureRunning {
        /// The deployment's directory.
        dir: PathBuf,
        /// The placement file inside it.
        config: PathBuf,
        /// The app it plays.
        app: String,
        /// The deployment's tag.
        tag: String,
        /// Baseline or antipode.
        variant: Variant,
        /// Ports as typed (`8080,8082,16686`, `auto`); the placement's when absent.
        ports: Option<String>,
        /// Longest wait for readiness.
        timeout: Duration,
    },
    /// It does not run.
    EnsureStopped {
        /// The deployment's directory.
        dir: PathBuf,
        /// The process that the deployment's record names.
        pid: Option<u32>,
    },
}

impl Plan {
    /// A plan without stages.
    pub fn new(title: impl Into<String>) -> Self {
        Plan { title: title.into(), stages: Vec::new() }
    }

    /// Adds a stage.
    pub fn stage(mut self, name: impl Into<String>, steps: Vec<Step>) -> Self {
        self.stages.push(Stage { name: name.into(), steps });
        self
    }
}

impl Step {
    /// Whether it changes nothing, so that it may be given up at any moment.
    pub fn only_waits(&self) -> bool {
        matches!(self, Step::Container(ContainerStep::EnsureReady(_)))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan: {}", self.title)?;
        for (index, stage) in self.stages.iter().enumerate() {
            writeln!(f, "{}. {}", index + 1, stage.name)?;
            for step in &stage.steps {
                writeln!(f, "   - {step}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::EnsureFile { path, content, .. } => {
                write!(f, "EnsureFile {} ({} bytes)", path.display(), content.len())
            }
            Step::Embedded(step) => step.fmt(f),
            Step::Container(step) => step.fmt(f),
            Step::Cluster(step) => step.fmt(f),
            Step::Cloud(step) => step.fmt(f),
            Step::Image(step) => step.fmt(f),
        }
    }
}

impl fmt::Display for EmbeddedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmbeddedStep::EnsureRunning { dir, variant, ports, .. } => {
                let ports = ports.as_deref().unwrap_or("of the placement");
                write!(f, "EnsureRunning miniature in {} as {variant}, ports {ports}", dir.display())
            }
            EmbeddedStep::EnsureStopped { dir, .. } => write!(f, "EnsureStopped miniature in {}", dir.display()),
        }
    }
}
