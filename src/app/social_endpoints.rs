//! What the social network's endpoints send: the bodies and queries of its workload scripts, as data.

use std::io::Write;

use rand::RngExt;

use super::graph::Graph;
use super::{Call, Draws, Endpoint, EndpointKind, Method, Probe, Side, Sight, Step};

const COMPOSE: &str = "/wrk2-api/post/compose";
const READ_HOME: &str = "/wrk2-api/home-timeline/read";
const READ_USER: &str = "/wrk2-api/user-timeline/read";
const REGISTER: &str = "/wrk2-api/user/register";
const FOLLOW: &str = "/wrk2-api/user/follow";

/// Length of a post, characters.
const TEXT: usize = 256;

/// Author and follower of the demonstration of a violation.
const AUTHOR: u64 = 962;
const FOLLOWER: u64 = 624;

/// The endpoints of `wkld -E`.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        name: "compose-post",
        about: "posts of 256 random characters by random users",
        kind: EndpointKind::Load {
            first: Call { side: Side::Origin, method: Method::Post, path: COMPOSE, fill: compose_by_anyone },
            then: None,
        },
    },
    Endpoint {
        name: "read-home-timeline",
        about: "ten posts of a random user's home timeline, at the replica",
        kind: EndpointKind::Load {
            first: Call { side: Side::Replica, method: Method::Get, path: READ_HOME, fill: read_anyone },
            then: None,
        },
    },
    Endpoint {
        name: "read-user-timeline",
        about: "ten posts of a random user's own timeline, at the replica",
        kind: EndpointKind::Load {
            first: Call { side: Side::Replica, method: Method::Get, path: READ_USER, fill: read_anyone },
            then: None,
        },
    },
    Endpoint {
        name: "sequence-compose-post-read-home-timeline",
        about: "a post at the origin, then a follower's home timeline at the replica (the read is measured)",
        kind: EndpointKind::Load {
            first: Call { side: Side::Origin, method: Method::Post, path: COMPOSE, fill: compose_for_a_friend },
            then: Some(Call { side: Side::Replica, method: Method::Get, path: READ_HOME, fill: read_by_key }),
        },
    },
    Endpoint {
        name: "antipode-wht-error",
        about: "one post and one read right after it, to show a violation",
        kind: EndpointKind::Steps(show_violation),
    },
    Endpoint {
        name: "init-social-graph",
        about: "registers the users of the social graph and makes them follow each other",
        kind: EndpointKind::Steps(init_graph),
    },
];

/// Home timelines of readers who follow one author each; authors and readers are beyond the ids of other posts.
pub(super) const PROBE: Probe = Probe {
    endpoint: "compose-post",
    readers: 64,
    setup: probe_users,
    write: |draws, reader, out| compose(draws, PROBE_AUTHORS + u64::from(reader), out),
    key: post_id,
    read: |reader| format!("{READ_HOME}?user_id={}&start=0&stop=10", PROBE_READERS + u64::from(reader)),
    sight,
};

/// First ids of the probe's users.
const PROBE_AUTHORS: u64 = 1_000_100_000;
const PROBE_READERS: u64 = 1_000_200_000;

fn probe_users(readers: u32) -> Vec<Step> {
    let pair = |reader: u32| (PROBE_AUTHORS + u64::from(reader), PROBE_READERS + u64::from(reader));
    let users = (0..readers).flat_map(move |reader| [register(pair(reader).0), register(pair(reader).1)]);
    let follows = (0..readers).map(move |reader| follow(pair(reader).1, pair(reader).0, false));
    users.chain(follows).collect()
}

/// The number in `Successfully uploaded post #<id>`.
fn post_id(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let id = text.split_once('#')?.1.trim();
    (!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then(|| id.to_owned())
}

fn sight(status: u16, body: &str, post: &str) -> Sight {
    match status {
        200 if body.contains(&format!("\"{post}\"")) => Sight::Visible,
        200 => Sight::Absent,
        500 if body.contains("Return set incomplete") => Sight::Incomplete,
        _ => Sight::Failed,
    }
}

fn compose_by_anyone(draws: &mut Draws, _graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    let user = draws.random_range(1..=1_000_000_000_u64);
    compose(draws, user, out);
    user
}

/// A post by a user of the graph; the key is a friend who will read it.
fn compose_for_a_friend(draws: &mut Draws, graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    let (author, friend) = graph.edges[draws.random_range(0..graph.edges.len())];
    compose(draws, author.into(), out);
    friend.into()
}

fn compose(draws: &mut Draws, user: u64, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let user = digits.format(user).as_bytes();
    for part in [b"user_id=".as_slice(), user, b"&username=username_", user] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"&post_type=0&media_ids=%5B%5D&media_types=%5B%5D&text=");
    random_text(draws, out);
}

/// Appends [`TEXT`] letters and digits, each from 16 random bits. Without a table, so that the compiler makes many at
/// once: the generator has no more than a few us for a whole request.
fn random_text(draws: &mut Draws, out: &mut Vec<u8>) {
    let mut bits = [0_u16; TEXT];
    for four in bits.chunks_exact_mut(4) {
        let random: u64 = draws.random();
        for (part, shift) in four.iter_mut().zip([0, 16, 32, 48]) {
            *part = (random >> shift) as u16;
        }
    }
    out.extend_from_slice(&bits.map(letter));
}

/// One of `0-9A-Za-z` from 16 random bits.
fn letter(bits: u16) -> u8 {
    let which = ((u32::from(bits) * 62) >> 16) as u8;
    // From `9` to `A` and from `Z` to `a` the code has gaps of 7 and 6.
    b'0' + which + u8::from(which > 9) * 7 + u8::from(which > 35) * 6
}

fn read_anyone(draws: &mut Draws, graph: &Graph, _key: u64, out: &mut Vec<u8>) -> u64 {
    let user = draws.random_range(1..=u64::from(graph.nodes));
    let start = draws.random_range(0..=100_u64);
    read(user, start, out);
    user
}

fn read_by_key(_draws: &mut Draws, _graph: &Graph, key: u64, out: &mut Vec<u8>) -> u64 {
    read(key, 0, out);
    key
}

fn read(user: u64, start: u64, out: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    write!(out, "user_id={user}&start={start}&stop={}", start + 10).ok();
}

fn register(user: u64) -> Step {
    let form = format!(
        "first_name=first_name_{user}&last_name=last_name_{user}&username=username_{user}&password=password_{user}\
         &user_id={user}"
    );
    Step { label: "Register User", side: Side::Origin, post: true, path: REGISTER, form, must: false, show: false }
}

fn follow(user: u64, followee: u64, must: bool) -> Step {
    let form = format!("user_name=username_{user}&followee_name=username_{followee}");
    Step { label: "Follow User", side: Side::Origin, post: true, path: FOLLOW, form, must, show: false }
}

/// Users 1..n one after the other, then every edge in both directions. A user who exists already is no failure.
fn init_graph(_draws: &mut Draws, graph: &Graph) -> Vec<Step> {
    let users = (1..=u64::from(graph.nodes)).map(register);
    let edges = graph.edges.iter().flat_map(|&(a, b)| {
        let (a, b) = (a.into(), b.into());
        [follow(a, b, false), follow(b, a, false)]
    });
    users.chain(edges).collect()
}

fn show_violation(draws: &mut Draws, _graph: &Graph) -> Vec<Step> {
    let mut post = Vec::new();
    compose(draws, AUTHOR, &mut post);
    let read = format!("user_id={FOLLOWER}&start=0&stop=10000");
    let step = |label, side, post, path, form| Step { label, side, post, path, form, must: post, show: true };
    let form = String::from_utf8_lossy(&post).into_owned();
    vec![
        register(AUTHOR),
        register(FOLLOWER),
        follow(FOLLOWER, AUTHOR, true),
        step("Compose Post", Side::Origin, true, COMPOSE, form),
        step("Read Home Timeline", Side::Replica, false, READ_HOME, read),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn filled(name: &str) -> String {
        let endpoint = ENDPOINTS.iter().find(|e| e.name == name).unwrap();
        let EndpointKind::Load { first, .. } = &endpoint.kind else { panic!("no load") };
        let mut out = Vec::new();
        (first.fill)(&mut Draws::seed_from_u64(1), &Graph::synthetic(), 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_post_has_all_its_parameters() {
        let body = filled("compose-post");
        let fields: Vec<(&str, &str)> = body.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["user_id", "username", "post_type", "media_ids", "media_types", "text"]);
        let id: u64 = fields[0].1.parse().unwrap();
        assert!((1..=1_000_000_000).contains(&id));
        assert_eq!(fields[1].1, format!("username_{id}"));
        assert!(fields[5].1.len() == 256 && fields[5].1.chars().all(|c| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn every_letter_is_as_likely_as_the_others() {
        let mut counts = [0; 256];
        (0..=u16::MAX).for_each(|bits| counts[usize::from(letter(bits))] += 1);
        let letters: Vec<u8> = (0..=255).filter(|&c| counts[usize::from(c)] > 0).collect();
        assert_eq!(letters, b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
        assert!(letters.iter().all(|&c| (1057..=1058).contains(&counts[usize::from(c)])));
    }

    #[test]
    fn a_probed_post_is_told_apart_by_its_reader() {
        assert_eq!(post_id(b"Successfully uploaded post #123\n").as_deref(), Some("123"));
        assert_eq!(post_id(b"Incomplete arguments"), None);
        assert_eq!(sight(200, r#"[{"post_id":"123","text":"x"}]"#, "123"), Sight::Visible);
        assert_eq!(sight(200, r#"[{"post_id":"1234"}]"#, "123"), Sight::Absent);
        assert_eq!(sight(500, "Get home-timeline failure: Return set incomplete", "123"), Sight::Incomplete);
        assert_eq!(sight(502, "", "123"), Sight::Failed);
        assert_eq!(probe_users(2).len(), 6);
    }

    #[test]
    fn a_read_asks_for_ten_posts_of_a_user_of_the_graph() {
        let query = filled("read-home-timeline");
        let numbers: Vec<u64> = query.split('&').map(|pair| pair.split_once('=').unwrap().1.parse().unwrap()).collect();
        assert!((1..=962).contains(&numbers[0]) && numbers[1] <= 100 && numbers[2] == numbers[1] + 10);
    }

    #[test]
    fn the_graph_is_registered_and_followed_both_ways() {
        let graph = Graph { nodes: 3, edges: vec![(2, 1), (3, 1)] };
        let steps = init_graph(&mut Draws::seed_from_u64(1), &graph);
        assert_eq!(steps.iter().filter(|s| s.path == REGISTER).count(), 3);
        let follows: Vec<&str> = steps.iter().filter(|s| s.path == FOLLOW).map(|s| s.form.as_str()).collect();
        assert_eq!(follows.len(), 4);
        assert_eq!(follows[0], "user_name=username_2&followee_name=username_1");
        assert_eq!(follows[1], "user_name=username_1&followee_name=username_2");
    }
}
