//! Swarm services, their tasks, logs and configs.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{Service, ServiceSpec, Task};
use bollard::query_parameters::{InspectServiceOptions, ListServicesOptions, ListTasksOptions, UpdateServiceOptions};
use futures_util::StreamExt;

use super::{DockerError, Engine, LogLine, LogRequest, label_filter};

/// How often an update is tried again when somebody else changed the service in between.
const UPDATE_TRIES: u32 = 8;

/// Running and wanted tasks of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounts {
    /// The service's full name (`<stack>_<service>`).
    pub name: String,
    /// The service's id.
    pub id: String,
    /// Tasks that run.
    pub running: u64,
    /// Tasks that should.
    pub wanted: u64,
    /// The service's labels.
    pub labels: HashMap<String, String>,
}

/// What matters about one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its id.
    pub id: String,
    /// The service's id.
    pub service: String,
    /// The node's id; empty while the scheduler has found none.
    pub node: String,
    /// `running`, `pending`, `rejected`, `failed`, ...
    pub state: String,
    /// The state it should be in.
    pub wanted: String,
    /// Why it is not, in the engine's words; empty when all is well.
    pub error: String,
    /// Its container's id, once there is one.
    pub container: String,
    /// Exit code of its container, once it has ended.
    pub exit_code: Option<i64>,
    /// Replica number, counted from 1; 0 for global services.
    pub slot: i64,
}

impl Engine {
    /// The service called `name`, if there is one.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn service(&self, name: &str) -> Result<Option<Service>, DockerError> {
        let seen = self.api.inspect_service(name, None::<InspectServiceOptions>).await;
        match seen.map_err(|e| self.fault(format!("look at service `{name}`"), e)) {
            Ok(seen) => Ok(Some(seen)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates a service and returns its id.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] when the name is taken; [`DockerError::Swarm`]; what the engine refuses.
    pub async fn create_service(&self, spec: ServiceSpec) -> Result<String, DockerError> {
        let doing = format!("create service `{}`", spec.name.as_deref().unwrap_or_default());
        let made = self.api.create_service(spec, None).await.map_err(|e| self.fault(doing, e))?;
        Ok(made.id.unwrap_or_default())
    }

    /// Sends the whole of `spec` to the service of its name; tries again when somebody else was quicker.
    ///
    /// # Errors
    /// [`DockerError::NotFound`]; what the engine refuses.
    pub async fn update_service(&self, spec: &ServiceSpec) -> Result<(), DockerError> {
        let name = spec.name.clone().unwrap_or_default();
        let doing = || format!("update service `{name}`");
        let mut tried = 1;
        loop {
            let seen = self.api.inspect_service(&name, None::<InspectServiceOptions>).await;
            let seen = seen.map_err(|e| self.fault(doing(), e))?;
            let version = seen.version.and_then(|version| version.index).unwrap_or_default();
            let options =
                UpdateServiceOptions { version: i32::try_from(version).unwrap_or(i32::MAX), ..Default::default() };
            match self.api.update_service(&name, spec.clone(), options, None).await.map_err(|e| self.fault(doing(), e))
            {
                Ok(_) => return Ok(()),
                Err(e) if is_stale(&e) && tried < UPDATE_TRIES => tried += 1,
                Err(e) => return Err(e),
            }
            tokio::time::sleep(Duration::from_millis(50 << tried.min(5))).await;
        }
    }

    /// Creates the service or sends it its whole specification. Returns whether it had to be created.
    ///
    /// # Errors
    /// As [`Engine::create_service`] and [`Engine::update_service`].
    pub async fn ensure_service(&self, spec: ServiceSpec) -> Result<bool, DockerError> {
        // Looked for first: a service's own published port would speak against creating it again.
        if self.service(spec.name.as_deref().unwrap_or_default()).await?.is_some() {
            return self.update_service(&spec).await.map(|()| false);
        }
        match self.create_service(spec.clone()).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_conflict() => self.update_service(&spec).await.map(|()| false),
            Err(e) => Err(e),
        }
    }

    /// Services that carry the labels (an empty value stands for any) with their counts.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn list_services(&self, labels: &[(&str, &str)]) -> Result<Vec<ServiceCounts>, DockerError> {
        let options = ListServicesOptions { filters: Some(label_filter(labels)), status: Some(true) };
        let seen = self.api.list_services(Some(options)).await.map_err(|e| self.fault("list services", e))?;
        Ok(seen.into_iter().map(counts).collect())
    }

    /// Removes a service. Returns false when there was none.
    ///
    /// # Errors
    /// [`DockerError::Swarm`]; what the engine refuses.
    pub async fn remove_service(&self, name: &str) -> Result<bool, DockerError> {
        match self.api.delete_service(name).await.map_err(|e| self.fault(format!("remove service `{name}`"), e)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Tasks of a service (name or id); with `current` only those that should run now, without the history.
    ///
    /// # Errors
    /// [`DockerError::Swarm`]; [`DockerError::NotFound`].
    pub async fn tasks(&self, service: &str, current: bool) -> Result<Vec<TaskFacts>, DockerError> {
        let mut filters = HashMap::from([("service".to_owned(), vec![service.to_owned()])]);
        if current {
            filters.insert("desired-state".into(), vec!["running".into()]);
        }
        self.list_tasks(filters).await
    }

    /// Tasks that carry the labels, history included.
    ///
    /// # Errors
    /// [`DockerError::Swarm`] on an engine that is no manager.
    pub async fn tasks_labelled(&self, labels: &[(&str, &str)]) -> Result<Vec<TaskFacts>, DockerError> {
        self.list_tasks(label_filter(labels)).await
    }

    async fn list_tasks(&self, filters: HashMap<String, Vec<String>>) -> Result<Vec<TaskFacts>, DockerError> {
        let seen = self.api.list_tasks(Some(ListTasksOptions { filters: Some(filters) })).await;
        Ok(seen.map_err(|e| self.fault("list tasks", e))?.into_iter().map(task).collect())
    }

    /// The log of all tasks of a service.
    pub fn service_log(
        &self,
        service: &str,
        request: LogRequest,
    ) -> impl futures_util::Stream<Item = Result<LogLine, DockerError>> + Send + 'static {
        let pieces = self.api.service_logs(service, Some(request.options())).boxed();
        self.lines(format!("read the log of service `{service}`"), pieces)
    }
}

/// The engine answers 500 with this text when the version it was given is not the newest.
fn is_stale(error: &DockerError) -> bool {
    matches!(error, DockerError::Refused { message, .. } if message.contains("update out of sequence"))
}

fn counts(seen: Service) -> ServiceCounts {
    let spec = seen.spec.unwrap_or_default();
    let status = seen.service_status.unwrap_or_default();
    ServiceCounts {
        name: spec.name.unwrap_or_default(),
        id: seen.id.unwrap_or_default(),
        running: status.running_tasks.unwrap_or_default(),
        wanted: status.desired_tasks.unwrap_or_default(),
        labels: spec.labels.unwrap_or_default(),
    }
}

fn task(seen: Task) -> TaskFacts {
    let status = seen.status.unwrap_or_default();
    let container = status.container_status.unwrap_or_default();
    let state = status.state.map(|state| state.to_string()).unwrap_or_default();
    let ended = ["complete", "failed", "shutdown"].contains(&state.as_str());
    TaskFacts {
        id: seen.id.unwrap_or_default(),
        service: seen.service_id.unwrap_or_default(),
        node: seen.node_id.unwrap_or_default(),
        state,
        wanted: seen.desired_state.map(|state| state.to_string()).unwrap_or_default(),
        error: status.err.unwrap_or_default(),
        container: container.container_id.unwrap_or_default(),
        exit_code: container.exit_code.filter(|_| ended),
        slot: seen.slot.unwrap_or_default(),
    }
}
