//! `maestro doctor`: one table per target of what is there, what is missing, and the command that mends it.

mod gcp;

use std::path::PathBuf;

use serde_json::json;

use crate::app::{APPS, App};
use crate::command::{Current, Selection, compose_file, current, hosts, still_running};
use crate::embedded::config::Ports;
use crate::error::{Exit, Plain, Result};
use crate::execute::cluster::Hosts;
use crate::execute::inspect;
use crate::experiment::TargetName;
use crate::finding::{Finding, Verdict};
use crate::target::gsd;
use crate::{Context, images, ui};

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub config: Option<String>,
    pub app_dir: Option<PathBuf>,
}

/// Carries it out.
///
/// # Errors
/// Exit code 2 when this build does not have the target, 3 when a run could not start.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = request.selection.target.unwrap_or(TargetName::Embedded);
    super::target_named(target)?;
    let app = app(context, &request.selection, target);
    let current = current(context, &Selection { target: Some(target), app: Some(app) }).ok();
    let mut findings = machine(context);
    findings.push(deployed(context, target, app, current.as_ref()));
    match target {
        TargetName::Embedded => findings.extend(embedded(context, app, current.as_ref())),
        TargetName::Local => findings.extend(local(context, &request, app, current.as_ref()).await),
        TargetName::Gsd => findings.extend(cluster(context, &request, app, current.as_ref()).await),
        TargetName::Gcp => findings.extend(gcp::look(context, &request, app, current.as_ref()).await),
    }
    show(context, &findings);
    verdict(target, &findings)
}

/// The app named, else the one deployed last, else the first of the table.
fn app(context: &Context, selection: &Selection, target: TargetName) -> &'static App {
    let state = context.store.read_state(target).unwrap_or_default();
    selection.app(&state).unwrap_or(&APPS[0])
}

/// What every target needs of this machine.
fn machine(context: &Context) -> Vec<Finding> {
    let root = context.store.root();
    vec![inspect::root(root), inspect::disk("disk", root), inspect::cores(), inspect::open_files()]
}

/// Whether there is a deployment; none is fine, `deploy` makes one.
fn deployed(context: &Context, target: TargetName, app: &App, current: Option<&Current>) -> Finding {
    let what = "deployment";
    match current {
        Some(current) => {
            Finding::fine(what, format_args!("`{}` of {}", current.deployment.tag, current.deployment.config))
        }
        None => Finding::doubt(what, "none yet", super::deploy_line(context, target, app)),
    }
}

/// The ports of the miniature, unless it runs and has them.
fn embedded(context: &Context, app: &App, current: Option<&Current>) -> Vec<Finding> {
    let started = current.and_then(|current| current.deployment.pid.map(|pid| (current, pid)));
    if let Some((current, pid)) = started {
        return vec![match still_running(context, &current.deployment) {
            Ok(()) => Finding::fine("miniature", format_args!("runs (pid {pid})")),
            Err(error) => Finding::failed("miniature", &error),
        }];
    }
    let Ports { origin, replica, jaeger, .. } = Ports::default();
    let mend = format!("maestro --embedded {} run --ports auto", app.name);
    [("origin", origin), ("replica", replica), ("traces", jaeger)]
        .map(|(name, port)| inspect::port(name, port, &mend))
        .into()
}

/// The engine, the images, the ports, and what became of third-party things that the sources name.
async fn local(context: &Context, request: &Request, app: &'static App, current: Option<&Current>) -> Vec<Finding> {
    let mut findings = sources(context, request, app);
    let (finding, engine) = inspect::engine().await;
    findings.push(finding);
    let Ok(file) = compose_file::of_app(context, app, request.app_dir.as_deref()) else { return findings };
    if let Some(engine) = engine {
        let needed: Vec<String> = file.images().into_iter().map(str::to_owned).collect();
        let from = request.app_dir.as_ref().map(|dir| format!(" --app-dir {}", dir.display())).unwrap_or_default();
        findings.push(inspect::images(&engine, &needed, &format!("maestro --local {} build{from}", app.name)).await);
    }
    if current.is_none() {
        let ports = file.services.iter().flat_map(|(name, service)| service.ports.iter().map(move |port| (name, port)));
        let mend = format!("maestro --local {} run --ports auto", app.name);
        findings.extend(ports.filter_map(|(name, port)| Some(inspect::port(name, port.published?, &mend))));
    }
    findings
}

/// The site's files, and every host of the deployment or of the placement named by `-config`.
async fn cluster(context: &Context, request: &Request, app: &'static App, current: Option<&Current>) -> Vec<Finding> {
    let mut findings = sources(context, request, app);
    let what = "hosts";
    match (current, &request.config) {
        (Some(current), None) => match hosts::connect(context, current) {
            Ok((_, hosts)) => findings.extend(inspect::hosts(&hosts).await),
            Err(error) => findings.push(Finding::failed(what, &error)),
        },
        (_, Some(config)) => match placed(context, app, config) {
            Ok(hosts) => findings.extend(inspect::hosts(&hosts).await),
            Err(error) => findings.push(Finding::failed(what, &error)),
        },
        (None, None) => {
            let config = super::first_config(context, TargetName::Gsd, app);
            let next = format!("maestro --gsd {} doctor -config {config}", app.name);
            findings.push(Finding::missing(what, "not looked at: no placement was named", next));
        }
    }
    findings
}

fn placed(context: &Context, app: &'static App, config: &str) -> Result<std::sync::Arc<Hosts>> {
    let (text, _) = context.store.read_config(config)?;
    let facts = context.store.site_facts(TargetName::Gsd)?;
    let inventory = gsd::inventory_of(app, config, &text, facts.as_deref())?;
    Hosts::of(&std::sync::Arc::new(inventory))
}

/// The app's sources, and what became of the third-party things that they name.
fn sources(context: &Context, request: &Request, app: &'static App) -> Vec<Finding> {
    let mut findings = vec![match images::tree(&context.store, app, request.app_dir.as_deref()) {
        Ok(Some(tree)) => Finding::fine("sources", tree.display()),
        Ok(None) => Finding::fine("sources", "travel in this program"),
        Err(error) => Finding::failed("sources", &error.into()),
    }];
    findings.extend(app.images.upstreams.iter().map(|upstream| {
        let seen = Finding::fine(format!("upstream {}", upstream.what), upstream.fate);
        Finding { mend: Some(upstream.remedy.to_string()), ..seen }
    }));
    findings
}

fn show(context: &Context, findings: &[Finding]) {
    if context.json {
        let rows = findings.iter().map(|finding| {
            json!({"what": finding.what, "verdict": finding.verdict.word(), "found": finding.found, "mend": finding.mend})
        });
        return ui::out(serde_json::Value::Array(rows.collect()));
    }
    let header = ["", "what", "found", "what mends it"].map(str::to_owned).to_vec();
    let row = |finding: &Finding| {
        let mend = finding.mend.clone().unwrap_or_default();
        vec![finding.verdict.word().to_owned(), finding.what.clone(), finding.found.clone(), mend]
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(findings.iter().map(row)).collect();
    ui::out_raw(ui::table(&rows));
}

fn verdict(target: TargetName, findings: &[Finding]) -> Result<()> {
    let missing: Vec<&str> =
        findings.iter().filter(|f| f.verdict == Verdict::Missing).map(|f| f.what.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!("no run can start on `{target}` yet: {}", missing.join(", "));
    Err(Plain::new(Exit::Unreachable, why).with_hint("the table's last column says what mends each").into())
}
