//! Composing a post: four services at once, six pieces, and whoever brings the sixth stores, publishes and files it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::faults::Chance;
use super::lineage::Lineage;
use super::miniature::{Busy, Miniature, Recorder};
use super::post::{CANARY_IDS, Media, Person, Post, Url};
use super::queue::{Message, Notification};

/// What nginx waits for a backend: connect, and each read.
pub const RPC_TIMEOUT: Duration = Duration::from_millis(1001);

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The author.
    pub creator: Person,
    /// The text.
    pub text: String,
    /// 0 post, 1 repost, 2 reply, 3 direct message.
    pub post_type: i64,
    /// Attachments.
    pub media: Vec<Media>,
}

/// Why a compose was answered with 500.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// A service refused.
    #[error("Upload {piece} failed: {message}")]
    Upload {
        /// `user_id`, `text`, `unique_id` or `media`.
        piece: &'static str,
        /// Its words.
        message: String,
    },
    /// No answer in [`RPC_TIMEOUT`]; carries no text.
    #[error("timeout")]
    Timeout,
}

/// Composes a post for a client whose request reached the services at `at_us`; returns the post's id. The work goes
/// on when the client's side gives up.
pub async fn compose(
    mini: &Arc<Miniature>,
    draft: Draft,
    trace: u64,
    parent: u64,
    at_us: u64,
) -> Result<i64, ComposeError> {
    if !mini.is_ready(mini.clock.now_us()) {
        let message = "Could not connect to user-service:9090 (connection refused)".to_owned();
        return Err(ComposeError::Upload { piece: "user_id", message });
    }
    if draft.creator.user_id < CANARY_IDS && mini.faults.strikes(Chance::ComposeError) {
        return Err(ComposeError::Upload { piece: "unique_id", message: "injected fault".into() });
    }
    let pipeline = tokio::spawn(run(mini.clone(), draft, trace, parent, at_us));
    match tokio::time::timeout(RPC_TIMEOUT, pipeline).await {
        Ok(Ok(post_id)) => Ok(post_id),
        // The task cannot panic by itself; when the runtime ends under it the client sees the same as a timeout.
        Ok(Err(_)) | Err(_) => Err(ComposeError::Timeout),
    }
}

async fn run(mini: Arc<Miniature>, draft: Draft, trace: u64, parent: u64, at_us: u64) -> i64 {
    let counted = draft.creator.user_id < CANARY_IDS;
    let _busy = counted.then(|| Busy::new(&mini.composing));
    if counted {
        mini.load.notify_waiters();
    }
    let job = Job {
        req_id: mini.ids.request(),
        post_id: mini.ids.post(mini.clock.now_us()),
        recorder: Recorder::new(&mini, trace),
        mini: &mini,
        draft,
        pieces: Mutex::default(),
        counted,
    };
    tokio::join!(
        job.media(parent, at_us),
        job.user(parent, at_us),
        job.text(parent, at_us),
        job.unique_id(parent, at_us)
    );
    let post_id = job.post_id;
    if counted {
        job.recorder.report();
    }
    post_id
}

/// What has come in so far.
#[derive(Debug, Default)]
struct Pieces {
    count: u8,
    text: String,
    urls: Vec<Url>,
    mentions: Vec<Person>,
    media: Vec<Media>,
}

/// One compose in progress.
struct Job<'a> {
    mini: &'a Miniature,
    recorder: Recorder<'a>,
    draft: Draft,
    req_id: i64,
    post_id: i64,
    pieces: Mutex<Pieces>,
    /// Not the readiness probe's: traced, logged and counted.
    counted: bool,
}

const COMPOSE: &str = "compose-post-service";

impl Job<'_> {
    async fn media(&self, parent: u64, at: u64) {
        let span = self.recorder.begin("media-service", "UploadMedia", parent);
        let at = self.mini.work(&self.mini.stations.media, at).await;
        let media = self.draft.media.clone();
        self.piece("UploadMedia", span.id, at, |pieces| pieces.media = media).await;
        self.recorder.end(span);
    }

    async fn user(&self, parent: u64, at: u64) {
        let span = self.recorder.begin("user-service", "UploadUserWithUserId", parent);
        let at = self.mini.work(&self.mini.stations.user, at).await;
        self.piece("UploadCreator", span.id, at, |_| ()).await;
        self.recorder.end(span);
    }

    async fn unique_id(&self, parent: u64, at: u64) {
        let span = self.recorder.begin("unique-id-service", "UploadUniqueId", parent);
        let at = self.mini.work(&self.mini.stations.unique_id, at).await;
        self.piece("UploadUniqueId", span.id, at, |_| ()).await;
        self.recorder.end(span);
    }

    async fn text(&self, parent: u64, at: u64) {
        let span = self.recorder.begin("text-service", "UploadText", parent);
        let at = self.mini.work(&self.mini.stations.text, at).await;
        let links = links(&self.draft.text);
        let (urls_at, mentions_at) = tokio::join!(self.urls(&links, span.id, at), self.mentions(span.id, at));
        let at = urls_at.max(mentions_at);
        self.piece("UploadText", span.id, at, |pieces| {
            let shorter = pieces.urls.iter().fold(self.draft.text.clone(), |t, u| t.replace(&u.expanded, &u.shortened));
            pieces.text = shorter;
        })
        .await;
        self.recorder.end(span);
    }

    async fn urls(&self, links: &[&str], parent: u64, at: u64) -> u64 {
        let span = self.recorder.begin("url-shorten-service", "UploadUrls", parent);
        let at = self.mini.work(&self.mini.stations.url_shorten, at).await;
        let shorten = |link: &&str| Url {
            shortened: format!("http://short-url/{:010x}", self.mini.ids.random() & 0xff_ffff_ffff),
            expanded: (*link).to_owned(),
        };
        let urls = links.iter().map(shorten).collect();
        let at = self.piece("UploadUrls", span.id, at, |pieces| pieces.urls = urls).await;
        self.recorder.end(span);
        at
    }

    async fn mentions(&self, parent: u64, at: u64) -> u64 {
        let span = self.recorder.begin("user-mention-service", "UploadUserMentions", parent);
        let at = self.mini.work(&self.mini.stations.user_mention, at).await;
        let person = |name: &str| {
            let user_id = self.mini.social.user_id(name).ok()?;
            Some(Person { user_id, username: name.to_owned() })
        };
        let mentions = mentioned(&self.draft.text).into_iter().filter_map(person).collect();
        let at = self.piece("UploadUserMentions", span.id, at, |pieces| pieces.mentions = mentions).await;
        self.recorder.end(span);
        at
    }

    /// Hands one of the six pieces to the compose service; the caller that brings the last one waits for all the rest.
    async fn piece(&self, operation: &'static str, parent: u64, at: u64, put: impl FnOnce(&mut Pieces)) -> u64 {
        let span = self.recorder.begin(COMPOSE, operation, parent);
        let redis = self.recorder.begin(COMPOSE, "RedisHashSet", span.id);
        let mut at = self.mini.work(&self.mini.stations.compose, at).await;
        self.recorder.end(redis);
        let last = {
            let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
            put(&mut pieces);
            pieces.count += 1;
            pieces.count == 6
        };
        if last {
            at = self.compose_and_upload(span.id, at).await;
        }
        self.recorder.end(span);
        at
    }

    async fn compose_and_upload(&self, parent: u64, at: u64) -> u64 {
        let mut span = self.recorder.begin(COMPOSE, "_ComposeAndUpload", parent);
        span.int("composepost_id", self.post_id);
        let pieces = std::mem::take(&mut *self.pieces.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.mini.clock.now_us();
        let post = Post {
            oid: self.mini.ids.object(now),
            post_id: self.post_id,
            timestamp_ms: (now / 1000) as i64,
            text: pieces.text,
            req_id: self.req_id,
            post_type: self.draft.post_type,
            creator: self.draft.creator.clone(),
            urls: pieces.urls,
            user_mentions: pieces.mentions,
            media: pieces.media,
            cid: self.mini.variant.is_antipode().then(|| self.mini.ids.uuid()),
        };
        let notification = self.notification(&post);
        let (at, lineage) = self.store_post(post, parent, at).await;
        let at = self.upload_home_timeline(Notification { lineage, ..notification }, parent, at).await;
        let at = self.write_user_timeline(parent, at).await;
        self.recorder.end(span);
        at
    }

    fn notification(&self, post: &Post) -> Notification {
        Notification {
            req_id: self.req_id,
            post_id: self.post_id,
            user_id: self.draft.creator.user_id,
            timestamp_ms: post.timestamp_ms,
            mentioned: post.user_mentions.iter().map(|person| person.user_id).collect(),
            lineage: String::new(),
            carrier: (self.recorder.trace, 0),
        }
    }

    /// Stores the post; returns the lineage that its notification carries.
    async fn store_post(&self, mut post: Post, parent: u64, at: u64) -> (u64, String) {
        let mini = self.mini;
        let mut lineage = Lineage::new(post.cid.unwrap_or_else(|| mini.ids.uuid()));
        let mut span = self.recorder.begin("post-storage-service-eu", "StorePost", parent);
        let insert = self.recorder.begin("post-storage-service-eu", "MongoInsertPost", span.id);
        let extra = if post.cid.is_some() { (mini.config.barrier.lineage_ms * 1000.0) as u64 } else { 0 };
        let at = mini.work_longer(&mini.stations.storage_origin, at, extra).await;
        self.recorder.end(insert);
        if self.counted && mini.faults.strikes(Chance::StoreFailure) {
            self.recorder.end(span);
            return (at, lineage.encode());
        }
        if self.counted {
            mini.truth.begin(self.post_id, self.recorder.trace);
        }
        if post.cid.is_some() {
            lineage.writes.push(post.oid);
        }
        post.timestamp_ms = (mini.clock.now_us() / 1000) as i64;
        let (written_us, gone) = mini.posts.insert(post, || mini.clock.now_us());
        if let Some(gone) = gone {
            mini.social.forget_in_user_timeline(gone.creator.user_id, gone.post_id);
        }
        mini.truth.written(self.post_id, written_us);
        span.text("poststorage_post_written_ts", (written_us / 1000).to_string());
        self.recorder.end(span);
        (at, lineage.encode())
    }

    async fn upload_home_timeline(&self, mut notification: Notification, parent: u64, at: u64) -> u64 {
        let mini = self.mini;
        let mut span = self.recorder.begin(COMPOSE, "_UploadHomeTimelineHelper", parent);
        let at = mini.work(&mini.stations.broker, at).await;
        notification.carrier.1 = span.id;
        let message = Message { body: notification.encode(), canary: !self.counted };
        mini.queue.publish(message, mini.clock.now_us());
        let queued_us = mini.clock.now_us();
        mini.truth.queued(self.post_id, queued_us);
        span.text("wht_start_queue_ts", (queued_us / 1000).to_string());
        self.recorder.end(span);
        at
    }

    async fn write_user_timeline(&self, parent: u64, at: u64) -> u64 {
        let span = self.recorder.begin("user-timeline-service", "WriteUserTimeline", parent);
        let insert = self.recorder.begin("user-timeline-service", "MongoInsert", span.id);
        let at = self.mini.work(&self.mini.stations.user_timeline, at).await;
        self.recorder.end(insert);
        self.mini.social.add_to_user_timeline(self.draft.creator.user_id, self.post_id);
        self.recorder.end(span);
        at
    }
}

/// The links in `text`.
fn links(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_!~*'().&=+$%-/?:@,#;".contains(c);
    let mut links = Vec::new();
    let mut rest = text;
    while let Some(at) = [rest.find("http://"), rest.find("https://")].into_iter().flatten().min() {
        let link = &rest[at..];
        let end = link.find(|c| !part(c)).unwrap_or(link.len());
        links.push(&link[..end]);
        rest = &link[end..];
    }
    links
}

/// The names after an `@` in `text`.
fn mentioned(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let names = text.split('@').skip(1).map(|after| {
        let end = after.find(|c| !part(c)).unwrap_or(after.len());
        &after[..end]
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_names_are_found_in_a_text() {
        let text = "see http://a.b/c?d=1 and https://x.y, @user_1 @ @other-2!";
        assert_eq!(links(text), ["http://a.b/c?d=1", "https://x.y,"]);
        assert_eq!(mentioned(text), ["user_1", "other-2"]);
        assert_eq!((links("plain"), mentioned("plain")), (vec![], vec![]));
    }
}
