//! wrk2's Lua scripts, as people have them.

use super::{Server, WKLD, deployed, last_run, ok};
use crate::harness::Session;

/// A compose script in the manner of the benchmark's own.
const COMPOSE: &str = r##"
local socket = require("socket")
math.randomseed(socket.gettime() * 1000)
math.random(); math.random(); math.random()
local letters = { 'q', 'w', 'e', 'r', 't', 'y' }
local function text(length)
  if length > 0 then return text(length - 1) .. letters[math.random(1, #letters)] else return "" end
end
request = function()
  local id = tostring(math.random(1, 962))
  local headers = {}
  headers["Content-Type"] = "application/x-www-form-urlencoded"
  local body = "username=username_" .. id .. "&user_id=" .. id .. "&text=" .. text(256) .. "&post_type=0"
  return wrk.format("POST", os.getenv('HOST_EU') .. "/wrk2-api/post/compose", headers, body)
end
"##;

/// Composes with LuaSocket, then reads at the replica; in the manner of the artifact's own.
const SEQUENCE: &str = r##"
require "socket"
JSON = require("JSON")
stringx = require "pl.stringx"
tablex = require "pl.tablex"
pretty = require 'pl.pretty'
local function load_followers()
  local path = debug.getinfo(1, 'S').source:match("(.*/)")
  path = string.sub(path, 2) .. "./graph.mtx"
  local followers = {}
  for line in io.lines(path) do
    local user, follower = string.match(line, "(%d+)%s+(%d+)")
    followers[tonumber(user)] = tonumber(follower)
  end
  return followers
end
local followers = load_followers()
request = function()
  local http = require("socket.http")
  local body, code = http.request(os.getenv('HOST_EU') .. "/wrk2-api/post/compose", "user_id=2&text=x")
  if code == 200 then
    local post = stringx.strip(stringx.split(body, '#')[2])
    local args = "user_id=" .. followers[2] .. "&start=0&stop=10&post=" .. post
    return wrk.format("GET", os.getenv('HOST_US') .. "/wrk2-api/home-timeline/read?" .. args, {}, nil)
  end
end
"##;

#[test]
fn a_compose_script_runs_against_a_deployment() {
    let (origin, replica) = (Server::start(|_| ok("post #1\n")), Server::start(|_| ok("")));
    let session = deployed(&origin.url(), &replica.url());
    session.write("compose-post.lua", COMPOSE);
    let done = session.ok(&format!("{WKLD} -script compose-post.lua -d 1 -r 30 -c 4 -t 2"));
    assert!(done.stdout.starts_with("30 of 30 requests ok"), "{}", done.stdout);
    let seen = origin.seen();
    assert_eq!((seen.len(), replica.seen().len()), (30, 0));
    assert!(seen.iter().all(|r| r.starts_with("POST /wrk2-api/post/compose HTTP/1.1\r\n")), "{}", seen[0]);
    let host = format!("Host: {}\r\n", origin.url().trim_start_matches("http://"));
    assert!(seen.iter().all(|r| r.contains(&host)), "{}", seen[0]);
    let run = last_run(&session);
    assert!(run.path().to_string_lossy().contains("/compose-post/us-eu-30-antipode/"));
}

#[test]
fn a_sequence_writes_at_the_origin_and_reads_at_the_replica() {
    let (origin, replica) = (Server::start(|_| ok("uploaded post #77\n")), Server::start(|_| ok("{}")));
    let session = deployed(&origin.url(), &replica.url());
    session.write("scripts/sequence.lua", SEQUENCE);
    session.write("scripts/graph.mtx", "3 3 2\n2 1\n");
    session.ok(&format!("{WKLD} -E sequence -script scripts/sequence.lua -d 1 -r 20 -c 2"));
    let reads = replica.seen();
    assert!((20..=22).contains(&origin.seen().len()), "one write per read, and those made ahead");
    assert_eq!(reads.len(), 20);
    assert!(reads.iter().all(|r| r.starts_with("GET /wrk2-api/home-timeline/read?user_id=1&start=0&stop=10&post=77 ")));
}

#[test]
fn setup_response_and_done_see_what_wrk_shows_them() {
    let server = Server::start(|request| ok(if request.starts_with("GET /counted") { "yes" } else { "no" }));
    let session = Session::new();
    session.write(
        "all.lua",
        r#"
        local threads = {}
        function setup(thread) thread:set("id", #threads + 1); threads[#threads + 1] = thread end
        function init(args) path, responses = args[1] .. "?" .. id, 0 end
        function request() return wrk.format(nil, path) end
        function response(status, headers, body) if status == 200 and body == "yes" then responses = responses + 1 end end
        function done(summary, latency, requests)
            local sum = 0
            for _, thread in ipairs(threads) do sum = sum + thread:get("responses") end
            print(("responses %d of %d, p50 %s, errors %d"):format(
                sum, summary.requests, tostring(latency:percentile(50) > 0), summary.errors.status))
        end"#,
    );
    let line = format!("wkld --url {}/ -script all.lua -d 1 -r 40 -c 2 -t 2 -- /counted", server.url());
    let done = session.ok(&line);
    assert!(done.stdout.contains("  40 requests in 1.00s"), "{}", done.stdout);
    assert!(done.stdout.ends_with("responses 40 of 40, p50 true, errors 0\n"), "{}", done.stdout);
}

#[test]
fn pipelines_delays_and_silence() {
    let server = Server::start(|_| ok(""));
    let session = Session::new();
    session.write(
        "pipeline.lua",
        "init = function() r = wrk.format(nil, '/a') .. wrk.format(nil, '/b') end\nrequest = function() return r end",
    );
    let done = session.ok(&format!("--json wkld --url {}/ -script pipeline.lua -d 1 -r 20 -c 2", server.url()));
    let load: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((load["due"].as_u64(), load["ok"].as_u64()), (Some(40), Some(40)), "{load}");
    session.write("delay.lua", "function delay() return 300 end");
    let done = session.ok(&format!("--json wkld --url {}/ -script delay.lua -d 1 -r 20 -c 2", server.url()));
    let load: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((load["due"].as_u64(), load["ok"].as_u64()), (Some(20), Some(20)), "{load}");
    session.write("silent.lua", "n = 0\nfunction request() n = n + 1; if n % 2 == 0 then return wrk.format() end end");
    let done = session.ok(&format!("--json wkld --url {}/ -script silent.lua -d 1 -r 20 -c 2", server.url()));
    let load: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((load["ok"].as_u64(), load["errors"]["script"].as_u64()), (Some(10), Some(10)), "{load}");
}

#[test]
fn a_script_that_fails_names_its_line_and_keeps_what_was_measured() {
    let server = Server::start(|_| ok(""));
    let session = deployed(&server.url(), &server.url());
    session.write(
        "bad.lua",
        "n = 0\nfunction request()\n  n = n + 1\n  if n > 10 then error('enough') end\n  return wrk.format()\nend",
    );
    let done = session.run(&format!("{WKLD} -script bad.lua -d 5 -r 50 -c 2"));
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("maestro: ./bad.lua:4: enough; what was measured is in `gather/"), "{}", done.stderr);
    let record = last_run(&session).read_record().unwrap();
    assert_eq!(record.load.unwrap().ok, 10);
    assert!(record.outcome.reasons.iter().any(|r| r == "the script failed: ./bad.lua:4: enough"));
    session.write("syntax.lua", "function request(\n");
    let done = session.run(&format!("{WKLD} -script syntax.lua -r 5"));
    assert_eq!(done.code, 2);
    assert!(done.stderr.starts_with("maestro: ./syntax.lua:"), "{}", done.stderr);
    let done = session.run(&format!("{WKLD} -script missing.lua -r 5"));
    assert_eq!((done.code, done.stderr.contains("cannot read script `missing.lua`")), (2, true), "{}", done.stderr);
}

#[test]
fn a_host_without_an_address_is_counted_and_the_others_go_on() {
    let server = Server::start(|_| ok(""));
    let session = Session::new();
    session.write(
        "two.lua",
        "n = 0\nfunction request() n = n + 1\n  if n % 2 == 0 then return wrk.format('GET', 'http://no-such-host.invalid/x') end\n  return wrk.format() end",
    );
    let done = session.ok(&format!("--json wkld --url {}/ -script two.lua -d 1 -r 20 -c 2", server.url()));
    let load: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((load["ok"].as_u64(), load["errors"]["dns"].as_u64()), (Some(10), Some(10)), "{load}");
}
