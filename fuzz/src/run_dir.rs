//! The reader of a whole run directory, for figures: whatever one file of it holds, the others are read.

use maestro::plot::run_data::{load, load_present};
use maestro::plot::{Part, RunError};
use maestro::store::Status;

use super::{folder, line};

/// What a run directory holds; the first byte of an input tells which of the files it replaces.
const FILES: [(&str, &str); 7] = [
    ("info.yml", "rps: 160\ntype: antipode\nzone_pair: US->SG\ntotal_post_storage_size_bytes: 9\n"),
    (
        "traces.csv",
        "ts;post_notification_diff_ms;consistency_bool\n2021-10-18 11:00:00.001866;-1.5;True\n2021-10-18 \
         11:00:01;2;False\n",
    ),
    ("traces.info", "3 messages skipped due to missing information\n"),
    ("timeline.csv", "second,due,sent,ok,errors,p50_us,p90_us,p99_us\n0,10,10,9,1,100,200,300\n1,10,10,10,0,,,\n"),
    ("summary.json", SUMMARY),
    ("client00.out", include_str!("../../tests/fixtures/wrk2/ms.out")),
    ("run.yml", include_str!("../examples/run.yml")),
];

const SUMMARY: &str = "{\"format\":1,\"consistency\":{\"violations\":{\"k\":1,\"n\":2},\"window\":{\"censored\":0,\"p50\":\
    {\"value\":1.0,\"low\":0.5,\"high\":2.0}},\"cdf\":[[1.0,0.5],[2.0,1.0]],\"completeness\":0.99,\"timeline\":\
    [{\"second\":0,\"complete\":2,\"violations\":1}]}}";

/// Reads a run of which one file is `data`.
pub fn check(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let damaged = usize::from(first) % FILES.len();
    // Without `run.yml` and `summary.json` the Python tool's files count.
    let old = first >= 128;
    let dir = folder().join("run");
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).expect("a folder for a run");
    for (index, (name, content)) in FILES.iter().enumerate() {
        let kept = !(old && matches!(*name, "run.yml" | "summary.json")) || index == damaged;
        let content = if index == damaged { data } else { content.as_bytes() };
        if kept {
            std::fs::write(dir.join(name), content).expect("a file of a run");
        }
    }
    match load_present("run", &dir) {
        Ok(run) => {
            assert!(run.rate > 0.0, "{run:?}");
            assert!(run.status != Status::Complete || run.reasons.len() < 1 << 20);
        }
        Err(error) => told(&error),
    }
    for part in Part::ALL {
        if let Err(error) = load("run", &dir, &[part]) {
            told(&error);
        }
    }
}

fn told(error: &RunError) {
    line(&maestro::error::Error::from(maestro::error::Plain::usage(error.to_string())).line());
}

/// Each file as it should be, and one of the Python tool's.
pub fn examples() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (index, (_, content)) in FILES.iter().enumerate() {
        for old in [0, 128] {
            // The first byte above 127 that means this file.
            let first = (old..=255).find(|byte| byte % FILES.len() == index).unwrap_or_default();
            all.push([&[first as u8], content.as_bytes()].concat());
        }
    }
    let csv = include_bytes!("../../tests/fixtures/gather/small/expected/traces.csv");
    let first = (128..=255_u8).find(|byte| usize::from(*byte) % FILES.len() == 1).unwrap_or_default();
    all.push([&[first], &csv[..]].concat());
    all
}
