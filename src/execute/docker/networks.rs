//! Networks and volumes.

use std::collections::HashMap;

use bollard::models::{EndpointSettings, Network, NetworkConnectRequest, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions, ListVolumesOptions, RemoveVolumeOptions};

use super::{DockerError, Engine, label_filter};

/// What matters about a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `overlay`, ...
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Containers outside the swarm may join.
    pub attachable: bool,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

impl From<Network> for NetworkFacts {
    fn from(seen: Network) -> Self {
        NetworkFacts {
            id: seen.id.unwrap_or_default(),
            name: seen.name.unwrap_or_default(),
            driver: seen.driver.unwrap_or_default(),
            scope: seen.scope.unwrap_or_default(),
            attachable: seen.attachable.unwrap_or(false),
            labels: seen.labels.unwrap_or_default(),
        }
    }
}

impl Engine {
    /// The network called `name`, if there is one.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn network(&self, name: &str) -> Result<Option<NetworkFacts>, DockerError> {
        let seen = self.api.inspect_network(name, None::<InspectNetworkOptions>).await;
        match seen.map_err(|e| self.fault(format!("look at network `{name}`"), e)) {
            Ok(seen) => Ok(Some(NetworkFacts {
                id: seen.id.unwrap_or_default(),
                name: seen.name.unwrap_or_default(),
                driver: seen.driver.unwrap_or_default(),
                scope: seen.scope.unwrap_or_default(),
                attachable: seen.attachable.unwrap_or(false),
                labels: seen.labels.unwrap_or_default(),
            })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Networks that carry the labels (an empty value stands for any).
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn list_networks(&self, labels: &[(&str, &str)]) -> Result<Vec<NetworkFacts>, DockerError> {
        let options = ListNetworksOptions { filters: Some(label_filter(labels)) };
        let seen = self.api.list_networks(Some(options)).await.map_err(|e| self.fault("list networks", e))?;
        Ok(seen.into_iter().map(NetworkFacts::from).collect())
    }

    /// Makes sure that a network of this name exists; returns its id and whether it had to be created.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] for an overlay on an engine that is no swarm manager, and what the engine refuses.
    pub async fn ensure_network(&self, request: NetworkCreateRequest) -> Result<(String, bool), DockerError> {
        if let Some(present) = self.network(&request.name).await? {
            return Ok((present.id, false));
        }
        let doing = format!("create network `{}`", request.name);
        let made = self.api.create_network(request).await.map_err(|e| self.fault(doing, e))?;
        Ok((made.id, true))
    }

    /// Connects a container to a network under further names.
    ///
    /// # Errors
    /// [`DockerError::NotFound`], and what the engine refuses.
    pub async fn connect_network(&self, network: &str, container: &str, aliases: &[String]) -> Result<(), DockerError> {
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(EndpointSettings { aliases: Some(aliases.to_vec()), ..Default::default() }),
        };
        let doing = format!("connect container `{container}` to network `{network}`");
        self.api.connect_network(network, request).await.map_err(|e| self.fault(doing, e))
    }

    /// Removes a network. Returns false when there was none.
    ///
    /// # Errors
    /// [`DockerError::Refused`] while containers are attached.
    pub async fn remove_network(&self, name: &str) -> Result<bool, DockerError> {
        let removed = self.api.remove_network(name).await;
        match removed.map_err(|e| self.fault(format!("remove network `{name}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes sure that a volume of this name exists.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn ensure_volume(&self, request: VolumeCreateRequest) -> Result<(), DockerError> {
        let doing = format!("create volume `{}`", request.name.as_deref().unwrap_or_default());
        self.api.create_volume(request).await.map(|_| ()).map_err(|e| self.fault(doing, e))
    }

    /// Names of the volumes that carry the labels (an empty value stands for any).
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<String>, DockerError> {
        let options = ListVolumesOptions { filters: Some(label_filter(labels)) };
        let seen = self.api.list_volumes(Some(options)).await.map_err(|e| self.fault("list volumes", e))?;
        Ok(seen.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    /// Removes a volume. Returns false when there was none.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] while a container uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<bool, DockerError> {
        let removed = self.api.remove_volume(name, None::<RemoveVolumeOptions>).await;
        match removed.map_err(|e| self.fault(format!("remove volume `{name}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }
}
