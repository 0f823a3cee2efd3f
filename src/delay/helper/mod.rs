//! The process that keeps a delay in force inside another container's network namespace.
//!
//! It outlives maestro and is outlived by nothing of its own: the lease ends it, the kernel removes its redirect rules
//! with it, and an engine that restarts it (after a kill, or after the application's container was restarted and has
//! a new namespace) makes it take up its rules again from `state.json` for what is left of the lease.

mod control;
mod enforce;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use self::enforce::InForce;
use super::netlink::route;
use super::wire::{Probed, Reply, Request, Rules, Status};
use super::{DelayError, now_us, probe};
use crate::error::Fault;
use crate::store::write_atomic;
use crate::ui;

pub(crate) use self::control::ask as control;

/// Between two looks at lease, addresses and schedule.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two look-ups of the peers' names.
const LOOK_UP: u32 = 4;
/// How long the namespace may be without an interface before the helper gives it up.
const ORPHANED: Duration = Duration::from_secs(2);

/// How a helper is started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    /// Where it keeps its state and its control socket.
    pub dir: PathBuf,
    /// Its life without renewal.
    pub lease: Duration,
    /// Tie the redirect rules to the process, where the kernel can.
    pub owner: bool,
}

/// What survives a restart.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    until_us: i64,
    restarts: u64,
    /// Other helpers' rules name it, so a restart keeps it.
    echo_port: u16,
    rules: Option<Rules>,
}

struct Helper {
    options: Options,
    started_us: i64,
    restarts: u64,
    echo_port: u16,
    until: Instant,
    in_force: Option<InForce>,
    had_interfaces: bool,
    orphaned_since: Option<Instant>,
}

/// Why the helper ends.
enum Ending {
    /// Its lease is over, it was told to, or it was asked politely.
    Orderly(&'static str),
    /// The engine should start it again.
    Failed(DelayError),
}

/// Runs the helper to its end.
///
/// # Errors
/// [`DelayError`] when it cannot start, or when it should be started again.
pub(crate) async fn serve(options: Options) -> Result<(), DelayError> {
    raise_descriptor_limit();
    let place = options.dir.display().to_string();
    let listener =
        control::listen(&options.dir).map_err(|source| DelayError::Unreachable { place: place.clone(), source })?;
    let saved = saved(&options.dir);
    let echo_port = probe::echo(saved.as_ref().map_or(0, |saved| saved.echo_port))
        .map_err(|source| DelayError::Unreachable { place, source })?;
    let Some(helper) = Helper::start(options, echo_port, saved).await? else {
        ui::note("the lease ended while nobody was there");
        return Ok(());
    };
    helper.save()?;
    let helper = Arc::new(Mutex::new(helper));
    let (end, mut ended) = tokio::sync::mpsc::channel::<Ending>(1);
    let callers = tokio::spawn(take_calls(listener, Arc::clone(&helper), end));
    let ending = tokio::select! {
        ending = watch(Arc::clone(&helper)) => ending,
        Some(ending) = ended.recv() => ending,
        () = told_to_stop() => Ending::Orderly("told to stop"),
    };
    callers.abort();
    let mut helper = helper.lock().await;
    let removed = helper.in_force.take().map_or(Ok(()), InForce::remove);
    match ending {
        Ending::Orderly(why) => {
            helper.forget();
            ui::note(format_args!("delay removed: {why}"));
            removed
        }
        Ending::Failed(error) => Err(error),
    }
}

impl Helper {
    /// Takes up what an earlier life left; `None` when its lease has ended meanwhile.
    async fn start(options: Options, echo_port: u16, saved: Option<Saved>) -> Result<Option<Self>, DelayError> {
        enforce::clear_leftovers()?;
        let mut helper = Helper {
            until: Instant::now() + options.lease,
            started_us: now_us(),
            restarts: 0,
            echo_port,
            in_force: None,
            had_interfaces: false,
            orphaned_since: None,
            options,
        };
        let Some(saved) = saved else { return Ok(Some(helper)) };
        let left_us = saved.until_us - now_us();
        if left_us <= 0 {
            helper.forget();
            return Ok(None);
        }
        helper.until = Instant::now() + Duration::from_micros(left_us as u64);
        helper.restarts = saved.restarts + 1;
        if let Some(rules) = saved.rules {
            let addresses = await_addresses(&rules).await?;
            helper.in_force = Some(InForce::apply(rules, addresses, helper.options.owner)?);
            ui::note("delay in force again after a restart");
        }
        Ok(Some(helper))
    }

    fn save(&self) -> Result<(), DelayError> {
        let left = self.until.saturating_duration_since(Instant::now());
        let saved = Saved {
            until_us: now_us() + left.as_micros() as i64,
            restarts: self.restarts,
            echo_port: self.echo_port,
            rules: self.in_force.as_ref().map(|f| f.rules.clone()),
        };
        let path = state_file(&self.options.dir);
        let failed = |why: String| DelayError::Kernel { what: format!("write {}", path.display()), why };
        let text = serde_json::to_vec_pretty(&saved).map_err(|error| failed(error.to_string()))?;
        write_atomic(&path, &text).map_err(|error| failed(error.to_string()))
    }

    /// After an orderly end there is nothing to take up.
    fn forget(&self) {
        // Not there, or not removable in a file system that goes away with the container.
        let _ = std::fs::remove_file(state_file(&self.options.dir));
    }

    async fn apply(&mut self, rules: Rules) -> Result<(), DelayError> {
        for following in rules.rules.iter().filter_map(|rule| rule.following.as_ref()) {
            following.schedule.check()?;
        }
        let addresses = await_addresses(&rules).await?;
        if let Some(before) = self.in_force.take() {
            before.remove()?;
        }
        self.in_force = Some(InForce::apply(rules, addresses, self.options.owner)?);
        self.save()
    }

    fn in_force(&mut self) -> Result<&mut InForce, DelayError> {
        self.in_force.as_mut().ok_or_else(|| DelayError::Refused("no rule is in force".to_owned()))
    }

    fn status(&self) -> Status {
        let (backend, tied, rules) = match &self.in_force {
            Some(in_force) => {
                let (backend, tied, rules) = in_force.status();
                (Some(backend), tied, rules)
            }
            None => (None, false, Vec::new()),
        };
        Status {
            maestro: env!("CARGO_PKG_VERSION").to_owned(),
            started_us: self.started_us,
            applied_us: self.in_force.as_ref().map_or(0, |f| f.applied_us),
            restarts: self.restarts,
            lease_left_s: self.until.saturating_duration_since(Instant::now()).as_secs_f64(),
            echo_port: self.echo_port,
            backend,
            tied_to_process: tied,
            rules,
        }
    }

    /// One look at everything that changes by itself.
    fn tick(&mut self, addresses: Option<Vec<Vec<IpAddr>>>) -> Option<Ending> {
        if Instant::now() >= self.until {
            return Some(Ending::Orderly("the lease is over"));
        }
        if let Some(ending) = self.look_at_namespace() {
            return Some(ending);
        }
        let in_force = self.in_force.as_mut()?;
        if !in_force.is_alive() {
            let why = "its thread has ended".to_owned();
            return Some(Ending::Failed(DelayError::Kernel { what: "run the proxy".to_owned(), why }));
        }
        let done = in_force.keep_time().and_then(|()| match addresses {
            Some(addresses) if addresses.len() == in_force.rules.rules.len() => in_force.follow(addresses),
            _ => Ok(()),
        });
        done.err().map(Ending::Failed)
    }

    /// A container that was restarted has a new namespace and leaves this one without interfaces.
    fn look_at_namespace(&mut self) -> Option<Ending> {
        let interfaces = route::interfaces().ok()?;
        if interfaces.iter().any(|i| i.carries_traffic) {
            self.had_interfaces = true;
            self.orphaned_since = None;
        } else if self.had_interfaces {
            let since = *self.orphaned_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= ORPHANED {
                let why = "its interfaces are gone; the container was stopped or restarted".to_owned();
                return Some(Ending::Failed(DelayError::Kernel { what: "use this namespace".to_owned(), why }));
            }
        }
        None
    }
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

/// What an earlier life left.
fn saved(dir: &Path) -> Option<Saved> {
    serde_json::from_slice(&std::fs::read(state_file(dir)).ok()?).ok()
}

/// Looks at lease, namespace, addresses and schedules until one of them ends the helper.
async fn watch(helper: Arc<Mutex<Helper>>) -> Ending {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        ticks.tick().await;
        count = count.wrapping_add(1);
        let peers = match &helper.lock().await.in_force {
            Some(in_force) if count.is_multiple_of(LOOK_UP) => Some(in_force.peers()),
            _ => None,
        };
        // Looked up without the lock: a slow name server must not keep callers waiting.
        let addresses = match peers {
            Some(peers) => Some(addresses_of(&peers).await),
            None => None,
        };
        if let Some(ending) = helper.lock().await.tick(addresses) {
            return ending;
        }
    }
}

async fn take_calls(
    listener: tokio::net::UnixListener,
    helper: Arc<Mutex<Helper>>,
    end: tokio::sync::mpsc::Sender<Ending>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        let (helper, end) = (Arc::clone(&helper), end.clone());
        tokio::spawn(async move {
            let Some((request, stream)) = control::read(stream).await else { return };
            let off = request == Request::Off;
            let reply = obey(&helper, request).await.unwrap_or_else(refused);
            // The caller of `Off` is answered when the rules are gone.
            control::answer(stream, &reply).await;
            if off {
                let _ = end.send(Ending::Orderly("told to")).await;
            }
        });
    }
}

fn refused(error: DelayError) -> Reply {
    Reply::Refused { message: error.to_string(), exit: error.exit() as i32 }
}

async fn obey(helper: &Mutex<Helper>, request: Request) -> Result<Reply, DelayError> {
    match request {
        Request::Apply(rules) => helper.lock().await.apply(rules).await?,
        Request::Set { rule, spec } => helper.lock().await.in_force()?.set(rule, spec)?,
        Request::Follow(schedule) => {
            let mut helper = helper.lock().await;
            helper.in_force()?.follow_schedule(&schedule)?;
            helper.save()?;
        }
        Request::Kernel => {
            if helper.lock().await.in_force.is_some() {
                return Err(DelayError::Refused("a rule is in force; the kernel is asked without one".to_owned()));
            }
            let (netem, redirect) = enforce::abilities()?;
            return Ok(Reply::Kernel { netem, redirect });
        }
        Request::Renew { seconds } => {
            let mut helper = helper.lock().await;
            let lease = Duration::try_from_secs_f64(seconds)
                .map_err(|_| DelayError::Refused(format!("a lease of {seconds} s")))?;
            helper.until = Instant::now() + lease;
            helper.save()?;
        }
        Request::Begin => {
            let mut helper = helper.lock().await;
            if let Some(in_force) = &mut helper.in_force {
                in_force.begin();
                helper.save()?;
            }
        }
        Request::Status => return Ok(Reply::Status(helper.lock().await.status())),
        Request::Probe { peers, port, connections, rounds, patience_ms } => {
            let patience = Duration::from_secs_f64(patience_ms.clamp(1.0, 600_000.0) / 1e3);
            return probe_echo(&peers, port, connections, rounds, patience).await.map(Reply::Probed);
        }
        Request::Visibility { peers, port, writes, patience_ms } => {
            let patience = Duration::from_secs_f64(patience_ms.clamp(1.0, 600_000.0) / 1e3);
            return probe_store(peers, port, writes, patience).await.map(Reply::Probed);
        }
        Request::Off => {
            let mut helper = helper.lock().await;
            helper.in_force.take().map_or(Ok(()), InForce::remove)?;
            helper.forget();
        }
    }
    Ok(Reply::Done)
}

/// Probes the first of the peer's addresses that answers.
async fn probe_echo(
    peers: &[String],
    port: u16,
    connections: usize,
    rounds: usize,
    patience: Duration,
) -> Result<Probed, DelayError> {
    let addresses = addresses_of(&[peers.to_vec()]).await.concat();
    for address in &addresses {
        let address = std::net::SocketAddr::new(*address, port);
        let measure = move || {
            let answers = probe::round_trips(address, 1, 1, patience).lost == 0;
            answers.then(|| probe::round_trips(address, connections.clamp(1, 1000), rounds, patience))
        };
        if let Ok(Some(probed)) = tokio::task::spawn_blocking(measure).await {
            return Ok(probed);
        }
    }
    let place = format!("{} port {port}", peers.join(", "));
    Err(DelayError::Unreachable { place, source: io::Error::other("no answer to a probe") })
}

async fn probe_store(peers: Vec<String>, port: u16, writes: usize, patience: Duration) -> Result<Probed, DelayError> {
    let addresses = addresses_of(std::slice::from_ref(&peers)).await.concat();
    let address = *addresses.first().ok_or_else(|| DelayError::Unresolved(peers.join(", ")))?;
    let measured = tokio::task::spawn_blocking(move || probe::visibility(address, port, writes, patience)).await;
    measured
        .map_err(io::Error::other)
        .and_then(|m| m)
        .map_err(|source| DelayError::Unreachable { place: format!("{} port {port}", peers.join(", ")), source })
}

/// The addresses of each list of names, sorted; empty where nothing is known.
async fn addresses_of(peers: &[Vec<String>]) -> Vec<Vec<IpAddr>> {
    let mut all = Vec::new();
    for names in peers {
        let mut addresses = Vec::new();
        for name in names {
            if let Ok(address) = name.parse::<IpAddr>() {
                addresses.push(address);
                continue;
            }
            let look_up = tokio::time::timeout(Duration::from_secs(3), tokio::net::lookup_host((name.as_str(), 0)));
            if let Ok(Ok(found)) = look_up.await {
                addresses.extend(found.map(|a| a.ip().to_canonical()));
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        all.push(addresses);
    }
    all
}

/// The addresses of every rule's peer; each must have one.
async fn await_addresses(rules: &Rules) -> Result<Vec<Vec<IpAddr>>, DelayError> {
    let peers: Vec<Vec<String>> = rules.rules.iter().map(|rule| rule.peers.clone()).collect();
    let addresses = addresses_of(&peers).await;
    match addresses.iter().position(Vec::is_empty) {
        Some(index) => Err(DelayError::Unresolved(peers[index].join(", "))),
        None => Ok(addresses),
    }
}

/// Two descriptors per connection: as many as the host allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused: then the limit is what it was, and the proxy says so when it is reached.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
