//! `--local`: the services as containers of one Docker engine.

use std::path::Path;

use super::{CleanMode, RunOptions, Runtime, Site, Target};
use crate::app::App;
use crate::compose;
use crate::error::{Plain, Result};
use crate::experiment::TargetName;
use crate::local::{self, ContainerStep, Ports, Project, RunOrder};
use crate::plan::{Plan, Step};
use crate::store::Deployment;

/// The row of the table.
pub(super) struct Local;

const PORTAINER: &str = include_str!("../../assets/monitoring/portainer.yml");
const PROMETHEUS: &str = include_str!("../../assets/monitoring/prometheus.yml");
const PROMETHEUS_CONFIG: &str = include_str!("../../assets/monitoring/prometheus-config.yml");

/// The password of Portainer's `admin`, in the deployment's directory.
pub(crate) const PORTAINER_PASSWORD: &str = "portainer.password";

impl Target for Local {
    fn name(&self) -> TargetName {
        TargetName::Local
    }

    fn runtime(&self) -> Runtime {
        Runtime::Containers
    }

    fn check_placement(&self, _app: &'static App, _name: &str, _text: &str) -> Result<()> {
        // Everything runs on the one engine: `replication_pair` is all there is to say.
        Ok(())
    }

    fn deploy(&self, site: &Site<'_>) -> Result<Plan> {
        let file = compose_file(site)?;
        local::check(site.app, file)?;
        let path = site.dir.join("docker-compose.yml");
        let filed = Step::EnsureFile { path, content: local::rooted(file).to_yaml(), private: true };
        Ok(Plan::new(format!("deploy {} on local as `{}`", site.app.name, site.deployment.tag))
            .stage("file the compose file", vec![filed]))
    }

    fn run(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        let mut file = compose_file(site)?.clone();
        let mut prepared = Vec::new();
        if options.portainer {
            prepared.extend(add(&mut file, PORTAINER, &site.dir)?);
            let path = site.dir.join(PORTAINER_PASSWORD);
            prepared.push(Step::Container(ContainerStep::EnsureSecret { path }));
        }
        if options.prometheus {
            prepared.extend(add(&mut file, PROMETHEUS, &site.dir)?);
            let path = site.dir.join("prometheus.yml");
            prepared.push(Step::EnsureFile { path, content: PROMETHEUS_CONFIG.to_owned(), private: false });
        }
        let ports = Ports::parse(options.ports.as_deref())?;
        let order = RunOrder { variant: options.variant, ports, open: options.open, timeout: options.timeout };
        let name = project_of(site);
        let project = Project { name: &name, app: site.app, tag: &site.deployment.tag, dir: &site.dir };
        let mut plan = local::run(&project, &file, &order)?;
        if !prepared.is_empty() {
            plan.stages.insert(0, crate::plan::Stage { name: "prepare monitoring".into(), steps: prepared });
        }
        Ok(plan)
    }

    fn undo(&self, site: &Site<'_>) -> Option<Plan> {
        let step = ContainerStep::TakeBack { project: project_of(site) };
        Some(Plan::new("take back").stage("take back what this run made", vec![Step::Container(step)]))
    }

    fn clean(&self, site: &Site<'_>, mode: CleanMode) -> Result<Plan> {
        let images = match (mode, site.compose) {
            (CleanMode::Strong, Some(file)) => {
                file.images().into_iter().chain([local::HELPER_IMAGE]).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let gone = ContainerStep::EnsureGone {
            app: site.app.name.to_owned(),
            project: project_of(site),
            deployments: site.dir.parent().unwrap_or(&site.dir).to_owned(),
            images,
        };
        Ok(Plan::new(format!("clean {} on local", site.app.name))
            .stage("remove what this deployment made", vec![Step::Container(gone)]))
    }
}

/// The project that a deployment is on the engine.
pub(crate) fn project(app: &App, deployment: &Deployment) -> String {
    local::project_name(app.name, &deployment.tag, deployment.uid())
}

fn project_of(site: &Site<'_>) -> String {
    project(site.app, site.deployment)
}

fn compose_file<'a>(site: &'a Site<'_>) -> Result<&'a compose::File> {
    site.compose.ok_or_else(|| Plain::usage(format!("`{}` has no compose file", site.app.name)).into())
}

/// Adds the services of an asset, whose relative paths start from the deployment's directory. Returns what ensures
/// their images.
fn add(file: &mut compose::File, text: &str, dir: &Path) -> Result<Vec<Step>> {
    let source = compose::Source {
        name: "assets/monitoring",
        directory: dir,
        variables: &|name| std::env::var(name).ok(),
        read: &|path| Err(format!("`{}` is not part of it", path.display())),
    };
    let asset = local::rooted(&compose::parse(text, &source)?.file);
    let image =
        |image: &str| Step::Container(ContainerStep::EnsurePublicImage { image: image.to_owned(), again: false });
    let images = asset.images().into_iter().map(image).collect();
    file.services.extend(asset.services);
    file.volumes.extend(asset.volumes);
    Ok(images)
}
