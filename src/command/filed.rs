//! What `deploy` filed in a deployment's directory, for the commands that come after it.

use std::path::{Path, PathBuf};

use crate::Context;
use crate::command::{Current, compose_file};
use crate::compose::File;
use crate::error::Result;
use crate::store::{Deployment, StoreError, read_text};
use crate::target::{DeployOptions, Site};

/// The site's facts as they were at `deploy`.
pub(crate) const FACTS: &str = "site.yml";
/// Key of the deployment's record: what `deploy` was asked for.
pub(crate) const OPTIONS: &str = "options";
/// Key of the deployment's record: the folder that relative paths of the compose file start from.
pub(crate) const COMPOSE_DIRECTORY: &str = "compose_directory";

/// The files of a deployment.
pub(crate) struct Filed {
    dir: PathBuf,
    placement: String,
    compose: Option<File>,
    facts: Option<String>,
}

impl Filed {
    /// Reads the files of the current deployment.
    ///
    /// # Errors
    /// Exit code 2 when one cannot be used.
    pub(crate) fn of(context: &Context, current: &Current) -> Result<Self> {
        let dir = context.store.deploy_dir(current.target, current.app.name, &current.deployment.tag);
        let directory = current.deployment.other.get(COMPOSE_DIRECTORY).and_then(serde_json::Value::as_str);
        Ok(Filed {
            placement: read_text(&dir.join("placement.yml"))?,
            compose: compose_file::of_deployment(&dir, directory.map_or(dir.as_path(), Path::new))?,
            facts: optional(&dir.join(FACTS))?,
            dir,
        })
    }

    /// The deployment as its target sees it.
    pub(crate) fn site<'a>(&'a self, current: &'a Current) -> Site<'a> {
        Site {
            app: current.app,
            deployment: &current.deployment,
            dir: self.dir.clone(),
            placement: &self.placement,
            compose: self.compose.as_ref(),
            facts: self.facts.as_deref(),
            options: options(&current.deployment),
            read,
        }
    }
}

/// The text of a file; `None` when it is not there.
pub(crate) fn optional(path: &Path) -> Result<Option<String>, StoreError> {
    match read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file that services are made from.
pub(crate) fn read(path: &Path) -> std::result::Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))
}

fn options(deployment: &Deployment) -> DeployOptions {
    let value = deployment.other.get(OPTIONS).cloned().unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}
