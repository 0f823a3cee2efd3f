//! What is sent, described so that it can travel to a client host, and turned into the generator's sources.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::drive::KeptScripts;
use crate::app::{App, Call, Endpoint, EndpointKind, Graph, Method, Side};
use crate::command::{Current, hosts};
use crate::error::{Exit, Plain, Result};
use crate::store::{Store, StoreError, read_text};
use crate::wkld::probe::{Probing, ProbingSource};
use crate::wkld::script::{Script, Scripts};
use crate::wkld::source::{self, Calls, Carry, Fixed};
use crate::wkld::tls::Trust;
use crate::wkld::url::{Host, Url};
use crate::wkld::{Sources, WkldError};

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Requests {
    /// GET of one URL.
    Url {
        /// The URL.
        url: String,
    },
    /// An endpoint of an app.
    Endpoint {
        /// The app's name.
        app: String,
        /// The endpoint's name.
        endpoint: String,
        /// Base URL of the origin's front end.
        origin: String,
        /// Base URL of the replica's front end.
        replica: String,
        /// The social graph's file, when there is one.
        #[serde(default)]
        graph: Option<String>,
    },
    /// What a wrk2 script makes.
    Script(Script),
}

/// Sources for the generator's threads, and the scripts behind them.
type Made = (Box<Sources<'static>>, KeptScripts);

/// The endpoint of `app` called `name`.
///
/// # Errors
/// Exit code 2 with the known ones.
pub(super) fn known(app: &App, name: &str) -> Result<&'static Endpoint> {
    app.endpoint(name).ok_or_else(|| {
        let known: Vec<&str> = app.endpoints.iter().map(|endpoint| endpoint.name).collect();
        let hint = format!("known endpoints: {}", known.join(", "));
        Plain::usage(format!("unknown endpoint `{name}`")).with_hint(hint).into()
    })
}

impl Requests {
    /// The endpoint `name` of the current deployment, as its own hosts (`inside`) or this machine reach it.
    ///
    /// # Errors
    /// Exit code 2 for an unknown endpoint and before `run`.
    pub(crate) fn of_endpoint(store: &Store, current: &Current, name: &str, inside: bool) -> Result<Requests> {
        let app = current.app;
        known(app, name)?;
        let url = |url: &Option<String>| url_for(current, url, inside);
        let graph = find_graph(store, current)?;
        Ok(Requests::Endpoint {
            app: app.name.to_owned(),
            endpoint: name.to_owned(),
            origin: url(&current.deployment.origin_url)?,
            replica: url(&current.deployment.replica_url)?,
            graph,
        })
    }

    /// The URL that the report names: wrk2's, for an endpoint.
    pub(crate) fn shown_url(&self) -> String {
        match self {
            Requests::Url { url } | Requests::Script(Script { url, .. }) => url.clone(),
            Requests::Endpoint { app, endpoint, origin, replica, .. } => match calls(app, endpoint).as_slice() {
                [(_, call)] if call.side == Side::Replica => format!("{replica}{}", call.path),
                [(_, call)] => format!("{origin}{}", call.path),
                _ => origin.clone(),
            },
        }
    }

    /// The hosts the requests go to, with their addresses; a request names its host by its place in this list.
    ///
    /// # Errors
    /// [`WkldError`] for a URL that cannot be used or found.
    pub(crate) fn hosts(&self, trust: &Trust) -> std::result::Result<Vec<Host>, WkldError> {
        let urls = match self {
            Requests::Url { url } => vec![parse(url)?],
            Requests::Script(script) => script.urls()?,
            Requests::Endpoint { app, endpoint, origin, replica, .. } => {
                let (origin, replica) = (parse(origin)?, parse(replica)?);
                let url = |side| if side == Side::Replica { replica.clone() } else { origin.clone() };
                sides(app, endpoint).into_iter().map(url).collect()
            }
        };
        urls.iter()
            .map(|url| {
                let tls = if url.https { Some(trust.config().map_err(WkldError::Unusable)?) } else { None };
                Host::resolve(url, tls).map_err(|why| WkldError::Resolve { host: url.host.clone(), why })
            })
            .collect()
    }

    /// A maker of sources, one for each thread; with `probing`, a share of the writes is probed.
    ///
    /// # Errors
    /// [`WkldError`] for an endpoint that is not a load, and for a script that fails.
    pub(crate) fn sources(
        &self,
        hosts: &[Host],
        seed: u64,
        trust: &Trust,
        probing: Option<&Probing>,
    ) -> std::result::Result<Made, WkldError> {
        match self {
            Requests::Url { url } => {
                let url = parse(url)?;
                let bytes = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", url.path, url.authority()).into_bytes();
                Ok((Box::new(move |_| Ok(Box::new(Fixed::new(bytes.clone(), false)))), None))
            }
            Requests::Script(script) => scripted(script, trust),
            Requests::Endpoint { app, endpoint, graph, .. } => {
                let graph = Arc::new(match graph {
                    Some(text) => Graph::parse(text).map_err(WkldError::Unusable)?,
                    None => Graph::synthetic(),
                });
                let sides = sides(app, endpoint);
                let call = |call: &Call| {
                    let host = sides.iter().position(|side| *side == call.side).unwrap_or(0);
                    maker(call, host, &hosts[host].authority, &graph)
                };
                let kinds: Vec<_> = calls(app, endpoint).into_iter().map(|(share, kind)| (share, call(kind))).collect();
                if kinds.is_empty() {
                    return Err(WkldError::Unusable(format!("endpoint `{endpoint}` is not a load")));
                }
                let then = second_call(app, endpoint).map(call);
                Ok((called(kinds, then, seed, probing.cloned()), None))
            }
        }
    }
}

/// Sources that a script makes.
fn scripted(script: &Script, trust: &Trust) -> std::result::Result<Made, WkldError> {
    let tls = trust.config().map_err(WkldError::Unusable)?;
    let scripts = Arc::new(Mutex::new(Scripts::new(script.clone(), Some(tls))?));
    let kept = Arc::clone(&scripts);
    let lost = || WkldError::Script("the script's state is lost".into());
    Ok((Box::new(move |_| scripts.lock().map_err(|_| lost())?.source()), Some(kept)))
}

/// Sources of an endpoint's calls, of which the first is the one that is probed.
fn called(
    kinds: Vec<(u32, source::Call)>,
    then: Option<source::Call>,
    seed: u64,
    probing: Option<Probing>,
) -> Box<Sources<'static>> {
    Box::new(move |lane| {
        // Lanes draw from streams of their own; the constant keeps neighbouring seeds apart.
        let seed = seed ^ (lane + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let calls = match (kinds.as_slice(), &then) {
            ([(_, first)], then) => Calls::new(first.clone(), then.clone(), seed),
            (kinds, _) => Calls::mixed(kinds.to_vec(), seed),
        };
        Ok(match (&probing, kinds.first()) {
            (Some(probing), Some((_, first))) => Box::new(ProbingSource::new(calls, first.clone(), probing, seed)),
            _ => Box::new(calls),
        })
    })
}

/// The path of an endpoint's requests, where there is only one.
pub(super) fn path_of(app: &App, endpoint: &str) -> Option<&'static str> {
    match calls(app.name, endpoint).as_slice() {
        [(_, call)] => Some(call.path),
        _ => None,
    }
}

fn maker(call: &Call, host: usize, authority: &str, graph: &Arc<Graph>) -> source::Call {
    let (graph, fill) = (Arc::clone(graph), call.fill);
    source::Call {
        host,
        authority: authority.to_owned(),
        carry: match call.method {
            Method::Get => Carry::Query,
            Method::Post => Carry::Form,
            Method::PostQuery => Carry::PostedQuery,
        },
        path: call.path.to_owned(),
        fill: Arc::new(move |draws, key, out| fill(draws, &graph, key, out)),
    }
}

/// The requests of an endpoint's schedule, each with its share; none for a list of requests.
fn calls(app: &str, endpoint: &str) -> Vec<(u32, &'static Call)> {
    let kind = App::find(app).and_then(|app| app.endpoint(endpoint)).map(|endpoint| &endpoint.kind);
    match kind {
        Some(EndpointKind::Load { first, .. }) => vec![(1, first)],
        Some(EndpointKind::Mix(kinds)) => kinds.iter().map(|(share, call)| (*share, call)).collect(),
        Some(EndpointKind::Steps(_)) | None => Vec::new(),
    }
}

fn second_call(app: &str, endpoint: &str) -> Option<&'static Call> {
    match &App::find(app)?.endpoint(endpoint)?.kind {
        EndpointKind::Load { then, .. } => then.as_ref(),
        EndpointKind::Mix(_) | EndpointKind::Steps(_) => None,
    }
}

/// The sides that an endpoint's requests go to, in the order of its hosts.
fn sides(app: &str, endpoint: &str) -> Vec<Side> {
    let mut sides = Vec::new();
    for call in calls(app, endpoint).into_iter().map(|(_, call)| call).chain(second_call(app, endpoint)) {
        if !sides.contains(&call.side) {
            sides.push(call.side);
        }
    }
    if sides.is_empty() { vec![Side::Origin] } else { sides }
}

fn parse(url: &str) -> std::result::Result<Url, WkldError> {
    url.parse().map_err(WkldError::Unusable)
}

/// The text of the app's social graph, where the sources or the root have it.
pub(crate) fn find_graph(store: &Store, current: &Current) -> Result<Option<String>> {
    let Some(file) = current.app.graph_file.map(Path::new) else { return Ok(None) };
    let name = current.app.name;
    for above in [format!("deps/DeathStarBench/{name}"), format!("DeathStarBench/{name}"), String::new()] {
        match read_text(&store.resolve(above).join(file)) {
            Ok(text) => return Ok(Some(text)),
            Err(StoreError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// A front end's URL as the deployment's own hosts (`inside`) or this machine reach it.
///
/// # Errors
/// Exit code 2 before `run`.
pub(super) fn url_for(current: &Current, url: &Option<String>, inside: bool) -> Result<String> {
    let url = url.as_deref().ok_or_else(|| not_running(current))?;
    Ok(if inside { hosts::inside(&current.deployment, url) } else { url.to_owned() })
}

/// The refusal of a workload before `run`.
pub(crate) fn not_running(current: &Current) -> crate::error::Error {
    let (target, app) = (current.target, current.app.name);
    Plain::new(Exit::Usage, format!("`{app}` is not running on `{target}`"))
        .with_hint(format!("first: maestro --{target} {app} run"))
        .into()
}
