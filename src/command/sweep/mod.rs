//! `maestro sweep`: runs a matrix of workloads, resumably, and draws what it gives.

mod adaptive;
mod check;
mod driver;
mod finish;
mod interrupt;
mod money;
mod status;

use std::path::{Path, PathBuf};

use crate::Context;
use crate::app::App;
use crate::command::Selection;
use crate::error::{Exit, Result};
use crate::experiment::TargetName;
use crate::store::{self, RunDir, StoreError};
use crate::sweep::{Cell, Event, Journal, Metrics, Observed, Progress, RunId, RunState, Spec, SweepError, Until};
use crate::ui;

/// What was asked for; the options are described in the grammar.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub selection: Selection,
    pub file: Option<PathBuf>,
    pub quick: bool,
    pub rounds: Option<u32>,
    pub until: Option<String>,
    pub name: Option<String>,
    pub status: bool,
    pub keep: bool,
}

/// The sweep that `maestrina` was.
const DEFAULT: &str = "configs/sweeps/sosp23.yml";
/// What `--quick` alone means.
const QUICK: &str = "configs/sweeps/quick.yml";

/// A sweep with everything that carrying it out needs.
pub(crate) struct Sweep {
    /// Where.
    pub target: TargetName,
    /// The app.
    pub app: &'static App,
    /// What.
    pub spec: Spec,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// `sweeps/<name>/`.
    pub dir: PathBuf,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, request: Request) -> Result<()> {
    let sweep = plan(context, &request)?;
    let journal_path = sweep.dir.join("journal.jsonl");
    if request.status {
        let at_work = context.store.lock_holder(&sweep.dir);
        return status::show(&sweep, &Journal::progress(&journal_path)?, at_work, context.json);
    }
    if context.dry_run {
        return status::show_plan(context, &sweep);
    }
    let _lock = context.store.lock_dir(&sweep.dir, "sweep")?;
    pin(&sweep)?;
    let (mut journal, mut progress) = Journal::open(&journal_path)?;
    let resumed = sweep.finished(&progress);
    if resumed > 0 {
        ui::note(format_args!("resuming: {} of {} done", resumed, ui::count(sweep.runs().len(), "run")));
    }
    let loaded = load_all(context, &sweep, &mut journal, &mut progress).await;
    let cleaned = if request.keep { Ok(()) } else { driver::clean(context, &sweep).await };
    loaded?;
    cleaned?;
    journal.append(&Event::Ended { at_us: now_us() })?;
    finish::finish(context, &sweep, &progress)
}

/// The finished runs of a sweep in numbers, and the sweep's directory.
///
/// # Errors
/// When the sweep, its journal or a run's record cannot be read.
pub(crate) fn observed(context: &Context, request: &Request) -> Result<(Vec<Observed>, PathBuf)> {
    let sweep = plan(context, request)?;
    let progress = Journal::progress(&sweep.file("journal.jsonl"))?;
    let mut observed = Vec::new();
    for (cell, round, dir) in sweep.done(&progress) {
        let cell = &sweep.cells[cell];
        let metrics = Metrics::read(&RunDir::new(context.store.resolve(dir)))?;
        observed.push(Observed { placement: cell.stem(), variant: cell.variant, rate: cell.rate, round, metrics });
    }
    Ok((observed, sweep.dir))
}

/// Reads and checks the sweep, with the command line's values in place of the file's.
fn plan(context: &Context, request: &Request) -> Result<Sweep> {
    let target = super::target(&request.selection)?.name();
    let app = request.selection.app(&context.store.read_state(target)?)?;
    let typed = match (&request.file, request.quick) {
        (Some(file), _) => file.display().to_string(),
        (None, true) => QUICK.to_owned(),
        (None, false) => DEFAULT.to_owned(),
    };
    let (text, path) = context.store.read_config(&typed)?;
    let mut spec = Spec::parse(&path, &text)?;
    if request.quick && request.file.is_some() {
        spec = spec.quickened();
    }
    if let Some(rounds) = request.rounds {
        spec.rounds = rounds;
    }
    spec.until = request.until.clone().or(spec.until);
    if let Some(until) = &spec.until {
        Until::parse(until)?;
    }
    // The short form of a file is a sweep of its own, beside the long one.
    let form = if request.quick && request.file.is_some() { "-quick" } else { "" };
    let name = request.name.clone().unwrap_or_else(|| format!("{}{form}-{target}", spec.name));
    let dir = context.store.sweep(&name);
    let cells = spec.cells();
    let sweep = Sweep { target, app, spec, cells, dir };
    sweep.cells.iter().try_for_each(|cell| app.check_variant(cell.variant))?;
    check::check(context, &sweep)?;
    Ok(sweep)
}

/// Keeps a copy of the sweep beside its journal, and refuses to go on with a matrix that has changed.
fn pin(sweep: &Sweep) -> Result<()> {
    let path = sweep.dir.join("sweep.yml");
    match store::read_yaml::<Spec>(&path) {
        Err(StoreError::Missing(_)) => {}
        Err(other) => return Err(other.into()),
        Ok(mut pinned) => {
            // More rounds of the same matrix are a continuation, anything else is another sweep.
            pinned.rounds = sweep.spec.rounds;
            pinned.until.clone_from(&sweep.spec.until);
            if pinned != sweep.spec {
                return Err(SweepError::Other { dir: sweep.dir.display().to_string() }.into());
            }
        }
    }
    store::write_yaml(&path, &sweep.spec)?;
    Ok(())
}

/// Carries out the rounds of the file, then those that `until` still asks for.
async fn load_all(context: &Context, sweep: &Sweep, journal: &mut Journal, progress: &mut Progress) -> Result<()> {
    let mut driver = driver::Driver::new(context, sweep);
    load(sweep, &sweep.runs(), &mut driver, journal, progress).await?;
    let Some(text) = &sweep.spec.until else { return Ok(()) };
    let until = Until::parse(text)?;
    for round in sweep.spec.rounds..sweep.spec.max_rounds {
        let wide = adaptive::wide(context, sweep, progress, &until)?;
        if wide.is_empty() {
            return Ok(());
        }
        ui::note(format_args!("`{text}` does not hold yet for {}", ui::count(wide.len(), "cell")));
        let more: Vec<RunId> = sweep
            .spec
            .order(&sweep.cells, round..round + 1)
            .into_iter()
            .filter(|run| wide.contains(&run.cell))
            .collect();
        load(sweep, &more, &mut driver, journal, progress).await?;
    }
    for cell in adaptive::wide(context, sweep, progress, &until)? {
        ui::warn(format_args!(
            "{}: `{text}` was not reached in {}",
            sweep.cells[cell].id(),
            ui::count(sweep.spec.max_rounds as usize, "round")
        ));
    }
    Ok(())
}

/// Carries out those of `runs` that the journal does not have yet.
async fn load(
    sweep: &Sweep,
    runs: &[RunId],
    driver: &mut driver::Driver<'_>,
    journal: &mut Journal,
    progress: &mut Progress,
) -> Result<()> {
    for (index, run) in runs.iter().enumerate() {
        while let RunState::Pending { failed } = progress.state(&sweep.cells[run.cell].id(), run.round) {
            let line = status::progress_line(sweep, progress, (index, runs));
            ui::note(line);
            let events = attempt(driver, sweep, *run, failed + 1, journal).await?;
            for event in events {
                journal.append(&event)?;
                progress.apply(&event);
            }
        }
    }
    Ok(())
}

/// One attempt at one run: the events that describe how it ended. Only an interruption is an error.
async fn attempt(
    driver: &mut driver::Driver<'_>,
    sweep: &Sweep,
    run: RunId,
    attempt: u32,
    journal: &mut Journal,
) -> Result<Vec<Event>> {
    let cell = sweep.cells[run.cell].id();
    let round = run.round;
    journal.append(&Event::Started { cell: cell.clone(), round, attempt, at_us: now_us() })?;
    let reason = match driver.carry_out(run).await {
        Ok(done) => {
            return Ok(vec![Event::Finished {
                cell,
                round,
                dir: done.dir,
                status: done.status,
                spent: done.spent,
                at_us: now_us(),
            }]);
        }
        Err(error) if error.exit_code() == Exit::Interrupted => return Err(error),
        Err(error) => error.line(),
    };
    ui::warn(format_args!("{cell} round {}: {reason}", round + 1));
    driver.forget();
    let failed = Event::Failed { cell: cell.clone(), round, attempt, reason: reason.clone(), at_us: now_us() };
    if attempt <= sweep.spec.retries {
        return Ok(vec![failed]);
    }
    ui::warn(format_args!("{cell} round {}: left out after {}", round + 1, ui::count(attempt as usize, "attempt")));
    Ok(vec![failed, Event::Quarantined { cell, round, reason, at_us: now_us() }])
}

impl Sweep {
    /// All runs in their order.
    fn runs(&self) -> Vec<RunId> {
        self.spec.order(&self.cells, 0..self.spec.rounds)
    }

    /// Every finished run in the order of the cells: (cell, round, directory), with rounds that `until` added.
    fn done(&self, progress: &Progress) -> Vec<(usize, u32, String)> {
        let rounds = self.spec.rounds.max(self.spec.max_rounds);
        let each = |cell: usize| {
            let id = self.cells[cell].id();
            (0..rounds).filter_map(move |round| match progress.state(&id, round) {
                RunState::Finished { dir, .. } => Some((cell, round, dir)),
                _ => None,
            })
        };
        (0..self.cells.len()).flat_map(each).collect()
    }

    /// All runs in their order, and after them those that `until` added and the journal knows.
    fn known(&self, progress: &Progress) -> Vec<RunId> {
        let added = (0..self.cells.len()).flat_map(|cell| {
            let rounds = progress.rounds(&self.cells[cell].id()).into_iter();
            rounds.filter(|round| *round >= self.spec.rounds).map(move |round| RunId { cell, round })
        });
        self.runs().into_iter().chain(added).collect()
    }

    /// How many runs are finished.
    fn finished(&self, progress: &Progress) -> usize {
        let done =
            |run: &&RunId| matches!(progress.state(&self.cells[run.cell].id(), run.round), RunState::Finished { .. });
        self.runs().iter().filter(done).count()
    }

    /// A path below the sweep's directory.
    fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }
}

/// Now, us since the epoch.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
