//! The trace API: spans, tags, types, queries, and the faults that show in them.

use serde_json::{Value, json};

use super::{DELIVERED, Mini, NEAR, QUEUED, READ, WRITTEN, micros, parent, span, tag};

#[test]
fn traces_carry_the_applications_spans_tags_and_types() {
    let mini = Mini::start(NEAR, "-antipode");
    let id = mini.compose(7);
    mini.drain();
    let traces = mini.traces("compose-post-service");
    assert_eq!(traces.len(), 1, "the readiness probe leaves no trace");
    let trace = &traces[0];
    let spans = trace["spans"].as_array().unwrap();
    let nginx: Vec<&Value> = spans.iter().filter(|s| s["operationName"] == "/wrk2-api/post/compose").collect();
    assert_eq!(nginx.len(), 2);
    assert_eq!(nginx[0]["references"], json!([]));
    assert_eq!(nginx[1]["references"][0]["spanID"], nginx[0]["spanID"]);
    assert_eq!(parent(trace, span(trace, "nginx-web-server", "ComposePost").unwrap()), "/wrk2-api/post/compose");
    for (service, operation, above) in [
        ("media-service", "UploadMedia", "ComposePost"),
        ("user-service", "UploadUserWithUserId", "ComposePost"),
        ("text-service", "UploadText", "ComposePost"),
        ("unique-id-service", "UploadUniqueId", "ComposePost"),
        ("url-shorten-service", "UploadUrls", "UploadText"),
        ("user-mention-service", "UploadUserMentions", "UploadText"),
        ("compose-post-service", "UploadCreator", "UploadUserWithUserId"),
        ("compose-post-service", "RedisHashSet", "Upload"),
        ("compose-post-service", "_ComposeAndUpload", "Upload"),
        ("compose-post-service", "_UploadHomeTimelineHelper", "Upload"),
        ("post-storage-service-eu", "StorePost", "Upload"),
        ("post-storage-service-eu", "MongoInsertPost", "StorePost"),
        ("user-timeline-service", "WriteUserTimeline", "Upload"),
        ("write-home-timeline-service-us", "FanoutHomeTimelines", "_UploadHomeTimelineHelper"),
        ("social-graph-service", "GetFollowers", "FanoutHomeTimelines"),
        ("write-home-timeline-service-us", "RedisUpdate", "FanoutHomeTimelines"),
    ] {
        let found = span(trace, service, operation).unwrap_or_else(|| panic!("no {operation} of {service}"));
        assert!(parent(trace, found).starts_with(above), "{operation} below {}", parent(trace, found));
    }
    let sixth = |operation: &str| {
        let service = if operation == "StorePost" { "post-storage-service-eu" } else { "compose-post-service" };
        span(trace, service, operation).unwrap()["references"][0]["spanID"].clone()
    };
    assert_eq!(sixth("StorePost"), sixth("_ComposeAndUpload"));

    let compose = span(trace, "compose-post-service", "_ComposeAndUpload").unwrap();
    assert_eq!(*tag(compose, "composepost_id"), json!({"key": "composepost_id", "type": "int64", "value": id}));
    let truth = &mini.truth()[&id];
    let fanout = span(trace, "write-home-timeline-service-us", "FanoutHomeTimelines").unwrap();
    let queue = span(trace, "compose-post-service", "_UploadHomeTimelineHelper").unwrap();
    let store = span(trace, "post-storage-service-eu", "StorePost").unwrap();
    for (span, key, column) in [
        (store, "poststorage_post_written_ts", WRITTEN),
        (queue, "wht_start_queue_ts", QUEUED),
        (fanout, "wht_start_worker_ts", DELIVERED),
        (fanout, "poststorage_read_notification_ts", READ),
    ] {
        let expected = json!({"key": key, "type": "string", "value": (micros(truth, column) / 1000).to_string()});
        assert_eq!(*tag(span, key), expected);
    }
    assert_eq!(*tag(fanout, "consistency_bool"), json!({"key": "consistency_bool", "type": "bool", "value": true}));
    for key in ["wht_antipode_duration", "consistency_mongoread_duration"] {
        let text = tag(fanout, key)["value"].as_str().unwrap().to_owned();
        assert!(text.split_once('.').is_some_and(|(_, decimals)| decimals.len() == 6), "{key}: {text}");
        assert_eq!(tag(fanout, key)["type"], "string");
    }
    let bytes: usize = tag(fanout, "notification_size_bytes")["value"].as_str().unwrap().parse().unwrap();
    assert!((350..550).contains(&bytes), "{bytes}");
}

#[test]
fn the_trace_api_answers_as_jaegers_does() {
    let mini = Mini::start(NEAR, "");
    (1..=5).for_each(|user| drop(mini.compose(user)));
    mini.drain();
    let edges = mini.admin("/api/dependencies?lookback=604800000").json();
    let calls = |child: &str| {
        let edges = edges["data"].as_array().unwrap();
        edges.iter().filter(|edge| edge["child"] == child).map(|e| e["callCount"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(calls("write-home-timeline-service-us"), 5);
    assert_eq!(calls("compose-post-service"), 30, "six pieces for each post");
    assert_eq!(calls("post-storage-service-eu"), 5);
    let refused = mini.admin("/api/traces");
    assert_eq!(refused.0, 400);
    assert_eq!(refused.json()["errors"][0]["msg"], "parameter 'service' is required");
    assert_eq!(mini.admin("/api/traces?service=compose-post-service&limit=many").0, 400);
    let count = |query: &str| mini.admin(&format!("/api/traces?{query}")).json()["data"].as_array().unwrap().len();
    assert_eq!(count("service=compose-post-service&limit=3&lookback=1h"), 3);
    assert_eq!(count("service=no-such-service"), 0);
    let starts: Vec<u64> = mini
        .traces("nginx-web-server")
        .iter()
        .map(|trace| span(trace, "nginx-web-server", "/wrk2-api/post/compose").unwrap()["startTime"].as_u64().unwrap())
        .collect();
    let middle = starts[2];
    assert_eq!(count(&format!("service=nginx-web-server&start={middle}&end={middle}")), 1);
    assert_eq!(count(&format!("service=nginx-web-server&start={}", starts[3])), 2);
    let id = mini.traces("nginx-web-server")[0]["traceID"].as_str().unwrap().to_owned();
    assert_eq!(mini.admin(&format!("/api/traces/{id}")).json()["data"][0]["traceID"], id);
    assert_eq!(mini.admin("/api/traces/ffff").0, 404);
    let services = mini.admin("/api/services").json();
    assert!(services["data"].as_array().unwrap().contains(&json!("compose-post-service")), "{services}");
}

#[test]
fn faults_show_in_answers_traces_and_counts() {
    let mini = Mini::start(NEAR, "");
    let set = |faults: Value| {
        mini.drain();
        assert_eq!(mini.put("/maestro/faults", &faults).0, 200);
    };
    let fanouts = || {
        mini.drain();
        let traces = mini.traces("compose-post-service");
        let fanout = |t: &Value| span(t, "write-home-timeline-service-us", "FanoutHomeTimelines").cloned();
        traces.iter().map(fanout).collect::<Vec<_>>()
    };
    set(json!({"compose_errors": 0.5}));
    let codes: Vec<u16> =
        (0..4).map(|_| mini.post("post/compose", "user_id=1&username=u&post_type=0&text=x").0).collect();
    assert_eq!(codes, [200, 500, 200, 500]);
    set(json!({"missing_fanout": 1.0}));
    mini.compose(1);
    assert_eq!(fanouts().iter().filter(|fanout| fanout.is_none()).count(), 1);
    set(json!({"missing_tags": 1.0, "missing_tag": "consistency_bool"}));
    mini.compose(1);
    let without = |f: &&Option<Value>| f.as_ref().is_some_and(|f| tag(f, "consistency_bool").is_null());
    assert_eq!(fanouts().iter().filter(without).count(), 1);
    set(json!({"lost_notifications": 1.0}));
    let lost = mini.compose(1);
    mini.drain();
    assert_eq!((mini.status("lost"), mini.truth().contains_key(&lost)), (json!(1), false));
    set(json!({"clock_skew_ms": -5000}));
    let skewed = mini.compose(1);
    let last = fanouts().pop().flatten().unwrap();
    let read: i64 = tag(&last, "poststorage_read_notification_ts")["value"].as_str().unwrap().parse().unwrap();
    assert_eq!(read, micros(&mini.truth()[&skewed], READ) / 1000 - 5000);
    set(json!({"empty_dependencies": true}));
    assert_eq!(mini.admin("/api/dependencies").json()["data"], json!([]));
    let refused = mini.put("/maestro/faults", &json!({"missing_tags": 7}));
    assert_eq!(refused.0, 400);
    assert!(refused.2.contains("a share is between 0 and 1, not 7"), "{refused:?}");
}
