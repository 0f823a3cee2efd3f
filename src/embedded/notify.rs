//! The replica's consumers: take a notification, wait if lineage is enforced, look for the post, fan it out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::faults::Chance;
use super::lineage::{BarrierEnd, Lineage, barrier};
use super::miniature::{Miniature, Recorder};
use super::queue::{Message, Notification};
use super::spans::Span;
use super::truth::Handled;

const SERVICE: &str = "write-home-timeline-service-us";

/// Gives messages to the consumers as they arrive, for ever; a message waits while all consumers are busy.
pub async fn deliver(mini: Arc<Miniature>) {
    while let Ok(consumer) = mini.consumers.clone().acquire_owned().await {
        let message = next(&mini).await;
        let mini = mini.clone();
        tokio::spawn(async move {
            handle(&mini, message).await;
            drop(consumer);
        });
    }
}

async fn next(mini: &Miniature) -> Message {
    loop {
        match mini.queue.link.next_due() {
            Some(due) => {
                mini.clock.sleep_until(due).await;
                if let Some((_, message)) = mini.queue.link.take_due(mini.clock.now_us()) {
                    return message;
                }
            }
            None => mini.queue.link.changed().await,
        }
    }
}

async fn handle(mini: &Miniature, message: Message) {
    let delivered_us = mini.clock.now_us();
    let counted = !message.canary;
    if counted {
        mini.queue.count_delivered();
    }
    let Some(notification) = Notification::decode(&message.body) else {
        // Consumers acknowledge on receipt: what cannot be read is gone.
        mini.queue.count_lost();
        return;
    };
    if counted && mini.faults.strikes(Chance::LostNotification) {
        mini.truth.forget(notification.post_id);
        mini.queue.count_lost();
        return;
    }
    let recorder = Recorder::new(mini, notification.carrier.0);
    let mut span = recorder.begin(SERVICE, "FanoutHomeTimelines", notification.carrier.1);
    span.text("wht_start_worker_ts", stamp(mini, delivered_us));
    look(mini, &notification, &mut span, message.body.len(), delivered_us).await;
    fan_out(mini, &recorder, &notification, span.id).await;
    recorder.end(span);
    if counted {
        if !mini.faults.strikes(Chance::MissingFanout) {
            recorder.report();
        }
        mini.queue.count_handled();
    }
}

/// Milliseconds since the epoch on the replica's clock.
fn stamp(mini: &Miniature, us: u64) -> String {
    (mini.replica_clock(us) / 1000).to_string()
}

/// Barrier, read, and what is known then.
async fn look(mini: &Miniature, notification: &Notification, span: &mut Span, bytes: usize, delivered_us: u64) {
    let begin = Instant::now();
    let lineage = Lineage::decode(&notification.lineage);
    if let (true, Some(lineage)) = (mini.variant.is_antipode(), lineage)
        && barrier(&mini.posts, &mini.clock, &lineage, &mini.config.barrier).await == BarrierEnd::TimedOut
    {
        mini.barrier_timeouts.fetch_add(1, Ordering::Relaxed);
        span.bool("wht_antipode_timed_out", true);
    }
    let waited = begin.elapsed();
    let read_us = mini.clock.now_us();
    let found = mini.posts.replica_has(notification.post_id, read_us);
    span.text("poststorage_read_notification_ts", stamp(mini, read_us));
    span.text("wht_antipode_duration", milliseconds(waited));
    let begin = Instant::now();
    mini.work(&mini.stations.storage_replica, read_us).await;
    span.bool("consistency_bool", found);
    span.text("consistency_mongoread_duration", milliseconds(begin.elapsed()));
    span.text("notification_size_bytes", bytes.to_string());
    mini.truth.handled(notification.post_id, Handled { delivered_us, read_us, found });
}

fn milliseconds(duration: std::time::Duration) -> String {
    format!("{:.6}", duration.as_secs_f64() * 1000.0)
}

/// Puts the post into the home timelines of followers and mentioned users, found or not, as the application does.
async fn fan_out(mini: &Miniature, recorder: &Recorder<'_>, notification: &Notification, parent: u64) {
    let span = recorder.begin("social-graph-service", "GetFollowers", parent);
    let at = mini.work(&mini.stations.social_graph, mini.clock.now_us()).await;
    let mut readers = mini.social.followers(notification.user_id);
    recorder.end(span);
    readers.extend(&notification.mentioned);
    let span = recorder.begin(SERVICE, "RedisUpdate", parent);
    mini.work(&mini.stations.fan_out, at).await;
    mini.social.fan_out(readers, notification.timestamp_ms, notification.post_id);
    recorder.end(span);
}
