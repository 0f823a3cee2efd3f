//! Applications. An app is a value: a row of facts in [`APPS`]; nothing branches on an app's name.

mod graph;
mod images;
mod social_endpoints;
mod social_network;
mod social_network_images;
mod social_network_mini;

use crate::trace::Shape;

pub use graph::Graph;

/// The random numbers that request bodies are drawn from.
pub type Draws = rand_pcg::Pcg64Mcg;

pub use images::{Bundle, Generator, ImageRecipe, Images, Recipe, Remedy, Sources, Upstream};

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

impl Service {
    const fn new(name: &'static str, side: Side) -> Self {
        Service { name, side, setup: false }
    }

    const fn setup_job(name: &'static str) -> Self {
        Service { name, side: Side::Neutral, setup: true }
    }
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

/// What a read shows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is there.
    Visible,
    /// It is not listed.
    Absent,
    /// It is listed but cannot be read: the violation as a user sees it.
    Incomplete,
    /// The read itself failed.
    Failed,
}

/// How the visibility of writes is probed from outside: writes for readers who see nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The endpoint whose writes are probed.
    pub endpoint: &'static str,
    /// How many readers there are.
    pub readers: u32,
    /// Registers the readers and those they follow. Repeating it does no harm.
    pub setup: fn(u32) -> Vec<Step>,
    /// Appends the form of a write that the reader will see.
    pub write: fn(&mut Draws, u32, &mut Vec<u8>),
    /// What names the write, from the body of its answer.
    pub key: fn(&[u8]) -> Option<String>,
    /// The reader's read at the replica: path and query.
    pub read: fn(u32) -> String,
    /// What a read's status and body show of the write.
    pub sight: fn(u16, &str, &str) -> Sight,
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

/// Where an app's compose file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComposeFile {
    /// It travels inside this binary.
    Shipped(&'static str),
    /// It lies in the app's source tree, at this path.
    InTree(&'static str),
}

/// What a store says about the posts in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSizes {
    /// How many there are.
    pub posts: u64,
    /// All posts with their indexes and bookkeeping, bytes.
    pub total_bytes: u64,
    /// The documents alone, bytes.
    pub document_bytes: u64,
}

/// How a store is asked about the posts in it.
#[derive(Clone, Copy, Debug)]
pub struct PostSizes {
    /// The store's service.
    pub service: &'static str,
    /// A command inside its container.
    pub command: &'static [&'static str],
    /// Understands the command's stdout.
    pub parse: fn(&str) -> Option<StoreSizes>,
}

/// A page that somebody may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// What it is called.
    pub title: &'static str,
    /// Its service and container port.
    pub service: &'static str,
    /// Its port inside the container.
    pub port: u16,
    /// Name and password, where it asks for them.
    pub login: Option<(&'static str, &'static str)>,
}

/// A broker that can be asked how many messages it holds (RabbitMQ's management API).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its service.
    pub service: &'static str,
    /// Port of the API inside the container.
    pub port: u16,
    /// The same on a cluster's hosts, where the compose file fixes it.
    pub published: Option<u16>,
}

/// The queues that notifications wait in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Every broker that a notification passes.
    pub brokers: &'static [Broker],
    /// Name and password.
    pub login: (&'static str, &'static str),
    /// What the names of the queues contain.
    pub name: &'static str,
    /// A notification leaves its queue only when it has been handled; otherwise it may be with a worker still when
    /// the queues are empty.
    pub until_handled: bool,
}

/// How an app runs as containers.
#[derive(Clone, Copy, Debug)]
pub struct Containers {
    /// Its compose file.
    pub compose: ComposeFile,
    /// A command inside a setup job's container that succeeds when the job is done.
    pub setup_check: &'static [&'static str],
    /// The service, and the file that appears in its container when it is about to serve.
    pub sync_file: Option<(&'static str, &'static str)>,
    /// How the post store is asked for its size.
    pub post_sizes: PostSizes,
    /// Pages for people, where they are published.
    pub consoles: &'static [Console],
    /// A service whose image is this very binary.
    pub own_image: Option<&'static str>,
}

/// Reads three numbers, possibly with decimals, each on a line of its own: posts, total bytes, bytes of documents.
fn three_numbers(text: &str) -> Option<StoreSizes> {
    let mut numbers = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let number: f64 = line.parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number as u64)
    });
    let mut next = || numbers.next().flatten();
    Some(StoreSizes { posts: next()?, total_bytes: next()?, document_bytes: next()? })
}

/// The protocol of a post store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Redis.
    Redis,
    /// MongoDB.
    Mongo,
}

impl Protocol {
    /// The TCP port on which both stores accept; the replica connects to the origin's.
    pub fn port(self) -> u16 {
        match self {
            Protocol::Redis => 6379,
            Protocol::Mongo => 27017,
        }
    }
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
    /// How the visibility of its writes is probed, when it can be.
    pub probe: Option<&'static Probe>,
    /// Where its social graph is looked for, below its sources; a graph of the same size is used without it.
    pub graph_file: &'static str,
    /// The post stores at origin and replica: what `delay` puts apart.
    pub stores: (&'static str, &'static str),
    /// What the post stores speak.
    pub store_protocol: Protocol,
    /// The service whose traces are gathered; it queues the notifications.
    pub traced_service: &'static str,
    /// The service that says when a post is durable at the origin.
    pub written_service: &'static str,
    /// The service whose incoming dependency edge counts the notifications; it receives them and reads the posts.
    pub notified_service: &'static str,
    /// How its images come to be.
    pub images: Images,
    /// Which spans and tags make an observation.
    pub shape: Shape,
    /// Where notifications wait.
    pub queue: Queue,
    /// How it runs as containers.
    pub containers: Containers,
}

/// Every application maestro knows.
pub static APPS: &[App] = &[social_network::APP, social_network_mini::APP];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_three_numbers() {
        let sizes = StoreSizes { posts: 7, total_bytes: 4096, document_bytes: 612 };
        assert_eq!(three_numbers("7\n4096\n612.7\n"), Some(sizes));
        assert_eq!(three_numbers("7\n4096\n"), None);
        assert_eq!(three_numbers("uncaught exception\n1\n2\n"), None);
        assert_eq!(three_numbers("NaN\n1\n2\n"), None);
    }
}
