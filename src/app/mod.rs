//! Applications. An app is a value: a row of facts in [`APPS`]; nothing branches on an app's name.

mod graph;
mod hotel_reservation;
mod images;
mod social_endpoints;
mod social_network;
mod social_network_images;
mod social_network_mini;

use crate::error::{Exit, Fault};
use crate::experiment::Variant;
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

/// How a request carries what fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET with a query string.
    Get,
    /// POST with a form body.
    Post,
    /// POST with a query string and no body.
    PostQuery,
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The front end it goes to.
    pub side: Side,
    /// How it carries what fills it.
    pub method: Method,
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
    /// Requests at a rate, each of a kind drawn by its share of the sum of all shares.
    Mix(&'static [(u32, Call)]),
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

/// What makes an app's consistency measurable: something is written at the origin, announced, and read at the replica.
#[derive(Clone, Copy, Debug)]
pub struct Replication {
    /// The post stores at origin and replica: what `delay` puts apart.
    pub stores: (&'static str, &'static str),
    /// What the post stores speak.
    pub store_protocol: Protocol,
    /// How the origin's is asked for its size.
    pub post_sizes: PostSizes,
    /// The service whose traces are gathered; it queues the notifications.
    pub traced_service: &'static str,
    /// The service that says when a post is durable at the origin.
    pub written_service: &'static str,
    /// The service whose incoming dependency edge counts the notifications; it receives them and reads the posts.
    pub notified_service: &'static str,
    /// Which spans and tags make an observation.
    pub shape: Shape,
    /// Where notifications wait.
    pub queue: Queue,
}

/// What proves that an app serves from end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A post composed at the origin that its author's follower then reads at the replica.
    Post,
    /// Reads (path and query) that the front end answers with 200, every one.
    Reads(&'static [&'static str]),
}

impl Canary {
    /// What must be seen at the front ends, for people.
    pub fn promise(&self, origin: &str, replica: &str) -> String {
        match self {
            Canary::Post => format!("a post composed at {origin} is read at {replica}"),
            Canary::Reads(reads) => {
                let paths: Vec<&str> = reads.iter().map(|read| read.split('?').next().unwrap_or(read)).collect();
                format!("{origin} answers {}", paths.join(", "))
            }
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
    /// Lineage enforcement on and off; absent where there is none.
    pub toggle: Option<Toggle>,
    /// The origin's front end, or the only one.
    pub origin: Door,
    /// The replica's front end.
    pub replica: Option<Door>,
    /// The trace query API.
    pub jaeger: Door,
    /// What `wkld -E` can drive.
    pub endpoints: &'static [Endpoint],
    /// How the visibility of its writes is probed, when it can be.
    pub probe: Option<&'static Probe>,
    /// Where its social graph is looked for, below its sources; a graph of the same size is used without it.
    pub graph_file: Option<&'static str>,
    /// What makes its consistency measurable; absent where nothing is replicated.
    pub replication: Option<Replication>,
    /// How its images come to be.
    pub images: Images,
    /// What proves that it serves.
    pub canary: Canary,
    /// The built-in miniature imitates it.
    pub miniature: bool,
    /// How it runs as containers.
    pub containers: Containers,
}

/// What an app does not have, asked for all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// No windows, no violations.
    #[error("`{0}` replicates nothing: it has neither windows nor violations to {1}")]
    Replication(&'static str, &'static str),
    /// No variant but the baseline.
    #[error("`{0}` has no antipode variant: nothing in it enforces lineage")]
    Toggle(&'static str),
    /// No replicas whose link could be delayed unless services are named.
    #[error("`{0}` has no replicas that a delay could put apart")]
    Stores(&'static str),
    /// No miniature.
    #[error("`{0}` has no miniature")]
    Miniature(&'static str),
}

impl Fault for Lacking {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Lacking::Replication(..) => {
                "throughput and latency are in the run's `summary.json` as soon as `wkld` ends".into()
            }
            Lacking::Toggle(_) => "leave -antipode out".into(),
            Lacking::Stores(_) => "name two services with --from SERVICE --to SERVICE".into(),
            Lacking::Miniature(_) => {
                let having = APPS.iter().find(|app| app.miniature).map_or("none", |app| app.name);
                format!("choose another target; --embedded runs {having}")
            }
        })
    }
}

/// Every application maestro knows.
pub static APPS: &[App] = &[social_network::APP, social_network_mini::APP, hotel_reservation::APP];

impl App {
    /// The app called `name`.
    pub fn find(name: &str) -> Option<&'static App> {
        APPS.iter().find(|app| app.name == name)
    }

    /// The front end that readers use: the replica's, else the only one.
    pub fn readers_door(&self) -> Door {
        self.replica.unwrap_or(self.origin)
    }

    /// What makes its consistency measurable; `purpose` says what for (`gather`).
    ///
    /// # Errors
    /// [`Lacking::Replication`].
    pub fn replication(&self, purpose: &'static str) -> Result<&Replication, Lacking> {
        self.replication.as_ref().ok_or(Lacking::Replication(self.name, purpose))
    }

    /// Its post stores at origin and replica.
    pub fn stores(&self) -> Option<(&'static str, &'static str)> {
        self.replication.map(|replication| replication.stores)
    }

    /// Whether it can run as `variant`.
    ///
    /// # Errors
    /// [`Lacking::Toggle`].
    pub fn check_variant(&self, variant: Variant) -> Result<(), Lacking> {
        if variant.is_antipode() && self.toggle.is_none() { Err(Lacking::Toggle(self.name)) } else { Ok(()) }
    }

    /// The environment variable of a service, with its value, that makes it `variant`'s.
    pub fn toggled(&self, service: &str, variant: Variant) -> Option<(&'static str, &'static str)> {
        let toggle = self.toggle.filter(|toggle| toggle.services.contains(&service))?;
        Some((toggle.variable, if variant.is_antipode() { toggle.on } else { toggle.off }))
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
