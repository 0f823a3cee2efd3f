//! The swarm an engine is in, and its nodes.

use std::collections::HashMap;

use bollard::models::{LocalNodeState, Node, NodeSpec, SwarmInitRequest, SwarmJoinRequest, SwarmSpec};
use bollard::query_parameters::{DeleteNodeOptions, LeaveSwarmOptions, ListNodesOptions, UpdateNodeOptions};

use super::{DockerError, Engine};
use crate::secret::Secret;

/// An engine's part in a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmFacts {
    /// In a swarm, or joining one.
    pub active: bool,
    /// Whether it is a manager.
    pub manager: bool,
    /// Its own node id.
    pub node: String,
    /// The swarm's id; known to managers only.
    pub cluster: String,
    /// Address that other nodes use for it.
    pub address: String,
    /// Managers it knows (`host:port`).
    pub managers: Vec<String>,
    /// What keeps it from joining, in the engine's words.
    pub error: String,
}

/// What a new node needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinTokens {
    /// For workers.
    pub worker: Secret,
    /// For managers.
    pub manager: Secret,
}

/// A node as a manager sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its id.
    pub id: String,
    /// Its operating system's host name.
    pub hostname: String,
    /// Whether it is a manager.
    pub manager: bool,
    /// `ready`, `down`, ...
    pub state: String,
    /// `active`, `pause`, `drain`.
    pub availability: String,
    /// Address as managers see it.
    pub address: String,
    /// Architecture in the words of engines (`x86_64`).
    pub architecture: String,
    /// Engine version.
    pub engine: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

impl Engine {
    /// This engine's part in a swarm.
    ///
    /// # Errors
    /// [`DockerError::NoEngine`] and the like.
    pub async fn swarm(&self) -> Result<SwarmFacts, DockerError> {
        let swarm = self.info().await?.swarm.unwrap_or_default();
        let state = swarm.local_node_state.unwrap_or(LocalNodeState::INACTIVE);
        Ok(SwarmFacts {
            active: matches!(state, LocalNodeState::ACTIVE | LocalNodeState::PENDING | LocalNodeState::LOCKED),
            manager: swarm.control_available.unwrap_or(false),
            node: swarm.node_id.unwrap_or_default(),
            cluster: swarm.cluster.and_then(|cluster| cluster.id).unwrap_or_default(),
            address: swarm.node_addr.unwrap_or_default(),
            managers: swarm.remote_managers.unwrap_or_default().into_iter().filter_map(|peer| peer.addr).collect(),
            error: swarm.error.unwrap_or_default(),
        })
    }

    /// Forms a swarm with this engine as its manager, the swarm itself carrying `labels` from the first moment. Returns
    /// the node's id.
    ///
    /// # Errors
    /// [`DockerError::Refused`] when the engine is in a swarm already or the address is not one of the host's.
    pub async fn swarm_init(
        &self,
        advertise: &str,
        listen_port: u16,
        labels: &[(&str, &str)],
    ) -> Result<String, DockerError> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request = SwarmInitRequest {
            advertise_addr: Some(advertise.to_owned()),
            listen_addr: Some(format!("0.0.0.0:{listen_port}")),
            spec: Some(SwarmSpec { labels: Some(labels), ..Default::default() }),
            ..Default::default()
        };
        self.api.init_swarm(request).await.map_err(|e| self.fault("form a swarm", e))
    }

    /// The labels of the swarm that this engine manages.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn swarm_labels(&self) -> Result<HashMap<String, String>, DockerError> {
        let swarm = self.api.inspect_swarm().await.map_err(|e| self.fault("look at the swarm", e))?;
        Ok(swarm.spec.and_then(|spec| spec.labels).unwrap_or_default())
    }

    /// Joins the swarm of the managers `remote` (`host:port`).
    ///
    /// # Errors
    /// [`DockerError::Swarm`] when it is in one already; what the managers refuse.
    pub async fn swarm_join(
        &self,
        token: &str,
        remote: &[String],
        advertise: &str,
        listen_port: u16,
    ) -> Result<(), DockerError> {
        let request = SwarmJoinRequest {
            listen_addr: Some(format!("0.0.0.0:{listen_port}")),
            advertise_addr: Some(advertise.to_owned()),
            remote_addrs: Some(remote.to_vec()),
            join_token: Some(token.to_owned()),
            ..Default::default()
        };
        self.api.join_swarm(request).await.map_err(|e| self.fault("join the swarm", e))
    }

    /// Leaves the swarm; a manager leaves only with `force`. Returns false when it was in none.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn swarm_leave(&self, force: bool) -> Result<bool, DockerError> {
        let left = self.api.leave_swarm(Some(LeaveSwarmOptions { force })).await;
        match left.map_err(|e| self.fault("leave the swarm", e)) {
            Ok(()) => Ok(true),
            Err(e) if e.to_string().contains("not part of a swarm") => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The tokens that new nodes join with (a secret: never print them).
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn join_tokens(&self) -> Result<JoinTokens, DockerError> {
        let swarm = self.api.inspect_swarm().await.map_err(|e| self.fault("look at the swarm", e))?;
        let tokens = swarm.join_tokens.unwrap_or_default();
        let secret = |token: Option<String>| Secret::from(token.unwrap_or_default());
        Ok(JoinTokens { worker: secret(tokens.worker), manager: secret(tokens.manager) })
    }

    /// All nodes of the swarm.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn nodes(&self) -> Result<Vec<NodeFacts>, DockerError> {
        let nodes = self.api.list_nodes(None::<ListNodesOptions>).await.map_err(|e| self.fault("list nodes", e))?;
        Ok(nodes.into_iter().map(facts).collect())
    }

    /// Adds `labels` to a node's own; others stay. Nothing is sent when they are there already.
    ///
    /// # Errors
    /// [`DockerError::NotFound`]; [`DockerError::Swarm`].
    pub async fn label_node(&self, id: &str, labels: &[(String, String)]) -> Result<(), DockerError> {
        let node = self.inspect_node(id).await?;
        let spec = node.spec.unwrap_or_default();
        let mut wanted = spec.labels.clone().unwrap_or_default();
        wanted.extend(labels.iter().cloned());
        if spec.labels.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let version = node.version.and_then(|version| version.index).unwrap_or_default();
        self.send_node(id, NodeSpec { labels: Some(wanted), ..spec }, version).await
    }

    /// Takes the labels `keys` off a node.
    ///
    /// # Errors
    /// As [`Engine::label_node`].
    pub async fn unlabel_node(&self, id: &str, keys: &[String]) -> Result<(), DockerError> {
        let node = self.inspect_node(id).await?;
        let spec = node.spec.unwrap_or_default();
        let mut labels = spec.labels.clone().unwrap_or_default();
        labels.retain(|key, _| !keys.contains(key));
        if spec.labels.as_ref() == Some(&labels) {
            return Ok(());
        }
        let version = node.version.and_then(|version| version.index).unwrap_or_default();
        self.send_node(id, NodeSpec { labels: Some(labels), ..spec }, version).await
    }

    /// Removes a node that has left (or, with `force`, one that has not). Returns false when there was none.
    ///
    /// # Errors
    /// What the managers refuse.
    pub async fn remove_node(&self, id: &str, force: bool) -> Result<bool, DockerError> {
        let removed = self.api.delete_node(id, Some(DeleteNodeOptions { force })).await;
        match removed.map_err(|e| self.fault(format!("remove node `{id}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn inspect_node(&self, id: &str) -> Result<Node, DockerError> {
        self.api.inspect_node(id).await.map_err(|e| self.fault(format!("look at node `{id}`"), e))
    }

    async fn send_node(&self, id: &str, spec: NodeSpec, version: u64) -> Result<(), DockerError> {
        let options = UpdateNodeOptions { version: i64::try_from(version).unwrap_or(i64::MAX) };
        let sent = self.api.update_node(id, spec, options).await;
        sent.map_err(|e| self.fault(format!("label node `{id}`"), e))
    }
}

fn facts(node: Node) -> NodeFacts {
    let spec = node.spec.unwrap_or_default();
    let description = node.description.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    NodeFacts {
        id: node.id.unwrap_or_default(),
        hostname: description.hostname.unwrap_or_default(),
        manager: node.manager_status.is_some(),
        state: status.state.map(|state| state.to_string()).unwrap_or_default(),
        availability: spec.availability.map(|word| word.to_string()).unwrap_or_default(),
        address: status.addr.unwrap_or_default(),
        architecture: description.platform.and_then(|platform| platform.architecture).unwrap_or_default(),
        engine: description.engine.and_then(|engine| engine.engine_version).unwrap_or_default(),
        labels: spec.labels.unwrap_or_default(),
    }
}
