//! A post, and the two forms others see of it: its document in the store and its JSON in a timeline.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ids::ObjectId;

/// Ids from here on belong to the readiness probe of `run`: served like any user's, but neither traced nor logged.
pub const CANARY_IDS: i64 = 9_000_000_000_000_000_000;

/// Somebody named in a post, or its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// User id.
    pub user_id: i64,
    /// User name.
    pub username: String,
}

/// A link in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// What the text says.
    pub shortened: String,
    /// Where it leads.
    pub expanded: String,
}

/// An attached picture or video.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Its id.
    pub media_id: i64,
    /// Its kind.
    pub media_type: String,
}

/// One post.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    /// Document id.
    pub oid: ObjectId,
    /// Post id.
    pub post_id: i64,
    /// When it was stored, ms since the epoch.
    pub timestamp_ms: i64,
    /// Its text, with links shortened.
    pub text: String,
    /// The request that made it.
    pub req_id: i64,
    /// 0 post, 1 repost, 2 reply, 3 direct message.
    pub post_type: i64,
    /// Its author.
    pub creator: Person,
    /// Its links.
    pub urls: Vec<Url>,
    /// Registered users it mentions.
    pub user_mentions: Vec<Person>,
    /// Its attachments.
    pub media: Vec<Media>,
    /// The lineage it belongs to; only with lineage enforcement.
    pub cid: Option<u128>,
}

/// The application's Lua cannot tell an empty list from an empty map and writes `{}` for both.
pub fn list(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Object(Map::new()) } else { Value::Array(items) }
}

impl Person {
    fn json(&self) -> Value {
        json!({"user_id": self.user_id.to_string(), "username": self.username})
    }
}

impl Post {
    /// Whether the readiness probe made it.
    pub fn is_canary(&self) -> bool {
        self.creator.user_id >= CANARY_IDS
    }

    /// The post as a timeline shows it.
    pub fn json(&self) -> Value {
        let media = |m: &Media| json!({"media_id": m.media_id.to_string(), "media_type": m.media_type});
        let url = |u: &Url| json!({"shortened_url": u.shortened, "expanded_url": u.expanded});
        json!({
            "post_id": self.post_id.to_string(),
            "req_id": self.req_id.to_string(),
            "creator": self.creator.json(),
            "text": self.text,
            "user_mentions": list(self.user_mentions.iter().map(Person::json).collect()),
            "media": list(self.media.iter().map(media).collect()),
            "urls": list(self.urls.iter().map(url).collect()),
            "timestamp": self.timestamp_ms.to_string(),
            "post_type": self.post_type,
        })
    }

    /// The size of its document in the store, bytes (BSON).
    pub fn document_bytes(&self) -> usize {
        let text = |value: &str| 4 + value.len() + 1;
        let field = |name: &str, value: usize| 1 + name.len() + 1 + value;
        let document = |fields: usize| 4 + fields + 1;
        // Array elements are fields named "0", "1", ...
        let array = |sizes: &mut dyn Iterator<Item = usize>| {
            document(sizes.enumerate().map(|(i, size)| field(&i.to_string(), size)).sum())
        };
        let person = |p: &Person| document(field("user_id", 8) + field("username", text(&p.username)));
        let url =
            |u: &Url| document(field("shortened_url", text(&u.shortened)) + field("expanded_url", text(&u.expanded)));
        let media = |m: &Media| document(field("media_id", 8) + field("media_type", text(&m.media_type)));
        let cid = if self.cid.is_some() { field("cid", text(&"0".repeat(36))) } else { 0 };
        document(
            field("_id", 12)
                + field("post_id", 8)
                + field("timestamp", 8)
                + field("text", text(&self.text))
                + field("req_id", 8)
                + field("post_type", 4)
                + field("creator", person(&self.creator))
                + field("urls", array(&mut self.urls.iter().map(url)))
                + field("user_mentions", array(&mut self.user_mentions.iter().map(person)))
                + field("media", array(&mut self.media.iter().map(media)))
                + cid,
        )
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A post with the id `post_id`.
    pub fn sample(post_id: i64, cid: Option<u128>) -> Post {
        let mut oid = [0; 12];
        oid[4..].copy_from_slice(&post_id.to_be_bytes());
        Post {
            oid,
            post_id,
            timestamp_ms: 1_700_000_000_000,
            text: "x".repeat(256),
            req_id: 77,
            post_type: 0,
            creator: Person { user_id: 5, username: "username_5".into() },
            urls: vec![],
            user_mentions: vec![],
            media: vec![],
            cid,
        }
    }

    #[test]
    fn ids_are_strings_and_empty_lists_are_maps() {
        let mut post = sample(1_072_742_703_109_908_468, None);
        post.media = vec![Media { media_id: 9, media_type: "png".into() }];
        let json = post.json();
        assert_eq!(json["post_id"], "1072742703109908468");
        assert_eq!(json["creator"]["user_id"], "5");
        assert_eq!(json["timestamp"], "1700000000000");
        assert_eq!(json["post_type"], 0);
        assert_eq!(json["urls"], json!({}));
        assert_eq!(json["media"], json!([{"media_id": "9", "media_type": "png"}]));
    }

    #[test]
    fn a_document_is_as_large_as_its_bson() {
        // Counted by hand, field by field: 455 bytes, and 46 for the lineage id.
        let plain = sample(1, None).document_bytes();
        assert_eq!(plain, 4 + 17 + 17 + 19 + 267 + 16 + 15 + (9 + 47) + 11 + 20 + 12 + 1);
        assert_eq!(sample(1, Some(3)).document_bytes() - plain, 1 + 4 + 41);
    }
}
