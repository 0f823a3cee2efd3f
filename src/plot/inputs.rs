//! Which run directories a path on the command line means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexSet;

use crate::store::{self, Store, StoreError};

use super::{Config, PlotError};

/// How deep runs are looked for: `gather/<target>/<app>/<endpoint>/<gather tag>/<tag>` and a little more.
const DEPTH: usize = 8;

/// The runs that `path` means: itself when it is a run directory, every run below it when it is another directory, the
/// runs of all figures when it is a plot config. In order, each once; relative to the root where they are below it.
///
/// # Errors
/// [`PlotError::Empty`] when there is none, [`PlotError::Store`] when the path cannot be read.
pub fn expand(store: &Store, path: &Path) -> Result<Vec<String>, PlotError> {
    let path = in_root(store, path);
    if !path.exists() {
        return Err(PlotError::NoPath { path: path.display().to_string(), beside: store::beside(&path) });
    }
    let empty = || PlotError::Empty(format!("no run in `{}`", path.display()));
    let runs: Vec<String> = if path.is_dir() {
        let mut found = BTreeSet::new();
        find(&std::path::absolute(&path).unwrap_or_else(|_| path.clone()), DEPTH, &mut found)?;
        found.iter().map(|run| store.relative(run)).collect()
    } else {
        let config: Config = store::read_yaml(&path)?;
        let runs: IndexSet<String> = config.into_values().flatten().flatten().collect();
        runs.into_iter().collect()
    };
    if runs.is_empty() { Err(empty()) } else { Ok(runs) }
}

/// A path named from the current directory or from the root.
pub fn in_root(store: &Store, path: &Path) -> PathBuf {
    let below = store.resolve(path);
    if !path.exists() && below.exists() { below } else { path.to_owned() }
}

fn find(path: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<(), StoreError> {
    if path.join("info.yml").is_file() || path.join("run.yml").is_file() {
        found.insert(path.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let failed = |source| StoreError::Read { path: path.to_owned(), source };
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        if entry.is_dir() {
            find(&entry, depth - 1, found)?;
        }
    }
    Ok(())
}
