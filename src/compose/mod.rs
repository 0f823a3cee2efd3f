//! Compose files as typed data: reading (versions 2.x to 3.9 and the unversioned form), checking, writing back.
//!
//! What a file means is decided here and nowhere else: interpolation, short and long forms, defaults. Keys that are not
//! understood are named with their path and line in [`Loaded::warnings`], never dropped in silence; what contradicts
//! itself is a [`ComposeError`]. No engine, no target is known here.
//!
//! ```text
//! text ──yaml──> Node (with lines) ──interpolate──> Node ──read──> File ──emit──> YAML
//! ```

mod deploy;
mod emit;
mod interpolate;
mod model;
mod order;
mod read;
mod units;
mod yaml;

use std::path::Path;

use crate::error::{Exit, Fault};

pub use deploy::{Deploy, DeployMode, EndpointMode, Placement, Preference, Resources, RestartPolicy, Rollout};
pub use interpolate::{dotenv, split_words};
pub use model::{
    Attachment, Build, Condition, File, FileObject, FileRef, Healthcheck, Logging, Mount, MountKind, Network, Port,
    Protocol, PublishMode, Restart, Service, Ulimit, Volume,
};

/// A file that cannot be used, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`{}: {}{why}", at_line(*.line), in_path(.path))]
pub struct ComposeError {
    /// The file as messages name it.
    pub file: String,
    /// Line, counted from 1; 0 when it is about the whole.
    pub line: usize,
    /// Path of keys (`services.web.ports[0]`); empty when it is about the whole.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

impl Fault for ComposeError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

fn at_line(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" line {line}") }
}

fn in_path(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// Something in a file that has no effect, or another one than its writer may expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Line, counted from 1.
    pub line: usize,
    /// Path of keys.
    pub path: String,
    /// What is the matter.
    pub what: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.path, self.what)
    }
}

/// A file and what its reader should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The file.
    pub file: File,
    /// In the order of their lines.
    pub warnings: Vec<Warning>,
}

/// Where a file comes from and what it may ask for.
pub struct Source<'a> {
    /// How messages name it.
    pub name: &'a str,
    /// The folder that its relative paths start from.
    pub directory: &'a Path,
    /// The variables of `${...}`: the environment over `.env`.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file named by `env_file`; the error is one fragment.
    pub read: &'a dyn Fn(&Path) -> Result<String, String>,
}

/// Reads a compose file.
///
/// # Errors
/// [`ComposeError`] with line and path: no YAML, a duplicate key, a value of the wrong form, a reference to a
/// service, network, volume or config that is not there, a missing `${VAR:?}`.
pub fn parse(text: &str, source: &Source<'_>) -> Result<Loaded, ComposeError> {
    let named = |error: ComposeError| ComposeError { file: source.name.to_owned(), ..error };
    let mut root = yaml::parse(text).map_err(named)?;
    let mut warnings = Vec::new();
    interpolate::apply(&mut root, source.variables, &mut warnings).map_err(named)?;
    let mut reader = read::Reader::new(source, warnings);
    let file = reader.file(root).map_err(named)?;
    let mut warnings = reader.into_warnings();
    warnings.sort_by_key(|warning| warning.line);
    Ok(Loaded { file, warnings })
}
