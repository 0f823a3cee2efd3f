//! One file per subcommand; each is a short story that names its stages and leaves the mechanics to the rooms.

pub(crate) mod base_image;
pub(crate) mod build;
pub(crate) mod bundle;
pub(crate) mod clean;
pub(crate) mod compare;
pub(crate) mod compose_file;
pub(crate) mod delay;
pub(crate) mod deploy;
pub(crate) mod deps;
pub(crate) mod doctor;
pub(crate) mod embedded_serve;
pub(crate) mod explain;
pub(crate) mod extend;
pub(crate) mod filed;
pub(crate) mod firewall;
pub(crate) mod gather;
pub(crate) mod gc;
pub(crate) mod gcp;
pub(crate) mod hosts;
pub(crate) mod info;
pub(crate) mod load;
pub(crate) mod machines;
pub(crate) mod merge;
pub(crate) mod plot;
pub(crate) mod project;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod ssh;
pub(crate) mod sweep;
pub(crate) mod wkld;

use crate::Context;
use crate::app::App;
use crate::error::{Plain, Result};
use crate::experiment::TargetName;
use crate::store::{Deployment, State};

/// The target and the app named on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection {
    /// `--embedded`, `--local`, `--gsd` or `--gcp`.
    pub target: Option<TargetName>,
    /// The app, when named.
    pub app: Option<&'static App>,
}

/// Every subcommand with its request.
pub(crate) enum Command {
    Build(build::Request),
    Bundle(bundle::Request),
    Clean(clean::Request),
    Compare(compare::Request),
    Delay(Box<delay::Request>),
    DelayHelper(Vec<String>),
    Peer(Vec<String>),
    Deploy(deploy::Request),
    Deps(deps::Request),
    Doctor(doctor::Request),
    EmbeddedServe(embedded_serve::Request),
    Explain(explain::Request),
    Extend(extend::Request),
    Firewall(firewall::Request),
    Gather(gather::Request),
    Gc(gc::Request),
    Info(info::Request),
    Load(load::Request),
    Merge(merge::Request),
    Plot(plot::Request),
    Report(report::Request),
    Reproduce(reproduce::Request),
    Run(run::Request),
    Service(service::Request),
    Ssh(ssh::Request),
    Sweep(sweep::Request),
    Wkld(Box<wkld::Request>),
    Worker,
}

/// Carries out `command`.
pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Build(request) => build::run(context, request).await,
        Command::Bundle(request) => bundle::run(context, request).await,
        Command::Clean(request) => clean::run(context, request).await,
        Command::Compare(request) => compare::run(context, request).await,
        Command::Delay(request) => delay::run(context, *request).await,
        Command::DelayHelper(args) => delay::helper(&args).await,
        Command::Peer(args) => crate::peer::run(&args).await,
        Command::Deploy(request) => deploy::run(context, request).await,
        Command::Deps(request) => deps::run(context, request).await,
        Command::Doctor(request) => doctor::run(context, request).await,
        Command::EmbeddedServe(request) => embedded_serve::run(context, request).await,
        Command::Explain(request) => explain::run(context, request).await,
        Command::Extend(request) => extend::run(context, request).await,
        Command::Firewall(request) => firewall::run(context, request).await,
        Command::Gather(request) => gather::run(context, request).await,
        Command::Gc(request) => gc::run(context, request).await,
        Command::Info(request) => info::run(context, request).await,
        Command::Load(request) => load::run(context, request).await,
        Command::Merge(request) => merge::run(context, request).await,
        Command::Plot(request) => plot::run(context, request).await,
        Command::Report(request) => report::run(context, request).await,
        Command::Reproduce(request) => reproduce::run(context, request).await,
        Command::Run(request) => run::run(context, request).await,
        Command::Service(request) => service::run(request).await,
        Command::Ssh(request) => ssh::run(context, request).await,
        Command::Sweep(request) => sweep::run(context, request).await,
        Command::Wkld(request) => wkld::run(context, *request).await,
        Command::Worker => wkld::worker().await,
    }
}

impl Selection {
    /// The target, which these commands cannot do without.
    ///
    /// # Errors
    /// Exit code 2 when none was named.
    pub(crate) fn target(&self) -> Result<TargetName> {
        self.target.ok_or_else(|| {
            Plain::usage("no target given").with_hint("choose one of --embedded, --local, --gsd, --gcp").into()
        })
    }

    /// The app that was named, else the one deployed last.
    ///
    /// # Errors
    /// Exit code 2 when neither is known.
    pub(crate) fn app(&self, state: &State) -> Result<&'static App> {
        self.app.or_else(|| state.app.as_deref().and_then(App::find)).ok_or_else(|| {
            let known: Vec<&str> = crate::app::APPS.iter().map(|app| app.name).collect();
            Plain::usage("no app given").with_hint(format!("name one of: {}", known.join(", "))).into()
        })
    }
}

/// The deployment that a command works on, with the state that led to it.
pub(crate) struct Current {
    /// Where.
    pub target: TargetName,
    /// The app.
    pub app: &'static App,
    /// The target's `.last.yml`.
    pub state: State,
    /// The deployment's record.
    pub deployment: Deployment,
}

/// The command that deploys `app`, from a placement that is there.
pub(crate) fn deploy_line(context: &Context, target: TargetName, app: &App) -> String {
    format!("maestro --{target} {} deploy -config {} -clients 1", app.name, first_config(context, target, app))
}

/// A placement for `app` to begin with, or where one would be.
pub(crate) fn first_config(context: &Context, target: TargetName, app: &App) -> String {
    let found = context.store.first_config(target, app.name);
    found.unwrap_or_else(|| format!("configs/{target}/{}/FILE.yml", app.name))
}

/// Finds the deployment that the last `deploy` made.
///
/// # Errors
/// Exit code 2 with what to do when nothing was deployed yet.
pub(crate) fn current(context: &Context, selection: &Selection) -> Result<Current> {
    let target = target(selection)?.name();
    let state = context.store.read_state(target)?;
    let app = selection.app(&state)?;
    let nothing = || {
        let first = deploy_line(context, target, app);
        Plain::usage(format!("nothing is deployed on `{target}` yet")).with_hint(format!("first: {first}"))
    };
    if state.app.as_deref() != Some(app.name) {
        return Err(nothing().into());
    }
    let tag = state.tag.clone().ok_or_else(nothing)?;
    let deployment = context.store.read_deployment(target, app.name, &tag)?;
    Ok(Current { target, app, state, deployment })
}

/// Makes sure that what `run` started on this machine is still there; elsewhere the first request tells.
///
/// # Errors
/// Exit code 3 when its process has ended, with how to start it again.
pub(crate) fn still_running(context: &Context, deployment: &Deployment) -> Result<()> {
    if deployment.target == TargetName::Embedded && deployment.pid.is_some() {
        let dir = context.store.deploy_dir(deployment.target, &deployment.app, &deployment.tag);
        crate::execute::embedded::require(&dir, &deployment.app, deployment.variant, deployment.pid)?;
    }
    Ok(())
}

/// The target named on the command line, as a row of the table.
///
/// # Errors
/// Exit code 2 when none was named or this build does not have it.
pub(crate) fn target(selection: &Selection) -> Result<&'static dyn crate::target::Target> {
    target_named(selection.target()?)
}

/// The target called `name`, as a row of the table.
///
/// # Errors
/// Exit code 2 when this build does not have it.
pub(crate) fn target_named(name: TargetName) -> Result<&'static dyn crate::target::Target> {
    crate::target::find(name).ok_or_else(|| unavailable(&format!("--{name}")))
}

/// The plain refusal of a command whose target or form is not in this build.
pub(crate) fn unavailable(what: &str) -> crate::error::Error {
    Plain::usage(format!("`{what}` is not available in this build")).into()
}
