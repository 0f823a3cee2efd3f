//! Back to YAML, in the form that `docker stack deploy` and `docker compose` read.

use serde_json::{Map, Value, json};

use super::units::{show_cpus, show_duration};
use super::{
    Attachment, Build, Condition, Deploy, DeployMode, File, FileObject, FileRef, Healthcheck, Mount, MountKind,
    Network, Port, PublishMode, Restart, Rollout, Service, Volume,
};

impl File {
    /// The file as YAML. Reading it again gives the same file; `$` is written `$$`.
    pub fn to_yaml(&self) -> String {
        let mut top = Section::default();
        top.text("version", self.version.as_deref());
        top.text("name", self.name.as_deref());
        top.map("services", self.services.iter().map(|(name, service)| (name, emit_service(service))));
        top.map("networks", self.networks.iter().map(|(name, network)| (name, emit_network(network))));
        top.map("volumes", self.volumes.iter().map(|(name, volume)| (name, emit_volume(volume))));
        top.map("configs", self.configs.iter().map(|(name, object)| (name, emit_object(object))));
        top.map("secrets", self.secrets.iter().map(|(name, object)| (name, emit_object(object))));
        serde_saphyr::to_string(&Value::Object(top.0)).unwrap_or_default()
    }
}

/// `$` means a variable to readers.
fn escaped(text: &str) -> Value {
    Value::String(text.replace('$', "$$"))
}

/// A map that leaves out what is absent or empty.
#[derive(Default)]
struct Section(Map<String, Value>);

impl Section {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn maybe(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        self.maybe(key, text.map(escaped));
    }

    fn time(&mut self, key: &str, duration: Option<std::time::Duration>) {
        self.maybe(key, duration.map(show_duration));
    }

    fn texts<T: AsRef<str>>(&mut self, key: &str, texts: &[T]) {
        self.list(key, texts.iter().map(|text| escaped(text.as_ref())).collect());
    }

    fn list(&mut self, key: &str, items: Vec<Value>) {
        if !items.is_empty() {
            self.put(key, items);
        }
    }

    fn map<'a>(&mut self, key: &str, entries: impl Iterator<Item = (&'a String, Value)>) {
        let entries: Map<String, Value> = entries.map(|(name, value)| (name.clone(), value)).collect();
        if !entries.is_empty() {
            self.put(key, entries);
        }
    }

    fn labels<'a>(&mut self, key: &str, entries: impl IntoIterator<Item = (&'a String, &'a String)>) {
        self.map(key, entries.into_iter().map(|(name, value)| (name, escaped(value))));
    }

    fn section(&mut self, key: &str, section: Section) {
        if !section.0.is_empty() {
            self.put(key, section.0);
        }
    }
}

fn emit_service(service: &Service) -> Value {
    let mut to = Section::default();
    to.text("image", service.image.as_deref());
    to.maybe("build", service.build.as_ref().map(emit_build));
    to.text("container_name", service.container_name.as_deref());
    to.text("hostname", service.hostname.as_deref());
    to.text("domainname", service.domainname.as_deref());
    let words = |words: &Vec<String>| Value::Array(words.iter().map(|word| escaped(word)).collect());
    to.maybe("entrypoint", service.entrypoint.as_ref().map(words));
    to.maybe("command", service.command.as_ref().map(words));
    let variable = |value: &Option<String>| value.as_deref().map_or(Value::Null, escaped);
    to.map("environment", service.environment.iter().map(|(name, value)| (name, variable(value))));
    to.list("ports", service.ports.iter().map(emit_port).collect());
    to.texts("expose", &service.expose);
    to.list("volumes", service.mounts.iter().map(emit_mount).collect());
    emit_connections(service, &mut to);
    emit_process(service, &mut to);
    to.text("restart", service.restart.map(restart).as_deref());
    if let Some(logging) = &service.logging {
        let mut section = Section::default();
        section.text("driver", logging.driver.as_deref());
        section.labels("options", &logging.options);
        to.put("logging", section.0);
    }
    to.maybe("healthcheck", service.healthcheck.as_ref().map(emit_healthcheck));
    to.text("stop_signal", service.stop_signal.as_deref());
    to.time("stop_grace_period", service.stop_grace_period);
    to.texts("profiles", &service.profiles);
    to.section("deploy", emit_deploy(&service.deploy));
    Value::Object(to.0)
}

fn emit_connections(service: &Service, to: &mut Section) {
    to.text("network_mode", service.network_mode.as_deref());
    to.map("networks", service.networks.iter().map(|(name, attachment)| (name, emit_attachment(attachment))));
    let link = |(name, alias): &(String, String)| if name == alias { name.clone() } else { format!("{name}:{alias}") };
    to.texts("links", &service.links.iter().map(link).collect::<Vec<_>>());
    to.texts("external_links", &service.external_links);
    let condition = |condition: &Condition| {
        json!({"condition": match condition {
            Condition::Started => "service_started",
            Condition::Healthy => "service_healthy",
            Condition::Completed => "service_completed_successfully",
        }})
    };
    if service.depends_on.values().all(|condition| *condition == Condition::Started) {
        to.texts("depends_on", &service.depends_on.keys().collect::<Vec<_>>());
    } else {
        to.map("depends_on", service.depends_on.iter().map(|(name, when)| (name, condition(when))));
    }
    let host = |(name, address): &(String, String)| format!("{name}={address}");
    to.texts("extra_hosts", &service.extra_hosts.iter().map(host).collect::<Vec<_>>());
    to.texts("dns", &service.dns);
    to.texts("dns_search", &service.dns_search);
    to.texts("dns_opt", &service.dns_options);
}

fn emit_process(service: &Service, to: &mut Section) {
    to.texts("cap_add", &service.cap_add);
    to.texts("cap_drop", &service.cap_drop);
    to.text("user", service.user.as_deref());
    to.text("working_dir", service.working_dir.as_deref());
    to.labels("labels", &service.labels);
    to.maybe("init", service.init);
    to.maybe("privileged", service.privileged);
    to.maybe("read_only", service.read_only);
    to.maybe("tty", service.tty);
    to.maybe("stdin_open", service.stdin_open);
    to.labels("sysctls", &service.sysctls);
    let limit = |limit: &super::Ulimit| json!({"soft": limit.soft, "hard": limit.hard});
    to.map("ulimits", service.ulimits.iter().map(|(name, value)| (name, limit(value))));
    to.texts("security_opt", &service.security_opt);
    to.texts("devices", &service.devices);
    to.text("pid", service.pid.as_deref());
    to.text("ipc", service.ipc.as_deref());
    to.maybe("shm_size", service.shm_size);
    to.text("platform", service.platform.as_deref());
    to.list("configs", service.configs.iter().map(emit_ref).collect());
    to.list("secrets", service.secrets.iter().map(emit_ref).collect());
}

fn emit_build(build: &Build) -> Value {
    let mut to = Section::default();
    to.text("context", Some(&build.context));
    to.text("dockerfile", build.dockerfile.as_deref());
    let value = |value: &Option<String>| value.as_deref().map_or(Value::Null, escaped);
    to.map("args", build.args.iter().map(|(name, arg)| (name, value(arg))));
    to.text("target", build.target.as_deref());
    to.labels("labels", &build.labels);
    to.text("network", build.network.as_deref());
    Value::Object(to.0)
}

fn emit_port(port: &Port) -> Value {
    let mut to = Section::default();
    to.put("target", port.target);
    to.maybe("published", port.published);
    to.put("protocol", port.protocol.as_str());
    to.text("host_ip", port.host_ip.as_deref());
    let mode = |mode| if mode == PublishMode::Host { "host" } else { "ingress" };
    to.maybe("mode", port.mode.map(mode));
    Value::Object(to.0)
}

fn emit_mount(mount: &Mount) -> Value {
    let mut to = Section::default();
    let mut options = Section::default();
    let kind = match &mount.kind {
        MountKind::Bind { source, propagation } => {
            to.text("source", Some(source));
            options.text("propagation", propagation.as_deref());
            "bind"
        }
        MountKind::Volume { name, no_copy } => {
            to.text("source", name.as_deref());
            options.maybe("nocopy", no_copy.then_some(true));
            "volume"
        }
        MountKind::Tmpfs { size, mode } => {
            options.maybe("size", *size);
            options.maybe("mode", *mode);
            "tmpfs"
        }
    };
    to.put("type", kind);
    to.text("target", Some(&mount.target));
    to.maybe("read_only", mount.read_only.then_some(true));
    to.section(kind, options);
    Value::Object(to.0)
}

fn emit_attachment(attachment: &Attachment) -> Value {
    let mut to = Section::default();
    to.texts("aliases", &attachment.aliases);
    to.text("ipv4_address", attachment.ipv4_address.as_deref());
    to.text("ipv6_address", attachment.ipv6_address.as_deref());
    if to.0.is_empty() { Value::Null } else { Value::Object(to.0) }
}

fn emit_healthcheck(check: &Healthcheck) -> Value {
    let mut to = Section::default();
    to.texts("test", &check.test);
    to.time("interval", check.interval);
    to.time("timeout", check.timeout);
    to.maybe("retries", check.retries);
    to.time("start_period", check.start_period);
    Value::Object(to.0)
}

fn emit_ref(reference: &FileRef) -> Value {
    let mut to = Section::default();
    to.text("source", Some(&reference.source));
    to.text("target", reference.target.as_deref());
    to.text("uid", reference.uid.as_deref());
    to.text("gid", reference.gid.as_deref());
    to.maybe("mode", reference.mode);
    Value::Object(to.0)
}

fn restart(restart: Restart) -> String {
    match restart {
        Restart::No => "no".into(),
        Restart::Always => "always".into(),
        Restart::UnlessStopped => "unless-stopped".into(),
        Restart::OnFailure(None) => "on-failure".into(),
        Restart::OnFailure(Some(times)) => format!("on-failure:{times}"),
    }
}

fn emit_deploy(deploy: &Deploy) -> Section {
    let mut to = Section::default();
    let mode = |mode| if mode == DeployMode::Global { "global" } else { "replicated" };
    to.maybe("mode", deploy.mode.map(mode));
    to.maybe("replicas", deploy.replicas);
    to.maybe("endpoint_mode", deploy.endpoint_mode.map(super::EndpointMode::as_str));
    let mut placement = Section::default();
    placement.texts("constraints", &deploy.placement.constraints);
    let spread = |preference: &super::Preference| json!({"spread": escaped(&preference.spread)});
    placement.list("preferences", deploy.placement.preferences.iter().map(spread).collect());
    placement.maybe("max_replicas_per_node", deploy.placement.max_replicas_per_node);
    to.section("placement", placement);
    if let Some(policy) = &deploy.restart_policy {
        let mut section = Section::default();
        section.text("condition", policy.condition.as_deref());
        section.time("delay", policy.delay);
        section.maybe("max_attempts", policy.max_attempts);
        section.time("window", policy.window);
        to.put("restart_policy", section.0);
    }
    to.section("resources", emit_resources(deploy));
    to.maybe("update_config", deploy.update.as_ref().map(emit_rollout));
    to.maybe("rollback_config", deploy.rollback.as_ref().map(emit_rollout));
    to.labels("labels", &deploy.labels);
    to
}

fn emit_resources(deploy: &Deploy) -> Section {
    let resources = &deploy.resources;
    let (mut limits, mut reserved, mut to) = (Section::default(), Section::default(), Section::default());
    limits.maybe("cpus", resources.cpus_limit.map(show_cpus));
    limits.maybe("memory", resources.memory_limit.map(|bytes| bytes.to_string()));
    limits.maybe("pids", resources.pids_limit);
    reserved.maybe("cpus", resources.cpus_reserved.map(show_cpus));
    reserved.maybe("memory", resources.memory_reserved.map(|bytes| bytes.to_string()));
    to.section("limits", limits);
    to.section("reservations", reserved);
    to
}

fn emit_rollout(rollout: &Rollout) -> Value {
    let mut to = Section::default();
    to.maybe("parallelism", rollout.parallelism);
    to.time("delay", rollout.delay);
    to.text("failure_action", rollout.failure_action.as_deref());
    to.time("monitor", rollout.monitor);
    to.maybe("max_failure_ratio", rollout.max_failure_ratio);
    to.text("order", rollout.order.as_deref());
    Value::Object(to.0)
}

fn emit_network(network: &Network) -> Value {
    let mut to = Section::default();
    to.text("name", network.name.as_deref());
    to.maybe("external", network.external.then_some(true));
    to.text("driver", network.driver.as_deref());
    to.labels("driver_opts", &network.driver_opts);
    to.maybe("attachable", network.attachable.then_some(true));
    to.maybe("internal", network.internal.then_some(true));
    to.labels("labels", &network.labels);
    let mut pools = Vec::new();
    for (subnet, gateway) in &network.subnets {
        let mut pool = Section::default();
        pool.text("subnet", Some(subnet));
        pool.text("gateway", gateway.as_deref());
        pools.push(Value::Object(pool.0));
    }
    if !pools.is_empty() {
        to.put("ipam", json!({"config": pools}));
    }
    Value::Object(to.0)
}

fn emit_volume(volume: &Volume) -> Value {
    let mut to = Section::default();
    to.text("name", volume.name.as_deref());
    to.maybe("external", volume.external.then_some(true));
    to.text("driver", volume.driver.as_deref());
    to.labels("driver_opts", &volume.driver_opts);
    to.labels("labels", &volume.labels);
    Value::Object(to.0)
}

fn emit_object(object: &FileObject) -> Value {
    let mut to = Section::default();
    to.text("name", object.name.as_deref());
    to.maybe("external", object.external.then_some(true));
    to.text("file", object.file.as_deref());
    to.text("content", object.content.as_deref());
    to.labels("labels", &object.labels);
    Value::Object(to.0)
}
