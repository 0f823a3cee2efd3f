//! `--embedded`: the miniature as a background process of this binary.

use std::path::Path;

use super::{CleanMode, RunOptions, Runtime, Site, Target};
use crate::app::{App, Lacking};
use crate::embedded::config::{Config, Ports};
use crate::error::{Plain, Result};
use crate::experiment::TargetName;
use crate::plan::{EmbeddedStep, Plan, Step};

/// The row of the table.
pub(super) struct Embedded;

impl Target for Embedded {
    fn name(&self) -> TargetName {
        TargetName::Embedded
    }

    fn runtime(&self) -> Runtime {
        Runtime::InProcess
    }

    fn check_placement(&self, app: &'static App, name: &str, text: &str) -> Result<()> {
        if !app.miniature {
            return Err(Lacking::Miniature(app.name).into());
        }
        Config::parse(Path::new(name), text)?;
        Ok(())
    }

    fn deploy(&self, site: &Site<'_>) -> Result<Plan> {
        Ok(Plan::new(format!("deploy {} on embedded as `{}`", site.app.name, site.deployment.tag)))
    }

    fn run(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        if let Some(ports) = &options.ports {
            ports.parse::<Ports>().map_err(Plain::usage)?;
        }
        let running = EmbeddedStep::EnsureRunning {
            dir: site.dir.clone(),
            config: site.dir.join("placement.yml"),
            app: site.app.name.to_owned(),
            tag: site.deployment.tag.clone(),
            variant: options.variant,
            ports: options.ports.clone(),
            timeout: options.timeout,
        };
        Ok(Plan::new(format!("run {} ({}) on embedded", site.app.name, options.variant))
            .stage("start the miniature and wait for a canary post", vec![Step::Embedded(running)]))
    }

    fn clean(&self, site: &Site<'_>, _mode: CleanMode) -> Result<Plan> {
        let stopped = EmbeddedStep::EnsureStopped { dir: site.dir.clone(), pid: site.deployment.pid };
        Ok(Plan::new(format!("clean {} on embedded", site.app.name))
            .stage("stop the miniature", vec![Step::Embedded(stopped)]))
    }
}
