//! `maestro info`: addresses of what runs, deployments and runs, newest first.

mod containers;
mod embedded;
mod project;
mod swarm;

use crate::Context;
use crate::command::Selection;
use crate::error::{Plain, Result};
use crate::experiment::TargetName;
use crate::store::{Deployment, RunDir, RunRecord, Status};
use crate::sweep::Metrics;
use crate::target::{Runtime, find};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub links: bool,
    pub hosts: bool,
    pub groups: bool,
    pub ps: bool,
    pub logs: Option<String>,
    pub follow: bool,
}

/// How many runs are listed.
const RUNS: usize = 20;

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = request.selection.target()?;
    if request.hosts || request.groups || request.ps || request.logs.is_some() {
        return services(context, &request).await;
    }
    let state = context.store.read_state(target)?;
    let deployments = context.store.deployments(target)?;
    let project = if request.links { Ok(None) } else { project::look(context, target).await };
    let current = deployments.iter().find(|d| Some(&d.tag) == state.tag.as_ref() && Some(&d.app) == state.app.as_ref());
    if context.json {
        let runs = if request.links { Vec::new() } else { runs(context, target)? };
        let project = project::for_certain(project, &deployments)?;
        let mut shown = as_json(current, &deployments, &runs);
        if let Some(project) = project {
            shown["project"] = project.as_json(&deployments);
        }
        ui::out(shown);
        return Ok(());
    }
    match current {
        Some(deployment) => {
            show_links(deployment);
            if find(target).is_some_and(|target| target.runtime() == Runtime::Containers) {
                containers::show_consoles(context, deployment).await;
            }
        }
        None => ui::out(format_args!("nothing is deployed on `{target}`")),
    }
    if !request.links {
        show_deployments(&deployments);
        if let Some(project) = project::for_certain(project, &deployments)? {
            project.show(&deployments);
        }
        show_runs(context, &runs(context, target)?);
        let old = context.store.runs_without_record(target)?;
        if old > 0 {
            let runs = ui::count(old, "older run");
            ui::out(format_args!("{runs} without a record: `maestro report gather/{target}` reads them"));
        }
    }
    Ok(())
}

/// `-hosts`, `-groups`, `-ps` and `-logs`, which are about the place where the services run.
async fn services(context: &Context, request: &Request) -> Result<()> {
    let current = super::current(context, &request.selection)?;
    match super::target(&request.selection)?.runtime() {
        Runtime::Swarm => swarm::show(context, request, &current).await,
        _ if request.hosts || request.groups => {
            Err(Plain::usage(format!("`{}` has no hosts but this machine", current.target)).into())
        }
        Runtime::Containers => containers::show(context, request, &current).await,
        Runtime::InProcess => embedded::show(context, request, &current).await,
    }
}

fn show_links(deployment: &Deployment) {
    let variant = deployment.variant.map_or("not running".to_owned(), |v| v.to_string());
    let pair = match deployment.zone_pair.as_str() {
        "" => String::new(),
        pair => format!("{pair}, "),
    };
    ui::out(format_args!("{} on {}, `{}`, {pair}{variant}", deployment.app, deployment.target, deployment.tag));
    for (name, url) in links(deployment) {
        ui::out(format_args!("  {name:<12} {url}"));
    }
}

fn links(deployment: &Deployment) -> Vec<(&str, &str)> {
    let fixed = deployment.front_ends().into_iter().chain([("Jaeger", &deployment.jaeger_url)]);
    let fixed = fixed.filter_map(|(name, url)| Some((name, url.as_deref()?)));
    fixed.chain(deployment.links.iter().map(|(name, url)| (name.as_str(), url.as_str()))).collect()
}

fn show_deployments(deployments: &[Deployment]) {
    if deployments.is_empty() {
        return;
    }
    let mut rows = vec![["deployment", "app", "placement", "pair", "runs as"].map(str::to_owned).to_vec()];
    for deployment in deployments {
        rows.push(vec![
            deployment.tag.clone(),
            deployment.app.clone(),
            deployment.config.clone(),
            deployment.zone_pair.clone(),
            deployment.variant.map_or_else(|| "-".into(), |v| v.to_string()),
        ]);
    }
    ui::out("");
    ui::out_raw(ui::table(&rows));
}

/// Runs with a record, newest first. A record that cannot be read is named and passed over.
fn runs(context: &Context, target: TargetName) -> Result<Vec<(RunDir, RunRecord)>> {
    let mut runs = Vec::new();
    for dir in context.store.runs(target)? {
        match dir.read_record() {
            Ok(record) => runs.push((dir, record)),
            Err(error) => ui::warn(error),
        }
    }
    runs.sort_by_key(|(_, record)| std::cmp::Reverse(record.started_us));
    Ok(runs)
}

fn show_runs(context: &Context, runs: &[(RunDir, RunRecord)]) {
    if runs.is_empty() {
        return;
    }
    let mut rows = vec![
        ["run", "endpoint", "variant", "rate", "achieved", "violations", "outcome", "directory"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (dir, record) in runs.iter().take(RUNS) {
        let metrics = Metrics::read(dir).unwrap_or_default();
        rows.push(vec![
            record.tag.clone(),
            record.endpoint.clone(),
            record.variant.to_string(),
            record.workload.rate.to_string(),
            metrics.throughput.map_or_else(|| "-".into(), |t| format!("{t:.1}")),
            metrics.violations.map_or_else(|| "-".into(), |(k, n)| format!("{k} of {n}")),
            outcome(record.outcome.status).to_owned(),
            context.store.relative(dir.path()),
        ]);
    }
    ui::out("");
    ui::out_raw(ui::table(&rows));
    if runs.len() > RUNS {
        ui::out(format_args!("... and {} older", ui::count(runs.len() - RUNS, "run")));
    }
}

fn outcome(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Complete => "complete",
        Status::Flagged => "flagged",
        Status::Void => "void",
        Status::Interrupted => "interrupted",
    }
}

fn as_json(
    current: Option<&Deployment>,
    deployments: &[Deployment],
    runs: &[(RunDir, RunRecord)],
) -> serde_json::Value {
    let runs: Vec<_> =
        runs.iter().map(|(dir, record)| serde_json::json!({"dir": dir.path(), "record": record})).collect();
    serde_json::json!({"current": current, "deployments": deployments, "runs": runs})
}
