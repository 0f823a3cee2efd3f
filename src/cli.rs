//! The only module that knows clap: arguments become domain values here.

use std::ffi::OsString;

use crate::Context;
use crate::command::Command;
use crate::error::Result;

/// What the arguments ask for.
pub(crate) enum Invocation {
    /// Help or version was printed; nothing is left to do.
    Done,
    /// A command.
    Run(Box<Run>),
}

/// A parsed command with everything it needs.
pub(crate) struct Run {
    /// Root, dry run, yes, json.
    pub context: Context,
    /// Verbosity for `ui`.
    pub level: i8,
    /// The command.
    pub command: Command,
}

/// Parses the command line.
pub(crate) fn parse(_args: Vec<OsString>) -> Result<Invocation> {
    Ok(Invocation::Done)
}
