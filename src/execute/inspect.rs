//! A look at this machine, its engine and its hosts: what a run needs, whether it is there, and what mends it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use rustix::process::{Resource, getrlimit};

use super::cluster::Hosts;
use super::docker::Engine;
use crate::error::Result;
use crate::finding::Finding;
use crate::ui;

/// Fewer open files than this end a run with many connections early.
const FILES: u64 = 4096;
/// Fewer cores than this make the load and the application wait for each other.
const CORES: usize = 2;
/// Less free disk than this is doubtful, bytes: traces, images and stores need some.
const DISK: u64 = 2 << 30;

/// Whether records can be written below `root`.
pub fn root(root: &Path) -> Finding {
    let what = "working root";
    let probe = root.join(format!(".maestro-doctor-{}", std::process::id()));
    let written = std::fs::create_dir_all(root).and_then(|()| std::fs::write(&probe, b"x"));
    match written.and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => Finding::fine(what, root.display()),
        Err(error) => Finding::missing(
            what,
            format_args!("{}: {error}", root.display()),
            "name another: --root DIR or MAESTRO_ROOT",
        ),
    }
}

/// Free disk where `dir` is.
pub fn disk(what: &str, dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Err(error) => Finding::doubt(what, format_args!("{}: {error}", dir.display()), "see that the directory exists"),
        Ok(seen) => {
            let free = seen.f_bavail.saturating_mul(seen.f_frsize);
            let found = format!("{:.1} GB free at {}", free as f64 / 1e9, dir.display());
            match free < DISK {
                true => Finding::doubt(what, found, "free some: gathered traces take about 6 kB each"),
                false => Finding::fine(what, found),
            }
        }
    }
}

/// How many files this process may open: each connection of the load is one.
pub fn open_files() -> Finding {
    let what = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES => Finding::doubt(
            what,
            format_args!("at most {limit}"),
            format!("ulimit -n {FILES}, for more connections than that"),
        ),
        limit => Finding::fine(what, limit.map_or_else(|| "without limit".to_owned(), |n| format!("at most {n}"))),
    }
}

/// How many cores this process may use.
pub fn cores() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match cores < CORES {
        true => {
            Finding::doubt("cores", cores, "use a machine with more: load and application would wait for each other")
        }
        false => Finding::fine("cores", cores),
    }
}

/// Whether `port` of this machine is free for what is called `name`.
pub fn port(name: &str, port: u16, mend: &str) -> Finding {
    let what = format!("port {port} ({name})");
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Finding::fine(what, "free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::missing(what, "taken by another program", mend),
        Err(error) => Finding::missing(what, error, mend),
    }
}

/// This machine's engine, when it can be used.
pub async fn engine() -> (Finding, Option<Engine>) {
    match look_at_engine().await {
        Ok((found, engine)) => (Finding::fine("Docker engine", found), Some(engine)),
        Err(error) => (Finding::failed("Docker engine", &error), None),
    }
}

async fn look_at_engine() -> Result<(String, Engine)> {
    let engine = Engine::local()?;
    let facts = engine.facts().await?;
    Ok((format!("{} at {}, {}, {}", facts.version, engine.address(), facts.architecture, facts.storage), engine))
}

/// Which of `images` the engine lacks; `build` is the command that gets them.
pub async fn images(engine: &Engine, images: &[String], build: &str) -> Finding {
    let what = "images";
    let mut lacking = Vec::new();
    for image in images {
        match engine.image(image).await {
            Ok(Some(_)) => {}
            Ok(None) => lacking.push(image.as_str()),
            Err(error) => return Finding::failed(what, &error.into()),
        }
    }
    match lacking.as_slice() {
        [] => Finding::fine(what, format_args!("all {} are there", images.len())),
        some => {
            Finding::missing(what, format_args!("{} of {} lacking: {}", some.len(), images.len(), few(some)), build)
        }
    }
}

/// The first three of a list, and how many more there are.
fn few(names: &[&str]) -> String {
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

/// Whether each host answers, lets us in, and has an engine that we may use.
pub(crate) async fn hosts(hosts: &Arc<Hosts>) -> Vec<Finding> {
    join_all(hosts.all().iter().map(async |host| {
        let what = format!("host {}", host.name);
        match look_at_host(hosts, &host.name).await {
            Ok(found) => Finding::fine(what, found),
            Err(error) => Finding::failed(what, &error),
        }
    }))
    .await
}

async fn look_at_host(hosts: &Hosts, name: &str) -> Result<String> {
    let facts = hosts.engine(name).await?.facts().await?;
    let memory = facts.memory as f64 / 1e9;
    let cpus = usize::try_from(facts.cpus).unwrap_or(usize::MAX);
    Ok(format!("engine {}, {}, {}, {memory:.1} GB", facts.version, facts.architecture, ui::count(cpus, "cpu")))
}
