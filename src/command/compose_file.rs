//! The compose file of an app: from its sources for `deploy` and `build`, from the deployment for what comes after.

use std::cell::LazyCell;
use std::path::Path;

use crate::Context;
use crate::app::{App, ComposeFile};
use crate::compose::{self, File, Source};
use crate::error::{Plain, Result};
use crate::images;
use crate::secret::Secret;
use crate::store::{StoreError, read_text};
use crate::ui;

/// The file's name in a deployment's directory.
pub(crate) const DEPLOYED: &str = "docker-compose.yml";

/// The variable that gives a shipped compose file its brokers' password; a new one for each deployment unless it is set.
const BROKER_PASSWORD: &str = "MAESTRO_BROKER_PASSWORD";

/// The app's own compose file; what in it has no effect is warned about.
///
/// # Errors
/// Exit code 2 when the sources are not there or the file cannot be used.
pub(crate) fn of_app(context: &Context, app: &App, app_dir: Option<&Path>) -> Result<File> {
    match app.containers.compose {
        ComposeFile::Shipped(text) => parse(&format!("{}/{DEPLOYED}", app.name), text, context.store.root()),
        ComposeFile::InTree(path) => {
            let tree = images::tree(&context.store, app, app_dir)?.unwrap_or_else(|| context.store.root().to_owned());
            let path = tree.join(path);
            let text = read_text(&path)?;
            let mut file = parse(&path.display().to_string(), &text, path.parent().unwrap_or(&tree))?;
            for (from, to) in images::pin(app, &mut file) {
                ui::detail(format_args!("{to} stands for {from}"));
            }
            Ok(file)
        }
    }
}

/// The compose file that `deploy` filed in `dir`, whose relative paths start from `directory`; `None` when this target
/// has none.
///
/// # Errors
/// Exit code 2 when it cannot be used.
pub(crate) fn of_deployment(dir: &Path, directory: &Path) -> Result<Option<File>> {
    let path = dir.join(DEPLOYED);
    match read_text(&path) {
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(text) => Ok(Some(parse(&path.display().to_string(), &text, directory)?)),
    }
}

/// Name and password of the brokers' administrator in `file`, as the service `broker` is told them.
pub(crate) fn broker_login(file: &File, broker: &str) -> Option<(String, Secret)> {
    let variables = &file.services.get(broker)?.environment;
    let value = |name: &str| variables.get(name).cloned().flatten();
    Some((value("RABBITMQ_DEFAULT_USER")?, value("RABBITMQ_DEFAULT_PASS")?.into()))
}

fn parse(name: &str, text: &str, directory: &Path) -> Result<File> {
    let defaults = match read_text(&directory.join(".env")) {
        Ok(text) => compose::dotenv(&text).map_err(|why| Plain::usage(format!("`{name}`: .env: {why}")))?,
        Err(StoreError::Missing(_)) => indexmap::IndexMap::new(),
        Err(error) => return Err(error.into()),
    };
    let password = LazyCell::new(Secret::generate);
    let made = |name: &str| (name == BROKER_PASSWORD).then(|| password.expose().to_owned());
    let source = Source {
        name,
        directory,
        variables: &|name| std::env::var(name).ok().or_else(|| defaults.get(name).cloned()).or_else(|| made(name)),
        read: &|path| std::fs::read_to_string(path).map_err(|error| format!("`{}`: {error}", path.display())),
    };
    let loaded = compose::parse(text, &source)?;
    for warning in &loaded.warnings {
        ui::warn(format_args!("`{name}`: {warning}"));
    }
    Ok(loaded.file)
}
