//! Targets: who owns the hosts and how images reach them. A target is pure and is one row of [`TARGETS`]: it answers
//! with plans and reads outcomes; it never acts.

mod embedded;
pub(crate) mod gcp;
pub mod gsd;
mod hosted;
pub(crate) mod local;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::cloud::provision::Fleet;
use crate::compose;
use crate::error::Result;
use crate::experiment::{TargetName, Variant};
use crate::inventory::Inventory;
use crate::plan::Plan;
use crate::store::Deployment;

/// How services run on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Inside one background process of this binary.
    InProcess,
    /// As containers of one engine.
    Containers,
    /// As services of a Docker swarm.
    Swarm,
}

/// A deployment as its target sees it.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The app.
    pub app: &'static App,
    /// Its deployment's record.
    pub deployment: &'a Deployment,
    /// The deployment's directory; the placement's copy in it is `placement.yml`.
    pub dir: PathBuf,
    /// The placement's text.
    pub placement: &'a str,
    /// The app's compose file; absent where services do not run as containers.
    pub compose: Option<&'a compose::File>,
    /// The text of the site's `<target>/config.yml`; absent where there is none.
    pub facts: Option<&'a str>,
    /// What `deploy` was asked for beside the placement.
    pub options: DeployOptions,
    /// Reads a file of this machine that services are made from; the error is one fragment.
    pub read: fn(&Path) -> std::result::Result<Vec<u8>, String>,
}

/// Options of `deploy` that outlive it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployOptions {
    /// Take over swarms of others, go on in spite of doubts.
    #[serde(default)]
    pub force: bool,
    /// Refuse hosts whose key is not known.
    #[serde(default)]
    pub strict: bool,
    /// `vip` or `dnsrr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_mode: Option<String>,
    /// `host` or `ingress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
}

/// Options of `run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Baseline or antipode.
    pub variant: Variant,
    /// Start Prometheus.
    pub prometheus: bool,
    /// Start Portainer.
    pub portainer: bool,
    /// Ports as typed.
    pub ports: Option<String>,
    /// Containers publish their ports on all addresses, not on the loopback only.
    pub open: bool,
    /// Longest wait for readiness.
    pub timeout: Duration,
}

/// How much `clean` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanMode {
    /// What `run` started.
    Services,
    /// Also images, installed files or machines.
    Strong,
}

/// What a target answers. Every method is pure.
pub trait Target: Sync {
    /// Its name.
    fn name(&self) -> TargetName;

    /// How services run there.
    fn runtime(&self) -> Runtime;

    /// Checks a placement's text before anything is created from it.
    ///
    /// # Errors
    /// Exit code 2, naming what is wrong and where.
    fn check_placement(&self, app: &'static App, name: &str, text: &str) -> Result<()>;

    /// The machines that have to be made before there are hosts; none where hosts exist already.
    ///
    /// # Errors
    /// Exit code 2 when the placement or the site's file cannot be used.
    fn fleet(&self, _site: &Site<'_>) -> Result<Option<Fleet>> {
        Ok(None)
    }

    /// The hosts of the deployment; none where there are none, or not yet.
    ///
    /// # Errors
    /// As [`Target::fleet`].
    fn inventory(&self, _site: &Site<'_>) -> Result<Option<Inventory>> {
        Ok(None)
    }

    /// What `deploy` does once the deployment's directory exists, and its machines.
    ///
    /// # Errors
    /// When the placement does not fit the app.
    fn deploy(&self, site: &Site<'_>) -> Result<Plan>;

    /// What `run` does.
    ///
    /// # Errors
    /// When the options do not fit the target.
    fn run(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan>;

    /// What takes back a `run` that failed; nothing where it takes itself back.
    fn undo(&self, _site: &Site<'_>) -> Option<Plan> {
        None
    }

    /// What `clean -restart` does: the same services anew and empty.
    ///
    /// # Errors
    /// As [`Target::clean`] and [`Target::run`].
    fn restart(&self, site: &Site<'_>, options: &RunOptions) -> Result<Plan> {
        let mut plan = self.clean(site, CleanMode::Services)?;
        plan.stages.extend(self.run(site, options)?.stages);
        Ok(plan)
    }

    /// What `clean` does.
    ///
    /// # Errors
    /// When the record cannot be used.
    fn clean(&self, site: &Site<'_>, mode: CleanMode) -> Result<Plan>;
}

/// Every target of this build.
pub static TARGETS: &[&dyn Target] = &[&embedded::Embedded, &local::Local, &gsd::Gsd, &gcp::Gcp];

/// The target called `name`, when this build has it.
pub fn find(name: TargetName) -> Option<&'static dyn Target> {
    TARGETS.iter().copied().find(|target| target.name() == name)
}
