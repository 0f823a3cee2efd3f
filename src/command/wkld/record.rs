//! The files of a run: its directory, `run.yml` before and after, and what the generator measured.

use std::path::Path;

use indexmap::IndexMap;

use super::sender::{Sender, Sent};
use super::{Job, Request, host};
use crate::command::Current;
use crate::error::Result;
use crate::experiment::Variant;
use crate::store::{
    FORMAT, HostFacts, ImageRef, LoadCounts, Outcome, PlacementRef, RunDir, RunKey, RunRecord, Status, WorkloadRecord,
    create_exclusive, new_tag, write_atomic,
};
use crate::wkld::export::{hlog, timeline_csv};
use crate::wkld::report::{Report, Verdict};
use crate::wkld::{Workload, wrk2};

/// Makes the run's directory and writes its record with status `running`.
///
/// # Errors
/// When the directory cannot be made or written.
pub(super) fn begin(job: &Job<'_>, current: &Current, workload: &Workload) -> Result<(RunDir, RunRecord)> {
    let Job { context, request, sender, endpoint, .. } = *job;
    let deployment = &current.deployment;
    let variant = deployment.variant.unwrap_or(Variant::from_antipode(current.state.antipode.unwrap_or(false)));
    let stem = Path::new(&deployment.config).file_stem().unwrap_or_default().to_string_lossy();
    let rate = workload.schedule().mean_rate();
    let tag = new_tag();
    let key = RunKey { target: current.target, app: current.app.name, endpoint, stem: &stem, rate, variant, tag: &tag };
    let path = context.store.run_path(&key);
    let (tag, path) = create_exclusive(path.parent().unwrap_or(&path), &tag)?;
    let record = RunRecord {
        format: FORMAT,
        maestro: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("MAESTRO_REVISION").unwrap_or("unknown").to_owned(),
        app: current.app.name.to_owned(),
        target: current.target,
        deployment: deployment.tag.clone(),
        tag,
        placement: PlacementRef {
            path: deployment.config.clone(),
            sha256: deployment.config_sha256.clone(),
            zone_pair: deployment.zone_pair.clone(),
        },
        variant,
        endpoint: endpoint.to_owned(),
        workload: WorkloadRecord { client_hosts: sender.clients().to_vec(), ..asked(request, workload, rate) },
        round: request.round,
        images: images(sender),
        hosts: hosts(sender),
        clock_offsets: Vec::new(),
        clock_hosts: sender.stamps(),
        delay: deployment.delay.clone(),
        started_us: jiff::Timestamp::now().as_microsecond(),
        ended_us: None,
        load: None,
        ledger: None,
        outcome: Outcome::default(),
        other: IndexMap::new(),
    };
    let dir = RunDir::new(path);
    dir.write_record(&record)?;
    Ok((dir, record))
}

/// Images of a deployment on hosts, with their ids there.
fn images(sender: &Sender) -> Vec<ImageRef> {
    let images = sender.facts().map_or(&[][..], |facts| &facts.images);
    images.iter().map(|(name, digest)| ImageRef { name: name.clone(), digest: digest.clone() }).collect()
}

/// This machine, and the hosts of the deployment.
fn hosts(sender: &Sender) -> Vec<HostFacts> {
    let others = sender.facts().map_or(&[][..], |facts| &facts.hosts);
    let others = others.iter().map(|host| HostFacts {
        name: host.name.clone(),
        cpu: host.cpu.clone(),
        cpus: host.cpus,
        memory_bytes: host.memory_bytes,
        kernel: host.kernel.clone(),
        clock_source: host.clock_source.clone(),
        clock_synchronised: host.clock_synchronised,
    });
    std::iter::once(host::facts()).chain(others).collect()
}

fn asked(request: &Request, workload: &Workload, rate: f64) -> WorkloadRecord {
    let seconds = |ns: u64| ns as f64 / 1e9;
    WorkloadRecord {
        rate,
        arrivals: request.ramp.clone().unwrap_or_else(|| request.arrivals.clone()),
        connections: workload.connections,
        threads: workload.threads,
        clients: workload.clients as usize,
        client_hosts: Vec::new(),
        duration_s: seconds(workload.schedule().duration_ns()),
        warmup_s: seconds(workload.warmup_ns),
        seed: workload.seed,
        pace: workload.pace.as_str().to_owned(),
        timeout_s: seconds(workload.timeout_ns),
    }
}

/// Writes what was measured and completes the record; `void` says why its numbers must not be used, if they must not.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn finish(dir: &RunDir, record: &mut RunRecord, sent: &Sent, url: &str, void: Vec<String>) -> Result<()> {
    let report = &sent.report;
    for (number, part) in &sent.parts {
        let text = wrk2_text(part, url, record.workload.duration_s);
        write_atomic(&dir.client_out(*number), text.as_bytes())?;
    }
    write_measured(dir, report)?;
    record.clock_offsets.clone_from(&sent.clocks);
    record.started_us = report.started_us;
    record.ended_us = Some(report.ended_us);
    record.load = Some(LoadCounts {
        due: report.counts.due,
        sent: report.counts.sent,
        ok: report.counts.ok,
        errors: report.errors.clone(),
        unfinished: report.unfinished(),
        throughput: report.throughput(),
    });
    record.outcome = outcome(report);
    for reason in sent.lost.iter().cloned().chain(void) {
        record.outcome.add(Status::Void, reason);
    }
    dir.write_record(record)?;
    Ok(())
}

/// The generator's own files.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_measured(dir: &RunDir, report: &Report) -> Result<()> {
    write_atomic(&dir.file("latency.hgrm"), wrk2::hgrm(&report.latency_with_bounds()).as_bytes())?;
    write_atomic(&dir.file("latency.hlog"), hlog(report).as_bytes())?;
    write_atomic(&dir.file("timeline.csv"), timeline_csv(&report.timeline).as_bytes())?;
    if let Some(probe) = &report.probe {
        write_atomic(&dir.file("probe.csv"), probe.csv().as_bytes())?;
    }
    dir.write_summary_section("load", report.summary())?;
    Ok(())
}

/// How the run ended, from what was measured.
pub(crate) fn outcome(report: &Report) -> Outcome {
    let mut outcome = Outcome { status: Status::Complete, reasons: Vec::new() };
    match report.verdict() {
        Verdict::Sound => {}
        Verdict::Noted(notes) => {
            for note in notes {
                outcome.add(Status::Flagged, note);
            }
        }
        Verdict::ClientLimited(reasons) => {
            for reason in reasons {
                outcome.add(Status::Void, reason);
            }
        }
    }
    if let Some(error) = &report.script_error {
        outcome.add(Status::Void, format!("the script failed: {error}"));
    }
    if report.interrupted {
        outcome.add(Status::Interrupted, "ended by the user");
    }
    outcome
}

/// wrk2's text for the report.
pub(crate) fn wrk2_text(report: &Report, url: &str, duration_s: f64) -> String {
    let count = |kinds: &[&str]| kinds.iter().filter_map(|kind| report.errors.get(*kind)).sum();
    let latency = report.latency_with_bounds();
    wrk2::render(&wrk2::Text {
        duration_s,
        url,
        threads: report.threads,
        connections: report.connections,
        latency: &latency,
        thread_rates: &report.thread_rates,
        requests: report.counts.responses,
        runtime_s: report.measured_s,
        bytes: report.counts.bytes,
        socket_errors: [
            count(&["connect", "dns", "tls", "open_files"]),
            count(&["read", "protocol"]),
            count(&["write"]),
            count(&["timeout"]),
        ],
        bad_statuses: count(&["status_4xx", "status_5xx"]),
        rate: report.throughput(),
        unfinished: report.unfinished(),
    })
}
