//! Disks, images, schedules, consoles; and whether requests have the documented shapes.

use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Effect, Emulator, Inner, PAGE, failure, found, reply};

type Answer = Result<Value, (u16, &'static str, String)>;

impl Emulator {
    /// Startup scripts that should power their machine off never do; this is the last that the console shows.
    pub fn hang(&self, console: &str) {
        let mut inner = self.inner();
        inner.hangs = true;
        inner.console = console.to_owned();
    }

    /// Plants a disk that no machine has, with these labels.
    pub fn plant_disk(&self, zone: &str, name: &str, labels: &Value) {
        let body = json!({"name": name, "zone": format!("zones/{zone}"), "sizeGb": "50", "labels": labels});
        self.inner().disks.insert((zone.into(), name.into()), body);
    }

    /// Plants a machine with these labels.
    pub fn plant_labelled(&self, zone: &str, name: &str, labels: &Value) {
        self.plant(zone, name);
        let mut inner = self.inner();
        inner.instances.get_mut(&(zone.into(), name.into())).expect("planted")["labels"] = labels.clone();
    }

    /// Compute Engine takes a machine back: it stops, and everything of it stays.
    pub fn preempt(&self, name: &str) {
        let mut inner = self.inner();
        let key = inner.instances.keys().find(|(_, n)| n == name).cloned().expect("an instance");
        inner.set_status(&key.0, &key.1, "TERMINATED");
    }

    /// Compute Engine takes a machine and its disk away.
    pub fn take_away(&self, name: &str) {
        let mut inner = self.inner();
        inner.instances.retain(|(_, n), _| n != name);
        inner.disks.retain(|(_, n), _| n != name);
    }

    /// Plants an image with these labels.
    pub fn plant_image(&self, name: &str, family: &str, labels: &Value) {
        let body = json!({"name": name, "family": family, "status": "READY", "labels": labels,
            "creationTimestamp": "2026-11-01T00:00:00.000-08:00"});
        self.inner().images.insert(name.into(), body);
    }

    /// Nothing fails any more.
    pub fn forgive(&self) {
        self.inner().faults.clear();
    }

    /// Plants a firewall rule, as the API would show it.
    pub fn plant_firewall(&self, rule: Value) {
        let name = rule["name"].as_str().expect("a name").to_owned();
        self.inner().firewalls.insert(name, rule);
    }

    /// A firewall rule, as the API would show it.
    pub fn firewall(&self, name: &str) -> Option<Value> {
        self.inner().firewalls.get(name).cloned()
    }

    /// An image, as the API would show it.
    pub fn image(&self, name: &str) -> Option<Value> {
        self.inner().images.get(name).cloned()
    }

    /// An instance, as the API would show it.
    pub fn instance(&self, name: &str) -> Option<Value> {
        self.inner().instances.iter().find(|((_, n), _)| n == name).map(|(_, instance)| instance.clone())
    }

    /// Everything that carries maestro's label: machines, disks, images.
    pub fn ours(&self) -> Vec<String> {
        let inner = self.inner();
        let machines = inner.instances.iter().map(|((_, name), v)| (name, v));
        let disks = inner.disks.iter().map(|((_, name), v)| (name, v));
        let all = machines.chain(disks).chain(inner.images.iter());
        all.filter(|(_, v)| v["labels"]["tool"] == "maestro").map(|(name, _)| name.clone()).collect()
    }
}

impl Inner {
    /// A change without a request id, or a body that is not as documented, is a violation.
    pub(super) fn check_request(
        &mut self,
        method: &Method,
        parts: &[&str],
        query: &HashMap<String, String>,
        body: &Value,
    ) {
        let line = format!("{method} {}", parts.join("/"));
        let waits = parts.last() == Some(&"wait");
        if *method != Method::GET && !waits && !query.get("requestId").is_some_and(|id| uuid(id)) {
            self.violations.push(format!("{line}: no request id"));
        }
        let fields: &[(&str, Form)] = match (method.as_str(), parts) {
            ("POST", ["zones", _, "instances"]) => INSTANCE,
            ("POST", ["zones", _, "instances", _, "setLabels"]) => SET_LABELS,
            ("POST", ["zones", _, "instances", _, "setScheduling"]) => SCHEDULING,
            ("POST" | "PUT", ["global", "firewalls", ..]) => FIREWALL,
            ("POST", ["global", "images"]) => IMAGE,
            _ => &[],
        };
        for (pointer, form) in fields {
            let seen = body.pointer(pointer).unwrap_or(&Value::Null);
            if !form.fits(seen) {
                self.violations.push(format!("{line}: `{pointer}` is {seen}, not {form:?}"));
            }
        }
        let none = body.is_null() || body == &json!({});
        if fields.is_empty() && !none && *method != Method::GET {
            self.violations.push(format!("{line}: a body where none belongs"));
        }
    }

    pub(super) fn public_family(&self, family: &str) -> Response {
        if !family.starts_with("debian-1") {
            return failure(404, "notFound", &format!("The resource 'family/{family}' was not found"));
        }
        reply(200, &json!({"name": format!("{family}-v20261001"), "family": family, "status": "READY"}))
    }

    pub(super) fn newest_of(&self, family: &str) -> Answer {
        let of_family = self.images.values().filter(|image| image["family"] == family);
        let newest = of_family.max_by_key(|image| image["creationTimestamp"].as_str().unwrap_or_default().to_owned());
        found(newest, "family", family)
    }

    pub(super) fn make_image(&mut self, body: &Value) -> Answer {
        let source = body["sourceDisk"].as_str().unwrap_or_default().to_owned();
        let place: Vec<&str> = source.split('/').collect();
        let key = (place.get(3).copied().unwrap_or_default(), place.last().copied().unwrap_or_default());
        if !self.disks.contains_key(&(key.0.to_owned(), key.1.to_owned())) {
            return Err((404, "notFound", format!("The resource '{source}' was not found")));
        }
        if self.instances.get(&(key.0.to_owned(), key.1.to_owned())).is_some_and(|i| i["status"] != "TERMINATED") {
            return Err((400, "resourceInUseByAnotherResource", format!("The disk '{source}' is in use")));
        }
        self.check_labels(body);
        let mut image = body.clone();
        image["status"] = json!("READY");
        image["archiveSizeBytes"] = json!("2147483648");
        image["creationTimestamp"] = json!(format!("2026-11-28T00:00:{:02}.000-08:00", self.images.len()));
        self.put(&image, |inner| &mut inner.images)
    }

    pub(super) fn check_labels(&mut self, body: &Value) {
        let name = body["name"].as_str().unwrap_or_default();
        for label in ["tool", "deployment", "owner", "expiry"] {
            if body["labels"][label].as_str().unwrap_or_default().is_empty() {
                self.violations.push(format!("{name}: no label `{label}`"));
            }
        }
    }

    pub(super) fn replace_firewall(&mut self, name: &str, body: &Value) -> Answer {
        let Some(rule) = self.firewalls.get_mut(name) else {
            return Err((404, "notFound", format!("The resource '{name}' was not found")));
        };
        if rule["network"] != body["network"] {
            return Err((400, "invalid", "Invalid value for field 'resource.network': it cannot be changed".into()));
        }
        *rule = body.clone();
        Ok(self.operation(None, Effect::Nothing))
    }

    /// Deleted disks that linger are listed some more times.
    pub(super) fn let_go(&mut self) {
        let disks = &mut self.disks;
        self.lingering.retain(|key, left| {
            *left -= 1;
            if *left == 0 {
                disks.remove(key);
            }
            *left > 0
        });
    }

    pub(super) fn remove_disk(&mut self, zone: &str, name: &str) -> Answer {
        let key = (zone.to_owned(), name.to_owned());
        if self.instances.contains_key(&key) {
            return Err((400, "resourceInUseByAnotherResource", format!("The disk '{name}' is in use")));
        }
        if name.contains("lingers") && self.disks.contains_key(&key) {
            self.lingering.entry(key).or_insert(3);
            return Ok(self.operation(None, Effect::Nothing));
        }
        match self.disks.remove(&key) {
            Some(_) => Ok(self.operation(None, Effect::Nothing)),
            None => Err((404, "notFound", format!("The resource '{name}' was not found"))),
        }
    }

    pub(super) fn set_scheduling(&mut self, zone: &str, name: &str, body: &Value) -> Answer {
        let Some(instance) = self.instances.get_mut(&(zone.to_owned(), name.to_owned())) else {
            return Err((404, "notFound", format!("instance {name} was not found")));
        };
        if instance["status"] != "TERMINATED" {
            let message = "Instance must be in TERMINATED state to set its scheduling options.";
            return Err((400, "resourceNotReady", message.into()));
        }
        instance["scheduling"] = body.clone();
        Ok(self.operation(None, Effect::Nothing))
    }

    /// The host key that the machine's agent published.
    pub(super) fn guest_attributes(&mut self, zone: &str, name: &str) -> Answer {
        self.get(zone, name)?;
        let Some(key) = self.machines.host_key(name) else {
            return Err((
                404,
                "notFound",
                format!("The resource 'hostkeys/' of type 'Guest Attribute' of {name} was not found"),
            ));
        };
        let item = json!({"namespace": "hostkeys", "key": "ssh-ed25519", "value": key});
        Ok(json!({"kind": "compute#guestAttributes", "queryPath": "hostkeys/", "queryValue": {"items": [item]}}))
    }

    pub(super) fn serial_port(&mut self, zone: &str, name: &str) -> Answer {
        let instance = self.get(zone, name)?;
        if instance["status"] != "RUNNING" {
            return Err((400, "resourceNotReady", format!("The resource '{name}' is not ready")));
        }
        let next = self.console.len().to_string();
        Ok(json!({"contents": self.console, "start": "0", "next": next}))
    }

    /// A startup script that ends in `poweroff` has come to its end by the second look, unless it hangs.
    pub(super) fn run_script(&mut self, zone: &str, name: &str) {
        let hangs = self.hangs;
        let Some(instance) = self.instances.get_mut(&(zone.to_owned(), name.to_owned())) else { return };
        let items = instance["metadata"]["items"].as_array().cloned().unwrap_or_default();
        let script = items.iter().find(|item| item["key"] == "startup-script");
        let ends = script.is_some_and(|item| item["value"].as_str().unwrap_or_default().contains("poweroff"));
        if !ends || hangs || instance["status"] != "RUNNING" {
            return;
        }
        let looks = instance["looks"].as_u64().unwrap_or(0);
        instance["looks"] = json!(looks + 1);
        if looks > 0 {
            instance["status"] = json!("TERMINATED");
        }
    }
}

/// The disk that comes with a machine.
pub(super) fn boot_disk(body: &Value, zone: &str, name: &str) -> Value {
    let parameters = &body["disks"][0]["initializeParams"];
    json!({"name": name, "zone": format!("https://www.googleapis.com/compute/v1/projects/p/zones/{zone}"),
        "sizeGb": parameters["diskSizeGb"], "labels": parameters["labels"],
        "users": [format!("projects/p/zones/{zone}/instances/{name}")]})
}

/// A machine that runs has an end; one that does not has none.
pub(super) fn set_end(instance: &mut Value) {
    let seconds = instance["scheduling"]["maxRunDuration"]["seconds"].as_str().and_then(|s| s.parse::<i64>().ok());
    let running = instance["status"] == "RUNNING";
    let end =
        seconds.filter(|_| running).map(|seconds| jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
    instance["resourceStatus"] = match end {
        Some(end) => json!({"scheduling": {"terminationTimestamp": end.to_string(), "somethingNew": 1}}),
        None => json!({}),
    };
}

fn wanted(query: &HashMap<String, String>) -> Vec<(String, String)> {
    let filter = query.get("filter").map(String::as_str).unwrap_or_default();
    let clauses = filter.split(" AND ").filter_map(|clause| clause.strip_prefix("labels.")?.split_once('='));
    clauses.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn matches(value: &Value, wanted: &[(String, String)]) -> bool {
    wanted.iter().all(|(key, label)| value["labels"][key].as_str() == Some(label))
}

/// What of a global list fits the query's filter.
pub(super) fn filtered(all: &BTreeMap<String, Value>, query: &HashMap<String, String>) -> BTreeMap<String, Value> {
    let wanted = wanted(query);
    all.iter().filter(|(_, value)| matches(value, &wanted)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A page of an aggregated list, with a zone that has nothing.
pub(super) fn aggregated(all: &BTreeMap<(String, String), Value>, key: &str, query: &HashMap<String, String>) -> Value {
    let wanted = wanted(query);
    let all: Vec<(&(String, String), &Value)> = all.iter().filter(|(_, value)| matches(value, &wanted)).collect();
    let start: usize = query.get("pageToken").and_then(|t| t.parse().ok()).unwrap_or(0);
    let mut items = json!({"zones/europe-west1-b": {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "none"}}});
    for ((zone, _), value) in all.iter().skip(start).take(PAGE) {
        let scope = format!("zones/{zone}");
        let mut list = items[&scope][key].as_array().cloned().unwrap_or_default();
        list.push((*value).clone());
        items[&scope] = json!({ key: list });
    }
    let mut answer = json!({"kind": "compute#aggregatedList", "items": items});
    if start + PAGE < all.len() {
        answer["nextPageToken"] = json!((start + PAGE).to_string());
    }
    answer
}

/// How the API documents a field. Source: the Compute Engine v1 discovery document (int64 is a string in JSON).
#[derive(Clone, Copy, Debug)]
enum Form {
    Name,
    Text,
    Flag,
    Int64,
    Map,
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Starts like this.
    Path(&'static str),
    Optional(&'static Form),
}

impl Form {
    fn fits(self, value: &Value) -> bool {
        let texts = |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
        match self {
            Form::Name => value.as_str().is_some_and(name),
            Form::Text => value.as_str().is_some_and(|text| !text.is_empty()),
            Form::Flag => value.is_boolean(),
            Form::Int64 => value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()),
            Form::Map => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
            Form::Texts => texts(value),
            Form::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Form::Path(start) => value.as_str().is_some_and(|path| path.starts_with(start)),
            Form::Optional(form) => value.is_null() || form.fits(value),
        }
    }
}

/// `[a-z]([-a-z0-9]{0,61}[a-z0-9])?`
fn name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(plain)
}

fn uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

const INSTANCE: &[(&str, Form)] = &[
    ("/name", Form::Name),
    ("/machineType", Form::Path("zones/")),
    ("/hostname", Form::Optional(&Form::Text)),
    ("/labels", Form::Map),
    ("/tags/items", Form::Optional(&Form::Texts)),
    ("/disks/0/boot", Form::Flag),
    ("/disks/0/autoDelete", Form::Flag),
    ("/disks/0/initializeParams/sourceImage", Form::Path("projects/")),
    ("/disks/0/initializeParams/diskSizeGb", Form::Int64),
    ("/disks/0/initializeParams/labels", Form::Map),
    ("/networkInterfaces/0/network", Form::Path("global/networks/")),
    ("/networkInterfaces/0/accessConfigs/0/name", Form::Optional(&Form::Text)),
    ("/metadata/items/0/key", Form::Text),
    ("/metadata/items/0/value", Form::Text),
    ("/scheduling/maxRunDuration/seconds", Form::Int64),
    ("/scheduling/instanceTerminationAction", Form::Word(&["DELETE"])),
    ("/scheduling/provisioningModel", Form::Word(&["STANDARD", "SPOT"])),
    ("/scheduling/automaticRestart", Form::Flag),
    ("/scheduling/onHostMaintenance", Form::Word(&["TERMINATE", "MIGRATE"])),
];

const SET_LABELS: &[(&str, Form)] = &[("/labels", Form::Map), ("/labelFingerprint", Form::Text)];

const SCHEDULING: &[(&str, Form)] = &[
    ("/maxRunDuration/seconds", Form::Int64),
    ("/instanceTerminationAction", Form::Word(&["DELETE"])),
    ("/provisioningModel", Form::Word(&["STANDARD", "SPOT"])),
];

const FIREWALL: &[(&str, Form)] = &[
    ("/name", Form::Name),
    ("/network", Form::Path("global/networks/")),
    ("/description", Form::Text),
    ("/allowed/0/IPProtocol", Form::Word(&["tcp", "udp", "all"])),
    ("/allowed/0/ports", Form::Texts),
    ("/sourceRanges", Form::Optional(&Form::Texts)),
    ("/sourceTags", Form::Texts),
    ("/targetTags", Form::Texts),
];

const IMAGE: &[(&str, Form)] =
    &[("/name", Form::Name), ("/family", Form::Name), ("/sourceDisk", Form::Path("projects/")), ("/labels", Form::Map)];
