//! Reading timelines: the home timeline at the replica, the author's at the origin.

use std::sync::Arc;

use super::miniature::{Miniature, Recorder};
use super::post::Post;
use crate::app::Side;

/// A listed post is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Return set incomplete")]
pub struct Incomplete;

/// Which posts: a half-open range, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Whose timeline.
    pub user_id: i64,
    /// First.
    pub start: i64,
    /// One past the last.
    pub stop: i64,
}

impl Page {
    /// The range, or nothing when there is none.
    fn range(&self) -> Option<(usize, usize)> {
        let (start, stop) = (usize::try_from(self.start).ok()?, usize::try_from(self.stop).ok()?);
        (start < stop).then_some((start, stop))
    }
}

/// The names one kind of read has in traces.
struct Names {
    service: &'static str,
    read: &'static str,
    find: &'static str,
    storage: &'static str,
}

const HOME: Names = Names {
    service: "home-timeline-service",
    read: "ReadHomeTimeline",
    find: "RedisFind",
    storage: "post-storage-service-us",
};

const USER: Names = Names {
    service: "user-timeline-service",
    read: "ReadUserTimeline",
    find: "MongoFindUserTimeline",
    storage: "post-storage-service-eu",
};

/// Reads a home timeline (`Side::Replica`) or an author's own (`Side::Origin`) for a request that reached the
/// services at `at_us`.
///
/// # Errors
/// [`Incomplete`] when a listed post is not in that side's store.
pub async fn timeline(
    mini: &Miniature,
    recorder: &Recorder<'_>,
    side: Side,
    page: Page,
    parent: u64,
    at_us: u64,
) -> Result<Vec<Arc<Post>>, Incomplete> {
    let names = if side == Side::Replica { &HOME } else { &USER };
    let stations = &mini.stations;
    let span = recorder.begin(names.service, names.read, parent);
    let find = recorder.begin(names.service, names.find, span.id);
    let station = if side == Side::Replica { &stations.home_timeline } else { &stations.user_timeline };
    let at = mini.work(station, at_us).await;
    let ids = match page.range() {
        Some((start, stop)) if side == Side::Replica => mini.social.home_timeline(page.user_id, start, stop),
        Some((start, stop)) => mini.social.user_timeline(page.user_id, start, stop),
        None => Vec::new(),
    };
    recorder.end(find);
    let posts = if ids.is_empty() {
        Some(Vec::new())
    } else {
        let read = recorder.begin(names.storage, "ReadPosts", span.id);
        let find = recorder.begin(names.storage, "MongoFindPosts", read.id);
        // Reads at the origin do not compete with StorePost: the store serves them from its cache.
        if side == Side::Replica {
            mini.work(&stations.storage_replica, at).await;
        }
        let posts = mini.posts.read(side, &ids, mini.clock.now_us());
        recorder.end(find);
        recorder.end(read);
        posts
    };
    recorder.end(span);
    posts.ok_or(Incomplete)
}
