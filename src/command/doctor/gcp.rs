//! What a run on Google Cloud needs: the site file, a key that the API accepts, firewall, images, quotas.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::Request;
use crate::Context;
use crate::app::App;
use crate::cloud::fleet::vcpus;
use crate::cloud::region;
use crate::cloud::site::Site;
use crate::cloud::startup::BASE_FAMILY;
use crate::command::{Current, compose_file, firewall, gc, gcp, hosts};
use crate::error::Result;
use crate::execute::gce::{Gce, Kind, of_deployment};
use crate::execute::inspect;
use crate::experiment::TargetName;
use crate::finding::Finding;
use crate::placement::{Clients, Placement};

/// What a placement asks of one region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    machines: u32,
    vcpus: u32,
}

/// Looks at everything; what depends on something that failed is not looked at.
pub(super) async fn look(
    context: &Context,
    request: &Request,
    app: &'static App,
    current: Option<&Current>,
) -> Vec<Finding> {
    let mut findings = super::sources(context, request, app);
    let site = match gcp::site(context) {
        Ok(site) => site,
        Err(error) => {
            findings.push(Finding::failed("site file", &error));
            return findings;
        }
    };
    findings.push(Finding::fine("site file", format_args!("gcp/config.yml: project `{}`", site.project_id)));
    findings.push(key(context));
    let gce = match gcp::connect(context, &site).await {
        Ok(gce) => gce,
        Err(error) => {
            findings.push(Finding::failed("credentials", &error));
            return findings;
        }
    };
    match firewall::check(&site, &gce).await {
        Err(error) => {
            findings.push(Finding::failed("API", &error));
            return findings;
        }
        Ok(rules) => {
            findings.push(Finding::fine("API", "Compute Engine answers"));
            findings.extend(rules_of(&rules));
        }
    }
    findings.extend(images(&site, &gce, app).await);
    findings.extend(quotas(context, request, app, current, &gce).await);
    if site.registry.is_none() {
        findings.extend(own_engine(context, request, app).await);
    }
    findings.push(leftovers(context, &gce).await);
    findings
}

/// Which key is used, and whether others on this machine can read it.
fn key(context: &Context) -> Finding {
    let what = "credentials";
    let path = context.store.resolve(gcp::KEY);
    match std::fs::metadata(&path) {
        Err(_) => Finding::fine(what, format_args!("application-default: there is no {}", gcp::KEY)),
        Ok(seen) if seen.permissions().mode() & 0o077 != 0 => {
            let mend = format!("chmod 600 {}", path.display());
            Finding::doubt(what, format_args!("{} can be read by others", gcp::KEY), mend)
        }
        Ok(_) => Finding::fine(what, gcp::KEY),
    }
}

fn rules_of(rules: &[crate::cloud::firewall::Finding]) -> Vec<Finding> {
    let what = "firewall";
    if rules.is_empty() {
        return vec![Finding::fine(what, "as it should be")];
    }
    let finding = |rule: &crate::cloud::firewall::Finding| {
        let mend = if rule.foreign { "change or delete that rule yourself" } else { "maestro --gcp firewall apply" };
        if rule.blocks() { Finding::missing(what, rule, mend) } else { Finding::doubt(what, rule, mend) }
    };
    rules.iter().map(finding).collect()
}

/// The base image, and the public one that it is made from, which only `build` needs.
async fn images(site: &Site, gce: &Gce, app: &App) -> Vec<Finding> {
    let build = format!("maestro --gcp {} build", app.name);
    let base = match gce.image_from_family(&gce.project, BASE_FAMILY).await {
        Ok(image) => Finding::fine("base image", image.rsplit('/').next().unwrap_or_default()),
        Err(error) if error.kind == Kind::NotFound => Finding::missing("base image", "none yet", build),
        Err(error) => Finding::failed("base image", &error.into()),
    };
    let Site { image_project, image_family, .. } = site;
    let family = match gce.image_from_family(image_project, image_family).await {
        Ok(image) => Finding::fine("public image", image.rsplit('/').next().unwrap_or_default()),
        Err(error) => {
            let mend = "name one that is served in gcp/config.yml: image_family, image_project";
            Finding::doubt("public image", crate::error::Error::from(error), mend)
        }
    };
    vec![base, family]
}

/// Whether the regions of the placement have room for the machines that are not there yet.
async fn quotas(
    context: &Context,
    request: &Request,
    app: &'static App,
    current: Option<&Current>,
    gce: &Gce,
) -> Vec<Finding> {
    let what = "quotas";
    let (config, clients) = match (&request.config, current) {
        (Some(config), _) => (config.clone(), 1),
        (None, Some(current)) if hosts::facts(&current.deployment).is_some() => {
            return vec![Finding::fine(what, "the machines of the deployment are made")];
        }
        (None, Some(current)) => (current.deployment.config.clone(), current.deployment.clients),
        (None, None) => {
            let next = format!("maestro --gcp {} doctor -config configs/gcp/{}/FILE.yml", app.name, app.name);
            return vec![Finding::missing(what, "not looked at: no placement was named", next)];
        }
    };
    match needs(context, app, &config, clients) {
        Err(error) => vec![Finding::failed(what, &error)],
        Ok(mut needs) => {
            if let (None, Some(current)) = (&request.config, current) {
                without_those_there(&mut needs, gce, current).await;
            }
            futures_util::future::join_all(
                needs.into_iter().map(async |(region, need)| quota(gce, &region, need).await),
            )
            .await
        }
    }
}

fn needs(context: &Context, app: &'static App, config: &str, clients: u32) -> Result<BTreeMap<String, Need>> {
    let (text, _) = context.store.read_config(config)?;
    let placement = Placement::parse(TargetName::Gcp, app, config, &text)?;
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    let mut add = |zone: &str, machine_type: &str, count: u32| {
        let need = needs.entry(region(zone).to_owned()).or_default();
        need.machines += count;
        need.vcpus += count * vcpus(machine_type).unwrap_or(0);
    };
    for machine in placement.nodes.values().chain(&placement.manager) {
        if let (Some(zone), Some(machine_type)) = (&machine.zone, &machine.machine_type) {
            add(zone, machine_type, 1);
        }
    }
    if let Clients::Made { zone, machine_type } = &placement.clients {
        add(zone, machine_type, clients);
    }
    Ok(needs)
}

/// Takes out the machines that a deploy which did not come to its end has made already: they are in the quota's usage.
async fn without_those_there(needs: &mut BTreeMap<String, Need>, gce: &Gce, current: &Current) {
    let there = of_deployment(gce, &current.deployment.tag, current.deployment.uid()).await;
    for vm in there.unwrap_or_default() {
        if let Some(need) = needs.get_mut(region(&vm.zone)) {
            need.machines = need.machines.saturating_sub(1);
            need.vcpus = need.vcpus.saturating_sub(vcpus(&vm.machine_type).unwrap_or(0));
        }
    }
}

async fn quota(gce: &Gce, region: &str, need: Need) -> Finding {
    let what = format!("quota {region}");
    let quotas = match gce.quotas(region).await {
        Ok(quotas) => quotas,
        Err(error) => return Finding::failed(what, &error.into()),
    };
    let free = |metric: &str| quotas.iter().find(|(name, ..)| name == metric).map(|(_, limit, used)| limit - used);
    let rows = [("vCPUs", "CPUS", need.vcpus), ("addresses", "IN_USE_ADDRESSES", need.machines)];
    let words = rows.map(|(name, metric, needed)| match free(metric) {
        Some(free) => format!("{needed} {name} of {free:.0} free"),
        None => format!("{needed} {name}, quota not told"),
    });
    let short = rows.iter().any(|(_, metric, needed)| free(metric).is_some_and(|free| free < f64::from(*needed)));
    let found = words.join(", ");
    match short {
        true => Finding::missing(what, found, "ask for more in the cloud console, or use a smaller placement"),
        false => Finding::fine(what, found),
    }
}

/// Without a registry images travel from this machine's engine.
async fn own_engine(context: &Context, request: &Request, app: &'static App) -> Vec<Finding> {
    let (finding, engine) = inspect::engine().await;
    let mut findings = vec![finding];
    if let (Some(engine), Ok(file)) = (engine, compose_file::of_app(context, app, request.app_dir.as_deref())) {
        let needed: Vec<String> = file.images().into_iter().map(str::to_owned).collect();
        findings.push(inspect::images(&engine, &needed, &format!("maestro --gcp {} build", app.name)).await);
    }
    findings
}

async fn leftovers(context: &Context, gce: &Gce) -> Finding {
    let what = "leftovers";
    match gc::leftovers(context, gce).await {
        Ok(0) => Finding::fine(what, "none"),
        Ok(count) => Finding::doubt(what, format_args!("{count} expired or orphaned"), "maestro --gcp gc"),
        Err(error) => Finding::failed(what, &error),
    }
}
