//! One file per subcommand; each is a short story that names its stages and leaves the mechanics to the rooms.

use crate::Context;
use crate::error::Result;

/// Every subcommand with its request.
pub(crate) enum Command {}

/// Carries out `command`.
pub(crate) async fn run(_context: &Context, command: Command) -> Result<()> {
    match command {}
}
