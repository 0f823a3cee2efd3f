//! Applications. An app is a value: a row of facts in [`APPS`]; nothing branches on an app's name.

mod graph;
mod social_endpoints;
mod social_network;

use crate::trace::Shape;

pub use graph::Graph;

/// The random numbers that request bodies are drawn from.
pub type Draws = rand_pcg::Pcg64Mcg;

/// Which side of the replication a service or an endpoint is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The writer's side (services named `*-eu`).
    Origin,
    /// The reader's side (services named `*-us`).
    Replica,
    /// Neither: administration, tracing, setup.
    Neutral,
}

/// A service of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its compose name.
    pub name: &'static str,
    /// Its side.
    pub side: Side,
    /// A setup job: it never ends; its open port 8000 is the sign that it is done, and it is not counted as a service.
    pub setup: bool,
}

/// The environment variable that turns lineage enforcement on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// The services that read it.
    pub services: &'static [&'static str],
    /// Its name.
    pub variable: &'static str,
    /// Value for [`crate::experiment::Variant::Baseline`].
    pub off: &'static str,
    /// Value for [`crate::experiment::Variant::Antipode`].
    pub on: &'static str,
}

/// A service reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The service.
    pub service: &'static str,
    /// Its published TCP port.
    pub port: u16,
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The front end it goes to.
    pub side: Side,
    /// POST with a form body, or GET with a query string.
    pub post: bool,
    /// Its path.
    pub path: &'static str,
    /// Appends the form or query. It gets the key of the request before it in a sequence (0 for the first) and
    /// returns its own.
    pub fill: fn(&mut Draws, &Graph, u64, &mut Vec<u8>) -> u64,
}

/// One request of an endpoint that is carried out once.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does, for its status line.
    pub label: &'static str,
    /// The front end it goes to.
    pub side: Side,
    /// POST with a form body, or GET with a query string.
    pub post: bool,
    /// Its path.
    pub path: &'static str,
    /// The form or query.
    pub form: String,
    /// An answer other than 2xx ends the procedure.
    pub must: bool,
    /// The answer's body is shown.
    pub show: bool,
}

/// What an endpoint does.
#[derive(Clone, Copy, Debug)]
pub enum EndpointKind {
    /// Requests at a rate; with `then`, a 2xx answer leads to a second request, which is the one measured.
    Load {
        /// The request of the schedule.
        first: Call,
        /// The request that follows its answer.
        then: Option<Call>,
    },
    /// A list of requests, once.
    Steps(fn(&mut Draws, &Graph) -> Vec<Step>),
}

/// A named request kind of `wkld -E`.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: &'static str,
    /// One line for help.
    pub about: &'static str,
    /// What it does.
    pub kind: EndpointKind,
}

/// An application as data.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// Its name on the command line and in paths.
    pub name: &'static str,
    /// One line for help.
    pub about: &'static str,
    /// All services.
    pub services: &'static [Service],
    /// Lineage enforcement on and off.
    pub toggle: Toggle,
    /// The origin's front end.
    pub origin: Door,
    /// The replica's front end.
    pub replica: Door,
    /// The trace query API.
    pub jaeger: Door,
    /// What `wkld -E` can drive.
    pub endpoints: &'static [Endpoint],
    /// Where its social graph is looked for, below its sources; a graph of the same size is used without it.
    pub graph_file: &'static str,
    /// The post stores at origin and replica: what `delay` puts apart.
    pub stores: (&'static str, &'static str),
    /// The service whose traces are gathered.
    pub traced_service: &'static str,
    /// The service whose incoming dependency edge counts the notifications.
    pub notified_service: &'static str,
    /// Which spans and tags make an observation.
    pub shape: Shape,
}

/// Every application maestro knows.
pub static APPS: &[App] = &[social_network::APP];

impl App {
    /// The app called `name`.
    pub fn find(name: &str) -> Option<&'static App> {
        APPS.iter().find(|app| app.name == name)
    }

    /// The endpoint called `name`.
    pub fn endpoint(&self, name: &str) -> Option<&'static Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.name == name)
    }
}
