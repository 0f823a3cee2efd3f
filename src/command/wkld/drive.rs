//! Sending a load from this host: threads of its own, progress, and ^C.

use std::sync::{Arc, Mutex};

use super::probe;
use super::requests::Requests;
use super::worker::Assignment;
use crate::app::App;
use crate::error::{Exit, Plain, Result};
use crate::ui;
use crate::wkld::report::{Report, Second};
use crate::wkld::script::Scripts;
use crate::wkld::{self, Stop, WkldError, Workload};

/// The scripts of a run, kept for `done`.
pub(super) type KeptScripts = Option<Arc<Mutex<Scripts>>>;

/// What sees every second of a load when it is over.
pub(super) type Watch = Box<dyn FnMut(&Second) + Send>;

/// Sends the load while ^C is listened for, with progress for people.
///
/// # Errors
/// When it could not be started.
pub(super) async fn load(assignment: &Assignment) -> Result<(Report, KeptScripts)> {
    load_until(assignment, Arc::new(Stop::default()), progress(&assignment.workload)).await
}

/// Sends the load until `stop`, while ^C is listened for.
///
/// # Errors
/// When it could not be started.
pub(super) async fn load_until(
    assignment: &Assignment,
    stop: Arc<Stop>,
    watch: Watch,
) -> Result<(Report, KeptScripts)> {
    let watcher = tokio::spawn(stop_on_signal(Arc::clone(&stop)));
    let assignment = assignment.clone();
    let done = tokio::task::spawn_blocking(move || send(&assignment, &stop, watch)).await;
    watcher.abort();
    let done = done.map_err(|error| Plain::new(Exit::Bug, format!("the load generator panicked: {error}")))?;
    Ok(done?)
}

/// Progress of a workload for people.
pub(super) fn progress(workload: &Workload) -> Watch {
    let whole = (workload.schedule().duration_ns() / 1_000_000_000).max(1);
    let progress = ui::Progress::new("load", whole);
    Box::new(move |second: &Second| progress.set((second.second + 1).min(whole), &line_of(second)))
}

fn send(
    assignment: &Assignment,
    stop: &Stop,
    mut watch: Watch,
) -> std::result::Result<(Report, KeptScripts), WkldError> {
    let Assignment { workload, requests, trust, probe: fraction, .. } = assignment;
    let hosts = requests.hosts(trust)?;
    let probe = match requests {
        Requests::Endpoint { app, endpoint, origin, replica, .. } if *fraction > 0.0 => {
            let found = App::find(app).map(|app| probe::of(app, endpoint));
            let probe = found.and_then(Result::ok);
            let probe = probe.ok_or_else(|| WkldError::Unusable(format!("`{endpoint}` cannot be probed")))?;
            probe::set_up(probe, origin, replica)?;
            let (probing, listening) = probe::begin(probe, *fraction);
            Some((probing, probe::start(probe, replica, listening)))
        }
        _ => None,
    };
    let (mut sources, scripts) = requests.sources(&hosts, workload.seed, trust, probe.as_ref().map(|(p, _)| p))?;
    let sent = wkld::run(workload, hosts, &mut *sources, stop, &mut *watch);
    // The probe ends when nobody is left who could hand it another write.
    drop(sources);
    let seen = probe.and_then(|(probing, thread)| {
        drop(probing);
        thread.join().ok()
    });
    let mut report = sent?;
    report.probe = seen;
    Ok((report, scripts))
}

/// The first signal ends the run; the second one the process.
async fn stop_on_signal(stop: Arc<Stop>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
        if stop.is_asked() {
            std::process::exit(Exit::Interrupted as i32);
        }
        stop.stop();
    }
}

/// One second in a few words.
fn line_of(second: &Second) -> String {
    let p99 = second.latency.unpack().quantile(0.99) as f64 / 1e6;
    let errors: u64 = second.errors.values().sum();
    let failed = if errors > 0 { format!(", {errors} failed") } else { String::new() };
    format!("{} due, {} ok{failed}, p99 {p99:.1} ms", second.due, second.ok)
}
