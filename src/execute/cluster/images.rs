//! Images on the hosts that run from them: compared by id, sent only where missing, compressed, and over the network
//! between the hosts once one of them has it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::tool::{self, Sum};
use super::{Hosts, own_binary};
use crate::cluster::ImageUse;
use crate::error::{Exit, Plain, Result};
use crate::execute::Outcome;
use crate::execute::docker::{DockerError, Engine};
use crate::execute::ssh::{Exec, Mode, Remote, local_facts};
use crate::secret::Secret;
use crate::ui;

/// Where archives lie on a host, below the user's home directory, until they are loaded.
const FOLDER: &str = ".maestro/images";

/// Where they lie below a directory that all hosts share, as the Python tool had it.
const SHARED_FOLDER: &str = "antipode-dsb-deploy/container-images";

/// Longest time that loading an archive may take.
const LOAD_LIMIT: Duration = Duration::from_secs(1800);

/// zstd's level: near its fastest, at most of its effect.
const LEVEL: i32 = 3;

const CHUNK: usize = 1 << 20;

/// An image and where it is missing.
struct Missing<'a> {
    image: &'a ImageUse,
    id: String,
    /// A host that has it; this machine's engine when absent.
    source: Option<String>,
    hosts: Vec<String>,
}

/// Ensures that every host has the images that it needs.
///
/// # Errors
/// Exit code 2 for an image that is nowhere to be had, else what engines and hosts say.
pub(super) async fn ensure(hosts: &Hosts, images: &[ImageUse], cache: &Path) -> Result<Outcome> {
    let names = hosts.names();
    let present = hosts.each(&names, async |name| present(hosts, &name, images).await).await?;
    let present: HashMap<&str, HashMap<String, String>> = names.iter().map(String::as_str).zip(present).collect();
    let here = here(images).await;

    let mut ids = Vec::with_capacity(images.len());
    let mut sent = 0;
    for image in images {
        let has = |host: &str| present.get(host).and_then(|ids| ids.get(&image.name)).cloned();
        let there = names.iter().find_map(|host| Some((has(host)?, host.clone())));
        let (id, source) = match (here.get(&image.name), there) {
            (Some(id), _) => (id.clone(), None),
            (None, Some((id, host))) => (id, Some(host)),
            (None, None) => {
                pull(hosts, image).await?;
                continue;
            }
        };
        let absent = image.hosts.iter().filter(|host| has(host).as_deref() != Some(id.as_str()));
        let missing = Missing { image, id: id.clone(), source, hosts: absent.cloned().collect() };
        if !missing.hosts.is_empty() {
            distribute(hosts, &missing, cache).await?;
            sent += missing.hosts.len();
        }
        ids.push((image.name.clone(), id));
    }
    if sent == 0 {
        ui::detail("every host has its images already");
    }
    Ok(Outcome::Images(ids))
}

/// Ids of the images that a host has, by name.
async fn present(hosts: &Hosts, name: &str, images: &[ImageUse]) -> Result<HashMap<String, String>> {
    let engine = hosts.engine(name).await?;
    let mut ids = HashMap::new();
    for image in images {
        if let Some(facts) = engine.image(&image.name).await? {
            ids.insert(image.name.clone(), facts.id);
        }
    }
    Ok(ids)
}

/// Ids of the images that this machine's engine has; none where there is no engine.
async fn here(images: &[ImageUse]) -> HashMap<String, String> {
    let mut ids = HashMap::new();
    let Ok(engine) = Engine::local() else { return ids };
    for image in images {
        match engine.image(&image.name).await {
            Ok(Some(facts)) => {
                ids.insert(image.name.clone(), facts.id);
            }
            Ok(None) => {}
            Err(error) => {
                ui::detail(format_args!("images can only come from hosts and registries: {error}"));
                break;
            }
        }
    }
    ids
}

/// An image that nobody has yet comes from its registry, to each host that needs it.
async fn pull(hosts: &Hosts, image: &ImageUse) -> Result<()> {
    ui::note(format_args!("pulling {} on {}", image.name, ui::count(image.hosts.len(), "host")));
    let pulled = hosts
        .each(&image.hosts, async |name| Ok(hosts.engine(&name).await?.pull_image(&image.name, "", |_| {}).await?))
        .await;
    pulled.map(drop).map_err(|error| {
        let why =
            format!("image `{}` is neither here nor on a host, and cannot be pulled: {}", image.name, error.line());
        Plain::usage(why).with_hint("build it first: maestro --gsd APP build").into()
    })
}

async fn distribute(hosts: &Hosts, missing: &Missing<'_>, cache: &Path) -> Result<()> {
    let archive = archive(hosts, missing, cache).await?;
    let (sha256, size) = local_facts(&archive).await?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to = format!("{}/{name}", shared_folder(hosts).as_deref().unwrap_or(FOLDER));
    ui::note(format_args!(
        "sending {} ({:.1} MB) to {}",
        missing.image.name,
        size as f64 / 1e6,
        missing.hosts.join(", ")
    ));
    let (own, _) = local_facts(&own_binary()?).await?;
    let tool = tool::path(&own);
    let progress = Sum::new(&missing.image.name, size * missing.hosts.len() as u64);
    let parcel = Parcel { archive: &archive, to: &to, sha256: &sha256, tool: &tool, progress: &progress, size };
    let Some((first, others)) = missing.hosts.split_first() else { return Ok(()) };
    parcel.upload(hosts, first).await?;
    if hosts.inventory.access.shared_path.is_none() && !others.is_empty() {
        parcel.relay(hosts, first, others).await?;
    }
    hosts.each(&missing.hosts, async |name| parcel.load(hosts, &name, missing).await).await.map(drop)
}

/// An archive on its way to hosts.
struct Parcel<'a> {
    archive: &'a Path,
    to: &'a str,
    sha256: &'a str,
    tool: &'a str,
    progress: &'a Sum,
    size: u64,
}

impl Parcel<'_> {
    async fn upload(&self, hosts: &Hosts, name: &str) -> Result<()> {
        let remote = hosts.remote(name)?;
        remote.upload(self.archive, self.to, Mode::Plain, &|at| self.progress.set(name, at)).await?;
        Ok(())
    }

    /// The other hosts fetch from the one that has it: this machine's line is used once. Where that does not work (a
    /// firewall between them, another architecture) it is sent from here.
    async fn relay(&self, hosts: &Hosts, from: &str, to: &[String]) -> Result<()> {
        // Only the two hosts are told.
        let token = Secret::generate();
        let offer = self.offer(hosts, from, &token).await;
        let (address, port, _offer) = match offer {
            Ok((running, port)) => (super::swarm::address(hosts, from).await?, port, Some(running)),
            Err(error) => {
                ui::detail(format_args!("{from} cannot serve the others: {error}"));
                (String::new(), 0, None)
            }
        };
        hosts
            .each(to, async |name| {
                if port != 0 {
                    match self.fetch(&hosts.remote(&name)?, &address, port, &token).await {
                        Ok(()) => {
                            self.progress.set(&name, self.size);
                            return Ok(());
                        }
                        Err(error) => ui::detail(format_args!("{name} gets it from here instead: {error}")),
                    }
                }
                self.upload(hosts, &name).await
            })
            .await
            .map(drop)
    }

    /// Serves the archive on a host until the result is dropped; the port.
    async fn offer(&self, hosts: &Hosts, name: &str, token: &Secret) -> Result<(crate::execute::ssh::Running, u16)> {
        let remote = hosts.remote(name)?;
        let mut running = remote.start(&Exec::new([self.tool, "peer", "serve", self.to])).await?;
        let silent = |why: String| Plain::new(Exit::StepFailed, format!("`{name}` does not offer the archive: {why}"));
        let say = running.stdin.write_all(format!("{}\n", token.expose()).as_bytes()).await;
        say.map_err(|error| silent(error.to_string()))?;
        let mut line = String::new();
        let mut lines = BufReader::new(&mut running.stdout);
        let said = tokio::time::timeout(Duration::from_secs(10), lines.read_line(&mut line)).await;
        match (said, line.trim().parse()) {
            (Ok(Ok(_)), Ok(port)) => Ok((running, port)),
            _ => Err(silent("no port was named".into()).into()),
        }
    }

    async fn fetch(&self, remote: &Remote, address: &str, port: u16, token: &Secret) -> Result<()> {
        let argv = [self.tool, "peer", "fetch", address, &port.to_string(), self.to, self.sha256].map(str::to_owned);
        let exec = Exec::new(argv).with_input(format!("{}\n", token.expose())).within(LOAD_LIMIT);
        remote.run_ok(&exec).await?;
        Ok(())
    }

    /// Loads what has arrived into the host's engine, and removes it unless it is shared.
    async fn load(&self, hosts: &Hosts, name: &str, missing: &Missing<'_>) -> Result<()> {
        let remote = hosts.remote(name)?;
        let (engine, sudo) = hosts.engine_and_sudo(name).await?;
        let prefix: &[&str] = if sudo { &["sudo", "-n", "--"] } else { &[] };
        let argv: Vec<&str> = prefix.iter().copied().chain([self.tool, "peer", "load", self.to]).collect();
        if let Err(error) = remote.run_ok(&Exec::new(argv).within(LOAD_LIMIT)).await {
            if error.to_string().to_lowercase().contains("no space left") {
                let why = format!("no space left on `{name}` for image `{}`", missing.image.name);
                return Err(Plain::new(Exit::Unreachable, why)
                    .with_hint(format!("free some space on `{name}`"))
                    .into());
            }
            ui::detail(format_args!("{name} is loaded from here: {error}"));
            self.load_from_here(&engine).await?;
        }
        if hosts.inventory.access.shared_path.is_none() {
            remote.run_ok(&Exec::new(["rm", "-f", "--", self.to])).await?;
        }
        match engine.image(&missing.image.name).await? {
            Some(found) if found.id == missing.id => Ok(()),
            // Engines with another kind of image store name the same image by another digest.
            Some(found) => {
                ui::detail(format_args!("{name} calls {} {}, not {}", missing.image.name, found.id, missing.id));
                Ok(())
            }
            None => {
                let why = format!("`{name}` loaded the archive, but has no image `{}`", missing.image.name);
                Err(Plain::new(Exit::StepFailed, why).into())
            }
        }
    }

    /// Without a copy of this program on the host: unpacked here, loaded through the forwarded socket.
    async fn load_from_here(&self, engine: &Engine) -> Result<()> {
        let unreadable = |error: io::Error| {
            Plain::new(Exit::Unreachable, format!("cannot read `{}`: {error}", self.archive.display()))
        };
        let file = std::fs::File::open(self.archive).map_err(unreadable)?;
        let stream = unpack(zstd::Decoder::new(file).map_err(unreadable)?);
        engine.load_images(&format!("`{}`", self.archive.display()), stream).await?;
        Ok(())
    }
}

/// A reader as a stream of pieces, read on a thread of its own.
pub(crate) fn unpack(mut reader: impl Read + Send + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (pieces, stream) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; CHUNK];
            let read = reader.read(&mut piece).map(|n| {
                piece.truncate(n);
                Bytes::from(piece)
            });
            let last = !matches!(&read, Ok(piece) if !piece.is_empty());
            // An archive that ends early must not look complete to whoever reads it.
            if matches!(&read, Ok(piece) if piece.is_empty()) || pieces.blocking_send(read).is_err() || last {
                return;
            }
        }
    });
    futures_util::stream::unfold(stream, |mut stream| async { Some((stream.recv().await?, stream)) })
}

/// Where archives lie in the directory that all hosts share, if there is one.
pub(super) fn shared_folder(hosts: &Hosts) -> Option<String> {
    let shared = hosts.inventory.access.shared_path.as_deref()?;
    Some(format!("{}/{SHARED_FOLDER}", shared.trim_end_matches('/')))
}

/// The name of the archive of the image `id`.
pub(super) fn archive_name(id: &str) -> String {
    let id = id.trim_start_matches("sha256:");
    format!("{}.tar.zst", id.get(..24).unwrap_or(id))
}

/// The image as an archive of this machine, made once and named by the image's id.
async fn archive(hosts: &Hosts, missing: &Missing<'_>, cache: &Path) -> Result<PathBuf> {
    let name = archive_name(&missing.id);
    let path = cache.join(&name);
    if path.exists() {
        return Ok(path);
    }
    let engine = match &missing.source {
        Some(host) => hosts.engine(host).await?,
        None => Engine::local()?,
    };
    ui::detail(format_args!("packing {}", missing.image.name));
    let unwritable =
        |error: io::Error| Plain::new(Exit::Unreachable, format!("cannot write `{}`: {error}", path.display()));
    std::fs::create_dir_all(cache).map_err(unwritable)?;
    let temporary = cache.join(format!("{name}.{}.tmp", std::process::id()));
    let packed = pack(engine.save_images(&[&missing.image.name]), &temporary).await;
    if let Err(error) = packed {
        // The first error is the one to tell.
        std::fs::remove_file(&temporary).ok();
        return Err(error);
    }
    std::fs::rename(&temporary, &path).map_err(unwritable)?;
    Ok(path)
}

/// Writes a stream compressed into `path`.
async fn pack(stream: impl Stream<Item = std::result::Result<Bytes, DockerError>> + Send, path: &Path) -> Result<()> {
    let (pieces, mut incoming) = mpsc::channel::<Bytes>(8);
    let file = std::fs::File::create(path);
    let work = tokio::task::spawn_blocking(move || {
        let mut encoder = zstd::Encoder::new(file?, LEVEL)?;
        while let Some(piece) = incoming.blocking_recv() {
            encoder.write_all(&piece)?;
        }
        encoder.finish()?.sync_all()
    });
    let mut stream = std::pin::pin!(stream);
    while let Some(piece) = stream.next().await {
        if pieces.send(piece?).await.is_err() {
            break;
        }
    }
    drop(pieces);
    let done = work.await.map_err(io::Error::other).and_then(|done| done);
    done.map_err(|error| Plain::new(Exit::Unreachable, format!("cannot write `{}`: {error}", path.display())).into())
}
