//! Machines.

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_compute_v1::model::{
    AccessConfig, AttachedDisk, AttachedDiskInitializeParams, Duration as ApiDuration, Instance, Metadata,
    NetworkInterface, Scheduling, ServiceAccount, Tags, instance, metadata, scheduling,
};
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;

use super::{Gce, GceError, Kind, Scope, last, request_id, retry};
use crate::cloud::{DEPLOYMENT, MAESTRO, Ownership, TOOL, UID};

/// A machine to create.
#[derive(Clone, Debug, PartialEq)]
pub struct VmSpec {
    /// Its name in the project.
    pub name: String,
    /// Its host name (`name.domain`), when it differs.
    pub hostname: Option<String>,
    /// Zone.
    pub zone: String,
    /// Machine type.
    pub machine_type: String,
    /// Image path to start from.
    pub image: String,
    /// Boot disk, GB.
    pub disk_gb: u32,
    /// Network.
    pub network: String,
    /// Network tags.
    pub tags: Vec<String>,
    /// Labels, with the ownership's among them.
    pub labels: BTreeMap<String, String>,
    /// Instance metadata (`ssh-keys`, `startup-script`); never project-wide.
    pub metadata: BTreeMap<String, String>,
    /// It deletes itself after this time.
    pub max_run: Duration,
    /// Spot.
    pub spot: bool,
    /// Its service account may read the project's registry.
    pub reads_registry: bool,
}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Being made or started.
    Starting,
    /// Running.
    Running,
    /// Stopping or stopped.
    Stopped,
}

impl VmState {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            VmState::Starting => "starting",
            VmState::Running => "running",
            VmState::Stopped => "stopped",
        }
    }
}

/// A machine that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// Zone.
    pub zone: String,
    /// Machine type.
    pub machine_type: String,
    /// What it is doing.
    pub state: VmState,
    /// Address inside the network.
    pub internal_ip: Option<String>,
    /// Address from outside.
    pub external_ip: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, where that is told.
    pub created: Option<jiff::Timestamp>,
    /// When Compute Engine deletes it, while it runs.
    pub ends: Option<jiff::Timestamp>,
}

impl Vm {
    /// Whose it is; `None` when it is not maestro's.
    pub fn ownership(&self) -> Option<Ownership> {
        Ownership::from_labels(|key| self.labels.get(key).map(String::as_str))
    }
}

impl Gce {
    /// Creates a machine. One of the same name that carries the same deployment's label is taken as it is; a foreign one
    /// is refused.
    ///
    /// # Errors
    /// [`GceError`]; [`Kind::AlreadyExists`] for a foreign machine of that name.
    pub async fn ensure_vm(&self, spec: &VmSpec) -> Result<(), GceError> {
        let what = format!("creating machine `{}` in {}", spec.name, spec.zone);
        let body = instance_of(spec);
        let id = request_id();
        let started = retry(&what, || {
            let request = self
                .instances
                .insert()
                .set_project(&self.project)
                .set_zone(&spec.zone)
                .set_body(body.clone())
                .set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        let ended = match started {
            Ok(operation) => self.finish(&what, &Scope::Zone(&spec.zone), operation).await,
            Err(error) => Err(error),
        };
        match ended {
            Err(error) if error.kind == Kind::AlreadyExists => self.accept_existing(spec, error).await,
            other => other,
        }
    }

    async fn accept_existing(&self, spec: &VmSpec, error: GceError) -> Result<(), GceError> {
        let ours = |vm: &Vm| [TOOL, DEPLOYMENT, UID].iter().all(|key| vm.labels.get(*key) == spec.labels.get(*key));
        match self.vm(&spec.zone, &spec.name).await? {
            Some(vm) if ours(&vm) => Ok(()),
            _ => {
                Err(GceError { message: "a machine of this name exists and belongs to something else".into(), ..error })
            }
        }
    }

    /// One machine, if it is there.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn vm(&self, zone: &str, name: &str) -> Result<Option<Vm>, GceError> {
        let what = format!("looking up machine `{name}` in {zone}");
        let found = retry(&what, || {
            let request = self.instances.get().set_project(&self.project).set_zone(zone).set_instance(name);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        match found {
            Ok(instance) => Ok(Some(vm_of(instance))),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All machines of maestro in all zones, or only those of one deployment.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn vms(&self, deployment: Option<&str>) -> Result<Vec<Vm>, GceError> {
        let mut filter = format!("labels.{TOOL}={MAESTRO}");
        if let Some(deployment) = deployment {
            filter.push_str(&format!(" AND labels.{DEPLOYMENT}={}", crate::cloud::label_value(deployment)));
        }
        let mut vms = Vec::new();
        let mut page = String::new();
        loop {
            let list = retry("listing machines", || {
                let request = self
                    .instances
                    .aggregated_list()
                    .set_project(&self.project)
                    .set_filter(&filter)
                    .set_page_token(page.clone());
                async move { request.with_retry_policy(NeverRetry).send().await }
            })
            .await?;
            vms.extend(list.items.into_values().flat_map(|scoped| scoped.instances).map(vm_of));
            match list.next_page_token.filter(|token| !token.is_empty()) {
                Some(token) => page = token,
                None => break,
            }
        }
        vms.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(vms)
    }

    /// Deletes a machine with its boot disk; one that is gone already is fine.
    ///
    /// # Errors
    /// [`GceError`].
    pub async fn delete_vm(&self, zone: &str, name: &str) -> Result<(), GceError> {
        let what = format!("deleting machine `{name}` in {zone}");
        let id = request_id();
        let done = retry(&what, || {
            let request = self
                .instances
                .delete()
                .set_project(&self.project)
                .set_zone(zone)
                .set_instance(name)
                .set_request_id(&id);
            async move { request.with_retry_policy(NeverRetry).send().await }
        })
        .await;
        self.settle(&what, Scope::Zone(zone), done, Kind::NotFound).await
    }
}

/// What a machine needs to pull from a registry of its project. Source: Artifact Registry documentation, "Configure
/// authentication", access scopes of virtual machines.
const READ_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

fn instance_of(spec: &VmSpec) -> Instance {
    let zone = &spec.zone;
    let disk = AttachedDisk::new().set_boot(true).set_auto_delete(true).set_initialize_params(
        AttachedDiskInitializeParams::new()
            .set_source_image(&spec.image)
            .set_disk_size_gb(i64::from(spec.disk_gb))
            .set_labels(spec.labels.clone()),
    );
    let interface = NetworkInterface::new()
        .set_network(format!("global/networks/{}", spec.network))
        .set_access_configs([AccessConfig::new().set_name("External NAT")]);
    let items = spec.metadata.iter().map(|(key, value)| metadata::Items::new().set_key(key).set_value(value));
    let mut body = Instance::new()
        .set_name(&spec.name)
        .set_machine_type(format!("zones/{zone}/machineTypes/{}", spec.machine_type))
        .set_disks([disk])
        .set_network_interfaces([interface])
        .set_tags(Tags::new().set_items(spec.tags.clone()))
        .set_labels(spec.labels.clone())
        .set_metadata(Metadata::new().set_items(items))
        .set_scheduling(scheduling_of(spec));
    if spec.reads_registry {
        body = body.set_service_accounts([ServiceAccount::new().set_email("default").set_scopes([READ_SCOPE])]);
    }
    if let Some(hostname) = &spec.hostname {
        body = body.set_hostname(hostname);
    }
    body
}

/// Nothing outlives its time: `maxRunDuration` with DELETE works without anybody watching.
fn scheduling_of(spec: &VmSpec) -> Scheduling {
    let seconds = i64::try_from(spec.max_run.as_secs()).unwrap_or(i64::MAX);
    let model = if spec.spot { scheduling::ProvisioningModel::Spot } else { scheduling::ProvisioningModel::Standard };
    Scheduling::new()
        .set_max_run_duration(ApiDuration::new().set_seconds(seconds))
        .set_instance_termination_action(scheduling::InstanceTerminationAction::Delete)
        .set_provisioning_model(model)
        .set_automatic_restart(false)
        .set_on_host_maintenance(scheduling::OnHostMaintenance::Terminate)
}

fn vm_of(instance: Instance) -> Vm {
    let ends = instance.resource_status.as_ref().and_then(|status| status.scheduling.as_ref());
    let ends = ends.and_then(|scheduling| scheduling.termination_timestamp.as_deref()?.parse().ok());
    let interface = instance.network_interfaces.first();
    let state = match instance.status {
        Some(instance::Status::Running) => VmState::Running,
        Some(instance::Status::Provisioning | instance::Status::Staging) => VmState::Starting,
        _ => VmState::Stopped,
    };
    Vm {
        name: instance.name.unwrap_or_default(),
        zone: last(instance.zone.as_deref()),
        machine_type: last(instance.machine_type.as_deref()),
        state,
        internal_ip: interface.and_then(|i| i.network_ip.clone()),
        external_ip: interface.and_then(|i| i.access_configs.first()).and_then(|a| a.nat_ip.clone()),
        labels: instance.labels.into_iter().collect(),
        created: instance.creation_timestamp.and_then(|text| text.parse().ok()),
        ends,
    }
}
