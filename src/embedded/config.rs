//! The embedded target's placement file: which pair of zones the miniature plays, and with which distances.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::dist::Distribution;
use super::faults::Faults;
use crate::store::{StoreError, parse_yaml};

/// Most workers a service may have.
const MOST_WORKERS: u32 = 4096;

/// Everything that shapes the miniature. All but the replication pair has a default (that of `us-eu.yml`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The zones that are compared, as written (`US->EU`): origin first.
    pub replication_pair: String,
    /// Seed of every random draw.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Ports on the loopback address.
    #[serde(default)]
    pub ports: Ports,
    /// The post store's replication, origin to replica.
    #[serde(default = "default_replication")]
    pub replication: LinkConfig,
    /// The notification queue, origin to replica.
    #[serde(default)]
    pub queue: QueueConfig,
    /// The barrier of the antipode variant.
    #[serde(default)]
    pub barrier: BarrierConfig,
    /// Workers and service times, by service.
    #[serde(default)]
    pub services: Services,
    /// How much is kept in memory.
    #[serde(default)]
    pub limits: Limits,
    /// Faults switched on from the start.
    #[serde(default)]
    pub faults: Faults,
}

/// Ports on the loopback address; 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// The origin's front end.
    pub origin: u16,
    /// The replica's front end.
    pub replica: u16,
    /// The trace query API and the administration of the miniature.
    pub jaeger: u16,
    /// Opens when setup is done (the setup jobs' port 8000); not opened when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<u16>,
}

impl Default for Ports {
    fn default() -> Self {
        Ports { origin: 8080, replica: 8082, jaeger: 16686, setup: None }
    }
}

impl Ports {
    /// Free ports, chosen by the kernel.
    pub const AUTO: Ports = Ports { origin: 0, replica: 0, jaeger: 0, setup: None };
}

impl std::str::FromStr for Ports {
    type Err = String;

    /// `ORIGIN,REPLICA,JAEGER`, or `auto`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Ports::AUTO);
        }
        let wrong = || format!("ports `{text}` are neither `auto` nor three different ports like `8080,8082,16686`");
        let ports: Vec<u16> =
            text.split(',').map(|p| p.trim().parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let &[origin, replica, jaeger] = ports.as_slice() else { return Err(wrong()) };
        let clash = |a: u16, b: u16| a != 0 && a == b;
        if clash(origin, replica) || clash(origin, jaeger) || clash(replica, jaeger) {
            return Err(wrong());
        }
        Ok(Ports { origin, replica, jaeger, setup: None })
    }
}

/// A one-way link: distance plus what the far end takes to make a message available.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// Travel time, ms.
    pub network_ms: Distribution,
    /// Time from arrival to being visible, ms.
    pub processing_ms: Distribution,
}

/// The notification queue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Travel time between the brokers, ms.
    pub network_ms: Distribution,
    /// Time the brokers and the federation take, ms.
    pub processing_ms: Distribution,
    /// Consumers at the replica.
    pub workers: u32,
}

impl QueueConfig {
    /// The link between the brokers.
    pub fn link(&self) -> LinkConfig {
        LinkConfig { network_ms: self.network_ms, processing_ms: self.processing_ms }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            network_ms: Distribution::Normal { mean: 45.0, sd: 0.4 },
            processing_ms: Distribution::Lognormal { median: 22.0, sigma: 0.25 },
            workers: 32,
        }
    }
}

/// How the barrier waits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BarrierConfig {
    /// Pause after the first look that found nothing, ms; it doubles from look to look.
    pub first_pause_ms: f64,
    /// Longest pause, ms.
    pub longest_pause_ms: f64,
    /// After this long the barrier gives up and the notification is handled as it is, ms.
    pub deadline_ms: f64,
    /// What the lineage costs when a post is stored, ms of the store's worker.
    pub lineage_ms: f64,
}

impl Default for BarrierConfig {
    fn default() -> Self {
        BarrierConfig { first_pause_ms: 1.0, longest_pause_ms: 8.0, deadline_ms: 30_000.0, lineage_ms: 0.1 }
    }
}

/// Workers and service time of one service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Requests handled at the same time.
    pub workers: u32,
    /// Time of one request, ms.
    pub service_ms: Distribution,
}

/// The services of a compose, a notification and a read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Services {
    /// Both front ends.
    pub nginx_web_server: ServiceConfig,
    /// Media of a post.
    pub media_service: ServiceConfig,
    /// Author of a post; registration.
    pub user_service: ServiceConfig,
    /// Post ids.
    pub unique_id_service: ServiceConfig,
    /// Text of a post.
    pub text_service: ServiceConfig,
    /// Links in a text.
    pub url_shorten_service: ServiceConfig,
    /// Mentions in a text.
    pub user_mention_service: ServiceConfig,
    /// Takes in the six pieces of a post.
    pub compose_post_service: ServiceConfig,
    /// The post store at the origin.
    pub post_storage_service_eu: ServiceConfig,
    /// The post store at the replica.
    pub post_storage_service_us: ServiceConfig,
    /// The broker at the origin.
    pub write_home_timeline_rabbitmq_eu: ServiceConfig,
    /// Fan-out into the home timelines.
    pub write_home_timeline_service_us: ServiceConfig,
    /// Home timelines, read at the replica.
    pub home_timeline_service: ServiceConfig,
    /// User timelines, at the origin.
    pub user_timeline_service: ServiceConfig,
    /// Who follows whom.
    pub social_graph_service: ServiceConfig,
}

impl Default for Services {
    fn default() -> Self {
        let service =
            |workers, median, sigma| ServiceConfig { workers, service_ms: Distribution::Lognormal { median, sigma } };
        Services {
            nginx_web_server: service(16, 0.3, 0.3),
            media_service: service(8, 0.4, 0.3),
            user_service: service(8, 0.4, 0.3),
            unique_id_service: service(8, 0.3, 0.3),
            text_service: service(8, 0.8, 0.3),
            url_shorten_service: service(8, 0.4, 0.3),
            user_mention_service: service(8, 0.4, 0.3),
            compose_post_service: service(8, 0.5, 0.3),
            post_storage_service_eu: service(4, 11.3, 0.5),
            post_storage_service_us: service(8, 0.5, 0.3),
            write_home_timeline_rabbitmq_eu: service(8, 0.5, 0.3),
            write_home_timeline_service_us: service(32, 0.8, 0.3),
            home_timeline_service: service(8, 0.8, 0.3),
            user_timeline_service: service(8, 1.0, 0.3),
            social_graph_service: service(8, 0.8, 0.3),
        }
    }
}

/// How much is kept in memory; the oldest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Posts, with their entries in the timelines.
    pub posts: usize,
    /// Traces.
    pub traces: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { posts: 250_000, traces: 150_000 }
    }
}

fn default_seed() -> u64 {
    20_231_023
}

fn default_replication() -> LinkConfig {
    LinkConfig {
        network_ms: Distribution::Normal { mean: 45.0, sd: 0.4 },
        processing_ms: Distribution::Lognormal { median: 6.0, sigma: 0.5 },
    }
}

impl Config {
    /// The miniature with every default and zones of its own choosing.
    pub fn with_pair(replication_pair: &str) -> Self {
        Config {
            replication_pair: replication_pair.to_owned(),
            seed: default_seed(),
            ports: Ports::default(),
            replication: default_replication(),
            queue: QueueConfig::default(),
            barrier: BarrierConfig::default(),
            services: Services::default(),
            limits: Limits::default(),
            faults: Faults::default(),
        }
    }

    /// Reads and checks the text of the file `path` (named in messages only).
    ///
    /// # Errors
    /// [`StoreError::Content`] with the place, or the field, and what is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, StoreError> {
        let config: Config = parse_yaml(path, text)?;
        config.check().map_err(|why| StoreError::Content { path: path.to_owned(), why })?;
        Ok(config)
    }

    /// Whether all values make sense; the error names the field.
    ///
    /// # Errors
    /// One line: `field: what is wrong`.
    pub fn check(&self) -> Result<(), String> {
        if !self.replication_pair.contains("->") {
            return Err(format!("replication_pair: `{}` does not look like `US->EU`", self.replication_pair));
        }
        self.check_ports()?;
        let distribution = |name: &str, d: &Distribution| d.check().map_err(|why| format!("{name}: {why}"));
        distribution("replication.network_ms", &self.replication.network_ms)?;
        distribution("replication.processing_ms", &self.replication.processing_ms)?;
        distribution("queue.network_ms", &self.queue.network_ms)?;
        distribution("queue.processing_ms", &self.queue.processing_ms)?;
        workers("queue.workers", self.queue.workers)?;
        self.barrier.check()?;
        for (name, service) in self.services.by_name() {
            workers(&format!("services.{name}.workers"), service.workers)?;
            distribution(&format!("services.{name}.service_ms"), &service.service_ms)?;
        }
        for (name, limit) in [("posts", self.limits.posts), ("traces", self.limits.traces)] {
            if !(100..=10_000_000).contains(&limit) {
                return Err(format!("limits.{name}: must be between 100 and 10000000, not {limit}"));
            }
        }
        self.faults.check().map_err(|why| format!("faults.{why}"))
    }

    fn check_ports(&self) -> Result<(), String> {
        let Ports { origin, replica, jaeger, setup } = self.ports;
        let mut ports: Vec<u16> = [origin, replica, jaeger].into_iter().chain(setup).filter(|&p| p != 0).collect();
        ports.sort_unstable();
        match ports.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("ports: {} is given twice", pair[0])),
            None => Ok(()),
        }
    }
}

impl BarrierConfig {
    fn check(&self) -> Result<(), String> {
        for (name, value, least) in [
            ("first_pause_ms", self.first_pause_ms, 0.1),
            ("longest_pause_ms", self.longest_pause_ms, self.first_pause_ms),
            ("deadline_ms", self.deadline_ms, 1.0),
            ("lineage_ms", self.lineage_ms, 0.0),
        ] {
            if !value.is_finite() || value < least || value > 3_600_000.0 {
                return Err(format!("barrier.{name}: must be between {least} and 3600000 ms, not {value}"));
            }
        }
        Ok(())
    }
}

impl Services {
    /// Every service with its name.
    pub fn by_name(&self) -> IndexMap<&'static str, ServiceConfig> {
        IndexMap::from([
            ("nginx-web-server", self.nginx_web_server),
            ("media-service", self.media_service),
            ("user-service", self.user_service),
            ("unique-id-service", self.unique_id_service),
            ("text-service", self.text_service),
            ("url-shorten-service", self.url_shorten_service),
            ("user-mention-service", self.user_mention_service),
            ("compose-post-service", self.compose_post_service),
            ("post-storage-service-eu", self.post_storage_service_eu),
            ("post-storage-service-us", self.post_storage_service_us),
            ("write-home-timeline-rabbitmq-eu", self.write_home_timeline_rabbitmq_eu),
            ("write-home-timeline-service-us", self.write_home_timeline_service_us),
            ("home-timeline-service", self.home_timeline_service),
            ("user-timeline-service", self.user_timeline_service),
            ("social-graph-service", self.social_graph_service),
        ])
    }
}

fn workers(name: &str, workers: u32) -> Result<(), String> {
    if (1..=MOST_WORKERS).contains(&workers) {
        Ok(())
    } else {
        Err(format!("{name}: must be between 1 and {MOST_WORKERS}, not {workers}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("x.yml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn shipped_files_parse_and_us_eu_writes_the_defaults_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/embedded/socialNetwork");
        let file = |name: &str| parse(&std::fs::read_to_string(root.join(name)).unwrap()).unwrap();
        assert_eq!(file("us-sg.yml").replication_pair, "US->SG");
        assert_eq!(file("us-eu.yml"), Config::with_pair("US->EU"));
        assert_eq!(parse("replication_pair: US->EU").unwrap(), Config::with_pair("US->EU"));
    }

    #[test]
    fn ports_are_read_as_typed() {
        let ports = |text: &str| text.parse::<Ports>();
        assert_eq!(ports("auto").unwrap(), Ports::AUTO);
        assert_eq!(ports("1,2,3").unwrap(), Ports { origin: 1, replica: 2, jaeger: 3, setup: None });
        for bad in ["", "1,2", "1,1,2", "a,b,c", "1,2,70000", "1,2,3,4"] {
            assert!(ports(bad).unwrap_err().contains("neither `auto` nor"), "{bad}");
        }
    }

    #[test]
    fn one_service_may_be_changed_alone() {
        let text = "replication_pair: A->B\nservices:\n  text-service: {workers: 1, service_ms: {constant: 2}}\n";
        let config = parse(text).unwrap();
        assert_eq!(config.services.text_service.service_ms, Distribution::Constant(2.0));
        assert_eq!(config.services.user_service, Services::default().user_service);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, part) in [
            ("replication_pair: US->EU\nspeed: 3\n", "speed"),
            ("seed: 3\n", "replication_pair"),
            ("replication_pair: US\n", "does not look like"),
            ("replication_pair: US->EU\nports: {origin: 8080, replica: 8080}\n", "8080 is given twice"),
            ("replication_pair: US->EU\nports: {origin: 80800}\n", "line 2"),
            ("replication_pair: US->EU\nqueue: {workers: 0}\n", "queue.workers"),
            ("replication_pair: US->EU\nqueue: {network_ms: {gauss: 1}}\n", "gauss"),
            ("replication_pair: US->EU\nqueue: {network_ms: {normal: {mean: 1, sd: .nan}}}\n", "queue.network_ms: sd"),
            ("replication_pair: US->EU\nservices:\n  text-servce: {workers: 1}\n", "text-servce"),
            ("replication_pair: US->EU\nbarrier: {longest_pause_ms: 0.5}\n", "barrier.longest_pause_ms"),
            ("replication_pair: US->EU\nlimits: {traces: 1}\n", "limits.traces"),
            ("replication_pair: US->EU\nfaults: {compose_errors: 1.5}\n", "faults.compose_errors"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
