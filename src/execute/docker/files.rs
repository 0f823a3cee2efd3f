//! Configs and secrets of a swarm. Neither ever changes: a name that says what is in it (a digest) makes a present one
//! the right one.

use std::collections::HashMap;

use bollard::models::{ConfigSpec, SecretSpec};
use bollard::query_parameters::{ListConfigsOptions, ListSecretsOptions};

use super::{DockerError, Engine, label_filter};

impl Engine {
    /// Makes sure that a config of this name exists and returns its id. `spec.data` is base64.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager; what the engine refuses (more than 500 kB).
    pub async fn ensure_config(&self, spec: ConfigSpec) -> Result<String, DockerError> {
        let name = spec.name.clone().unwrap_or_default();
        match self.config_id(&name).await? {
            Some(id) => Ok(id),
            None => {
                let made = self.api.create_config(spec).await;
                Ok(made.map_err(|e| self.fault(format!("create config `{name}`"), e))?.id)
            }
        }
    }

    /// The id of the config called `name`, if there is one.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn config_id(&self, name: &str) -> Result<Option<String>, DockerError> {
        let options = ListConfigsOptions { filters: Some(by_name(name)) };
        let seen = self.api.list_configs(Some(options)).await;
        let seen = seen.map_err(|e| self.fault(format!("look for config `{name}`"), e))?;
        let named = |spec: &Option<ConfigSpec>| spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name);
        Ok(seen.into_iter().find(|config| named(&config.spec)).and_then(|config| config.id))
    }

    /// Names of the configs that carry the labels (an empty value stands for any).
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn list_configs(&self, labels: &[(&str, &str)]) -> Result<Vec<String>, DockerError> {
        let options = ListConfigsOptions { filters: Some(label_filter(labels)) };
        let seen = self.api.list_configs(Some(options)).await.map_err(|e| self.fault("list configs", e))?;
        Ok(seen.into_iter().filter_map(|config| config.spec.and_then(|spec| spec.name)).collect())
    }

    /// Removes a config. Returns false when there was none.
    ///
    /// # Errors
    /// [`DockerError::Refused`] while a service uses it.
    pub async fn remove_config(&self, name: &str) -> Result<bool, DockerError> {
        match self.api.delete_config(name).await.map_err(|e| self.fault(format!("remove config `{name}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// As [`Engine::ensure_config`], for a secret.
    ///
    /// # Errors
    /// As [`Engine::ensure_config`].
    pub async fn ensure_secret(&self, spec: SecretSpec) -> Result<String, DockerError> {
        let name = spec.name.clone().unwrap_or_default();
        match self.secret_id(&name).await? {
            Some(id) => Ok(id),
            None => {
                let made = self.api.create_secret(spec).await;
                Ok(made.map_err(|e| self.fault(format!("create secret `{name}`"), e))?.id)
            }
        }
    }

    /// The id of the secret called `name`, if there is one.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn secret_id(&self, name: &str) -> Result<Option<String>, DockerError> {
        let options = ListSecretsOptions { filters: Some(by_name(name)) };
        let seen = self.api.list_secrets(Some(options)).await;
        let seen = seen.map_err(|e| self.fault(format!("look for secret `{name}`"), e))?;
        let named = |spec: &Option<SecretSpec>| spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name);
        Ok(seen.into_iter().find(|secret| named(&secret.spec)).and_then(|secret| secret.id))
    }

    /// Names of the secrets that carry the labels (an empty value stands for any).
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn list_secrets(&self, labels: &[(&str, &str)]) -> Result<Vec<String>, DockerError> {
        let options = ListSecretsOptions { filters: Some(label_filter(labels)) };
        let seen = self.api.list_secrets(Some(options)).await.map_err(|e| self.fault("list secrets", e))?;
        Ok(seen.into_iter().filter_map(|secret| secret.spec.and_then(|spec| spec.name)).collect())
    }

    /// Removes a secret. Returns false when there was none.
    ///
    /// # Errors
    /// [`DockerError::Refused`] while a service uses it.
    pub async fn remove_secret(&self, name: &str) -> Result<bool, DockerError> {
        match self.api.delete_secret(name).await.map_err(|e| self.fault(format!("remove secret `{name}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// The engine's filter matches beginnings of names too.
fn by_name(name: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("name".to_owned(), vec![name.to_owned()])])
}
