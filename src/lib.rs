//! `maestro` builds and deploys a microservice benchmark, injects replication delay, drives open-loop load,
//! measures consistency windows and violations from traces, gathers, sweeps, and draws the figures.
//!
//! How data flows, one module per arrow:
//!
//! ```text
//! args ──cli──> Experiment ──target/swarm──> Plan ──execute──> Deployment
//! Workload ──wkld──> samples ──┐
//! Jaeger or embedded ──trace──> Trace ──analysis──> Observation ──> Summary ──> files of a run (store)
//! runs ──plot──> figures       runs ──report──> one HTML file
//! ```
//! `ui` is the only module that prints, `cli` the only one that knows clap, `store` the only one that joins paths,
//! `execute` the only door to Docker, SSH and cloud.

pub mod analysis;
pub mod app;
pub mod bundle;
mod cli;
pub mod clock;
pub mod cloud;
pub mod cluster;
mod command;
pub mod compare;
pub mod compose;
pub mod delay;
pub mod embedded;
pub mod error;
pub mod execute;
pub mod experiment;
pub mod finding;
pub mod images;
pub mod inventory;
pub mod local;
mod peer;
pub mod placement;
pub mod plan;
pub mod plot;
pub mod report;
pub mod secret;
pub mod service;
pub mod stats;
pub mod store;
pub mod swarm;
pub mod sweep;
pub mod target;
pub mod trace;
mod ui;
pub mod wait;
pub mod wkld;

use std::ffi::OsString;
use std::process::ExitCode;

/// What every command gets besides its own request.
#[derive(Clone, Debug)]
pub struct Context {
    /// The working root.
    pub store: store::Store,
    /// Print the plan and change nothing.
    pub dry_run: bool,
    /// Do not ask.
    pub yes: bool,
    /// Results as JSON.
    pub json: bool,
}

/// The whole program: parses `args` (with the program's name first), runs the command and prints its error.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let done = cli::parse(args).and_then(|invocation| match invocation {
        cli::Invocation::Done => Ok(()),
        cli::Invocation::Run(run) => run_command(*run),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

fn run_command(run: cli::Run) -> error::Result<()> {
    ui::set_level(run.level);
    start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error::Plain::new(error::Exit::Unreachable, format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(command::run(&run.context, run.command));
    runtime.shutdown_background();
    done
}

/// `MAESTRO_LOG=debug` shows what the libraries and the modules trace.
fn start_log() {
    let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("MAESTRO_LOG") else { return };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
