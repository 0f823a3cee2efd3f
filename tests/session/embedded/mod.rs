//! The embedded miniature from its terminal and its sockets: routes, traces, truth, delay, faults, and its life as a
//! process.

mod delay;
mod life;
mod routes;
mod traces;
mod truth;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Done, Session, wait_for};

/// Services that take next to no time, so that a test is about what it is about.
const QUICK: &str = "services:
  post-storage-service-eu: {workers: 8, service_ms: {constant: 0.2}}
  post-storage-service-us: {workers: 8, service_ms: {constant: 0.2}}
limits: {posts: 10000, traces: 10000}
";

/// A replica that is near, with notifications later than posts.
const NEAR: &str = "replication: {network_ms: {constant: 4}, processing_ms: {constant: 1}}
queue: {network_ms: {constant: 20}, processing_ms: {constant: 0}}
";

/// A deployed miniature; it ends with the test.
struct Mini {
    session: Session,
}

/// An answer: status, content type, body.
#[derive(Debug, PartialEq)]
struct Answer(u16, String, String);

impl Answer {
    fn new(status: u16, content_type: &str, body: &str) -> Self {
        Answer(status, content_type.to_owned(), body.to_owned())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.2).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

const PLAIN: &str = "application/octet-stream";
const JSON: &str = "application/json; charset=utf-8";

impl Mini {
    /// Deploys a placement and runs it on free ports.
    fn start(placement: &str, variant: &str) -> Mini {
        let mini = Mini::deployed(placement);
        mini.ok(&format!("run --ports auto {variant}"));
        mini
    }

    fn deployed(placement: &str) -> Mini {
        let mini = Mini { session: Session::new() };
        mini.session.write("near.yml", format!("replication_pair: US->EU\n{QUICK}{placement}"));
        mini.ok("deploy -config near.yml -clients 1");
        mini
    }

    fn run(&self, line: &str) -> Done {
        self.session.run(&format!("--embedded socialNetwork {line}"))
    }

    fn ok(&self, line: &str) -> Done {
        self.session.ok(&format!("--embedded socialNetwork {line}"))
    }

    /// The deployment's directory; there is one.
    fn dir(&self) -> PathBuf {
        let deployments = self.session.path("deploy/embedded/socialNetwork");
        let mut dirs: Vec<PathBuf> = std::fs::read_dir(deployments).unwrap().map(|e| e.unwrap().path()).collect();
        dirs.sort();
        dirs.pop().unwrap()
    }

    /// A value of the running miniature's own record.
    fn record(&self, key: &str) -> String {
        let text = std::fs::read_to_string(self.dir().join("miniature.yml")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).unwrap();
        line.trim_matches('"').to_owned()
    }

    fn pid(&self) -> u32 {
        self.record("pid").parse().unwrap()
    }

    fn origin(&self) -> String {
        self.record("origin_url")
    }

    fn replica(&self) -> String {
        self.record("replica_url")
    }

    fn post(&self, route: &str, form: &str) -> Answer {
        answer(agent().post(format!("{}/wrk2-api/{route}", self.origin())).send(form))
    }

    fn get(&self, route: &str) -> Answer {
        answer(agent().get(format!("{}/wrk2-api/{route}", self.replica())).call())
    }

    fn admin(&self, path: &str) -> Answer {
        answer(agent().get(format!("{}{path}", self.record("jaeger_url"))).call())
    }

    fn put(&self, path: &str, body: &Value) -> Answer {
        answer(agent().put(format!("{}{path}", self.record("jaeger_url"))).send(body.to_string()))
    }

    fn status(&self, key: &str) -> Value {
        self.admin("/maestro/status").json()[key].clone()
    }

    /// Composes a post of `user` and gives its id.
    fn compose(&self, user: i64) -> String {
        let form =
            format!("user_id={user}&username=username_{user}&post_type=0&text=hello&media_ids=[]&media_types=[]");
        let Answer(status, _, body) = self.post("post/compose", &form);
        assert_eq!(status, 200, "{body}");
        body.strip_prefix("Successfully uploaded post #").unwrap().trim_end().to_owned()
    }

    fn register(&self, user: i64) -> Answer {
        let form = format!("first_name=f&last_name=l&username=username_{user}&password=p&user_id={user}");
        self.post("user/register", &form)
    }

    /// Waits until all notifications are handled.
    fn drain(&self) {
        wait_for("an empty queue", 10, || {
            (self.status("in_flight") == 0 && self.status("composing") == 0).then_some(())
        });
    }

    /// The ground truth, by post.
    fn truth(&self) -> HashMap<String, Vec<String>> {
        let text = self.admin("/maestro/truth").2;
        let rows = text.lines().skip(1).map(|line| line.split(';').map(str::to_owned).collect::<Vec<_>>());
        rows.map(|row| (row[0].clone(), row)).collect()
    }

    /// All traces of `service`.
    fn traces(&self, service: &str) -> Vec<Value> {
        let answer = self.admin(&format!("/api/traces?service={service}&limit=10000"));
        answer.json()["data"].as_array().unwrap().clone()
    }
}

impl Drop for Mini {
    fn drop(&mut self) {
        self.run("clean");
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        // A pooled connection may have been closed by the server while nobody looked.
        .max_idle_connections(0)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let content_type = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
    let body = response.body_mut().read_to_string().unwrap();
    Answer(response.status().as_u16(), content_type.unwrap_or_default(), body)
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

fn micros(row: &[String], column: usize) -> i64 {
    row[column].parse().unwrap()
}

/// Columns of the truth.
const WRITTEN: usize = 2;
const VISIBLE: usize = 3;
const QUEUED: usize = 4;
const DELIVERED: usize = 5;
const READ: usize = 6;
const FOUND: usize = 7;

fn span<'a>(trace: &'a Value, service: &str, operation: &str) -> Option<&'a Value> {
    trace["spans"].as_array().unwrap().iter().find(|span| {
        let process = &trace["processes"][span["processID"].as_str().unwrap()];
        span["operationName"] == operation && process["serviceName"] == service
    })
}

fn tag<'a>(span: &'a Value, key: &str) -> &'a Value {
    span["tags"].as_array().unwrap().iter().find(|tag| tag["key"] == key).unwrap_or(&Value::Null)
}

fn parent<'a>(trace: &'a Value, span: &Value) -> &'a str {
    let id = &span["references"][0]["spanID"];
    let parent = trace["spans"].as_array().unwrap().iter().find(|other| other["spanID"] == *id).unwrap();
    parent["operationName"].as_str().unwrap()
}
