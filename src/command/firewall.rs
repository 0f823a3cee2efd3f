//! `maestro firewall`: compares the project's rules with the table, and creates or mends maestro's own.

use serde_json::json;

use crate::Context;
use crate::cloud::firewall::{ANYWHERE, Fault, Finding, Rule, TABLE, Wish, compare, rule};
use crate::cloud::site::Site;
use crate::command::{Selection, gcp};
use crate::error::{Exit, Plain, Result};
use crate::execute::gce::{Gce, own_address};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub apply: bool,
    pub open: bool,
}

/// Carries it out.
///
/// # Errors
/// Exit code 4 when rules are not, or could not be made, as they should be.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    gcp::only(&request.selection, "firewall")?;
    let (site, gce) = gcp::open(context).await?;
    let wish = wish(&site, &gce, request.open).await?;
    say_sources(&wish);
    let existing = gce.firewall_rules().await?;
    let findings = compare(&existing, &wish);
    if request.apply && context.dry_run {
        tasks(&findings).for_each(|(name, task)| ui::out(format_args!("{} rule `{name}`", task.word())));
        return Ok(());
    }
    if !request.apply {
        show(context, &findings);
        return verdict(&findings, "maestro --gcp firewall apply");
    }
    mend(&gce, &wish, &findings).await?;
    let left = compare(&gce.firewall_rules().await?, &wish);
    show(context, &left);
    verdict(&left, "change or delete those rules yourself, then: maestro --gcp firewall apply")
}

/// What is missing or too open in the project, for commands that need the rules. Where the caller's address is not
/// known, it is not compared.
///
/// # Errors
/// What the API says.
pub(crate) async fn check(site: &Site, gce: &Gce) -> Result<Vec<Finding>> {
    let network = site.network.clone();
    let open = site.source_ranges.iter().any(|range| range == ANYWHERE);
    let wish = match wish(site, gce, open).await {
        Ok(wish) => wish,
        Err(_) => Wish { network, sources: Vec::new(), open },
    };
    Ok(compare(&gce.firewall_rules().await?, &wish))
}

/// Deletes the rules of the table that are maestro's own; returns their names.
///
/// # Errors
/// What the API says.
pub(crate) async fn remove(gce: &Gce) -> Result<Vec<String>> {
    let ours = |rule: &Rule| rule.ours && TABLE.iter().any(|wanted| wanted.name == rule.name);
    let mut removed = Vec::new();
    for rule in gce.firewall_rules().await?.into_iter().filter(ours) {
        gce.delete_firewall(&rule.name).await?;
        removed.push(rule.name);
    }
    Ok(removed)
}

/// Who is to be let in: the site's ranges, else the caller's own address, when it is known without asking anybody.
async fn wish(site: &Site, gce: &Gce, open: bool) -> Result<Wish> {
    let network = site.network.clone();
    if open {
        return Ok(Wish { network, sources: Vec::new(), open });
    }
    if site.source_ranges.iter().any(|range| range == ANYWHERE || range == "::/0") {
        let why = format!("source_ranges of gcp/config.yml lets in everyone ({ANYWHERE})");
        return Err(Plain::usage(why).with_hint("name fewer addresses, or say that you want it: --open").into());
    }
    if !site.source_ranges.is_empty() {
        return Ok(Wish { network, sources: site.source_ranges.clone(), open });
    }
    match own_address(gce.endpoint()).await {
        Ok(address) => Ok(Wish { network, sources: vec![format!("{address}/32")], open }),
        Err(why) => {
            let why = format!("it is not known from which address you reach the internet: {why}");
            let hint = "name it in gcp/config.yml: `source_ranges: [A.B.C.D/32]` (your router or your network's people know it)";
            Err(Plain::usage(why).with_hint(hint).into())
        }
    }
}

fn say_sources(wish: &Wish) {
    let sources = if wish.open { ANYWHERE.to_owned() } else { wish.sources.join(", ") };
    ui::note(format_args!("network `{}`; sources: {sources}, and the machines among themselves", wish.network));
}

/// What is to be done about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Create,
    Change,
    /// A rule cannot move to another network.
    Anew,
}

impl Task {
    fn word(self) -> &'static str {
        match self {
            Task::Create => "create",
            Task::Change => "change",
            Task::Anew => "delete and create",
        }
    }
}

/// One task per rule that maestro may touch.
fn tasks(findings: &[Finding]) -> impl Iterator<Item = (&'static str, Task)> {
    TABLE.iter().filter_map(|wanted| {
        let finding = findings.iter().find(|finding| finding.rule == wanted.name && !finding.foreign)?;
        let task = match finding.fault {
            Fault::Missing => Task::Create,
            Fault::Elsewhere(_) => Task::Anew,
            _ => Task::Change,
        };
        Some((wanted.name, task))
    })
}

async fn mend(gce: &Gce, wish: &Wish, findings: &[Finding]) -> Result<()> {
    for (name, task) in tasks(findings) {
        let Some(wanted) = TABLE.iter().find(|wanted| wanted.name == name) else { continue };
        let rule = rule(wanted, wish);
        match task {
            Task::Create => gce.ensure_firewall(&rule).await?,
            Task::Change => gce.replace_firewall(&rule).await?,
            Task::Anew => {
                gce.delete_firewall(name).await?;
                gce.ensure_firewall(&rule).await?;
            }
        }
        ui::note(format_args!("{} rule `{name}`: done", task.word()));
    }
    Ok(())
}

fn show(context: &Context, findings: &[Finding]) {
    if context.json {
        let rows = findings.iter().map(|finding| {
            json!({"rule": finding.rule, "finding": finding.to_string(), "blocks": finding.blocks(), "foreign": finding.foreign})
        });
        return ui::out(serde_json::Value::Array(rows.collect()));
    }
    if findings.is_empty() {
        ui::out(format_args!("all {} rules are as they should be", TABLE.len()));
    }
    findings.iter().for_each(ui::out);
}

fn verdict(findings: &[Finding], next: &str) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
    rules.dedup();
    let why = format!("{} of {} firewall rules are not as they should be", rules.len(), TABLE.len());
    Err(Plain::new(Exit::StepFailed, why).with_hint(next).into())
}
