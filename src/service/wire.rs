//! What travels between the services and what lies in the stores.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::embedded::ids::uuid_text;
use crate::embedded::post::{Media, Post};

/// A larger request body is refused.
pub(crate) const MESSAGE_LIMIT: usize = 4 << 20;

/// The writes that a request depends on: a name of its own and one write id for each write.
///
/// A write id is the key under which the write becomes visible in a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    /// Its name.
    #[serde(rename = "_id")]
    pub(crate) id: String,
    /// Its writes.
    #[serde(rename = "_wid_list")]
    pub(crate) writes: Vec<WriteId>,
}

/// One write of a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriteId {
    /// The key in the post store.
    pub(crate) wid: String,
}

impl Lineage {
    /// An empty lineage with this name.
    pub(crate) fn new(id: u128) -> Self {
        Lineage { id: uuid_text(id), writes: Vec::new() }
    }
}

/// A request to compose a post.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ComposeRequest {
    /// The front end's request id.
    pub(crate) req_id: i64,
    /// The author.
    pub(crate) user_id: i64,
    /// The author's name.
    pub(crate) username: String,
    /// 0 post, 1 repost, 2 reply, 3 direct message.
    pub(crate) post_type: i64,
    /// The text.
    pub(crate) text: String,
    /// Attached media.
    pub(crate) media: Vec<Media>,
}

/// A composed post.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Composed {
    /// The post's id.
    pub(crate) post_id: i64,
}

/// A request to store a post on behalf of a lineage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoreRequest {
    /// The post; the store stamps it.
    pub(crate) post: Post,
    /// The lineage of the request.
    pub(crate) lineage: Lineage,
}

/// A stored post.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The lineage with the write, or a fresh empty one without enforcement.
    pub(crate) lineage: Lineage,
    /// The post's time stamp, ms since the epoch.
    pub(crate) timestamp: i64,
}

/// A request for posts by id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadPosts {
    /// The ids, in the order wanted.
    pub(crate) post_ids: Vec<i64>,
}

/// The posts asked for, in the same order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Posts {
    /// The posts.
    pub(crate) posts: Vec<Post>,
}

/// The notification about a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notification {
    /// The front end's request id.
    pub(crate) req_id: i64,
    /// The post.
    pub(crate) post_id: i64,
    /// Its author.
    pub(crate) user_id: i64,
    /// The post's time stamp, ms since the epoch.
    pub(crate) timestamp: i64,
    /// Mentioned users.
    pub(crate) user_mentions_id: Vec<i64>,
    /// The lineage, as JSON text `{"value0": lineage}`.
    pub(crate) cscope_str: String,
    /// Identity of the span that sent it.
    pub(crate) carrier: IndexMap<String, String>,
}

/// The envelope of a lineage inside a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineageEnvelope {
    /// The lineage.
    pub(crate) value0: Lineage,
}

/// An entry for a timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TimelineEntry {
    /// Whose timeline.
    pub(crate) user_id: i64,
    /// The post.
    pub(crate) post_id: i64,
    /// The post's time stamp, ms since the epoch.
    pub(crate) timestamp: i64,
}

/// A part of a timeline: newest first, from `start` up to but not including `stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TimelineRange {
    /// Whose timeline.
    pub(crate) user_id: i64,
    /// First entry.
    pub(crate) start: i64,
    /// One after the last entry.
    pub(crate) stop: i64,
}

impl TimelineRange {
    /// Whether it asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.stop <= self.start || self.start < 0
    }

    /// The first rank asked for, as Redis counts.
    pub(crate) fn first(&self) -> isize {
        isize::try_from(self.start).unwrap_or(isize::MAX)
    }

    /// The last rank asked for.
    pub(crate) fn last(&self) -> isize {
        isize::try_from(self.stop.saturating_sub(1)).unwrap_or(isize::MAX)
    }
}

/// A new user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    /// First name.
    pub(crate) first_name: String,
    /// Last name.
    pub(crate) last_name: String,
    /// Name to log in with.
    pub(crate) username: String,
    /// Password; only its salted hash is kept.
    pub(crate) password: String,
    /// The user's id.
    pub(crate) user_id: i64,
}

/// Who follows, or stops to follow, whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FollowRequest {
    /// By id.
    Ids {
        /// The follower.
        user_id: i64,
        /// The followed.
        followee_id: i64,
    },
    /// By name.
    Names {
        /// The follower.
        user_name: String,
        /// The followed.
        followee_name: String,
    },
}

/// A request about one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UserRequest {
    /// The user.
    pub(crate) user_id: i64,
}

/// Users by id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ids {
    /// The ids.
    pub(crate) ids: Vec<i64>,
}

/// An answer that says nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {}

/// The key of a post in its store, which is also its write id.
pub(crate) fn post_key(post_id: i64) -> String {
    format!("post:{post_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_is_written_as_the_application_writes_it() {
        let mut lineage = Lineage::new(7);
        lineage.id = "u".into();
        lineage.writes.push(WriteId { wid: post_key(7) });
        let text = serde_json::to_string(&LineageEnvelope { value0: lineage }).unwrap();
        assert_eq!(text, r#"{"value0":{"_id":"u","_wid_list":[{"wid":"post:7"}]}}"#);
    }
}
