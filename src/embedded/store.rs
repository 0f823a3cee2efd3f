//! The post store: a primary at the origin and a replica that follows it through a link, in the primary's order.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Clock;
use super::config::Config;
use super::ids::ObjectId;
use super::link::Link;
use super::post::Post;
use super::truth::Truth;
use crate::app::Side;
use crate::delay::spec::Spec;

/// What travels from primary to replica.
#[derive(Clone, Debug)]
enum Oplog {
    Post(Arc<Post>),
    /// A mark written by a probe of the stream.
    Mark(u64),
}

/// One member's copy of the posts.
#[derive(Debug, Default)]
struct Copy {
    posts: HashMap<i64, Arc<Post>>,
    by_cid: HashMap<u128, i64>,
    by_oid: HashMap<ObjectId, i64>,
    order: VecDeque<i64>,
    /// Documents and their bytes, the readiness probe's left out.
    count: usize,
    bytes: usize,
}

impl Copy {
    /// Takes a post in; returns the one that had to go for it.
    fn insert(&mut self, post: Arc<Post>, limit: usize) -> Option<Arc<Post>> {
        self.count += usize::from(!post.is_canary());
        self.bytes += counted_bytes(&post);
        if let Some(cid) = post.cid {
            self.by_cid.insert(cid, post.post_id);
            self.by_oid.insert(post.oid, post.post_id);
        }
        self.order.push_back(post.post_id);
        self.posts.insert(post.post_id, post);
        if self.posts.len() <= limit {
            return None;
        }
        let gone = self.order.pop_front().and_then(|oldest| self.posts.remove(&oldest))?;
        self.count -= usize::from(!gone.is_canary());
        self.bytes -= counted_bytes(&gone);
        if let Some(cid) = gone.cid {
            self.by_cid.remove(&cid);
            self.by_oid.remove(&gone.oid);
        }
        Some(gone)
    }
}

fn counted_bytes(post: &Post) -> usize {
    if post.is_canary() { 0 } else { post.document_bytes() }
}

/// The replica, with the marks that arrived.
#[derive(Debug, Default)]
struct Replica {
    copy: Copy,
    marks: HashMap<u64, u64>,
}

/// Size of the store at the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoreSize {
    /// Posts held.
    pub posts: usize,
    /// Data and indexes, bytes.
    pub total_bytes: f64,
    /// Documents alone, bytes.
    pub document_bytes: f64,
}

impl StoreSize {
    /// Mean document, bytes; 0 without any.
    pub fn mean_bytes(&self) -> f64 {
        if self.posts == 0 { 0.0 } else { self.document_bytes / self.posts as f64 }
    }
}

/// Bytes of index per post: `_id` and the unique index on `post_id`.
const INDEX_BYTES: f64 = 2.0 * 20.0;

/// Primary, replica and the link between them.
#[derive(Debug)]
pub struct PostStore {
    primary: Mutex<Copy>,
    replica: Mutex<Replica>,
    link: Link<Oplog>,
    limit: usize,
    /// The youngest post each side has let go; ids grow with time.
    forgotten: [AtomicI64; 2],
    /// Is told when a post becomes visible.
    truth: Arc<Truth>,
}

impl PostStore {
    /// An empty store.
    pub fn new(config: &Config, truth: Arc<Truth>) -> Self {
        PostStore {
            primary: Mutex::default(),
            replica: Mutex::default(),
            link: Link::new(config.replication, config.seed, "replication"),
            limit: config.limits.posts,
            forgotten: [const { AtomicI64::new(i64::MIN) }; 2],
            truth,
        }
    }

    fn primary(&self) -> MutexGuard<'_, Copy> {
        self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `post` at the origin and sends it on its way; `now_us` is when it became durable. Returns the post that
    /// had to be let go to stay within the limit.
    pub fn insert(&self, post: Post, now_us: impl FnOnce() -> u64) -> (u64, Option<Arc<Post>>) {
        let post = Arc::new(post);
        let bytes = post.document_bytes();
        let mut primary = self.primary();
        // Stamped under the lock: the order of stamps is the order of the oplog.
        let written_us = now_us();
        let gone = primary.insert(post.clone(), self.limit);
        self.link.send(written_us, bytes, Oplog::Post(post));
        drop(primary);
        if let Some(gone) = &gone {
            self.forgotten[0].fetch_max(gone.post_id, Ordering::Relaxed);
        }
        (written_us, gone)
    }

    /// Applies at the replica everything due at `now_us`, each at its own due instant.
    pub fn advance(&self, now_us: u64) {
        let mut replica = self.replica();
        self.advance_locked(&mut replica, now_us);
    }

    fn advance_locked(&self, replica: &mut Replica, now_us: u64) {
        while let Some((visible_us, entry)) = self.link.take_due(now_us) {
            match entry {
                Oplog::Post(post) => {
                    let post_id = post.post_id;
                    if let Some(gone) = replica.copy.insert(post, self.limit) {
                        self.forgotten[1].fetch_max(gone.post_id, Ordering::Relaxed);
                    }
                    self.truth.visible(post_id, visible_us);
                }
                Oplog::Mark(mark) => {
                    replica.marks.insert(mark, visible_us);
                }
            }
        }
    }

    /// Whether the replica holds the post at `now_us`.
    pub fn replica_has(&self, post_id: i64, now_us: u64) -> bool {
        let mut replica = self.replica();
        self.advance_locked(&mut replica, now_us);
        replica.copy.posts.contains_key(&post_id)
    }

    /// Whether the replica holds a post of the lineage `cid` at `now_us`.
    pub fn replica_has_lineage(&self, cid: u128, now_us: u64) -> bool {
        let mut replica = self.replica();
        self.advance_locked(&mut replica, now_us);
        replica.copy.by_cid.contains_key(&cid)
    }

    /// Whether the replica holds the write `oid` at `now_us`.
    pub fn replica_has_write(&self, oid: &ObjectId, now_us: u64) -> bool {
        let mut replica = self.replica();
        self.advance_locked(&mut replica, now_us);
        replica.copy.by_oid.contains_key(oid)
    }

    /// The posts `ids` as `side` has them at `now_us`, in that order; `None` when one is absent. Posts that had to go
    /// to stay within the limit are left out.
    pub fn read(&self, side: Side, ids: &[i64], now_us: u64) -> Option<Vec<Arc<Post>>> {
        let pick = |copy: &Copy, forgotten: i64| {
            let kept = ids.iter().filter(|&&id| id > forgotten);
            kept.map(|id| copy.posts.get(id).cloned()).collect::<Option<Vec<_>>>()
        };
        if side == Side::Replica {
            let mut replica = self.replica();
            self.advance_locked(&mut replica, now_us);
            pick(&replica.copy, self.forgotten[1].load(Ordering::Relaxed))
        } else {
            let primary = self.primary();
            pick(&primary, self.forgotten[0].load(Ordering::Relaxed))
        }
    }

    /// Sends a mark down the replication stream.
    pub fn mark(&self, mark: u64, now_us: u64) {
        self.link.send(now_us, 64, Oplog::Mark(mark));
    }

    /// When `mark` arrived, if it has at `now_us`; asked once.
    pub fn take_mark(&self, mark: u64, now_us: u64) -> Option<u64> {
        let mut replica = self.replica();
        self.advance_locked(&mut replica, now_us);
        replica.marks.remove(&mark)
    }

    /// Size of the store at the origin.
    pub fn size(&self) -> StoreSize {
        let primary = self.primary();
        let posts = primary.count;
        let document_bytes = primary.bytes as f64;
        StoreSize { posts, total_bytes: document_bytes + posts as f64 * INDEX_BYTES, document_bytes }
    }

    /// Entries on their way to the replica.
    pub fn oplog_len(&self) -> usize {
        self.link.under_way()
    }

    /// Injected delay in force.
    pub fn rule(&self) -> Spec {
        self.link.rule()
    }

    /// Injects delay into the replication link.
    pub fn set_rule(&self, rule: Spec, seed: Option<u64>) {
        self.link.set_rule(rule, seed);
    }

    /// One probe of the path, with what is injected or without it, us.
    pub fn probe_us(&self, injected: bool) -> u64 {
        self.link.probe_us(injected)
    }

    /// Applies entries as they fall due, for ever.
    pub async fn replicate(&self, clock: Clock) {
        loop {
            match self.link.next_due() {
                Some(due) => {
                    clock.sleep_until(due).await;
                    self.advance(clock.now_us());
                }
                None => self.link.changed().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::dist::Distribution;
    use crate::embedded::post::tests::sample;

    fn store(limit: usize) -> PostStore {
        let mut config = Config::with_pair("A->B");
        config.replication.network_ms = Distribution::Constant(50.0);
        config.replication.processing_ms = Distribution::Constant(0.0);
        config.limits.posts = limit;
        PostStore::new(&config, Arc::new(Truth::nowhere()))
    }

    #[test]
    fn a_post_is_visible_at_the_replica_exactly_when_due() {
        let store = store(1000);
        assert_eq!(store.insert(sample(1, Some(7)), || 1_000_000).0, 1_000_000);
        assert!(store.read(Side::Origin, &[1], 1_000_000).is_some());
        assert!(!store.replica_has(1, 1_049_999));
        assert!(!store.replica_has_lineage(7, 1_049_999));
        assert!(store.read(Side::Replica, &[1], 1_049_999).is_none());
        assert!(store.replica_has(1, 1_050_000));
        assert!(store.replica_has_lineage(7, 1_050_000));
        assert!(store.replica_has_write(&sample(1, None).oid, 1_050_000));
        assert_eq!(store.read(Side::Replica, &[1], 1_050_000).unwrap()[0].post_id, 1);
    }

    #[test]
    fn old_posts_go_and_reads_skip_them() {
        let store = store(2);
        let gone: Vec<Option<i64>> =
            (1..=3).map(|id| store.insert(sample(id, Some(id as u128)), || id as u64).1.map(|p| p.post_id)).collect();
        assert_eq!(gone, [None, None, Some(1)]);
        store.advance(1_000_000);
        for side in [Side::Origin, Side::Replica] {
            let read = store.read(side, &[3, 2, 1], 1_000_000).unwrap();
            assert_eq!(read.iter().map(|p| p.post_id).collect::<Vec<_>>(), [3, 2]);
        }
        assert!(!store.replica_has_lineage(1, 1_000_000));
        let size = store.size();
        assert_eq!((size.posts, size.mean_bytes()), (2, sample(1, Some(1)).document_bytes() as f64));
    }
}
