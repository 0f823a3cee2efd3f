//! Machines of a deployment: made all at once, taken back when one cannot be had, waited for until they let us in, and
//! deleted by label.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;

use super::{Gce, GceError, Kind, Vm, VmSpec, VmState, key};
use crate::cloud::fleet::Machine;
use crate::cloud::provision::{CloudStep, Fleet, Made, inventory, vm_name};
use crate::cloud::startup::BASE_FAMILY;
use crate::cloud::{NODE, Ownership, ROLE, UID};
use crate::error::{Exit, Plain, Result};
use crate::execute::cluster::Hosts;
use crate::execute::ssh::{Exec, Exit as Ended};
use crate::execute::{Executor, Live, Outcome, StepFuture};
use crate::plan::Step;
use crate::store::write_atomic;
use crate::ui;
use crate::wait::{Look, until};

/// Longest wait for machines to run, to publish their keys and to let us in.
const UP: Duration = Duration::from_secs(300);
/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait until deleted things are not listed any more.
const GONE: Duration = Duration::from_secs(120);

/// Carries out steps for real, those about machines in one project.
pub struct Cloud {
    /// The project.
    pub gce: Gce,
    /// The caller, as the owner label has it.
    pub owner: String,
}

impl Executor for Cloud {
    fn execute<'a>(&'a self, step: &'a Step) -> StepFuture<'a> {
        match step {
            Step::Cloud(step) => Box::pin(self.ensure(step)),
            other => Live.execute(other),
        }
    }
}

impl Cloud {
    async fn ensure(&self, step: &CloudStep) -> Result<Outcome> {
        match step {
            CloudStep::Key { path } => key::ensure(path).map(|()| Outcome::Done),
            CloudStep::Machines(fleet) => self.machines(fleet).await.map(Outcome::Machines),
            CloudStep::NoMachines { tag, uid } => self.no_machines(tag, uid).await.map(|()| Outcome::Stopped),
            CloudStep::NoImages => self.no_images().await.map(|()| Outcome::Done),
        }
    }

    async fn machines(&self, fleet: &Fleet) -> Result<Vec<Made>> {
        let image = self.base_image(&fleet.project).await?;
        let user_key = key::public(&fleet.key)?;
        let before = of_deployment(&self.gce, &fleet.tag, &fleet.uid).await?;
        let specs: Vec<VmSpec> =
            fleet.machines.iter().map(|machine| self.spec(fleet, machine, &image, &user_key)).collect();
        let results = join_all(specs.iter().map(|spec| self.gce.ensure_vm(spec))).await;
        let failed: Vec<GceError> = results.into_iter().filter_map(std::result::Result::err).collect();
        if let Some(first) = failed.first() {
            failed.iter().skip(1).for_each(ui::warn);
            self.take_back(fleet, &before).await;
            return Err(first.clone().into());
        }
        let made = self.running(fleet).await?;
        self.pin_host_keys(fleet, &made).await?;
        let_in(fleet, &made).await?;
        Ok(made)
    }

    async fn base_image(&self, project: &str) -> Result<String> {
        match self.gce.image_from_family(project, BASE_FAMILY).await {
            Ok(image) => Ok(image),
            Err(error) if error.kind == Kind::NotFound => {
                let why = format!("project `{project}` has no machine image of family `{BASE_FAMILY}`");
                Err(Plain::usage(why).with_hint("first: maestro --gcp APP build").into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn spec(&self, fleet: &Fleet, machine: &Machine, image: &str, user_key: &str) -> VmSpec {
        let owner = self.owner.clone();
        let ownership = Ownership { deployment: fleet.tag.clone(), owner, expiry: Timestamp::now() + fleet.ttl };
        let mut labels = ownership.labels();
        labels.insert(ROLE.to_owned(), machine.role.as_str().to_owned());
        labels.insert(NODE.to_owned(), crate::cloud::label_value(&machine.name));
        labels.insert(UID.to_owned(), crate::cloud::label_value(&fleet.uid));
        let metadata = [
            ("ssh-keys", format!("{}:{user_key} {}", fleet.user, fleet.user)),
            // Only this deployment's key, and no account of the organisation, opens these machines.
            ("block-project-ssh-keys", "TRUE".to_owned()),
            ("enable-oslogin", "FALSE".to_owned()),
            ("enable-guest-attributes", "TRUE".to_owned()),
        ];
        VmSpec {
            name: vm_name(&fleet.tag, &machine.name),
            // Compute Engine takes names with a domain only.
            hostname: Some(machine.hostname.clone()).filter(|name| name.contains('.')),
            zone: machine.zone.clone(),
            machine_type: machine.machine_type.clone(),
            image: image.to_owned(),
            disk_gb: fleet.disk_gb,
            network: fleet.network.clone(),
            tags: machine.role.network_tags().map(str::to_owned).to_vec(),
            labels,
            metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            max_run: fleet.ttl,
            spot: fleet.spot,
            reads_registry: false,
        }
    }

    /// Deletes what this call has made: whatever carries the deployment's labels and was not there before it.
    async fn take_back(&self, fleet: &Fleet, before: &[Vm]) {
        let there = match of_deployment(&self.gce, &fleet.tag, &fleet.uid).await {
            Ok(there) => there,
            Err(error) => return ui::warn(format_args!("what was made could not be taken back: {error}")),
        };
        let is_new = |vm: &&Vm| !before.iter().any(|old| old.name == vm.name && old.zone == vm.zone);
        let new: Vec<&Vm> = there.iter().filter(is_new).collect();
        let results = join_all(new.iter().map(|vm| self.gce.delete_vm(&vm.zone, &vm.name))).await;
        for error in results.into_iter().filter_map(std::result::Result::err) {
            ui::warn(format_args!("not taken back, it deletes itself at its time limit: {error}"));
        }
        ui::note(format_args!("took back {} that this deploy had made", ui::count(new.len(), "machine")));
    }

    /// Waits until every machine runs and has addresses.
    async fn running(&self, fleet: &Fleet) -> Result<Vec<Made>> {
        let look = || async {
            let there = match of_deployment(&self.gce, &fleet.tag, &fleet.uid).await {
                Ok(there) => there,
                Err(error) if error.passing() => return Look::NotYet(error.to_string()),
                Err(error) => return Look::Ready(Err(error.into())),
            };
            let there: BTreeMap<&str, &Vm> = there.iter().map(|vm| (vm.name.as_str(), vm)).collect();
            let mut made = Vec::new();
            for machine in &fleet.machines {
                let name = vm_name(&fleet.tag, &machine.name);
                match there.get(name.as_str()) {
                    Some(vm) if vm.state == VmState::Stopped => return Look::Ready(Err(stopped(machine, vm))),
                    Some(vm) if vm.state == VmState::Running => match of_vm(machine, vm) {
                        Some(one) => made.push(one),
                        None => return Look::NotYet(format!("`{name}` has no addresses")),
                    },
                    Some(_) => return Look::NotYet(format!("`{name}` is starting")),
                    None => return Look::NotYet(format!("`{name}` is not there")),
                }
            }
            Look::Ready(Ok(made))
        };
        until("the machines are", UP, LOOK, look).await?
    }

    /// Writes the host keys that the machines have published where connections look them up.
    async fn pin_host_keys(&self, fleet: &Fleet, made: &[Made]) -> Result<()> {
        let each = made.iter().map(|machine| async move {
            let look = || async {
                match self.gce.host_keys(&machine.zone, &machine.vm).await {
                    Ok(keys) if keys.is_empty() => Look::NotYet("none published".into()),
                    Ok(keys) => Look::Ready(Ok(keys)),
                    Err(error) if error.passing() => Look::NotYet(error.to_string()),
                    Err(error) => Look::Ready(Err(error)),
                }
            };
            let what = format!("the host keys of `{}` are", machine.vm);
            let keys = until(&what, UP, LOOK, look).await??;
            Ok::<_, crate::error::Error>(
                keys.into_iter().map(|(kind, key)| format!("{} {kind} {key}\n", machine.external)),
            )
        });
        let lines: String = try_join_all(each).await?.into_iter().flatten().collect();
        write_atomic(&fleet.key.with_file_name("known_hosts"), lines.as_bytes())?;
        Ok(())
    }

    /// Deletes every machine and disk of the deployment in all zones, and looks whether any is left.
    async fn no_machines(&self, tag: &str, uid: &str) -> Result<()> {
        let vms = of_deployment(&self.gce, tag, uid).await?;
        let deleted = join_all(vms.iter().map(|vm| self.gce.delete_vm(&vm.zone, &vm.name))).await;
        first_failure(deleted)?;
        // A boot disk goes with its machine; one that was left behind on the way is deleted by itself.
        let disks = self.gce.own_disks().await?;
        let ours = |disk: &&super::Disk| !disk.attached && is_of(&disk.labels, tag, uid);
        let disks: Vec<&super::Disk> = disks.iter().filter(ours).collect();
        first_failure(join_all(disks.iter().map(|disk| self.gce.delete_disk(&disk.zone, &disk.name))).await)?;
        let look = || async {
            match self.left(tag, uid).await {
                Ok(None) => Look::Ready(Ok(())),
                Ok(Some(left)) => Look::NotYet(left),
                Err(error) => Look::Ready(Err(error)),
            }
        };
        until("an empty project is", GONE, LOOK, look).await??;
        ui::note(format_args!(
            "deleted {}; no machine and no disk of `{tag}` is left in any zone",
            ui::count(vms.len(), "machine")
        ));
        Ok(())
    }

    /// A machine or a disk of the deployment that is still listed, in words.
    async fn left(&self, tag: &str, uid: &str) -> Result<Option<String>, GceError> {
        if let Some(vm) = of_deployment(&self.gce, tag, uid).await?.first() {
            return Ok(Some(format!("machine `{}` in {}", vm.name, vm.zone)));
        }
        let disks = self.gce.own_disks().await?;
        let disk = disks.iter().find(|disk| is_of(&disk.labels, tag, uid));
        Ok(disk.map(|disk| format!("disk `{}` in {}", disk.name, disk.zone)))
    }

    async fn no_images(&self) -> Result<()> {
        let mut images = self.gce.own_images().await?;
        images.retain(|image| image.ownership().is_some_and(|ownership| ownership.owner == self.owner));
        first_failure(join_all(images.iter().map(|image| self.gce.delete_image(&image.name))).await)?;
        ui::note(format_args!("deleted {}", ui::count(images.len(), "machine image")));
        Ok(())
    }
}

/// The machines of one deployment of one root.
///
/// # Errors
/// [`GceError`].
pub async fn of_deployment(gce: &Gce, tag: &str, uid: &str) -> Result<Vec<Vm>, GceError> {
    let mut vms = gce.vms(Some(tag)).await?;
    vms.retain(|vm| is_of(&vm.labels, tag, uid));
    Ok(vms)
}

fn is_of(labels: &BTreeMap<String, String>, tag: &str, uid: &str) -> bool {
    use crate::cloud::{DEPLOYMENT, label_value};
    labels.get(DEPLOYMENT) == Some(&label_value(tag)) && labels.get(UID) == Some(&label_value(uid))
}

fn first_failure(results: Vec<Result<(), GceError>>) -> Result<(), GceError> {
    let mut failed = results.into_iter().filter_map(Result::err);
    let Some(first) = failed.next() else { return Ok(()) };
    failed.for_each(ui::warn);
    Err(first)
}

fn of_vm(machine: &Machine, vm: &Vm) -> Option<Made> {
    Some(Made {
        name: machine.name.clone(),
        role: machine.role.host_role(),
        vm: vm.name.clone(),
        zone: vm.zone.clone(),
        machine_type: vm.machine_type.clone(),
        internal: vm.internal_ip.clone()?,
        external: vm.external_ip.clone()?,
    })
}

fn stopped(machine: &Machine, vm: &Vm) -> crate::error::Error {
    let why = format!("machine `{}` in {} has stopped (pre-empted, or its time was up)", machine.name, vm.zone);
    Plain::new(Exit::StepFailed, why).with_hint("maestro --gcp APP clean -strong, then deploy again").into()
}

/// Waits until every machine takes the deployment's key and has its engine's socket.
async fn let_in(fleet: &Fleet, made: &[Made]) -> Result<()> {
    let inventory = Arc::new(inventory(&fleet.machines, made, &fleet.key, &fleet.user));
    let hosts = Hosts::of(&inventory)?;
    let each = made.iter().map(|machine| {
        let hosts = &hosts;
        async move {
            let remote = hosts.remote(&machine.name)?;
            let look = || async {
                match remote.run(&Exec::new(["test", "-S", "/var/run/docker.sock"])).await {
                    Ok(output) if output.exit == Ended::Code(0) => Look::Ready(()),
                    Ok(_) => Look::NotYet("its Docker engine has not started".into()),
                    Err(error) => Look::NotYet(error.to_string()),
                }
            };
            until(&format!("machine `{}` is", machine.name), UP, LOOK, look).await?;
            Ok::<(), crate::error::Error>(())
        }
    });
    try_join_all(each).await.map(drop)
}
