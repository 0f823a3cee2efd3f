//! `maestro deploy`: checks a placement, files it under a tag, prepares the target.

use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Context;
use crate::command::{Selection, compose_file, filed};
use crate::error::{Plain, Result};
use crate::execute::{Live, carry_out};
use crate::store::{self, Deployment, FORMAT, State, parse_yaml};
use crate::target::{DeployOptions, Runtime, Site};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub config: String,
    pub tag: Option<String>,
    pub clients: u32,
    pub force: bool,
    pub strict: bool,
    pub endpoint_mode: Option<String>,
    pub publish: Option<String>,
    pub app_dir: Option<PathBuf>,
}

/// The one key that every placement has.
#[derive(Deserialize)]
struct Pair {
    replication_pair: String,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = super::target(&request.selection)?;
    let state = context.store.read_state(target.name())?;
    let app = request.selection.app(&state)?;
    let (text, path) = context.store.read_config(&request.config)?;
    let pair: Pair = parse_yaml(&path, &text)?;
    target.check_placement(app, &request.config, &text)?;

    let parent = context.store.deploy_dir(target.name(), app.name, "");
    let wanted = request.tag.clone().unwrap_or_else(store::new_tag);
    check_tag(&wanted)?;
    let mut deployment = Deployment {
        format: FORMAT,
        app: app.name.to_owned(),
        target: target.name(),
        tag: wanted.clone(),
        config: request.config.clone(),
        config_sha256: hex(&Sha256::digest(text.as_bytes())),
        zone_pair: pair.replication_pair,
        clients: request.clients,
        variant: None,
        origin_url: None,
        replica_url: None,
        jaeger_url: None,
        links: indexmap::IndexMap::new(),
        pid: None,
        delay: None,
        other: indexmap::IndexMap::from([("uid".to_owned(), format!("{:06x}", rand::random::<u32>() >> 8).into())]),
    };
    let compose = match target.runtime() {
        Runtime::InProcess => None,
        Runtime::Containers | Runtime::Swarm => Some(compose_file::of_app(context, app, request.app_dir.as_deref())?),
    };
    if let Some(file) = &compose {
        let directory = file.directory.display().to_string();
        deployment.other.insert(filed::COMPOSE_DIRECTORY.to_owned(), directory.into());
    }
    let facts = context.store.site_facts(target.name())?;
    let options = options(&request);
    deployment.other.insert(filed::OPTIONS.to_owned(), serde_json::to_value(&options).unwrap_or_default());
    let site = |deployment, dir| Site {
        app,
        deployment,
        dir,
        placement: &text,
        compose: compose.as_ref(),
        facts: facts.as_deref(),
        options: options.clone(),
        read: filed::read,
    };
    if context.dry_run {
        let plan = target.deploy(&site(&deployment, parent.join(&wanted)))?;
        ui::out_raw(plan.to_string());
        return Ok(());
    }

    let _lock = context.store.lock("deploy")?;
    let (tag, dir) = store::create_exclusive(&parent, &wanted)?;
    deployment.tag = tag;
    store::write_atomic(&dir.join("placement.yml"), text.as_bytes())?;
    if let Some(facts) = &facts {
        store::write_atomic(&dir.join(filed::FACTS), facts.as_bytes())?;
    }
    let plan = target.deploy(&site(&deployment, dir))?;
    context.store.write_deployment(&deployment)?;
    // Before anything is made: what a deploy that fails has made can then be cleaned, or the next one goes on from it.
    context.store.write_state(target.name(), &next_state(state, &deployment))?;
    let outcomes = carry_out(&Live, &plan).await?;
    super::run::absorb(&mut deployment, &outcomes);
    super::hosts::absorb(&mut deployment, &outcomes)?;
    context.store.write_deployment(&deployment)?;
    ui::note(format_args!(
        "deployed {} on {} as `{}` ({})",
        app.name, deployment.target, deployment.tag, deployment.zone_pair
    ));
    ui::note(format_args!("next: maestro --{} {} run [-antipode]", deployment.target, app.name));
    Ok(())
}

fn options(request: &Request) -> DeployOptions {
    DeployOptions {
        force: request.force,
        strict: request.strict,
        endpoint_mode: request.endpoint_mode.clone(),
        publish: request.publish.clone(),
    }
}

/// The state after a deployment: what an earlier run left behind does not belong to it.
fn next_state(old: State, deployment: &Deployment) -> State {
    State {
        app: Some(deployment.app.clone()),
        tag: Some(deployment.tag.clone()),
        config: Some(deployment.config.clone()),
        cleaned: Some(false),
        other: old.other,
        ..State::default()
    }
}

/// Refuses tags that are no plain directory name.
fn check_tag(tag: &str) -> Result<()> {
    let plain = tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if tag.is_empty() || tag.len() > 100 || !plain || tag.starts_with('.') {
        return Err(Plain::usage(format!("tag `{}` cannot be a directory name", tag.escape_debug()))
            .with_hint("use up to 100 letters, digits, `-`, `_` and `.`")
            .into());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
