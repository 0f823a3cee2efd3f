//! The front ends: every route with its texts, codes and types.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{Answer, JSON, Mini, NEAR, PLAIN};

#[test]
fn the_routes_that_write_answer_as_the_application_does() {
    let mini = Mini::start(NEAR, "");
    let incomplete = || Answer::new(400, PLAIN, "Incomplete arguments\n");
    assert_eq!(mini.register(1), Answer::new(200, PLAIN, ""));
    assert_eq!(mini.register(2), Answer::new(200, PLAIN, ""));
    let twice = "User registration failure: User username_1 already existed\n";
    assert_eq!(mini.register(1), Answer::new(500, PLAIN, twice));
    assert_eq!(mini.post("user/register", "username=a&password=b"), incomplete());
    assert_eq!(mini.post("user/follow", "user_id=1&followee_id=2"), Answer::new(200, PLAIN, ""));
    assert_eq!(mini.post("user/follow", "user_name=username_2&followee_name=username_1"), Answer::new(200, PLAIN, ""));
    let stranger = "Follow Failed: User: nobody is not registered\n";
    assert_eq!(
        mini.post("user/follow", "user_name=nobody&followee_name=username_1"),
        Answer::new(500, PLAIN, stranger)
    );
    assert_eq!(mini.post("user/follow", "user_id=1"), incomplete());
    assert_eq!(mini.status("follows"), 2);
    assert_eq!(mini.post("user/unfollow", "user_id=1&followee_id=2"), Answer::new(200, PLAIN, ""));
    let stranger = "Unfollow Failed: User: nobody is not registered\n";
    let answer = mini.post("user/unfollow", "user_name=username_1&followee_name=nobody");
    assert_eq!(answer, Answer::new(500, PLAIN, stranger));
    assert_eq!((mini.status("users"), mini.status("follows")), (json!(2), json!(1)));

    let post = "user_id=1&username=username_1&post_type=0";
    let Answer(status, content_type, body) = mini.post("post/compose", &format!("{post}&text=hi"));
    assert_eq!((status, content_type.as_str()), (200, PLAIN));
    let id = body.strip_prefix("Successfully uploaded post #").unwrap().strip_suffix('\n').unwrap();
    assert!(id.parse::<i64>().unwrap() > 1 << 53, "{id}");
    for missing in ["user_id=1&username=u&post_type=0&text=", "user_id=1&username=u&text=x", "", "text=%zz"] {
        assert_eq!(mini.post("post/compose", missing), incomplete(), "{missing}");
    }
    let Answer(status, content_type, body) = mini.post("post/compose", "user_id=x&username=u&post_type=0&text=x");
    assert_eq!((status, content_type.as_str()), (500, "text/html"));
    assert!(body.contains("<center><h1>500 Internal Server Error</h1></center>"), "{body}");
    let large = format!("{post}&text={}", "x".repeat(2 << 20));
    assert_eq!(mini.post("post/compose", &large).0, 413);
    assert_eq!(mini.get("nowhere").0, 404);
    mini.drain();
}

#[test]
fn timelines_are_read_where_they_live_and_empty_ones_are_maps() {
    let mini = Mini::start(NEAR, "");
    (1..=2).for_each(|user| assert_eq!(mini.register(user).0, 200));
    mini.post("user/follow", "user_id=2&followee_id=1");
    let empty = || Answer::new(200, JSON, "{}\n");
    assert_eq!(mini.get("home-timeline/read?user_id=2&start=0&stop=10"), empty());
    assert_eq!(mini.get("home-timeline/read?user_id=2&start=0"), Answer::new(400, PLAIN, "Incomplete arguments\n"));
    let text = "see+http://example.org/long+and+@username_2";
    let media = "media_ids=[\"77\"]&media_types=[\"png\"]";
    mini.post("post/compose", &format!("user_id=1&username=username_1&post_type=2&text={text}&{media}"));
    let newer: Vec<String> = (0..3).map(|_| mini.compose(1)).collect();
    mini.drain();

    let home = mini.get("home-timeline/read?user_id=2&start=0&stop=10").json();
    let ids: Vec<&str> = home.as_array().unwrap().iter().map(|post| post["post_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4, "once each, also when mentioned and following: {home}");
    assert_eq!(ids[..3], [&newer[2], &newer[1], &newer[0]]);
    let page = mini.get("home-timeline/read?user_id=2&start=1&stop=3").json();
    assert_eq!(page.as_array().unwrap().len(), 2);
    assert_eq!((&page[0]["post_id"], &page[1]["post_id"]), (&json!(ids[1]), &json!(ids[2])));
    for nothing in ["start=3&stop=3", "start=-1&stop=5", "start=5&stop=2", "start=50&stop=60"] {
        assert_eq!(mini.get(&format!("home-timeline/read?user_id=2&{nothing}")), empty(), "{nothing}");
    }

    let own = mini.get("user-timeline/read?user_id=1&start=0&stop=10").json();
    assert_eq!(own, home);
    let first = &own[3];
    assert_eq!(first["creator"], json!({"user_id": "1", "username": "username_1"}));
    assert_eq!(first["user_mentions"], json!([{"user_id": "2", "username": "username_2"}]));
    assert_eq!(first["media"], json!([{"media_id": "77", "media_type": "png"}]));
    assert_eq!(first["urls"][0]["expanded_url"], "http://example.org/long");
    let short = first["urls"][0]["shortened_url"].as_str().unwrap();
    assert_eq!(first["text"], format!("see {short} and @username_2"));
    assert_eq!((&first["post_type"], &own[0]["urls"], &own[0]["media"]), (&json!(2), &json!({}), &json!({})));
    assert!(first["req_id"].is_string() && first["timestamp"].as_str().unwrap().len() == 13, "{first}");
}

#[test]
fn a_listed_post_that_has_not_arrived_makes_the_read_fail() {
    let mini = Mini::start(NEAR, "");
    (1..=2).for_each(|user| assert_eq!(mini.register(user).0, 200));
    mini.post("user/follow", "user_id=2&followee_id=1");
    let rule = json!({"rule": {"delay_ms": 100_000}});
    assert_eq!(mini.put("/maestro/link", &rule).0, 200);
    mini.compose(1);
    mini.drain();
    let incomplete = "Get home-timeline failure: Return set incomplete\n";
    assert_eq!(mini.get("home-timeline/read?user_id=2&start=0&stop=10"), Answer::new(500, PLAIN, incomplete));
    assert_eq!(mini.get("user-timeline/read?user_id=1&start=0&stop=10").json().as_array().unwrap().len(), 1);
    assert_eq!(mini.get("home-timeline/read?user_id=1&start=0&stop=10"), Answer::new(200, JSON, "{}\n"));
}

#[test]
fn the_front_ends_take_absolute_request_targets_and_kept_connections() {
    let mini = Mini::start(NEAR, "");
    let address = mini.origin().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let target = "http://another-host:8082/wrk2-api/home-timeline/read?user_id=1&start=0&stop=5";
    for _ in 0..2 {
        write!(stream, "GET {target} HTTP/1.1\r\nHost: another-host:8082\r\n\r\n").unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n{}\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
    }
}
