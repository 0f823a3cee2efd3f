//! One service.

use std::path::Path;

use indexmap::IndexMap;

use super::deploy::choice;
use super::fields::{Fields, Item};
use super::{Kind, Reader, Result};
use crate::compose::model::{Attachment, Build, Condition, FileRef, Healthcheck, Logging, Restart, Service, Ulimit};
use crate::compose::{dotenv, split_words, units};

/// Keys of the format that have no counterpart here; named in a warning rather than called unknown.
const WITHOUT_EFFECT: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "cgroup",
    "cgroup_parent",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpuset",
    "credential_spec",
    "develop",
    "device_cgroup_rules",
    "gpus",
    "group_add",
    "isolation",
    "label_file",
    "mac_address",
    "mem_swappiness",
    "memswap_limit",
    "oom_kill_disable",
    "oom_score_adj",
    "post_start",
    "pre_stop",
    "provider",
    "pull_policy",
    "pull_refresh_after",
    "runtime",
    "storage_opt",
    "use_api_socket",
    "userns_mode",
    "uts",
    "volume_driver",
    "volumes_from",
    "tmpfs",
];

impl Reader<'_> {
    pub(super) fn service(&mut self, item: Item) -> Result<Service> {
        let mut fields = item.clone().fields()?;
        if let Some(extends) = fields.take("extends") {
            return Err(extends.fail("services that extend others are not supported"));
        }
        let mut service = Service {
            image: fields.text("image")?,
            build: fields.take("build").map(|item| self.build(item)).transpose()?,
            command: words(&mut fields, "command")?,
            entrypoint: words(&mut fields, "entrypoint")?,
            environment: self.environment(&mut fields)?,
            deploy: self.deploy(&mut fields)?,
            ..Service::default()
        };
        if service.image.as_deref().unwrap_or_default().is_empty() && service.build.is_none() {
            return Err(item.fail("neither `image` nor `build` is given"));
        }
        let ports = fields.take("ports");
        service.ports = self.ports(ports)?;
        let (volumes, tmpfs) = (fields.take("volumes"), fields.take("tmpfs"));
        service.mounts = self.mounts(volumes, tmpfs)?;
        self.connections(&mut fields, &mut service)?;
        self.lifecycle(&mut fields, &mut service)?;
        process(&mut fields, &mut service)?;
        service.configs = self.file_refs(fields.take("configs"), Kind::Config)?;
        service.secrets = self.file_refs(fields.take("secrets"), Kind::Secret)?;
        fields.finish(&mut self.warnings, WITHOUT_EFFECT);
        Ok(service)
    }

    fn build(&mut self, item: Item) -> Result<Build> {
        if !item.is_map() {
            return Ok(Build { context: item.text()?, ..Build::default() });
        }
        let mut fields = item.fields()?;
        let build = Build {
            context: fields.text("context")?.unwrap_or_else(|| ".".to_owned()),
            dockerfile: fields.text("dockerfile")?,
            args: fields.pairs("args")?,
            target: fields.text("target")?,
            labels: fields.labels("labels")?,
            network: fields.text("network")?,
        };
        let known = [
            "cache_from",
            "cache_to",
            "shm_size",
            "extra_hosts",
            "isolation",
            "secrets",
            "ssh",
            "tags",
            "platforms",
            "privileged",
            "pull",
            "no_cache",
            "additional_contexts",
            "dockerfile_inline",
            "ulimits",
        ];
        fields.finish(&mut self.warnings, &known);
        Ok(build)
    }

    /// `environment` over the files of `env_file`, earlier files first.
    fn environment(&mut self, fields: &mut Fields) -> Result<IndexMap<String, Option<String>>> {
        let mut environment = IndexMap::new();
        let files = match fields.take("env_file") {
            Some(item) if item.is_list() => item.list()?,
            other => other.into_iter().collect(),
        };
        for item in files {
            let (name, required) = if item.is_map() {
                let mut file = item.clone().fields()?;
                let required = file.flag("required")?.unwrap_or(true);
                (file.text("path")?.ok_or_else(|| item.fail("`path` is missing"))?, required)
            } else {
                (item.text()?, true)
            };
            match (self.source.read)(&self.source.directory.join(Path::new(&name))) {
                Ok(text) => {
                    let variables = dotenv(&text).map_err(|why| item.fail(format!("`{name}`: {why}")))?;
                    environment.extend(variables.into_iter().map(|(name, value)| (name, Some(value))));
                }
                Err(_) if !required => {}
                Err(why) => return Err(item.fail(why)),
            }
        }
        for (name, value) in fields.pairs("environment")? {
            let value = value.or_else(|| (self.source.variables)(&name));
            environment.insert(name, value);
        }
        Ok(environment)
    }

    /// Networks, links and dependencies.
    fn connections(&mut self, fields: &mut Fields, service: &mut Service) -> Result<()> {
        service.expose = fields.texts("expose")?;
        service.network_mode = fields.text("network_mode")?;
        service.external_links = fields.texts("external_links")?;
        if let Some(item) = fields.take("networks") {
            if service.network_mode.is_some() {
                return Err(item.fail("`networks` and `network_mode` exclude each other"));
            }
            let entries = if item.is_map() {
                item.entries()?
            } else {
                let named = |item: Item| Ok((item.text()?, item));
                item.list()?.into_iter().map(named).collect::<Result<Vec<_>>>()?
            };
            for (name, item) in entries {
                self.refer(Kind::Network, &name, &item);
                let attachment = if item.is_map() { self.attachment(item)? } else { Attachment::default() };
                service.networks.insert(name, attachment);
            }
        }
        for item in fields.take("links").map(Item::list).transpose()?.unwrap_or_default() {
            let text = item.text()?;
            let (name, alias) = text.split_once(':').unwrap_or((&text, &text));
            self.refer(Kind::Service, name, &item);
            service.links.push((name.to_owned(), alias.to_owned()));
        }
        if let Some(item) = fields.take("depends_on") {
            service.depends_on = self.depends_on(item)?;
        }
        service.extra_hosts = extra_hosts(fields.take("extra_hosts"))?;
        service.dns = fields.texts("dns")?;
        service.dns_search = fields.texts("dns_search")?;
        service.dns_options = fields.texts("dns_opt")?;
        Ok(())
    }

    fn attachment(&mut self, item: Item) -> Result<Attachment> {
        let mut fields = item.fields()?;
        let attachment = Attachment {
            aliases: fields.texts("aliases")?,
            ipv4_address: fields.text("ipv4_address")?,
            ipv6_address: fields.text("ipv6_address")?,
        };
        fields.finish(
            &mut self.warnings,
            &["priority", "gw_priority", "mac_address", "driver_opts", "interface_name", "link_local_ips"],
        );
        Ok(attachment)
    }

    fn depends_on(&mut self, item: Item) -> Result<IndexMap<String, Condition>> {
        let mut dependencies = IndexMap::new();
        if item.is_list() {
            for item in item.list()? {
                let name = item.text()?;
                self.refer(Kind::Service, &name, &item);
                dependencies.insert(name, Condition::Started);
            }
            return Ok(dependencies);
        }
        for (name, item) in item.entries()? {
            self.refer(Kind::Service, &name, &item);
            let mut fields = item.fields()?;
            let conditions = [
                ("service_started", Condition::Started),
                ("service_healthy", Condition::Healthy),
                ("service_completed_successfully", Condition::Completed),
            ];
            let condition = choice(&mut fields, "condition", &conditions)?.unwrap_or_default();
            fields.finish(&mut self.warnings, &["restart", "required"]);
            dependencies.insert(name, condition);
        }
        Ok(dependencies)
    }

    /// Restart, logs, health and the end.
    fn lifecycle(&mut self, fields: &mut Fields, service: &mut Service) -> Result<()> {
        service.restart = fields.take("restart").map(|item| item.convert(RESTARTS, restart)).transpose()?;
        if let Some(item) = fields.take("logging") {
            let mut logging = item.fields()?;
            service.logging = Some(Logging { driver: logging.text("driver")?, options: logging.labels("options")? });
            logging.finish(&mut self.warnings, &[]);
        }
        service.healthcheck = fields.take("healthcheck").map(|item| self.healthcheck(item)).transpose()?;
        service.stop_signal = fields.text("stop_signal")?;
        service.stop_grace_period = fields.duration("stop_grace_period")?;
        service.profiles = fields.texts("profiles")?;
        Ok(())
    }

    fn healthcheck(&mut self, item: Item) -> Result<Healthcheck> {
        let mut fields = item.clone().fields()?;
        let disabled = fields.flag("disable")?.unwrap_or(false);
        let test = match fields.take("test") {
            _ if disabled => {
                fields.take_any("test");
                vec!["NONE".to_owned()]
            }
            None => Vec::new(),
            Some(test) if test.is_list() => test.texts()?,
            Some(test) => vec!["CMD-SHELL".to_owned(), test.text()?],
        };
        let known = |word: &str| matches!(word, "NONE" | "CMD" | "CMD-SHELL");
        if test.first().is_some_and(|word| !known(word)) {
            return Err(item.fail("a test's first word is NONE, CMD or CMD-SHELL"));
        }
        let check = Healthcheck {
            test,
            interval: fields.duration("interval")?,
            timeout: fields.duration("timeout")?,
            retries: fields.number("retries")?,
            start_period: fields.duration("start_period")?,
        };
        fields.finish(&mut self.warnings, &["start_interval"]);
        Ok(check)
    }

    fn file_refs(&mut self, item: Option<Item>, kind: Kind) -> Result<Vec<FileRef>> {
        let mut references = Vec::new();
        for item in item.map(Item::list).transpose()?.unwrap_or_default() {
            let reference = if item.is_map() {
                let mut fields = item.clone().fields()?;
                let source = fields.text("source")?.ok_or_else(|| item.fail("`source` is missing"))?;
                let mode = fields.take("mode").map(|item| item.convert("a file mode", units::mode)).transpose()?;
                let (target, uid, gid) = (fields.text("target")?, fields.text("uid")?, fields.text("gid")?);
                fields.finish(&mut self.warnings, &[]);
                FileRef { source, target, uid, gid, mode }
            } else {
                FileRef { source: item.text()?, ..FileRef::default() }
            };
            self.refer(kind, &reference.source, &item);
            references.push(reference);
        }
        Ok(references)
    }
}

/// What the process inside is given.
fn process(fields: &mut Fields, service: &mut Service) -> Result<()> {
    service.cap_add = fields.texts("cap_add")?;
    service.cap_drop = fields.texts("cap_drop")?;
    service.container_name = fields.text("container_name")?;
    service.hostname = fields.text("hostname")?;
    service.domainname = fields.text("domainname")?;
    service.user = fields.text("user")?;
    service.working_dir = fields.text("working_dir")?;
    service.labels = fields.labels("labels")?;
    service.init = fields.flag("init")?;
    service.privileged = fields.flag("privileged")?;
    service.read_only = fields.flag("read_only")?;
    service.tty = fields.flag("tty")?;
    service.stdin_open = fields.flag("stdin_open")?;
    service.sysctls = fields.labels("sysctls")?;
    service.security_opt = fields.texts("security_opt")?;
    service.devices = fields.texts("devices")?;
    service.pid = fields.text("pid")?;
    service.ipc = fields.text("ipc")?;
    service.shm_size = fields.size("shm_size")?;
    service.platform = fields.text("platform")?;
    if let Some(item) = fields.take("ulimits") {
        for (name, item) in item.entries()? {
            service.ulimits.insert(name, ulimit(item)?);
        }
    }
    Ok(())
}

fn ulimit(item: Item) -> Result<Ulimit> {
    let number = |text: &str| text.parse::<i64>().ok();
    if !item.is_map() {
        let both = item.convert("a number", number)?;
        return Ok(Ulimit { soft: both, hard: both });
    }
    let mut fields = item.clone().fields()?;
    let mut part = |key: &str| {
        let part = fields.take(key).ok_or_else(|| item.fail(format!("`{key}` is missing")))?;
        part.convert("a number", number)
    };
    Ok(Ulimit { soft: part("soft")?, hard: part("hard")? })
}

/// A list of words, or one text that is split as a shell would.
fn words(fields: &mut Fields, key: &str) -> Result<Option<Vec<String>>> {
    let Some(item) = fields.take(key) else { return Ok(None) };
    if item.is_list() {
        return item.list()?.iter().map(Item::text).collect::<Result<_>>().map(Some);
    }
    let text = item.text()?;
    split_words(&text).map(Some).map_err(|why| item.fail(why))
}

/// `name:address`, `name=address`, or a map.
fn extra_hosts(item: Option<Item>) -> Result<Vec<(String, String)>> {
    let Some(item) = item else { return Ok(Vec::new()) };
    if item.is_map() {
        return item.entries()?.into_iter().map(|(name, item)| Ok((name, item.text()?))).collect();
    }
    let host = |item: Item| {
        let text = item.text()?;
        let at = text.find('=').or_else(|| text.find(':'));
        let at = at.filter(|at| *at > 0 && at + 1 < text.len());
        let at = at.ok_or_else(|| item.fail(format!("`{}` is not `name:address`", text.escape_debug())))?;
        Ok((text[..at].to_owned(), text[at + 1..].to_owned()))
    };
    item.list()?.into_iter().map(host).collect()
}

const RESTARTS: &str = "one of no, always, unless-stopped, on-failure[:N]";

fn restart(text: &str) -> Option<Restart> {
    match text.split_once(':') {
        None => match text {
            "no" | "false" => Some(Restart::No),
            "always" => Some(Restart::Always),
            "unless-stopped" => Some(Restart::UnlessStopped),
            "on-failure" => Some(Restart::OnFailure(None)),
            _ => None,
        },
        Some(("on-failure", times)) => times.parse().ok().map(|times| Restart::OnFailure(Some(times))),
        Some(_) => None,
    }
}
