//! The base image: a machine whose startup script powers it off is imaged; every machine of a deployment starts from it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::cloud::site::Site;
use crate::cloud::startup::{BASE_FAMILY, Preload, base_image_script, progress, remote_name};
use crate::cloud::{Ownership, ROLE};
use crate::command::{firewall, gcp};
use crate::error::{Exit, Plain, Result};
use crate::execute::docker::Engine;
use crate::execute::gce::{Gce, VmSpec, VmState};
use crate::execute::until_interrupted;
use crate::wait::{Look, TimedOut, until};
use crate::{Context, store, ui};

/// Type of the machine that is imaged.
const MACHINE_TYPE: &str = "e2-medium";
/// Value of its role label, and of the deployment label of it and of its image.
const ROLE_NAME: &str = "base-image";
/// The machine deletes itself this long after its script should have ended.
const GRACE: Duration = Duration::from_secs(600);
/// An image may be deleted by `gc` after this time: 90 days.
const IMAGE_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Longest time between two looks at the machine.
const INTERVAL: Duration = Duration::from_secs(5);

/// What `build` does in the cloud.
pub(crate) struct BaseImage {
    site: Site,
    tag: String,
    preloads: Vec<Preload>,
}

impl BaseImage {
    /// Decides what to make: `images` are on it when the site has a registry.
    ///
    /// # Errors
    /// Exit code 2 when the site file cannot be used.
    pub(crate) fn of(context: &Context, images: &[String]) -> Result<BaseImage> {
        let site = gcp::site(context)?;
        let preload = |(registry, image): (&String, &String)| Preload {
            remote: remote_name(registry, image),
            name: image.clone(),
        };
        let preloads = site.registry.iter().flat_map(|registry| images.iter().map(move |image| (registry, image)));
        let preloads = preloads.map(preload).collect();
        Ok(BaseImage { preloads, tag: store::new_tag(), site })
    }

    /// Makes it.
    ///
    /// # Errors
    /// Exit code 4 when its script failed or did not end; the machine is removed before that is said.
    pub(crate) async fn make(&self, context: &Context) -> Result<()> {
        let gce = gcp::connect(context, &self.site).await?;
        for finding in firewall::check(&self.site, &gce).await? {
            ui::warn(format_args!("{finding} (see: maestro --gcp firewall plan)"));
        }
        let source = gce.image_from_family(&self.site.image_project, &self.site.image_family).await?;
        self.push(context).await?;
        let spec = self.spec(source);
        ui::note(format_args!(
            "making machine `{}` in {} and waiting until it powers itself off",
            spec.name, spec.zone
        ));
        let made = tokio::select! {
            made = self.image(&gce, &spec) => made,
            () = until_interrupted() => Err(Plain::new(Exit::Interrupted, "interrupted").into()),
        };
        let removed = gce.delete_vm(&spec.zone, &spec.name).await;
        if let (Err(_), Err(error)) = (&made, &removed) {
            ui::warn(format_args!("{error}; it deletes itself after {} min", spec.max_run.as_secs() / 60));
        }
        made?;
        removed?;
        self.drop_older(&gce, &spec.name).await?;
        ui::note(format_args!("made image `{}` of family `{BASE_FAMILY}`", spec.name));
        Ok(())
    }

    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.site.build_minutes * 60.0)
    }

    fn ownership(&self, life: Duration) -> Ownership {
        let expiry = Timestamp::now().checked_add(life).unwrap_or(Timestamp::MAX);
        Ownership { deployment: ROLE_NAME.to_owned(), owner: gcp::owner(), expiry }
    }

    fn spec(&self, source: String) -> VmSpec {
        let life = self.limit() + GRACE;
        let mut labels = self.ownership(life).labels();
        labels.insert(ROLE.to_owned(), ROLE_NAME.to_owned());
        let script = base_image_script(self.site.registry.as_deref(), &self.preloads);
        VmSpec {
            name: format!("{BASE_FAMILY}-{}", self.tag),
            hostname: None,
            zone: self.site.build_zone.clone(),
            machine_type: MACHINE_TYPE.to_owned(),
            image: source,
            disk_gb: self.site.disk_gb,
            network: self.site.network.clone(),
            tags: Vec::new(),
            labels,
            metadata: [("startup-script".to_owned(), script)].into(),
            max_run: life,
            spot: false,
            reads_registry: !self.preloads.is_empty(),
        }
    }

    /// Sends this machine's images to the registry, where the cloud's machine fetches them.
    async fn push(&self, context: &Context) -> Result<()> {
        if self.preloads.is_empty() {
            return Ok(());
        }
        let engine = Engine::local()?;
        let login = gcp::registry_login(context).await?;
        for Preload { remote, name } in &self.preloads {
            ui::note(format_args!("pushing {remote}"));
            engine.tag_image(name, remote).await?;
            let pushed = engine.push_image(remote, login.as_ref()).await;
            engine.remove_image(remote).await?;
            pushed?;
        }
        Ok(())
    }

    /// The machine, its power off, the image of its disk.
    async fn image(&self, gce: &Gce, spec: &VmSpec) -> Result<()> {
        gce.ensure_vm(spec).await?;
        self.powered_off(gce, spec).await?;
        let labels = self.ownership(IMAGE_LIFE).labels();
        Ok(gce.ensure_image(&spec.name, BASE_FAMILY, (&spec.zone, &spec.name), &labels).await?)
    }

    async fn powered_off(&self, gce: &Gce, spec: &VmSpec) -> Result<()> {
        let what = format!("power off of machine `{}`", spec.name);
        let interval = INTERVAL.min(self.limit() / 20);
        let said = std::cell::RefCell::new(String::from("nothing on its console yet"));
        let look = async || -> Result<Look<()>> {
            let Some(vm) = gce.vm(&spec.zone, &spec.name).await? else {
                return Err(Plain::new(Exit::StepFailed, format!("machine `{}` is gone", spec.name)).into());
            };
            if vm.state == VmState::Stopped {
                return Ok(Look::Ready(()));
            }
            match gce.console(&spec.zone, &spec.name).await {
                Ok(console) => match progress(&console) {
                    Ok(Some(step)) => {
                        said.replace(step);
                    }
                    Ok(None) => {}
                    Err(failed) => return Err(script_failed(spec, &failed)),
                },
                Err(error) => ui::detail(error),
            }
            Ok(Look::NotYet(said.borrow().clone()))
        };
        let ended: Result<Result<()>, TimedOut> = until(&what, self.limit(), interval, async || match look().await {
            Ok(Look::Ready(())) => Look::Ready(Ok(())),
            Ok(Look::NotYet(seen)) => Look::NotYet(seen),
            Err(error) => Look::Ready(Err(error)),
        })
        .await;
        ended?
    }

    /// Deletes the caller's older images of the family.
    async fn drop_older(&self, gce: &Gce, newest: &str) -> Result<()> {
        let owner = gcp::owner();
        for image in gce.own_images().await? {
            let mine = image.ownership().is_some_and(|ownership| ownership.owner == owner);
            if mine && image.family.as_deref() == Some(BASE_FAMILY) && image.name != newest {
                gce.delete_image(&image.name).await?;
                ui::note(format_args!("deleted the older image `{}`", image.name));
            }
        }
        Ok(())
    }
}

fn script_failed(spec: &VmSpec, said: &str) -> crate::error::Error {
    Plain::new(Exit::StepFailed, format!("the startup script of machine `{}` {said}", spec.name))
        .with_hint("the machine's network and gcp/config.yml's image_family and registry are what it depends on")
        .into()
}

impl fmt::Display for BaseImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { build_zone, image_project, image_family, build_minutes, .. } = &self.site;
        for Preload { remote, .. } in &self.preloads {
            writeln!(f, "push {remote}")?;
        }
        writeln!(f, "make a machine ({MACHINE_TYPE}, {build_zone}) from `{image_project}/{image_family}`")?;
        writeln!(f, "wait until it powers itself off, at most {build_minutes} min")?;
        writeln!(f, "make an image of family `{BASE_FAMILY}` in `{}` of its disk", self.site.project_id)?;
        writeln!(f, "delete the machine, and your older images of the family")
    }
}
