//! `deploy/<target>/.last.yml`: the flat state file that links one command to the next. Its keys are those of the
//! Python tool, so that an existing checkout is read; unknown keys are kept.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, read_yaml, write_yaml};
use crate::experiment::TargetName;

/// What the last commands on a target did. Every key is optional: a fresh root has an empty state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The application deployed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The deployment's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The placement file as typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Whether the deployment was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleaned: Option<bool>,
    /// Whether the running variant is antipode; absent before `run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub antipode: Option<bool>,
    /// Whether Portainer was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portainer: Option<bool>,
    /// Whether Prometheus was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<bool>,
    /// The last workload's duration, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wkld_duration: Option<f64>,
    /// Its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wkld_tag: Option<String>,
    /// Its offered rate, requests/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wkld_rate: Option<f64>,
    /// Its connections, per client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wkld_connections: Option<usize>,
    /// Its threads, per client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wkld_threads: Option<usize>,
    /// Its endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wkld_endpoint: Option<String>,
    /// Its run directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_gather_path: Option<String>,
    /// The run's directory on the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_gather_path: Option<String>,
    /// Keys of other versions.
    #[serde(flatten)]
    pub other: IndexMap<String, serde_json::Value>,
}

impl Store {
    /// The state of `target`; empty when there is none yet.
    ///
    /// # Errors
    /// [`StoreError`] when the file is there and cannot be used.
    pub fn read_state(&self, target: TargetName) -> Result<State, StoreError> {
        match read_yaml(&self.state_file(target)) {
            Err(StoreError::Missing(_)) => Ok(State::default()),
            other => other,
        }
    }

    /// Replaces the state of `target`.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write_state(&self, target: TargetName, state: &State) -> Result<(), StoreError> {
        write_yaml(&self.state_file(target), state)
    }
}

impl State {
    /// Reads a state file that is not at its usual place (the copy in a run directory).
    ///
    /// # Errors
    /// As [`Store::read_state`], and [`StoreError::Missing`].
    pub fn read(path: &Path) -> Result<State, StoreError> {
        read_yaml(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_tools_file_is_read_and_its_keys_survive() {
        let text = "app: socialNetwork\ntag: '202110181055'\nconfig: configs/gcp/socialNetwork/us-sg.yml\n\
                    antipode: false\nwkld_rate: 160\nwkld_duration: 300\nsomething_new: 3\n";
        let state: State = super::super::parse_yaml(Path::new(".last.yml"), text).unwrap();
        assert_eq!(state.wkld_rate, Some(160.0));
        assert_eq!(state.tag.as_deref(), Some("202110181055"));
        let again: State =
            super::super::parse_yaml(Path::new(".last.yml"), &serde_saphyr::to_string(&state).unwrap()).unwrap();
        assert_eq!(again, state);
        assert!(again.other.contains_key("something_new"));
    }
}
