//! Sessions at a terminal: each test runs the real binary in a root of its own and reads what a person would read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests say what went wrong by panicking"
)]

mod basics;
mod build;
mod compare;
mod compose;
mod compose_fuzz;
mod delay;
mod docker;
mod docs;
mod embedded;
mod engine;
mod estimators;
mod gather;
mod gce_emulator;
mod gcp;
mod gcp_chaos;
mod gcp_lost;
mod gcp_plans;
mod gcp_site;
mod gcp_story;
mod gsd;
mod harness;
#[path = "../hosts/mod.rs"]
mod hosts;
mod hotel;
mod kills;
mod local;
mod local_delay;
mod local_restart;
mod mutations;
mod odd;
mod plot;
mod registry;
mod report;
mod sources;
mod ssh;
mod store_server;
mod swarm;
mod sweep;
#[path = "../../benches/support/trace_maker.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod trace_maker;
mod truth;
mod wkld;
