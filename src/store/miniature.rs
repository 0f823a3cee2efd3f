//! `miniature.yml`: written by the embedded miniature itself while it runs, so that any command finds the process
//! even when the one that started it was killed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::deployment::check_format;
use super::{FORMAT, StoreError, read_yaml, write_yaml};
use crate::experiment::Variant;

const FILE: &str = "miniature.yml";

/// A running miniature, in its deployment's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MiniatureRecord {
    /// Version of this file's form.
    pub format: u32,
    /// Its process.
    pub pid: u32,
    /// When the process started, in the kernel's ticks since boot: tells it from a later one with the same number.
    pub start_ticks: u64,
    /// The application it plays.
    pub app: String,
    /// Its deployment.
    pub tag: String,
    /// Baseline or antipode.
    pub variant: Variant,
    /// Base URL of the origin's front end.
    pub origin_url: String,
    /// Base URL of the replica's front end.
    pub replica_url: String,
    /// Base URL of the trace query API and the administration.
    pub jaeger_url: String,
}

impl MiniatureRecord {
    /// The version that is written.
    pub const FORMAT: u32 = FORMAT;

    /// The record in the deployment directory `dir`, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] when it is there and cannot be used.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(FILE);
        match read_yaml::<MiniatureRecord>(&path) {
            Ok(record) => check_format(&path, record.format).map(|()| Some(record)),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record into `dir`.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        write_yaml(&dir.join(FILE), self)
    }

    /// Removes the record from `dir`; absent is fine.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn remove(dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Write { path, source }),
            _ => Ok(()),
        }
    }

    /// The records in the directories beside `dir`: those of the root's other deployments of the app. One that cannot
    /// be used is left alone.
    pub fn beside(dir: &Path) -> Vec<(PathBuf, Self)> {
        let Some(entries) = dir.parent().and_then(|parent| std::fs::read_dir(parent).ok()) else { return Vec::new() };
        let others = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path != dir);
        let mut found: Vec<_> = others.filter_map(|path| Some((path.clone(), Self::read(&path).ok()??))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}
