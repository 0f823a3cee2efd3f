//! Carries out one run of a sweep with the same commands a person would type.

use std::time::{Duration, Instant};

use super::Sweep;
use super::interrupt::Interrupt;
use crate::Context;
use crate::command::{self, Selection, clean, delay, deploy, gather, run, wkld};
use crate::error::{Exit, Plain, Result};
use crate::experiment::{TargetName, Variant};
use crate::store::{RunDir, Status};
use crate::sweep::{Between, Cell, LateClient, RunId, Spent};
use crate::ui;

/// How long a run waits for readiness and for the queue to drain.
const READY: Duration = Duration::from_secs(300);
const DRAIN: Duration = Duration::from_secs(60);

/// What a run left.
pub(super) struct Done {
    /// Its directory, relative to the root.
    pub dir: String,
    /// Its outcome.
    pub status: Status,
    /// Where its time went.
    pub spent: Spent,
}

/// Time from one stage to the next.
struct Watch(Instant);

impl Watch {
    /// Seconds since the last call.
    fn lap(&mut self) -> f64 {
        let last = std::mem::replace(&mut self.0, Instant::now());
        last.elapsed().as_secs_f64()
    }
}

/// Remembers what is deployed and running, so that nothing is done twice.
pub(super) struct Driver<'a> {
    context: &'a Context,
    sweep: &'a Sweep,
    interrupt: Interrupt,
    deployed: Option<String>,
    running: Option<Variant>,
    used: bool,
}

impl<'a> Driver<'a> {
    pub(super) fn new(context: &'a Context, sweep: &'a Sweep) -> Self {
        Driver { context, sweep, interrupt: Interrupt::watch(), deployed: None, running: None, used: false }
    }

    /// After a failure nothing is taken for granted: the next run deploys again.
    pub(super) fn forget(&mut self) {
        self.deployed = None;
        self.running = None;
        self.used = false;
    }

    /// One run from its placement to its gathered files.
    ///
    /// # Errors
    /// The failing command's error; [`Exit::RunVoid`] when the numbers must not be used.
    pub(super) async fn carry_out(&mut self, id: RunId) -> Result<Done> {
        self.interrupt.check()?;
        let _quiet = ui::hush();
        let mut watch = Watch(Instant::now());
        let cell = &self.sweep.cells[id.cell];
        self.ensure_deployed(cell).await?;
        let deploy_s = watch.lap();
        self.interrupt.check()?;
        self.ensure_running(cell).await?;
        let start_s = watch.lap();
        self.interrupt.check()?;
        self.used = true;
        let run = wkld::perform(self.context, workload(self.sweep, cell, id)).await?;
        let wkld_s = watch.lap();
        if self.sweep.app.replication.is_some() {
            gather::gather(self.context, self.gathering(&run)).await?;
        }
        let gather_s = watch.lap();
        self.interrupt.check()?;
        self.done(&run, |load_s| Spent::new(deploy_s, start_s, (load_s, wkld_s), gather_s))
    }

    async fn ensure_deployed(&mut self, cell: &Cell) -> Result<()> {
        let path = cell.config_path(self.sweep.target, self.sweep.app.name);
        let again = self.used && self.sweep.spec.between == Between::Redeploy;
        if self.deployed.as_deref() == Some(path.as_str()) && !again {
            return Ok(());
        }
        clean(self.context, self.sweep).await?;
        self.forget();
        let request = deploy::Request {
            selection: self.selection(),
            config: path.clone(),
            tag: None,
            clients: self.sweep.spec.clients,
            force: false,
            strict: false,
            endpoint_mode: None,
            publish: None,
            app_dir: None,
        };
        deploy::run(self.context, request).await?;
        self.deployed = Some(path);
        Ok(())
    }

    async fn ensure_running(&mut self, cell: &Cell) -> Result<()> {
        if self.running == Some(cell.variant) {
            if self.used && self.sweep.spec.between == Between::Restart {
                clean::run(self.context, self.cleaning(true)).await?;
            }
            return Ok(());
        }
        let request = run::Request {
            selection: self.selection(),
            variant: cell.variant,
            prometheus: false,
            portainer: false,
            attached: false,
            // The miniature takes free ports: a busy 8080 must not stop a sweep.
            ports: (self.sweep.target == TargetName::Embedded).then(|| "auto".to_owned()),
            open: false,
            timeout: READY,
        };
        run::run(self.context, request).await?;
        self.running = Some(cell.variant);
        if let Some(delay) = &self.sweep.spec.delay {
            delay::run(self.context, delay::Request::of_sweep(self.selection(), delay)).await?;
        }
        Ok(())
    }

    fn gathering(&self, run: &RunDir) -> gather::Request {
        gather::Request {
            selection: self.selection(),
            jaeger: None,
            traces: Vec::new(),
            deps: None,
            brokers: Vec::new(),
            run: Some(run.path().to_owned()),
            service: None,
            drain_timeout: DRAIN,
            warmup: None,
        }
    }

    fn done(&self, run: &RunDir, spent: impl FnOnce(f64) -> Spent) -> Result<Done> {
        let mut record = run.read_record()?;
        let dir = self.context.store.relative(run.path());
        if record.outcome.status == Status::Void && self.sweep.spec.late_client == LateClient::Flag {
            record.outcome.status = Status::Flagged;
            run.write_record(&record)?;
        }
        if record.outcome.status == Status::Void {
            let why = record.outcome.reasons.join("; ");
            return Err(Plain::new(Exit::RunVoid, format!("`{dir}` is void: {why}")).into());
        }
        Ok(Done { dir, status: record.outcome.status, spent: spent(record.workload.duration_s) })
    }

    fn selection(&self) -> Selection {
        selection(self.sweep)
    }

    fn cleaning(&self, restart: bool) -> clean::Request {
        cleaning(self.sweep, restart)
    }
}

/// The load of one run.
pub(super) fn workload(sweep: &Sweep, cell: &Cell, id: RunId) -> wkld::Request {
    wkld::Request {
        selection: selection(sweep),
        endpoint: Some(cell.endpoint.clone()),
        nodes: Vec::new(),
        connections: cell.connections,
        duration: Duration::from_secs_f64(cell.duration_s),
        threads: cell.threads,
        rate: Some(cell.rate),
        warmup: Duration::from_secs_f64(cell.warmup_s),
        arrivals: sweep.spec.arrivals.clone(),
        ramp: None,
        seed: sweep.spec.seed.wrapping_add(u64::from(id.round)),
        pace: "exact".into(),
        max_connections: None,
        timeout: Duration::from_secs(10),
        drain: Duration::from_secs(10),
        start_at: None,
        script: None,
        script_args: Vec::new(),
        url: None,
        out: None,
        ca: None,
        insecure: false,
        probe: 0.0,
        find_max: false,
        slo: String::new(),
        round: id.round,
    }
}

fn selection(sweep: &Sweep) -> Selection {
    Selection { target: Some(sweep.target), app: Some(sweep.app) }
}

fn cleaning(sweep: &Sweep, restart: bool) -> clean::Request {
    // Rented machines are never left behind; elsewhere a sweep removes only what it started.
    let strong = !restart && sweep.target == TargetName::Gcp;
    clean::Request { selection: selection(sweep), strong, restart, tag: None, images: false, firewall: false }
}

/// Removes what runs, when something is deployed.
///
/// # Errors
/// As `clean`.
pub(super) async fn clean(context: &Context, sweep: &Sweep) -> Result<()> {
    let state = context.store.read_state(sweep.target)?;
    if state.tag.is_none() || state.cleaned == Some(true) {
        return Ok(());
    }
    let _quiet = ui::hush();
    command::clean::run(context, cleaning(sweep, false)).await
}
