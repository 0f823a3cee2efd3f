//! `write-home-timeline`: handles notifications next to the replica.
//!
//! Baseline: reads the post once and notes whether it was there. Antipode: first waits until every write of the
//! notification's lineage is visible in the replica (the barrier), then reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use super::rpc::{Rpc, until_told};
use super::settings::{AMQP_PORT, COLLECTOR_PORT, REDIS_PORT, SERVICE_PORT, SETUP_PORT, Settings};
use super::span::{CARRIER, Span, SpanContext, Tracer, ms_text, now_ms};
use super::wire::{Ids, Lineage, LineageEnvelope, Notification, UserRequest, post_key};
use super::{broker, stores, wait_for_ports};
use crate::error::Result;
use crate::ui;

/// Workers, unless `MAESTRO_WORKERS` says otherwise; the application has as many threads.
const WORKERS: u64 = 32;
/// Longest time in the barrier, ms, unless `MAESTRO_BARRIER_MS` says otherwise.
const BARRIER_MS: u64 = 30_000;
/// First and longest pause between two looks of the barrier.
const PAUSE: (Duration, Duration) = (Duration::from_micros(250), Duration::from_millis(10));

struct Worker {
    posts: ConnectionManager,
    timelines: ConnectionManager,
    rpc: Rpc,
    antipode: bool,
    barrier: Duration,
    tracer: Tracer,
}

/// Serves the role: consumes until the process is told to end. Its open port 9090 says that consumption has begun.
pub(super) async fn serve(settings: Settings) -> Result<()> {
    let (zone, antipode) = (settings.zone()?, settings.antipode()?);
    let name = format!("write-home-timeline-service-{}", zone.as_str());
    let workers = usize::try_from(settings.number("MAESTRO_WORKERS", WORKERS)?).unwrap_or(1);
    let barrier = Duration::from_millis(settings.number("MAESTRO_BARRIER_MS", BARRIER_MS)?);
    let needed = [
        ("write-home-timeline-rabbitmq-setup", SETUP_PORT),
        (zone.broker(), AMQP_PORT),
        (zone.post_store(), REDIS_PORT),
        ("home-timeline-redis-us", REDIS_PORT),
        ("social-graph-service", SERVICE_PORT),
    ];
    wait_for_ports(&settings, &needed).await?;
    let (tracer, end) = Tracer::start(name.clone(), &settings.address("jaeger", COLLECTOR_PORT));
    let worker = Arc::new(Worker {
        posts: stores::open(&settings, zone.post_store())?,
        timelines: stores::open(&settings, "home-timeline-redis-us")?,
        rpc: Rpc::new(&settings),
        antipode,
        barrier,
        tracer,
    });
    let queue = broker::queue_of(zone.as_str());
    let consuming = broker::consume(settings.amqp(zone.broker()), queue, workers, move |body| {
        let worker = worker.clone();
        async move { worker.handle(&body).await }
    });
    tokio::select! {
        () = consuming => {}
        () = until_told() => {}
    }
    end.close().await;
    Ok(())
}

impl Worker {
    async fn handle(&self, body: &[u8]) {
        let received_ms = now_ms();
        let notification: Notification = match serde_json::from_slice(body) {
            Ok(notification) => notification,
            Err(error) => return ui::warn(format_args!("a notification cannot be understood: {error}")),
        };
        let parent = notification.carrier.get(CARRIER).and_then(|text| SpanContext::parse(text));
        let mut span = self.tracer.span(parent, "FanoutHomeTimelines");
        span.text("wht_start_worker_ts", received_ms.to_string());
        span.text("notification_size_bytes", body.len().to_string());
        if let Err(error) = self.fan_out(&notification, &mut span).await {
            // As in the application, the span ends without the tags that were still to come.
            span.bool("error", true);
            ui::warn(format_args!("post {}: {error}", notification.post_id));
        }
    }

    async fn fan_out(
        &self,
        notification: &Notification,
        span: &mut Span,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let started = Instant::now();
        let lineage = serde_json::from_str::<LineageEnvelope>(&notification.cscope_str)?.value0;
        if self.antipode && !self.barrier(&lineage).await? {
            span.bool("wht_antipode_timed_out", true);
            ui::warn(format_args!("post {}: not visible after {} ms", notification.post_id, self.barrier.as_millis()));
        }
        span.text("wht_antipode_duration", ms_text(started.elapsed()));

        let reading = Instant::now();
        span.text("poststorage_read_notification_ts", now_ms().to_string());
        let post: Option<String> = self.posts.clone().get(post_key(notification.post_id)).await?;
        span.text("consistency_mongoread_duration", ms_text(reading.elapsed()));
        span.bool("consistency_bool", post.is_some());

        let readers = self.readers(notification, span).await?;
        if readers.is_empty() {
            return Ok(());
        }
        let _update = span.child("RedisUpdate");
        let mut pipe = redis::pipe();
        for reader in readers {
            let entry = (notification.timestamp, notification.post_id);
            pipe.cmd("ZADD").arg(format!("home-timeline:{reader}")).arg("NX").arg(entry.0).arg(entry.1).ignore();
        }
        pipe.query_async::<()>(&mut self.timelines.clone()).await?;
        Ok(())
    }

    /// Followers and mentioned users, each once.
    async fn readers(&self, notification: &Notification, span: &Span) -> Result<Vec<i64>, super::rpc::RpcError> {
        let request = UserRequest { user_id: notification.user_id };
        let followers: Ids = self.rpc.call("social-graph-service", "GetFollowers", span.context(), &request).await?;
        let mut readers = followers.ids;
        readers.extend(&notification.user_mentions_id);
        readers.sort_unstable();
        readers.dedup();
        Ok(readers)
    }

    /// Waits until all writes of `lineage` are visible in the replica; false when the time is up.
    async fn barrier(&self, lineage: &Lineage) -> Result<bool, redis::RedisError> {
        let deadline = Instant::now() + self.barrier;
        let mut store = self.posts.clone();
        for write in &lineage.writes {
            let mut pause = PAUSE.0;
            while !store.exists::<_, bool>(&write.wid).await? {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
        Ok(true)
    }
}
