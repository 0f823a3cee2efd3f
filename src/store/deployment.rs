//! `deployment.yml`: what `deploy` decided and `run` started, so that later commands need nothing but the tag.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{DelayRecord, FORMAT, Store, StoreError, read_yaml, write_yaml};
use crate::experiment::{TargetName, Variant};

/// One deployment of an application on a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Version of this file's form.
    pub format: u32,
    /// The application's name.
    pub app: String,
    /// Where it is deployed.
    pub target: TargetName,
    /// The deployment's tag.
    pub tag: String,
    /// The placement file as typed.
    pub config: String,
    /// Its content's SHA-256, hex.
    pub config_sha256: String,
    /// The pair of zones that the placement compares, as written (`US->EU`); empty where nothing is replicated.
    pub zone_pair: String,
    /// Number of client hosts.
    pub clients: u32,
    /// The running variant; absent while nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// Base URL of the origin's front end (`http://127.0.0.1:8080`); absent while nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_url: Option<String>,
    /// Base URL of the replica's front end; the origin's where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_url: Option<String>,
    /// Base URL of the trace query API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jaeger_url: Option<String>,
    /// Other addresses worth showing (`info`): name -> URL.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub links: IndexMap<String, String>,
    /// Process id of the embedded miniature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Delay injected between the post stores; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelayRecord>,
    /// Keys of the target's own (inventory, network names, image digests).
    #[serde(flatten)]
    pub other: IndexMap<String, serde_json::Value>,
}

impl Deployment {
    /// The front ends with their names for people; one that stands for both sides is shown once.
    pub fn front_ends(&self) -> Vec<(&'static str, &Option<String>)> {
        if self.origin_url == self.replica_url {
            return vec![("front end", &self.origin_url)];
        }
        vec![("origin", &self.origin_url), ("replica", &self.replica_url)]
    }

    /// What tells this deployment from one of the same app and tag in another root; empty in older records.
    pub fn uid(&self) -> &str {
        self.other.get("uid").and_then(serde_json::Value::as_str).unwrap_or_default()
    }
}

impl Store {
    /// Reads the record of the deployment `tag`.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no such deployment, [`StoreError::Content`] for a newer format.
    pub fn read_deployment(&self, target: TargetName, app: &str, tag: &str) -> Result<Deployment, StoreError> {
        let path = self.deploy_dir(target, app, tag).join("deployment.yml");
        let deployment: Deployment = read_yaml(&path)?;
        check_format(&path, deployment.format)?;
        Ok(deployment)
    }

    /// Every deployment of a target, newest tag first. Directories without a usable record are passed over.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn deployments(&self, target: TargetName) -> Result<Vec<Deployment>, StoreError> {
        let root = self.root().join("deploy").join(target.as_str());
        let mut found: Vec<Deployment> = directories(&root)?
            .iter()
            .map(|app| directories(app))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .filter_map(|tag| read_yaml(&tag.join("deployment.yml")).ok())
            .collect();
        found.sort_by(|a, b| b.tag.cmp(&a.tag));
        Ok(found)
    }

    /// Writes the record of a deployment into its directory.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write_deployment(&self, deployment: &Deployment) -> Result<(), StoreError> {
        let directory = self.deploy_dir(deployment.target, &deployment.app, &deployment.tag);
        write_yaml(&directory.join("deployment.yml"), deployment)
    }
}

/// The directories right below `path`; none when it does not exist.
pub(super) fn directories(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths = entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<Vec<_>, StoreError>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

/// Refuses a file written by a newer maestro.
pub(super) fn check_format(path: &Path, format: u32) -> Result<(), StoreError> {
    if format > FORMAT {
        let why = format!("format {format} is newer than this maestro understands ({FORMAT}); use a newer maestro");
        return Err(StoreError::Content { path: path.to_owned(), why });
    }
    Ok(())
}
