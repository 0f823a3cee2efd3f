//! The requests that prove that an application works end to end: a post composed at the origin and read at the
//! replica, or the reads of an application that has no replica.

use std::fmt;
use std::time::{Duration, Instant};

use super::post::CANARY_IDS;
use crate::app;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const AUTHOR: i64 = CANARY_IDS + 1;
const READER: i64 = CANARY_IDS + 2;

/// Which front end did not do its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The origin's.
    Origin,
    /// The replica's.
    Replica,
}

/// A canary that did not come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Where it was lost.
    pub route: Route,
    /// The last answer.
    pub last_seen: String,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.last_seen)
    }
}

/// Sends canaries between two front ends. Calls block.
#[derive(Clone, Debug)]
pub struct Canary {
    origin: String,
    replica: String,
    kind: app::Canary,
    agent: ureq::Agent,
}

impl Canary {
    /// A canary of this kind between the front ends with these base URLs.
    pub fn new(kind: app::Canary, origin: &str, replica: &str) -> Self {
        Canary { origin: origin.to_owned(), replica: replica.to_owned(), kind, agent: agent(ANSWER_WITHIN) }
    }

    /// Sends it once, and looks for what it leads to at most until `deadline`.
    ///
    /// # Errors
    /// [`Missed`] with the last answer.
    pub fn once(&self, deadline: Instant) -> Result<(), Missed> {
        match self.kind {
            app::Canary::Post => self.post_and_read(deadline),
            app::Canary::Reads(paths) => paths.iter().try_for_each(|path| self.read(path)),
        }
    }

    fn read(&self, path: &str) -> Result<(), Missed> {
        let missed = |last_seen| Missed { route: Route::Origin, last_seen };
        match text(self.agent.get(format!("{}{path}", self.origin)).call()) {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(missed(format!("{path}: {status} {body}"))),
            Err(why) => Err(missed(format!("{path}: {why}"))),
        }
    }

    /// Composes one post as a user with one follower and looks until the follower sees it, at most until `deadline`.
    fn post_and_read(&self, deadline: Instant) -> Result<(), Missed> {
        let post_id = self.compose().map_err(|last_seen| Missed { route: Route::Origin, last_seen })?;
        let url = format!("{}/wrk2-api/home-timeline/read?user_id={READER}&start=0&stop=1", self.replica);
        loop {
            let seen = text(self.agent.get(&url).call());
            let last_seen = match seen {
                Ok((200, body)) if body.contains(&format!("\"{post_id}\"")) => return Ok(()),
                Ok((status, body)) => format!("home timeline without the canary post: {status} {body}"),
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(Missed { route: Route::Replica, last_seen });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Composes a post of the author, whom the reader follows; returns its id.
    fn compose(&self) -> Result<String, String> {
        for (user_id, username) in [(AUTHOR, "maestro_canary"), (READER, "maestro_canary_reader")] {
            let form = format!("first_name=c&last_name=c&username={username}&password=c&user_id={user_id}");
            let (status, body) = self.post("user/register", &form)?;
            if status != 200 && !body.contains("already existed") {
                return Err(format!("register: {status} {body}"));
            }
        }
        let (status, body) = self.post("user/follow", &format!("user_id={READER}&followee_id={AUTHOR}"))?;
        if status != 200 {
            return Err(format!("follow: {status} {body}"));
        }
        let form = format!("user_id={AUTHOR}&username=maestro_canary&post_type=0&text=canary");
        let (status, body) = self.post("post/compose", &form)?;
        let post_id = body.rsplit_once('#').map(|(_, id)| id.trim().to_owned()).filter(|_| status == 200);
        post_id.ok_or_else(|| format!("compose: {status} {body}"))
    }

    fn post(&self, route: &str, form: &str) -> Result<(u16, String), String> {
        text(self.agent.post(format!("{}/wrk2-api/{route}", self.origin)).send(form))
    }
}

/// Straight to the application, whatever proxies the environment names.
pub(super) fn agent(within: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(within)).http_status_as_error(false).proxy(None).build().into()
}

fn text(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String), String> {
    let mut answer = answer.map_err(|error| error.to_string())?;
    let body = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((answer.status().as_u16(), body.trim_end().to_owned()))
}
