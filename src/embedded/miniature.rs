//! All parts of the miniature in one place, and the background work that moves them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::config::{Config, Services};
use super::faults::Switches;
use super::ids::Ids;
use super::notify;
use super::queue::Queue;
use super::social::Social;
use super::spans::{Span, TraceMemory};
use super::station::Station;
use super::store::PostStore;
use super::truth::Truth;
use crate::experiment::Variant;

/// The services that work on requests.
#[derive(Debug)]
pub struct Stations {
    pub nginx: Station,
    pub media: Station,
    pub user: Station,
    pub unique_id: Station,
    pub text: Station,
    pub url_shorten: Station,
    pub user_mention: Station,
    pub compose: Station,
    pub storage_origin: Station,
    pub storage_replica: Station,
    pub broker: Station,
    pub fan_out: Station,
    pub home_timeline: Station,
    pub user_timeline: Station,
    pub social_graph: Station,
}

impl Stations {
    fn new(services: &Services, seed: u64) -> Self {
        let station = |config, name| Station::new(config, seed, name);
        Stations {
            nginx: station(&services.nginx_web_server, "nginx-web-server"),
            media: station(&services.media_service, "media-service"),
            user: station(&services.user_service, "user-service"),
            unique_id: station(&services.unique_id_service, "unique-id-service"),
            text: station(&services.text_service, "text-service"),
            url_shorten: station(&services.url_shorten_service, "url-shorten-service"),
            user_mention: station(&services.user_mention_service, "user-mention-service"),
            compose: station(&services.compose_post_service, "compose-post-service"),
            storage_origin: station(&services.post_storage_service_eu, "post-storage-service-eu"),
            storage_replica: station(&services.post_storage_service_us, "post-storage-service-us"),
            broker: station(&services.write_home_timeline_rabbitmq_eu, "write-home-timeline-rabbitmq-eu"),
            fan_out: station(&services.write_home_timeline_service_us, "write-home-timeline-service-us"),
            home_timeline: station(&services.home_timeline_service, "home-timeline-service"),
            user_timeline: station(&services.user_timeline_service, "user-timeline-service"),
            social_graph: station(&services.social_graph_service, "social-graph-service"),
        }
    }
}

/// The running application.
#[derive(Debug)]
pub struct Miniature {
    pub config: Config,
    pub variant: Variant,
    pub clock: Clock,
    pub started_us: u64,
    pub ids: Ids,
    pub stations: Stations,
    pub posts: PostStore,
    pub queue: Queue,
    pub social: Social,
    pub traces: TraceMemory,
    pub truth: Arc<Truth>,
    pub faults: Switches,
    /// Composes that a front end has not answered, or whose spans are not reported.
    pub visiting: AtomicU64,
    /// Composes whose work has not ended; it goes on when the front end has given up.
    pub composing: AtomicU64,
    /// Told about every compose that begins.
    pub load: Notify,
    /// When composes begin to succeed (a fault makes it late), us since the epoch.
    pub ready_us: AtomicU64,
    /// How many messages the consumers hold at most.
    pub consumers: Arc<Semaphore>,
    /// Barriers that reached their deadline.
    pub barrier_timeouts: AtomicU64,
}

impl Miniature {
    /// The miniature that `config` describes, in the given variant, empty.
    pub fn new(config: Config, variant: Variant, truth: Truth) -> Arc<Self> {
        let clock = Clock::start();
        let started_us = clock.now_us();
        let truth = Arc::new(truth);
        Arc::new(Miniature {
            ids: Ids::new(config.seed, started_us),
            stations: Stations::new(&config.services, config.seed),
            posts: PostStore::new(&config, truth.clone()),
            queue: Queue::new(&config),
            social: Social::default(),
            traces: TraceMemory::new(config.limits.traces),
            faults: Switches::new(config.faults.clone()),
            visiting: AtomicU64::new(0),
            composing: AtomicU64::new(0),
            load: Notify::new(),
            ready_us: AtomicU64::new(u64::MAX),
            consumers: Arc::new(Semaphore::new(config.queue.workers as usize)),
            barrier_timeouts: AtomicU64::new(0),
            config,
            variant,
            clock,
            started_us,
            truth,
        })
    }

    /// Starts replication and delivery; they end when the set is dropped.
    pub fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let replication = self.clone();
        tasks.spawn(async move { replication.posts.replicate(replication.clock).await });
        tasks.spawn(notify::deliver(self.clone()));
        tasks
    }

    /// A station's work on a request that reached it at `at_us`: waits until it is done and returns that instant.
    pub async fn work(&self, station: &Station, at_us: u64) -> u64 {
        self.work_longer(station, at_us, 0).await
    }

    /// As [`Miniature::work`], with `extra_us` of work on top.
    pub async fn work_longer(&self, station: &Station, at_us: u64, extra_us: u64) -> u64 {
        let done = station.admit(at_us, extra_us);
        self.clock.sleep_until(done).await;
        done
    }

    /// Whether composes are being served yet.
    pub fn is_ready(&self, now_us: u64) -> bool {
        now_us >= self.ready_us.load(Ordering::Relaxed)
    }

    /// What the replica's clock shows at `us`.
    pub fn replica_clock(&self, us: u64) -> u64 {
        us.saturating_add_signed(self.faults.get().clock_skew_ms * 1000)
    }
}

/// One more of something, as long as it lives.
#[derive(Debug)]
pub struct Busy<'a>(&'a AtomicU64);

impl<'a> Busy<'a> {
    /// Counts one more in `counter`.
    pub fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Busy(counter)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The spans of one request, gathered by its branches and reported together.
#[derive(Debug)]
pub struct Recorder<'a> {
    mini: &'a Miniature,
    /// The trace.
    pub trace: u64,
    spans: Mutex<Vec<Span>>,
}

impl<'a> Recorder<'a> {
    /// A recorder for the trace `trace`.
    pub fn new(mini: &'a Miniature, trace: u64) -> Self {
        Recorder { mini, trace, spans: Mutex::default() }
    }

    /// Begins a span now.
    pub fn begin(&self, service: &'static str, operation: &'static str, parent: u64) -> Span {
        Span::begin(self.mini.ids.random(), parent, service, operation, self.mini.clock.now_us())
    }

    /// Ends `span` now and keeps it.
    pub fn end(&self, mut span: Span) {
        let carries = |key: &str| span.tags.iter().any(|tag| tag.key == key);
        if let Some(absent) = self.mini.faults.missing_tag(carries) {
            span.tags.retain(|tag| tag.key != absent);
        }
        let span = span.end(self.mini.clock.now_us());
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    /// Hands everything to the trace memory, in the order in which the spans began.
    pub fn report(self) {
        let mut spans = self.spans.into_inner().unwrap_or_else(PoisonError::into_inner);
        spans.sort_by_key(|span| span.start_us);
        self.mini.traces.record(self.trace, spans);
    }
}
