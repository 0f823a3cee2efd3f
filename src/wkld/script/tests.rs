//! Scripts as wrk2 users write them, run against the engine of this room.

use super::*;

fn script(text: &str) -> Script {
    Script {
        path: "./dir/test.lua".into(),
        text: text.into(),
        url: "http://127.0.0.1:8080/base?x=1".into(),
        args: vec!["first".into()],
        env: IndexMap::from([("HOST_US".to_owned(), "http://127.0.0.1:8082".to_owned())]),
    }
}

/// The first `n` requests of a script.
fn requests(text: &str, n: usize) -> Result<Vec<(String, Made)>, String> {
    let mut scripts = Scripts::new(script(text), None).map_err(|error| error.to_string())?;
    let mut source = scripts.source().map_err(|error| error.to_string())?;
    (0..n)
        .map(|_| {
            let mut out = Vec::new();
            let made = source.make(&mut out).map_err(|broken| broken.0)?;
            Ok((String::from_utf8(out).unwrap(), made))
        })
        .collect()
}

fn one(text: &str) -> (String, Made) {
    requests(text, 1).unwrap().remove(0)
}

#[test]
fn without_request_the_wrk_table_is_sent() {
    let (text, made) = one("wrk.method = 'POST'; wrk.body = 'a=1'; wrk.headers['X-A'] = 7");
    assert!(text.starts_with("POST /base?x=1 HTTP/1.1\r\n"), "{text}");
    for line in ["Host: 127.0.0.1:8080\r\n", "Content-Length: 3\r\n", "X-A: 7\r\n"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.ends_with("\r\n\r\na=1"));
    assert_eq!((made.host, made.depth), (0, 1));
}

#[test]
fn format_fills_in_what_is_not_given() {
    let (text, _) = one("request = function() return wrk.format(nil, '/p', { A = 'b' }) end");
    assert!(text.starts_with("GET /p HTTP/1.1\r\n") && text.contains("A: b\r\n"), "{text}");
    assert!(text.contains("Host: 127.0.0.1:8080\r\n"), "{text}");
}

#[test]
fn an_absolute_url_goes_to_its_own_host() {
    let text = "request = function() return wrk.format('GET', os.getenv('HOST_US') .. '/r?u=1') end";
    let (text, made) = one(text);
    assert!(text.starts_with("GET /r?u=1 HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("Host: 127.0.0.1:8082\r\n") && !text.contains("8080"), "{text}");
    assert_eq!(made.host, 1);
}

#[test]
fn hosts_are_found_on_the_way() {
    let text = "n = 0; request = function() n = n + 1; return wrk.format('GET', 'http://127.0.0.' .. n .. ':81') end";
    let all = requests(text, 2).unwrap();
    assert!(all[0].0.starts_with("GET / HTTP/1.1\r\n") && all[0].0.contains("Host: 127.0.0.1:81\r\n"), "{}", all[0].0);
    assert_eq!((all[0].1.host, all[1].1.host), (1, 2));
}

#[test]
fn several_requests_in_one_text_are_counted() {
    let text =
        "init = function(args) r = wrk.format(nil, '/a') .. wrk.format('POST', '/b', nil, 'GET / x\\r\\n\\r\\n') end
                request = function() return r end";
    assert_eq!(one(text).1.depth, 2);
}

#[test]
fn setup_hands_values_to_threads_and_done_takes_them_back() {
    let text = "
        local threads = {}
        function setup(thread) thread:set('id', { name = 'x', list = { 1, true } }); threads[#threads + 1] = thread end
        function init(args) url, first = args[0], args[1]; wrk.thread.addr = wrk.lookup('127.0.0.1', 81)[1] end
        function request() count = (count or 0) + 1; return wrk.format(nil, '/' .. id.name .. tostring(id.list[2])) end
        function done(summary, latency, requests)
            assert(threads[1]:get('count') == 1 and threads[1]:get('url') == wrk.scheme .. '://127.0.0.1:8080/base?x=1')
            assert(threads[1]:get('first') == 'first')
            assert(latency:percentile(50) == 0 and #latency == 0 and requests.max == 0 and summary.errors.connect == 0)
        end";
    let mut scripts = Scripts::new(script(text), None).unwrap();
    let mut source = scripts.source().unwrap();
    let mut out = Vec::new();
    source.make(&mut out).unwrap();
    assert!(out.starts_with(b"GET /xtrue HTTP/1.1"));
    assert_eq!(source.address(), Some("127.0.0.1:81".parse().unwrap()));
    scripts.done(&crate::wkld::report::tests::empty()).unwrap();
}

#[test]
fn response_sees_the_answer_and_stop_ends_the_thread() {
    let text = "function response(status, headers, body)
        assert(status == 200 and headers['X-Token'] == 't' and body == 'hello'); wrk.thread:stop() end";
    let mut scripts = Scripts::new(script(text), None).unwrap();
    let mut source = scripts.source().unwrap();
    assert!(source.listens() && !source.stopped());
    let answer = Capture { fields: vec![("X-Token".into(), b"t".to_vec())], body: b"hello".to_vec() };
    source.answered(200, &answer, 0, 0).unwrap();
    assert!(source.stopped());
    let error = source.answered(500, &answer, 0, 0).unwrap_err();
    assert!(error.0.starts_with("./dir/test.lua:2: assertion failed"), "{}", error.0);
}

#[test]
fn delay_is_milliseconds() {
    let (_, made) = one("function delay() return 2.5 end");
    assert_eq!(made.delay_ns, 2_500_000);
}

#[test]
fn faults_name_the_scripts_line() {
    for (text, expected) in [
        ("x = = 1", "./dir/test.lua:1: "),
        ("\nerror('no luck')", "./dir/test.lua:2: no luck"),
        ("\n\nfunction init() local a = nil; a.b = 1 end", "./dir/test.lua:3: attempt to index"),
        ("require 'no.such.module'", "module 'no.such.module' not found"),
        (
            "\nfunction request() local a = wrk.lookup('no-such-host.invalid', 80); return a end",
            "./dir/test.lua:2: cannot find",
        ),
        ("function request() return {} end", "request() returned a table, not a string"),
        ("os.exit(0)", "os.exit is not available"),
    ] {
        let error = requests(text, 1).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert_eq!(one("function request() return nil end").1.depth, 0);
}

#[test]
fn the_modules_of_workload_scripts_are_there() {
    let text = r##"
        require "socket"
        assert(socket.gettime() > 1.7e9)
        local JSON, stringx, tablex, pretty = require "JSON", require "pl.stringx", require "pl.tablex", require "pl.pretty"
        local decoded = JSON:decode('[{"post_id":"12","n":1.5,"none":null,"list":[]},true]')
        assert(decoded[1].post_id == "12" and decoded[1].n == 1.5 and decoded[1].none == nil and decoded[2] == true)
        assert(JSON:encode({ a = { 1, "x" } }) == '{"a":[1,"x"]}')
        assert(stringx.strip("  a b \n") == "a b" and stringx.strip("--x-", "-") == "x")
        local parts = stringx.split("post #42\n", "#")
        assert(#parts == 2 and stringx.strip(parts[2]) == "42")
        assert(#stringx.split("a  b c") == 3 and #stringx.split("a,b,c", ",", 2) == 2)
        assert(stringx.startswith("abc", "ab") and stringx.endswith("abc", "bc") and stringx.replace("a.b.c", ".", "") == "abc")
        assert(tablex.size({ a = 1, b = 2 }) == 2 and tablex.find({ 5, 6 }, 6) == 2)
        assert(tablex.deepcompare({ a = { 1 } }, { a = { 1 } }) and not tablex.deepcompare({ 1 }, { 1, 2 }))
        assert(pretty.write({ 1, a = "x" }):find('a = "x"', 1, true))
        local where = debug.getinfo(1, 'S').source:match("(.*/)")
        assert(where == "@./dir/", where)
        assert(json_decode == nil and http_native == nil, "natives are hidden")
        function request() return wrk.format() end
    "##;
    assert!(one(text).0.starts_with("GET /base?x=1"));
}
