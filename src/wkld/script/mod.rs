//! wrk2's Lua scripts, run by an embedded LuaJIT.
//!
//! Every thread has a state of its own; `setup` and `done` run in one more. A request with an absolute URL goes to the
//! socket of its own host (wrk2 sent it to the command line's). What Lua does is never part of a latency, except that a
//! script that blocks delays its thread, which the lag shows.

mod modules;
mod state;
mod stats;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use mlua::{Function, Lua, Table, Value};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::WkldError;
use super::report::Report;
use super::response::Capture;
use super::source::{Broken, Made, Source};
use super::url::{Host, Url};
use state::ThreadHandle;

/// A script with what it is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// Its path as typed; scripts look for files beside themselves with it.
    pub path: String,
    /// Its text.
    pub text: String,
    /// The URL of the command line.
    pub url: String,
    /// Arguments after `--`.
    pub args: Vec<String>,
    /// Variables that `os.getenv` shows before the process's own (`HOST_EU`, `HOST_US`).
    pub env: IndexMap<String, String>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`WkldError::Script`] when the file cannot be read.
    pub fn read(path: &Path, url: &str, args: Vec<String>) -> Result<Script, WkldError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| WkldError::Script(format!("cannot read script `{}`: {error}", path.display())))?;
        let mut shown = path.display().to_string();
        if !shown.contains('/') {
            shown.insert_str(0, "./");
        }
        Ok(Script { path: shown, text, url: url.to_owned(), args, env: IndexMap::new() })
    }

    /// The URLs whose sockets are opened before the start: the command line's, and those of the variables that the
    /// script names.
    ///
    /// # Errors
    /// [`WkldError::Unusable`] for a URL that cannot be used.
    pub fn urls(&self) -> Result<Vec<Url>, WkldError> {
        let mut urls: Vec<Url> = vec![self.url.parse().map_err(WkldError::Unusable)?];
        for (name, value) in &self.env {
            if self.text.contains(name.as_str())
                && let Ok(url) = value.parse::<Url>()
                && !urls.iter().any(|known| known.same_host(&url))
            {
                urls.push(url);
            }
        }
        Ok(urls)
    }
}

/// A thread's state, kept for `done`.
struct Lane {
    lua: Lua,
    address: Arc<Mutex<Option<SocketAddr>>>,
    stop: Arc<AtomicBool>,
}

/// All states of a run.
pub struct Scripts {
    script: Script,
    main: Lua,
    lanes: Vec<Lane>,
    hosts: Vec<Url>,
    tls: Option<Arc<ClientConfig>>,
}

impl Scripts {
    /// Loads the script in the state of `setup` and `done`.
    ///
    /// # Errors
    /// [`WkldError::Script`] with the script's line.
    pub fn new(script: Script, tls: Option<Arc<ClientConfig>>) -> Result<Scripts, WkldError> {
        let hosts = script.urls()?;
        let main = state::fresh(&script, &hosts[0]).map_err(fault)?;
        Ok(Scripts { script, main, lanes: Vec::new(), hosts, tls })
    }

    /// Makes the state of one more thread: `setup`, then `init`.
    ///
    /// # Errors
    /// [`WkldError::Script`] with the script's line.
    pub fn source(&mut self) -> Result<Box<dyn Source>, WkldError> {
        let lua = state::fresh(&self.script, &self.hosts[0]).map_err(fault)?;
        let lane = Lane { lua, address: Arc::default(), stop: Arc::default() };
        let source = self.start(&lane).map_err(fault)?;
        self.lanes.push(lane);
        Ok(Box::new(source))
    }

    fn start(&self, lane: &Lane) -> mlua::Result<LuaSource> {
        let handle = ThreadHandle::new(&lane.lua, &lane.address, &lane.stop);
        if let Value::Function(setup) = self.main.globals().get("setup")? {
            setup.call::<()>(handle.clone())?;
        }
        let wrk: Table = lane.lua.globals().get("wrk")?;
        wrk.set("thread", handle)?;
        let args = lane.lua.create_table()?;
        args.set(0, self.script.url.as_str())?;
        for (index, arg) in self.script.args.iter().enumerate() {
            args.set(index + 1, arg.as_str())?;
        }
        wrk.get::<Function>("init")?.call::<()>(args)?;
        LuaSource::new(self, lane)
    }

    /// Calls the script's `done`.
    ///
    /// # Errors
    /// [`WkldError::Script`] with the script's line.
    pub fn done(&self, report: &Report) -> Result<(), WkldError> {
        let run = || -> mlua::Result<()> {
            let Value::Function(done) = self.main.globals().get("done")? else { return Ok(()) };
            let (summary, latency, requests) = stats::of(&self.main, report)?;
            done.call::<()>((summary, latency, requests))
        };
        let done = run();
        state::flush(&self.main);
        done.map_err(fault)
    }
}

/// The first line of a script's error: it names the script's line.
fn fault(error: mlua::Error) -> WkldError {
    WkldError::Script(message(&error))
}

fn message(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::CallbackError { traceback, cause } => {
            let cause = message(cause);
            // The cause is Rust's; the first frame with a line is the script's.
            let frames = traceback.lines().filter_map(|line| Some(line.trim().split_once(": in ")?.0));
            match frames.into_iter().find(|place| place.contains(':')) {
                Some(place) if !cause.starts_with(place) => format!("{place}: {cause}"),
                _ => cause,
            }
        }
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().trim_start_matches("runtime error: ").to_owned()
}

/// One thread's requests.
struct LuaSource {
    request: Function,
    response: Option<Function>,
    delay: Option<Function>,
    /// The request of a script without `request`.
    built: Option<Vec<u8>>,
    lua: Lua,
    address: Option<SocketAddr>,
    stop: Arc<AtomicBool>,
    /// Known hosts; the first ones are the run's own.
    urls: Vec<Url>,
    /// `host:port` of each as it is written in absolute URLs.
    keys: Vec<Vec<u8>>,
    /// Hosts found on the way.
    found: Vec<Host>,
    tls: Option<Arc<ClientConfig>>,
    /// Where the run's own hosts end.
    own: usize,
}

impl LuaSource {
    fn new(scripts: &Scripts, lane: &Lane) -> mlua::Result<LuaSource> {
        let globals = lane.lua.globals();
        let wrk: Table = globals.get("wrk")?;
        let own: Option<Function> = globals.get("request")?;
        let default: Function = wrk.get("request")?;
        let address = lane.address.lock().map(|address| *address).unwrap_or_default();
        let mut source = LuaSource {
            request: own.clone().unwrap_or(default),
            response: globals.get("response")?,
            delay: globals.get("delay")?,
            built: None,
            lua: lane.lua.clone(),
            address,
            stop: Arc::clone(&lane.stop),
            keys: scripts.hosts.iter().map(key).collect(),
            urls: scripts.hosts.clone(),
            found: Vec::new(),
            tls: scripts.tls.clone(),
            own: scripts.hosts.len(),
        };
        if own.is_none() {
            let text: mlua::LuaString = source.request.call(())?;
            source.built = Some(text.as_bytes().to_vec());
        }
        Ok(source)
    }

    /// The index of the host that an absolute URL names.
    fn host(&mut self, https: bool, authority: &[u8]) -> usize {
        let same =
            |(index, known): &(usize, &Vec<u8>)| known.as_slice() == authority && self.urls[*index].https == https;
        if let Some((index, _)) = self.keys.iter().enumerate().find(same) {
            return index;
        }
        let scheme = if https { "https" } else { "http" };
        let text = format!("{scheme}://{}/", String::from_utf8_lossy(authority));
        let index = match text.parse::<Url>() {
            Ok(url) => match self.urls.iter().position(|known| known.same_host(&url)) {
                // Another spelling of a host that is known.
                Some(index) => {
                    self.keys[index] = authority.to_vec();
                    return index;
                }
                None => {
                    self.found.push(Host::resolve(&url, self.tls.clone()).unwrap_or_else(|_| nowhere(authority)));
                    self.urls.push(url);
                    self.urls.len() - 1
                }
            },
            Err(_) => {
                self.found.push(nowhere(authority));
                self.urls.push(self.urls[0].clone());
                self.urls.len() - 1
            }
        };
        self.keys.push(authority.to_vec());
        index
    }

    /// Appends a request, in origin form and with the Host of its own URL, and says where it goes.
    fn append(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Made {
        let no_body = bytes.starts_with(b"HEAD ");
        let target = bytes.iter().position(|&b| b == b' ').map_or(0, |at| at + 1);
        let rest = &bytes[target..];
        let (https, after) = match (rest.strip_prefix(b"http://"), rest.strip_prefix(b"https://")) {
            (Some(after), _) => (false, after),
            (_, Some(after)) => (true, after),
            _ => {
                out.extend_from_slice(bytes);
                return Made { host: 0, depth: depth(bytes), no_body, ..Made::default() };
            }
        };
        let end = after.iter().position(|b| matches!(b, b'/' | b'?' | b' ')).unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        let host = self.host(https, authority);
        out.extend_from_slice(&bytes[..target]);
        if after.first() != Some(&b'/') {
            out.push(b'/');
        }
        append_with_host(after, authority, out);
        Made { host, depth: depth(bytes), no_body, ..Made::default() }
    }
}

/// Appends the rest of a request with its Host field set to `authority`.
fn append_with_host(rest: &[u8], authority: &[u8], out: &mut Vec<u8>) {
    let head = find(rest, b"\r\n\r\n").unwrap_or(rest.len());
    let mut at = 0;
    while at < head {
        let end = find(&rest[at..head], b"\r\n").map_or(head, |n| at + n);
        let line = &rest[at..end];
        if at > 0 && line.len() >= 5 && line[..5].eq_ignore_ascii_case(b"host:") {
            out.extend_from_slice(b"Host: ");
            out.extend_from_slice(authority);
        } else {
            out.extend_from_slice(line);
        }
        if end < head {
            out.extend_from_slice(b"\r\n");
        }
        at = end + 2;
    }
    out.extend_from_slice(&rest[head..]);
}

/// How many requests `bytes` hold.
fn depth(bytes: &[u8]) -> u32 {
    let (mut rest, mut n) = (bytes, 0);
    while let Some(head) = find(rest, b"\r\n\r\n") {
        n += 1;
        let length = content_length(&rest[..head]);
        rest = rest.get(head + 4 + length..).unwrap_or_default();
    }
    n.max(1)
}

fn content_length(head: &[u8]) -> usize {
    let lines = head.split(|&b| b == b'\n');
    let value = lines
        .filter_map(|line| line.split_at_checked(15))
        .find_map(|(name, value)| name.eq_ignore_ascii_case(b"content-length:").then(|| value.trim_ascii().to_vec()));
    value.and_then(|value| String::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// `host:port` as in an absolute URL.
fn key(url: &Url) -> Vec<u8> {
    let mut key = url.authority().into_bytes();
    if !key.ends_with(format!(":{}", url.port).as_bytes()) && !matches!(url.port, 80 | 443) {
        key.extend_from_slice(format!(":{}", url.port).as_bytes());
    }
    key
}

/// A host without an address: every request to it fails with `dns`.
fn nowhere(authority: &[u8]) -> Host {
    let name = String::from_utf8_lossy(authority).into_owned();
    Host { authority: name.clone(), name, addresses: Vec::new(), tls: None }
}

fn broken(error: &mlua::Error) -> Broken {
    Broken(message(error))
}

impl Source for LuaSource {
    fn fixed(&self) -> bool {
        self.built.is_some() && self.delay.is_none()
    }

    fn make(&mut self, out: &mut Vec<u8>) -> Result<Made, Broken> {
        let delay_ns = match &self.delay {
            Some(delay) => {
                let ms: f64 = delay.call(()).map_err(|error| broken(&error))?;
                (ms.max(0.0) * 1e6) as u64
            }
            None => 0,
        };
        if let Some(built) = self.built.take() {
            let made = self.append(&built, out);
            self.built = Some(built);
            return Ok(Made { delay_ns, ..made });
        }
        match self.request.call::<Value>(()).map_err(|error| broken(&error))? {
            Value::String(text) => {
                let made = self.append(&text.as_bytes(), out);
                Ok(Made { delay_ns, ..made })
            }
            Value::Nil => Ok(Made { depth: 0, delay_ns, ..Made::default() }),
            other => Err(Broken(format!("request() returned a {}, not a string", other.type_name()))),
        }
    }

    fn listens(&self) -> bool {
        self.response.is_some()
    }

    fn answered(&mut self, status: u16, answer: &Capture, _tag: u64, _now: u64) -> Result<(), Broken> {
        let Some(response) = &self.response else { return Ok(()) };
        let call = || -> mlua::Result<()> {
            let headers = self.lua.create_table_with_capacity(0, answer.fields.len())?;
            for (name, value) in &answer.fields {
                headers.set(name.as_str(), self.lua.create_string(value)?)?;
            }
            response.call((status, headers, self.lua.create_string(&answer.body)?))
        };
        call().map_err(|error| broken(&error))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn host(&self, index: usize) -> Option<&Host> {
        self.found.get(index.checked_sub(self.own)?)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

#[cfg(test)]
mod tests;
