//! `maestro deploy`: checks a placement, files it under a tag, prepares the target.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Context;
use crate::app::App;
use crate::command::{Selection, compose_file, filed, machines};
use crate::compose::File;
use crate::error::{Plain, Result};
use crate::execute::{Live, carry_out};
use crate::experiment::TargetName;
use crate::placement::PlacementError;
use crate::store::{self, Deployment, FORMAT, State, StoreError, parse_yaml};
use crate::target::{DeployOptions, Runtime, Site, Target};
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

/// The one key that every placement of an app with replicas has.
#[derive(Deserialize)]
struct Pair {
    replication_pair: Option<String>,
}

/// What a deployment is made from.
struct Draft {
    app: &'static App,
    text: String,
    compose: Option<File>,
    facts: Option<String>,
    options: DeployOptions,
}

impl Draft {
    fn site<'a>(&'a self, deployment: &'a Deployment, dir: PathBuf) -> Site<'a> {
        Site {
            app: self.app,
            deployment,
            dir,
            placement: &self.text,
            compose: self.compose.as_ref(),
            facts: self.facts.as_deref(),
            options: self.options.clone(),
            read: filed::read,
        }
    }
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let target = super::target(&request.selection)?;
    let state = context.store.read_state(target.name())?;
    let app = request.selection.app(&state)?;
    let (text, path) = context.store.read_config(&request.config)?;
    let pair = parse_yaml::<Pair>(&path, &text)?.replication_pair;
    if pair.is_none() && app.replication.is_some() {
        let missing = vec!["replication_pair"];
        return Err(PlacementError::Missing { file: request.config, missing }.into());
    }
    target.check_placement(app, &request.config, &text)?;

    let parent = context.store.deploy_dir(target.name(), app.name, "");
    if target.runtime() != Runtime::InProcess {
        check_root(context)?;
    }
    let mut deployment = record(target.name(), app, &request, &text, pair.unwrap_or_default())?;
    let compose = match target.runtime() {
        Runtime::InProcess => None,
        Runtime::Containers | Runtime::Swarm => Some(compose_file::of_app(context, app, request.app_dir.as_deref())?),
    };
    if let Some(file) = &compose {
        let directory = file.directory.display().to_string();
        deployment.other.insert(filed::COMPOSE_DIRECTORY.to_owned(), directory.into());
    }
    let facts = context.store.site_facts(target.name())?;
    let draft = Draft { app, text, compose, facts, options: options(&request) };
    let makes_machines = target.fleet(&draft.site(&deployment, parent.join(&deployment.tag)))?.is_some();
    let goes_on = makes_machines && go_on(context, &request, &state, &mut deployment)?;
    if context.dry_run {
        return show(target, &draft.site(&deployment, parent.join(&deployment.tag)));
    }

    let _lock = context.store.lock("deploy")?;
    if !goes_on {
        deployment.tag = store::create_exclusive(&parent, &deployment.tag)?.0;
    }
    let dir = parent.join(&deployment.tag);
    store::write_atomic(&dir.join("placement.yml"), draft.text.as_bytes())?;
    if let Some(facts) = &draft.facts {
        store::write_atomic(&dir.join(filed::FACTS), facts.as_bytes())?;
    }
    context.store.write_deployment(&deployment)?;
    // Before anything is made: what a deploy that fails has made can then be cleaned, or the next one goes on from it.
    context.store.write_state(target.name(), &next_state(state, &deployment))?;
    if let Some(fleet) = target.fleet(&draft.site(&deployment, dir.clone()))? {
        machines::others(context, &deployment.tag)?.iter().for_each(ui::warn);
        machines::make(context, &fleet, &mut deployment).await?;
        context.store.write_deployment(&deployment)?;
    }
    let plan = target.deploy(&draft.site(&deployment, dir))?;
    let outcomes = carry_out(&Live, &plan).await?;
    super::run::absorb(&mut deployment, &outcomes);
    super::hosts::absorb(&mut deployment, &outcomes)?;
    context.store.write_deployment(&deployment)?;
    let pair = match deployment.zone_pair.as_str() {
        "" => String::new(),
        pair => format!(" ({pair})"),
    };
    ui::note(format_args!("deployed {} on {} as `{}`{pair}", app.name, deployment.target, deployment.tag));
    let variants = if app.toggle.is_some() { " [-antipode]" } else { "" };
    ui::note(format_args!("next: maestro --{} {} run{variants}", deployment.target, app.name));
    Ok(())
}

/// The record of a deployment that is about to be made.
fn record(target: TargetName, app: &App, request: &Request, text: &str, zone_pair: String) -> Result<Deployment> {
    let tag = request.tag.clone().unwrap_or_else(store::new_tag);
    check_tag(&tag)?;
    let uid = format!("{:06x}", rand::random::<u32>() >> 8);
    let options = serde_json::to_value(options(request)).unwrap_or_default();
    Ok(Deployment {
        format: FORMAT,
        app: app.name.to_owned(),
        target,
        tag,
        config: request.config.clone(),
        config_sha256: hex(&Sha256::digest(text.as_bytes())),
        zone_pair,
        clients: request.clients,
        variant: None,
        origin_url: None,
        replica_url: None,
        jaeger_url: None,
        links: IndexMap::new(),
        pid: None,
        delay: None,
        other: IndexMap::from([("uid".to_owned(), uid.into()), (filed::OPTIONS.to_owned(), options)]),
    })
}

/// Where machines are made, the same deploy again goes on with the ones that are there: `new` becomes that deployment.
fn go_on(context: &Context, request: &Request, state: &State, new: &mut Deployment) -> Result<bool> {
    let latest = state.tag.clone().filter(|_| state.app.as_ref() == Some(&new.app));
    let Some(tag) = request.tag.clone().or(latest) else { return Ok(false) };
    let old = match context.store.read_deployment(new.target, &new.app, &tag) {
        Ok(old) => old,
        Err(StoreError::Missing(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let same = old.config_sha256 == new.config_sha256 && old.clients == new.clients;
    let begun = state.tag.as_ref() == Some(&tag) && state.cleaned != Some(true);
    if !same || !(begun || machines::there(&old)) {
        return Ok(false);
    }
    ui::note(format_args!("going on with the deployment `{tag}`"));
    let asked = std::mem::take(&mut new.other).into_iter().filter(|(key, _)| key != "uid");
    let mut kept = old.other;
    kept.extend(asked);
    new.tag = tag;
    new.other = kept;
    Ok(true)
}

/// `--dry-run`: what would be done, without a look at anything but files.
fn show(target: &dyn Target, site: &Site<'_>) -> Result<()> {
    if let Some(fleet) = target.fleet(site)? {
        machines::show(&fleet, site.app.name);
    }
    ui::out_raw(target.deploy(site)?.to_string());
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

/// Refuses a root that an engine cannot be told.
fn check_root(context: &Context) -> Result<()> {
    let root = context.store.root();
    if root.to_str().is_some() {
        return Ok(());
    }
    let why = format!("the root `{}` has a name that is not UTF-8, and an engine cannot be told it", root.display());
    Err(Plain::usage(why).with_hint("choose another root with --root DIR or MAESTRO_ROOT").into())
}

/// Refuses tags that are no plain directory name.
fn check_tag(tag: &str) -> Result<()> {
    let plain = tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if tag.is_empty() || tag.len() > 100 || !plain || tag.starts_with(['.', '-']) {
        return Err(Plain::usage(format!("tag `{}` cannot be a directory name", tag.escape_debug()))
            .with_hint("use up to 100 letters, digits, `-`, `_` and `.`, a letter or digit first")
            .into());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
