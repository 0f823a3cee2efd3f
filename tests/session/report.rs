//! `maestro report`: one file that needs nothing but itself.

use std::fs;

use crate::harness::Session;
use crate::plot::{fixtures, root};

fn page(session: &Session, line: &str) -> String {
    session.ok(line);
    fs::read_to_string(session.path("report.html")).unwrap()
}

/// Every value of an attribute.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    page.split(&format!(" {attribute}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn forty_runs_fit_into_one_offline_file() {
    let session = root();
    session.write("plots_all.yml", fs::read(fixtures().join("plots_all.yml")).unwrap());
    let page = page(&session, "report plots_all.yml");
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http:") && !outside.contains("https:") && !outside.contains("src=\""));
    assert!(page.contains("default-src 'none'"));
    for figure in ["throughput_latency_with_consistency_window", "violation_rate", "window_cdf", "storage_overhead"] {
        assert!(page.contains(&format!("<figure id=\"fig-{figure}\"")), "{figure}");
    }
    // The old directories have no timeline: the page says so.
    assert!(page.contains("<code>timeline</code> is not here: it needs timeline.csv, which none of these runs has."));
    assert!(page.contains("72</span> \u{2192} <span class=\"a\">176"), "the verdict");
    assert_eq!(page.matches("<svg ").count(), page.matches("</svg>").count());
    let links: Vec<&str> = values(&page, "href").into_iter().filter(|link| !link.starts_with('#')).collect();
    assert!(links.len() >= 40 * 4, "{}", links.len());
    for link in links {
        assert!(session.path(link).exists(), "{link}");
    }
}

#[test]
fn equal_runs_give_equal_bytes_wherever_they_are_named_from() {
    let session = root();
    let dir = "gather/gcp/socialNetwork/compose-post/us-eu-50";
    let first = page(&session, &format!("report {dir}"));
    let second = page(&session, &format!("report {dir}/202110180800 {dir}/202110180807 {dir}/202110180800"));
    assert!(first == second);
    assert!(first.contains("2 runs without a flag"));
}

#[test]
fn conditions_ledger_and_flags_come_from_the_record() {
    let session = Session::new();
    for (dir, rate, status) in [("gather/a", 50, "complete"), ("gather/b", 100, "flagged")] {
        let reasons = if status == "flagged" { "\n  reasons: ['97.5 % <complete>']" } else { "" };
        session.write(
            &format!("{dir}/run.yml"),
            format!(
                "format: 1\nmaestro: 0.1.0\nrevision: abc\napp: socialNetwork\ntarget: embedded\ndeployment: d\ntag: t\n\
                 placement:\n  path: configs/x.yml\n  sha256: '00'\n  zone_pair: US->EU\nvariant: baseline\n\
                 endpoint: compose-post\nworkload:\n  rate: {rate}\n  arrivals: constant\n  connections: 4\n  threads: 2\n  \
                 clients: 1\n  duration_s: 10\n  warmup_s: 1\n  seed: 7\n  pace: exact\n  timeout_s: 2\n\
                 started_us: 1760000000000000\nledger:\n  due: 500\n  sent: 499\n  ok: 498\n  traced: 497\n  complete: 496\n  \
                 used: 450\n  lost:\n    no read span: 1\noutcome:\n  status: {status}{reasons}\n"
            ),
        );
        session.write(&format!("{dir}/client00.out"), " 90.000%   12.00ms\nRequests/sec:     49.89\n");
        session.write(&format!("{dir}/traces.csv"), "consistency_bool;post_notification_diff_ms\nTrue;90\nFalse;10\n");
    }
    let page = page(&session, "report gather");
    assert!(page.contains("<dt>workload.seed</dt><dd>7</dd>"));
    assert!(page.contains("<dt>workload.rate</dt><dd>100.0, 50.0</dd>"), "what differs");
    assert!(page.contains("2025-10-09T08:53:20Z"));
    assert!(page.contains("<td class=\"wrap\">1 no read span</td>"));
    assert!(
        page.contains("1 of them flagged") && page.contains("97.5 % &lt;complete&gt;") && !page.contains("<complete>")
    );
    assert!(page.contains("1 of 2 (9.45\u{2013}90.5 %)"));
}

#[test]
fn nothing_to_report_is_an_error() {
    let session = Session::new();
    fs::create_dir(session.path("empty")).unwrap();
    let done = session.run("report empty");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("no run in"), "{}", done.stderr);
    session.write("void/info.yml", "rps: 50\ntype: other\nzone_pair: A->B\n");
    let done = session.run("report void");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("unknown type `other`"), "{}", done.stderr);
    assert!(!session.path("report.html").exists());
}
