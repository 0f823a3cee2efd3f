//! Compute Engine on loopback: the REST calls that maestro uses, with the documented error bodies, slow operations and
//! faults on demand. It checks what it is asked for: a machine without labels or without a time limit is a violation, and
//! so is a change without a request id or a body with fields of other types than documented.

mod resources;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use resources::{aggregated, filtered};

/// How many entries a page of a list holds.
const PAGE: usize = 2;

/// A running emulator; it stops with the test process.
#[derive(Clone)]
pub struct Emulator {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    inner: Arc<Mutex<Inner>>,
}

/// What stands behind an instance: called when one is created, gives its address; called again when it goes.
pub trait Machines: Send {
    /// A machine of this name with this metadata: (internal, external) address.
    fn create(&mut self, name: &str, metadata: &BTreeMap<String, String>) -> (String, String);
    /// It was deleted.
    fn delete(&mut self, name: &str);
    /// Its ed25519 host key, as its agent publishes it.
    fn host_key(&mut self, _name: &str) -> Option<String> {
        Some("AAAAC3NzaC1lZDI1NTE5AAAAIDVc6tEmSEWtQTlSdOgjcSLBmYjvUcjhMRCbQGkLh2Hq".into())
    }
}

/// Machines that are only an address.
#[derive(Default)]
pub struct Addresses(u8);

impl Machines for Addresses {
    fn create(&mut self, _name: &str, _metadata: &BTreeMap<String, String>) -> (String, String) {
        self.0 = self.0.wrapping_add(1);
        (format!("10.128.0.{}", self.0), format!("192.0.2.{}", self.0))
    }
    fn delete(&mut self, _name: &str) {}
}

struct Fault {
    part: String,
    left: u32,
    status: u16,
    reason: String,
}

struct Operation {
    polls: u32,
    error: Option<(String, String)>,
    then: Effect,
}

#[derive(Clone)]
enum Effect {
    Nothing,
    Run(String, String),
    Stop(String, String),
    Remove(String, String),
}

struct Inner {
    project: String,
    instances: BTreeMap<(String, String), Value>,
    disks: BTreeMap<(String, String), Value>,
    console: String,
    hangs: bool,
    images: BTreeMap<String, Value>,
    firewalls: BTreeMap<String, Value>,
    operations: HashMap<String, Operation>,
    replies: HashMap<String, Value>,
    faults: Vec<Fault>,
    requests: Vec<(String, Value)>,
    violations: Vec<String>,
    machines: Box<dyn Machines>,
    slow: u32,
    next: u64,
    quota: f64,
    addresses: f64,
    lingering: BTreeMap<(String, String), u32>,
}

impl Emulator {
    /// Starts one on a free port of loopback.
    pub fn start(machines: Box<dyn Machines>) -> Emulator {
        let inner = Arc::new(Mutex::new(Inner {
            project: "p".into(),
            instances: BTreeMap::new(),
            disks: BTreeMap::new(),
            console: "maestro-base: starting\n".into(),
            hangs: false,
            images: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            operations: HashMap::new(),
            replies: HashMap::new(),
            faults: Vec::new(),
            requests: Vec::new(),
            violations: Vec::new(),
            machines,
            slow: 1,
            next: 1,
            quota: 72.0,
            addresses: 30.0,
            lingering: BTreeMap::new(),
        }));
        let shared = inner.clone();
        let (sender, receiver) = std::sync::mpsc::channel::<SocketAddr>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                sender.send(listener.local_addr().expect("an address")).expect("the test waits");
                let app = Router::new().fallback(answer).with_state(shared);
                axum::serve(listener, app).await.expect("serve");
            });
        });
        let address = receiver.recv().expect("the emulator starts");
        Emulator { url: format!("http://{address}"), inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no handler panicked")
    }

    /// The next `count` requests whose `METHOD path` contains `part` fail with `status` and `reason`.
    pub fn fail(&self, part: &str, count: u32, status: u16, reason: &str) {
        let fault = Fault { part: part.into(), left: count, status, reason: reason.into() };
        self.inner().faults.push(fault);
    }

    /// Operations need this many polls.
    pub fn slow(&self, polls: u32) {
        self.inner().slow = polls;
    }

    /// vCPUs that the project may have per region.
    pub fn quota(&self, cpus: f64) {
        self.inner().quota = cpus;
    }

    /// External addresses that the project may have per region; one is in use.
    pub fn addresses(&self, limit: f64) {
        self.inner().addresses = limit;
    }

    /// Names of the instances that are there.
    pub fn instances(&self) -> Vec<String> {
        self.inner().instances.keys().map(|(_, name)| name.clone()).collect()
    }

    /// Names of images, firewall rules and disks that are there.
    pub fn leftovers(&self) -> Vec<String> {
        let inner = self.inner();
        let disks = inner.disks.keys().map(|(_, name)| name);
        inner.images.keys().chain(inner.firewalls.keys()).chain(disks).cloned().collect()
    }

    /// Every request so far: `METHOD path` and body.
    pub fn requests(&self) -> Vec<(String, Value)> {
        self.inner().requests.clone()
    }

    /// Machines that were asked for without labels or without a time limit.
    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    /// Plants a machine that is not maestro's.
    pub fn plant(&self, zone: &str, name: &str) {
        let body = json!({"name": name, "zone": format!("zones/{zone}"), "status": "RUNNING", "labels": {"owner": "somebody"}});
        self.inner().instances.insert((zone.into(), name.into()), body);
    }
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut inner = inner.lock().expect("no handler panicked");
    let path = uri.path().to_owned();
    let query: HashMap<String, String> = uri.query().map(parse_query).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let line = format!("{method} {path}");
    inner.requests.push((line.clone(), body.clone()));
    if let Some(fault) = inner.faults.iter_mut().find(|f| f.left > 0 && line.contains(&f.part)) {
        fault.left -= 1;
        let (status, reason) = (fault.status, fault.reason.clone());
        if reason == "html" {
            let page = "<html><body><h1>Proxy error</h1></body></html>";
            return (StatusCode::from_u16(status).expect("a status"), [("content-type", "text/html")], page)
                .into_response();
        }
        if reason == "truncated" {
            let cut = "{\"kind\": \"compute#image\", \"name\": \"x\", \"labels\": {\"tool";
            return (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/json")], cut)
                .into_response();
        }
        return failure(status, &reason, &format!("{reason} (injected)"));
    }
    let Some(rest) = path.strip_prefix("/compute/v1/projects/") else {
        return failure(404, "notFound", "no such path");
    };
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    let foreign = rest.split('/').next() != Some(inner.project.as_str());
    inner.check_request(&method, &parts, &query, &body);
    if let (true, ["global", "images", "family", family]) = (foreign, parts.as_slice()) {
        return inner.public_family(family);
    }
    if foreign {
        return failure(403, "forbidden", "Required permission for another project");
    }
    inner.route(&method, &parts, &query, &body)
}

fn parse_query(text: &str) -> HashMap<String, String> {
    let decode = |s: &str| {
        let mut out = Vec::new();
        let bytes = s.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'%' if i + 2 < bytes.len() => {
                    out.push(u8::from_str_radix(&s[i + 1..i + 3], 16).unwrap_or(b'?'));
                    i += 2;
                }
                b'+' => out.push(b' '),
                other => out.push(other),
            }
            i += 1;
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// A classic Compute Engine error body.
fn failure(status: u16, reason: &str, message: &str) -> Response {
    let body = json!({"error": {"code": status, "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}]}});
    reply(status, &body)
}

fn reply(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json; charset=UTF-8")], body.to_string()).into_response()
}

impl Inner {
    fn route(&mut self, method: &Method, parts: &[&str], query: &HashMap<String, String>, body: &Value) -> Response {
        let replay = query.get("requestId").and_then(|id| self.replies.get(id)).cloned();
        if let Some(earlier) = replay {
            return reply(200, &earlier);
        }
        let response = match (method.as_str(), parts) {
            ("POST", ["zones", zone, "instances"]) => self.insert(zone, body),
            ("GET", ["zones", zone, "instances", name]) => self.get(zone, name),
            ("DELETE", ["zones", zone, "instances", name]) => self.change(zone, name, Effect::Remove),
            ("POST", ["zones", zone, "instances", name, "start"]) => self.change(zone, name, Effect::Run),
            ("POST", ["zones", zone, "instances", name, "stop"]) => self.change(zone, name, Effect::Stop),
            ("POST", ["zones", zone, "instances", name, "setLabels"]) => self.set_labels(zone, name, body),
            ("POST", ["zones", zone, "instances", name, "setScheduling"]) => self.set_scheduling(zone, name, body),
            ("GET", ["zones", zone, "instances", name, "getGuestAttributes"]) => self.guest_attributes(zone, name),
            ("GET", ["zones", zone, "instances", name, "serialPort"]) => self.serial_port(zone, name),
            ("GET", ["aggregated", "instances"]) => {
                return reply(200, &aggregated(&self.instances, "instances", query));
            }
            ("GET", ["aggregated", "disks"]) => {
                self.let_go();
                return reply(200, &aggregated(&self.disks, "disks", query));
            }
            ("DELETE", ["zones", zone, "disks", name]) => self.remove_disk(zone, name),
            ("GET", ["zones", _, "operations", name])
            | ("POST", ["zones", _, "operations", name, "wait"])
            | ("GET", ["global", "operations", name])
            | ("POST", ["global", "operations", name, "wait"]) => return self.poll(name),
            ("GET", ["global", "images"]) => return reply(200, &page(&filtered(&self.images, query), query)),
            ("GET", ["global", "images", "family", family]) => self.newest_of(family),
            ("GET", ["global", "images", name]) => found(self.images.get(*name), "image", name),
            ("POST", ["global", "images"]) => self.make_image(body),
            ("DELETE", ["global", "images", name]) => self.remove(name, |inner| &mut inner.images),
            ("GET", ["global", "firewalls"]) => return reply(200, &page(&self.firewalls, query)),
            ("POST", ["global", "firewalls"]) => self.put(body, |inner| &mut inner.firewalls),
            ("PUT", ["global", "firewalls", name]) => self.replace_firewall(name, body),
            ("DELETE", ["global", "firewalls", name]) => self.remove(name, |inner| &mut inner.firewalls),
            ("GET", ["regions", name]) => Ok(self.region(name)),
            _ => {
                self.violations.push(format!("no such method: {method} {}", parts.join("/")));
                Err((404, "notFound", format!("no such method: {method} {}", parts.join("/"))))
            }
        };
        match response {
            Ok(value) => {
                if let Some(id) = query.get("requestId") {
                    self.replies.insert(id.clone(), value.clone());
                }
                reply(200, &value)
            }
            Err((status, reason, message)) => failure(status, reason, &message),
        }
    }

    fn operation(&mut self, error: Option<(&str, &str)>, then: Effect) -> Value {
        let name = format!("operation-{}", self.next);
        self.next += 1;
        let error = error.map(|(code, message)| (code.to_owned(), message.to_owned()));
        self.operations.insert(name.clone(), Operation { polls: self.slow, error, then });
        json!({"kind": "compute#operation", "id": self.next.to_string(), "name": name, "status": "RUNNING", "progress": 0, "someNewField": true})
    }

    fn poll(&mut self, name: &str) -> Response {
        let Some(operation) = self.operations.get_mut(name) else {
            return failure(404, "notFound", &format!("operation {name} was not found"));
        };
        if operation.polls > 0 {
            operation.polls -= 1;
            return reply(200, &json!({"name": name, "status": "RUNNING", "progress": 50}));
        }
        let (error, then) = (operation.error.clone(), std::mem::replace(&mut operation.then, Effect::Nothing));
        self.apply(then);
        match error {
            None => reply(200, &json!({"name": name, "status": "DONE", "progress": 100})),
            Some((code, message)) => reply(
                200,
                &json!({"name": name, "status": "DONE", "progress": 100, "httpErrorStatusCode": 403, "httpErrorMessage": "FORBIDDEN",
                        "error": {"errors": [{"code": code, "message": message}]}}),
            ),
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Run(zone, name) => self.set_status(&zone, &name, "RUNNING"),
            Effect::Stop(zone, name) => self.set_status(&zone, &name, "TERMINATED"),
            Effect::Remove(zone, name) => {
                self.instances.remove(&(zone.clone(), name.clone()));
                self.disks.remove(&(zone, name.clone()));
                self.machines.delete(&name);
            }
        }
    }

    fn set_status(&mut self, zone: &str, name: &str, status: &str) {
        if let Some(instance) = self.instances.get_mut(&(zone.to_owned(), name.to_owned())) {
            instance["status"] = json!(status);
            resources::set_end(instance);
        }
    }

    fn insert(&mut self, zone: &str, body: &Value) -> Result<Value, (u16, &'static str, String)> {
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        let key = (zone.to_owned(), name.clone());
        self.check_labels(body);
        let ttl = body["scheduling"]["maxRunDuration"]["seconds"].as_str().and_then(|s| s.parse::<u64>().ok());
        if ttl.is_none() || body["scheduling"]["instanceTerminationAction"] != "DELETE" {
            self.violations.push(format!("{name}: no time limit with DELETE"));
        }
        if self.instances.contains_key(&key) {
            let message = format!("The resource 'projects/p/zones/{zone}/instances/{name}' already exists");
            return Err((409, "alreadyExists", message));
        }
        if name.contains("quota-now") {
            return Err((403, "quotaExceeded", "Quota 'CPUS' exceeded. Limit: 24.0 in region us-central1.".into()));
        }
        if name.contains("quota-later") {
            return Ok(self.operation(Some(("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded.")), Effect::Nothing));
        }
        if name.contains("stockout") {
            let message = "The zone does not have enough resources available to fulfill the request.";
            return Ok(self.operation(Some(("ZONE_RESOURCE_POOL_EXHAUSTED", message)), Effect::Nothing));
        }
        let items = body["metadata"]["items"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = items.iter().map(|item| (text(&item["key"]), text(&item["value"]))).collect();
        let (internal, external) = self.machines.create(&name, &metadata);
        let mut instance = body.clone();
        instance["status"] = json!("PROVISIONING");
        instance["zone"] = json!(format!("https://www.googleapis.com/compute/v1/projects/p/zones/{zone}"));
        instance["labelFingerprint"] = json!("AAAA");
        instance["creationTimestamp"] = json!(jiff::Timestamp::now().to_string());
        instance["networkInterfaces"][0]["networkIP"] = json!(internal);
        instance["networkInterfaces"][0]["accessConfigs"][0]["natIP"] = json!(external);
        self.disks.insert(key.clone(), resources::boot_disk(body, zone, &name));
        self.instances.insert(key, instance);
        Ok(self.operation(None, Effect::Run(zone.to_owned(), name)))
    }

    fn get(&mut self, zone: &str, name: &str) -> Result<Value, (u16, &'static str, String)> {
        self.run_script(zone, name);
        found(self.instances.get(&(zone.to_owned(), name.to_owned())), "instance", name)
    }

    fn change(
        &mut self,
        zone: &str,
        name: &str,
        effect: fn(String, String) -> Effect,
    ) -> Result<Value, (u16, &'static str, String)> {
        self.get(zone, name)?;
        Ok(self.operation(None, effect(zone.to_owned(), name.to_owned())))
    }

    fn set_labels(&mut self, zone: &str, name: &str, body: &Value) -> Result<Value, (u16, &'static str, String)> {
        let Some(instance) = self.instances.get_mut(&(zone.to_owned(), name.to_owned())) else {
            return Err((404, "notFound", format!("instance {name} was not found")));
        };
        if body["labelFingerprint"] != instance["labelFingerprint"] {
            return Err((
                412,
                "conditionNotMet",
                "Labels fingerprint either invalid or resource labels have changed".into(),
            ));
        }
        instance["labels"] = body["labels"].clone();
        instance["labelFingerprint"] = json!(if instance["labelFingerprint"] == "AAAA" { "AAAB" } else { "AAAA" });
        Ok(self.operation(None, Effect::Nothing))
    }

    fn put(
        &mut self,
        body: &Value,
        map: fn(&mut Inner) -> &mut BTreeMap<String, Value>,
    ) -> Result<Value, (u16, &'static str, String)> {
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        if map(self).contains_key(&name) {
            return Err((409, "alreadyExists", format!("The resource '{name}' already exists")));
        }
        map(self).insert(name, body.clone());
        Ok(self.operation(None, Effect::Nothing))
    }

    fn remove(
        &mut self,
        name: &str,
        map: fn(&mut Inner) -> &mut BTreeMap<String, Value>,
    ) -> Result<Value, (u16, &'static str, String)> {
        match map(self).remove(name) {
            Some(_) => Ok(self.operation(None, Effect::Nothing)),
            None => Err((404, "notFound", format!("The resource '{name}' was not found"))),
        }
    }

    fn region(&self, name: &str) -> Value {
        json!({"name": name, "status": "UP", "quotas": [
            {"metric": "CPUS", "limit": self.quota, "usage": 0.0},
            {"metric": "IN_USE_ADDRESSES", "limit": self.addresses, "usage": 1.0},
        ]})
    }
}

fn found(value: Option<&Value>, what: &str, name: &str) -> Result<Value, (u16, &'static str, String)> {
    value.cloned().ok_or_else(|| (404, "notFound", format!("The {what} '{name}' was not found")))
}

fn page(all: &BTreeMap<String, Value>, query: &HashMap<String, String>) -> Value {
    let start: usize = query.get("pageToken").and_then(|t| t.parse().ok()).unwrap_or(0);
    let items: Vec<&Value> = all.values().skip(start).take(PAGE).collect();
    let mut answer = json!({"items": items});
    if start + PAGE < all.len() {
        answer["nextPageToken"] = json!((start + PAGE).to_string());
    }
    answer
}
