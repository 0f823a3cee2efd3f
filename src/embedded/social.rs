//! Users, who follows whom, and the two kinds of timelines.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::post::CANARY_IDS;

/// Entries a home timeline keeps; the oldest go first.
const HOME_TIMELINE_LIMIT: usize = 10_000;

/// Why an operation on users failed; the text is the application's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocialError {
    /// The name is taken.
    #[error("User {0} already existed")]
    AlreadyExisted(String),
    /// Nobody has the name.
    #[error("User: {0} is not registered")]
    NotRegistered(String),
}

#[derive(Debug, Default)]
struct Graph {
    ids: HashMap<String, i64>,
    known: HashSet<i64>,
    followers: HashMap<i64, BTreeSet<i64>>,
}

/// Everything about people.
#[derive(Debug, Default)]
pub struct Social {
    graph: Mutex<Graph>,
    /// Score (post timestamp, ms) and post, by reader.
    home: Mutex<HashMap<i64, BTreeSet<(i64, i64)>>>,
    /// Posts, newest first, by author.
    user: Mutex<HashMap<i64, VecDeque<i64>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Social {
    /// Registers a user.
    ///
    /// # Errors
    /// [`SocialError::AlreadyExisted`].
    pub fn register(&self, username: &str, user_id: i64) -> Result<(), SocialError> {
        let mut graph = lock(&self.graph);
        if graph.ids.contains_key(username) {
            return Err(SocialError::AlreadyExisted(username.to_owned()));
        }
        graph.ids.insert(username.to_owned(), user_id);
        graph.known.insert(user_id);
        Ok(())
    }

    /// The id of a user.
    ///
    /// # Errors
    /// [`SocialError::NotRegistered`].
    pub fn user_id(&self, username: &str) -> Result<i64, SocialError> {
        lock(&self.graph).ids.get(username).copied().ok_or_else(|| SocialError::NotRegistered(username.to_owned()))
    }

    /// Makes `user` a follower of `followee`, or no longer one. Unknown ids change nothing, as in the application,
    /// whose updates then match no document.
    pub fn set_follow(&self, user: i64, followee: i64, follows: bool) {
        let mut graph = lock(&self.graph);
        if !graph.known.contains(&followee) {
            return;
        }
        let followers = graph.followers.entry(followee).or_default();
        if follows {
            followers.insert(user);
        } else {
            followers.remove(&user);
        }
    }

    /// Who follows `user`; empty when nobody knows them.
    pub fn followers(&self, user: i64) -> Vec<i64> {
        lock(&self.graph).followers.get(&user).map(|f| f.iter().copied().collect()).unwrap_or_default()
    }

    /// Registered users and follow edges, the readiness probe's left out.
    pub fn size(&self) -> (usize, usize) {
        let graph = lock(&self.graph);
        let users = graph.known.iter().filter(|&&id| id < CANARY_IDS).count();
        let people = graph.followers.iter().filter(|(id, _)| **id < CANARY_IDS);
        (users, people.map(|(_, followers)| followers.len()).sum())
    }

    /// Adds a post to the home timelines of `readers`, once.
    pub fn fan_out(&self, readers: impl IntoIterator<Item = i64>, timestamp_ms: i64, post_id: i64) {
        let mut home = lock(&self.home);
        for reader in readers {
            let timeline = home.entry(reader).or_default();
            timeline.insert((timestamp_ms, post_id));
            if timeline.len() > HOME_TIMELINE_LIMIT {
                timeline.pop_first();
            }
        }
    }

    /// Posts `start..stop` of a home timeline, newest first.
    pub fn home_timeline(&self, user: i64, start: usize, stop: usize) -> Vec<i64> {
        let home = lock(&self.home);
        let Some(timeline) = home.get(&user) else { return Vec::new() };
        timeline.iter().rev().skip(start).take(stop - start).map(|&(_, post)| post).collect()
    }

    /// Puts a post at the head of its author's timeline.
    pub fn add_to_user_timeline(&self, user: i64, post_id: i64) {
        lock(&self.user).entry(user).or_default().push_front(post_id);
    }

    /// Drops the oldest post of an author's timeline if it is `post_id`.
    pub fn forget_in_user_timeline(&self, user: i64, post_id: i64) {
        let mut timelines = lock(&self.user);
        let Some(timeline) = timelines.get_mut(&user) else { return };
        timeline.retain(|&post| post != post_id);
        if timeline.is_empty() {
            timelines.remove(&user);
        }
    }

    /// Posts `start..stop` of an author's timeline, newest first.
    pub fn user_timeline(&self, user: i64, start: usize, stop: usize) -> Vec<i64> {
        let timelines = lock(&self.user);
        let Some(timeline) = timelines.get(&user) else { return Vec::new() };
        timeline.iter().skip(start).take(stop - start).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once() {
        let social = Social::default();
        social.register("a", 1).unwrap();
        assert_eq!(social.register("a", 2).unwrap_err().to_string(), "User a already existed");
        assert_eq!(social.user_id("b").unwrap_err().to_string(), "User: b is not registered");
    }

    #[test]
    fn only_known_users_gain_followers() {
        let social = Social::default();
        social.register("a", 1).unwrap();
        social.set_follow(2, 1, true);
        social.set_follow(2, 7, true);
        assert_eq!((social.followers(1), social.followers(7)), (vec![2], vec![]));
        social.set_follow(2, 1, false);
        assert!(social.followers(1).is_empty());
    }

    #[test]
    fn timelines_are_newest_first() {
        let social = Social::default();
        for (timestamp, post) in [(10, 100), (30, 300), (20, 200), (30, 300)] {
            social.fan_out([5], timestamp, post);
            social.add_to_user_timeline(6, post);
        }
        assert_eq!(social.home_timeline(5, 0, 10), [300, 200, 100]);
        assert_eq!(social.home_timeline(5, 1, 2), [200]);
        assert!(social.home_timeline(99, 0, 2).is_empty());
        assert_eq!(social.user_timeline(6, 1, 3), [200, 300]);
        social.forget_in_user_timeline(6, 300);
        assert_eq!(social.user_timeline(6, 0, 9), [200, 100]);
    }
}
