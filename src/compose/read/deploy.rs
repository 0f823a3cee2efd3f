//! `deploy:` and the older keys that mean the same.

use super::fields::{Fields, Item};
use super::{Reader, Result};
use crate::compose::{Deploy, DeployMode, EndpointMode, Placement, Preference, Resources, RestartPolicy, Rollout};

impl Reader<'_> {
    /// Reads `deploy:` of a service, and `cpus`, `mem_limit` and so on beside it.
    pub(super) fn deploy(&mut self, service: &mut Fields) -> Result<Deploy> {
        let mut deploy = match service.take("deploy") {
            Some(item) => self.deploy_section(item)?,
            None => Deploy::default(),
        };
        let resources = &mut deploy.resources;
        let older = (service.cpus("cpus")?, service.size("mem_limit")?, service.size("mem_reservation")?);
        resources.cpus_limit = resources.cpus_limit.or(older.0);
        resources.memory_limit = resources.memory_limit.or(older.1);
        resources.memory_reserved = resources.memory_reserved.or(older.2);
        let pids = service.number::<i64>("pids_limit")?.and_then(|n| u64::try_from(n).ok());
        resources.pids_limit = resources.pids_limit.or(pids);
        let scale = service.number("scale")?;
        deploy.replicas = deploy.replicas.or(scale);
        Ok(deploy)
    }

    fn deploy_section(&mut self, item: Item) -> Result<Deploy> {
        let mut fields = item.fields()?;
        let mode =
            choice(&mut fields, "mode", &[("replicated", DeployMode::Replicated), ("global", DeployMode::Global)])?;
        let endpoints = [("vip", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)];
        let deploy = Deploy {
            mode,
            replicas: fields.number("replicas")?,
            endpoint_mode: choice(&mut fields, "endpoint_mode", &endpoints)?,
            placement: self.placement(fields.take("placement"))?,
            restart_policy: fields.take("restart_policy").map(|item| self.restart_policy(item)).transpose()?,
            resources: self.resources(fields.take("resources"))?,
            update: fields.take("update_config").map(|item| self.rollout(item)).transpose()?,
            rollback: fields.take("rollback_config").map(|item| self.rollout(item)).transpose()?,
            labels: fields.labels("labels")?,
        };
        fields.finish(&mut self.warnings, &[]);
        Ok(deploy)
    }

    fn placement(&mut self, item: Option<Item>) -> Result<Placement> {
        let Some(item) = item else { return Ok(Placement::default()) };
        let mut fields = item.fields()?;
        let mut placement = Placement {
            constraints: fields.texts("constraints")?,
            max_replicas_per_node: fields.number("max_replicas_per_node")?,
            preferences: Vec::new(),
        };
        for item in fields.take("preferences").map(Item::list).transpose()?.unwrap_or_default() {
            let mut preference = item.fields()?;
            placement.preferences.extend(preference.text("spread")?.map(|spread| Preference { spread }));
            preference.finish(&mut self.warnings, &[]);
        }
        fields.finish(&mut self.warnings, &[]);
        Ok(placement)
    }

    fn restart_policy(&mut self, item: Item) -> Result<RestartPolicy> {
        let mut fields = item.fields()?;
        let words = ["none", "on-failure", "any"].map(|word| (word, word.to_owned()));
        let policy = RestartPolicy {
            condition: choice(&mut fields, "condition", &words)?,
            delay: fields.duration("delay")?,
            max_attempts: fields.number("max_attempts")?,
            window: fields.duration("window")?,
        };
        fields.finish(&mut self.warnings, &[]);
        Ok(policy)
    }

    fn resources(&mut self, item: Option<Item>) -> Result<Resources> {
        let mut resources = Resources::default();
        let Some(item) = item else { return Ok(resources) };
        let mut fields = item.fields()?;
        if let Some(limits) = fields.take("limits") {
            let mut limits = limits.fields()?;
            resources.cpus_limit = limits.cpus("cpus")?;
            resources.memory_limit = limits.size("memory")?;
            resources.pids_limit = limits.number("pids")?;
            limits.finish(&mut self.warnings, &[]);
        }
        if let Some(reserved) = fields.take("reservations") {
            let mut reserved = reserved.fields()?;
            resources.cpus_reserved = reserved.cpus("cpus")?;
            resources.memory_reserved = reserved.size("memory")?;
            reserved.finish(&mut self.warnings, &["devices", "generic_resources"]);
        }
        fields.finish(&mut self.warnings, &[]);
        Ok(resources)
    }

    fn rollout(&mut self, item: Item) -> Result<Rollout> {
        let mut fields = item.fields()?;
        let actions = ["pause", "continue", "rollback"].map(|word| (word, word.to_owned()));
        let orders = ["stop-first", "start-first"].map(|word| (word, word.to_owned()));
        let rollout = Rollout {
            parallelism: fields.number("parallelism")?,
            delay: fields.duration("delay")?,
            failure_action: choice(&mut fields, "failure_action", &actions)?,
            monitor: fields.duration("monitor")?,
            max_failure_ratio: fields
                .take("max_failure_ratio")
                .map(|item| item.convert("a ratio (0 to 1)", |t| t.parse().ok().filter(|r| (0.0..=1.0).contains(r))))
                .transpose()?,
            order: choice(&mut fields, "order", &orders)?,
        };
        fields.finish(&mut self.warnings, &[]);
        Ok(rollout)
    }
}

/// One of a few words.
pub(super) fn choice<T: Clone>(fields: &mut Fields, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
    let Some(item) = fields.take(key) else { return Ok(None) };
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    item.convert(&format!("one of {}", words.join(", ")), |text| {
        choices.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone())
    })
    .map(Some)
}
