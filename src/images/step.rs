//! Work on images as steps of a plan.

use std::fmt;
use std::path::PathBuf;

use super::{Context, Locked};

/// A state of an engine's images to ensure.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageStep {
    /// The engine has these images of registries, all for its own architecture, locked ones to the digest.
    EnsurePulled {
        /// `name:tag` with what the lock says.
        images: Vec<(String, Option<Locked>)>,
    },
    /// The engine has an image built of a context.
    EnsureBuilt(Box<Build>),
    /// A folder of the tree holds what a generator makes.
    EnsureGenerated(Box<Generate>),
}

/// An image to be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// `name:tag`.
    pub tag: String,
    /// Where the context is, for messages.
    pub root: PathBuf,
    /// What it is built from.
    pub context: Context,
    /// The Dockerfile inside it.
    pub dockerfile: String,
    /// Build arguments.
    pub args: Vec<(String, String)>,
    /// What is replaced in the Dockerfile, in words.
    pub remedies: Vec<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// What the lock says.
    pub locked: Option<Locked>,
    /// Where the log goes.
    pub log: PathBuf,
}

/// Files to be made by a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generate {
    /// What comes out.
    pub what: String,
    /// The image that holds the tool.
    pub image: String,
    /// The app's folder on the engine's machine.
    pub tree: PathBuf,
    /// Where it is mounted.
    pub mount: String,
    /// The command.
    pub argv: Vec<String>,
    /// The folder that must be there afterwards.
    pub makes: PathBuf,
    /// Where the log goes.
    pub log: PathBuf,
}

impl fmt::Display for ImageStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageStep::EnsurePulled { images } => {
                let name = |(name, locked): &(String, Option<Locked>)| match locked {
                    Some(Locked { digest: Some(digest), .. }) => format!("{name} at {digest}"),
                    Some(locked) => format!("{name} with id {}", locked.id),
                    None => name.clone(),
                };
                write!(f, "EnsurePulled {}", images.iter().map(name).collect::<Vec<_>>().join(", "))
            }
            ImageStep::EnsureBuilt(build) => {
                write!(f, "EnsureBuilt {} from {} ({})", build.tag, build.root.display(), build.dockerfile)?;
                if build.no_cache {
                    write!(f, ", every step again")?;
                }
                build.remedies.iter().try_for_each(|remedy| write!(f, "; {remedy}"))
            }
            ImageStep::EnsureGenerated(generate) => {
                write!(f, "EnsureGenerated {} by a container of {}", generate.what, generate.image)
            }
        }
    }
}
