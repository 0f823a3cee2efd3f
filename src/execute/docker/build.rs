//! Carries out work on images: pulls, builds, generators. Every build's whole output is kept in a file; of a failed one
//! the last lines are shown.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};

use super::feed::feed;
use super::{BuildEvent, BuildImage, DockerError, Engine, LogRequest};
use crate::error::Result;
use crate::images::{Build, Drift, Generate, ImageError, ImageStep, Kind, Locked};
use crate::store::StoreError;
use crate::ui;

/// Lines of a failed step's output that are shown.
const TAIL: usize = 40;

/// Label of every image that is built here; its value is the digest of the context.
pub const CONTEXT_LABEL: &str = "maestro.context";

/// Ensures the state that `step` names on `engine`.
///
/// # Errors
/// [`ImageError`] and [`DockerError`].
pub async fn ensure(engine: &Engine, step: &ImageStep) -> Result<()> {
    match step {
        ImageStep::EnsurePulled { images } => super::pull::ensure(engine, images).await,
        ImageStep::EnsureBuilt(build) => built(engine, build).await,
        ImageStep::EnsureGenerated(generate) => generated(engine, generate).await,
    }
}

/// What the engine has under `name`, in the words of a lock.
///
/// # Errors
/// [`DockerError::NoImage`] when it has none.
pub async fn locked(engine: &Engine, name: &str) -> std::result::Result<Locked, DockerError> {
    let facts = engine.image(name).await?;
    let facts = facts.ok_or_else(|| DockerError::NoImage { image: name.into(), address: engine.address().into() })?;
    let context = facts.labels.get(CONTEXT_LABEL).cloned();
    let repository = super::images::split_tag(name).0;
    let own = |digest: &&String| digest.rsplit_once('@').is_some_and(|(name, _)| name == repository);
    let digest = facts.repo_digests.iter().find(own).or(facts.repo_digests.first());
    let digest = digest.and_then(|digest| digest.rsplit_once('@')).map(|(_, digest)| digest.to_owned());
    let kind = match (&context, &digest) {
        (Some(_), _) => Kind::Built,
        (None, Some(_)) => Kind::Pulled,
        (None, None) => Kind::Loaded,
    };
    Ok(Locked { kind, id: facts.id, digest, context, architecture: facts.architecture })
}

async fn built(engine: &Engine, build: &Build) -> Result<()> {
    let context = build.context.clone();
    let digest = tokio::task::spawn_blocking(move || context.digest()).await.map_err(io::Error::other);
    let read = |source| ImageError::Read { path: build.root.clone(), source };
    let digest = digest.and_then(|digest| digest).map_err(read)?;
    if let Some(locked) = &build.locked {
        check_context(build, locked, &digest)?;
        if engine.image(&build.tag).await?.is_some_and(|facts| facts.id == locked.id) {
            ui::note(format_args!("{} is the locked one", build.tag));
            return Ok(());
        }
    }
    let began = Instant::now();
    let mut log = Log::create(&build.log)?;
    let progress = ui::Progress::new(&build.tag, 1);
    let mut steps = Steps { progress: &progress, log: &mut log, now: "its start".to_owned() };
    let request = BuildImage {
        tag: build.tag.clone(),
        dockerfile: build.dockerfile.clone(),
        args: build.args.iter().cloned().collect(),
        labels: [(CONTEXT_LABEL.to_owned(), digest)].into(),
        no_cache: build.no_cache,
        ..BuildImage::default()
    };
    let context = build.context.clone();
    let done = engine.build_image(&request, feed(move |to| context.write(to)), |event| steps.saw(event)).await;
    let step = steps.now;
    drop(progress);
    match done {
        Ok(id) => {
            let took = began.elapsed().as_secs_f64();
            ui::note(format_args!("built {} ({}) in {took:.1} s", build.tag, short(&id)));
            Ok(())
        }
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            let why = refusal(&error);
            log.line(&why);
            log.show_tail();
            Err(ImageError::Build { tag: build.tag.clone(), step, why, log: build.log.clone() }.into())
        }
    }
}

/// A locked image is built from the locked context only.
fn check_context(build: &Build, locked: &Locked, digest: &str) -> std::result::Result<(), ImageError> {
    match &locked.context {
        Some(context) if context != digest => Err(ImageError::Drift(vec![Drift {
            image: build.tag.clone(),
            what: "context",
            locked: context.clone(),
            found: digest.to_owned(),
        }])),
        _ => Ok(()),
    }
}

/// The engine's own message.
fn refusal(error: &DockerError) -> String {
    match error {
        DockerError::Refused { message, .. } | DockerError::NotFound { message, .. } => message.clone(),
        DockerError::Feed { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// Twelve digits of an id, as engines print them.
fn short(id: &str) -> &str {
    let id = id.trim_start_matches("sha256:");
    &id[..id.len().min(12)]
}

/// Where a build is, on screen and in its log.
struct Steps<'a> {
    progress: &'a ui::Progress,
    log: &'a mut Log,
    now: String,
}

impl Steps<'_> {
    fn saw(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Step { number, of, instruction } => {
                let line = instruction.lines().next().unwrap_or_default();
                let line: String = line.chars().take(80).collect();
                self.progress.of(u64::from(number), u64::from(of), &line);
                ui::detail(format_args!("{number}/{of} {line}"));
                self.log.text(&format!("Step {number}/{of} : {instruction}"));
                self.now = format!("step {number}/{of} ({line})");
            }
            BuildEvent::Output(text) => self.log.text(&text),
            BuildEvent::Layer(layer) => {
                if layer.total == 0 {
                    self.log.line(&format!("{} {}", layer.layer, layer.status));
                }
            }
            BuildEvent::Built(id) => self.log.line(&id),
        }
    }
}

/// The whole output in a file, its last lines in memory.
struct Log {
    file: io::BufWriter<fs::File>,
    tail: VecDeque<String>,
    open: String,
}

impl Log {
    fn create(path: &Path) -> std::result::Result<Self, StoreError> {
        let failed = |source| StoreError::Write { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = fs::File::create(path).map_err(failed)?;
        Ok(Log { file: io::BufWriter::new(file), tail: VecDeque::new(), open: String::new() })
    }

    /// Output as it comes: pieces of lines.
    fn text(&mut self, text: &str) {
        // A full disk must not end a build; the lines in memory are still shown.
        self.file.write_all(text.as_bytes()).ok();
        self.open.push_str(text);
        while let Some(at) = self.open.find('\n') {
            let line: String = self.open.drain(..=at).collect();
            self.keep(line.trim_end());
        }
    }

    fn line(&mut self, line: &str) {
        self.text(&format!("{line}\n"));
    }

    fn keep(&mut self, line: &str) {
        // What a terminal would have overwritten.
        let line = line.rsplit('\r').next().unwrap_or(line);
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    fn show_tail(&mut self) {
        self.file.flush().ok();
        for line in &self.tail {
            ui::note(format_args!("  | {line}"));
        }
    }
}

/// Runs the generator as the user who owns the tree, so that its files are theirs.
async fn generated(engine: &Engine, generate: &Generate) -> Result<()> {
    let name = format!("maestro-generate-{}-{:08x}", std::process::id(), rand::random::<u32>());
    let mut log = Log::create(&generate.log)?;
    let began = Instant::now();
    engine.create_container(&name, generator(generate)?).await?;
    let done = run_generator(engine, &name, &mut log).await;
    engine.remove_container(&name).await?;
    let code = done?;
    let failed = |log: &mut Log, why: String| {
        log.line(&why);
        log.show_tail();
        ImageError::Generate { what: generate.what.clone(), why, log: generate.log.clone() }
    };
    if code != 0 {
        return Err(failed(&mut log, format!("exit code {code}")).into());
    }
    if !generate.makes.is_dir() {
        let why = format!("`{}` is not there afterwards", generate.makes.display());
        return Err(failed(&mut log, why).into());
    }
    ui::note(format_args!("made {} in {:.1} s", generate.what, began.elapsed().as_secs_f64()));
    Ok(())
}

async fn run_generator(engine: &Engine, name: &str, log: &mut Log) -> std::result::Result<i64, DockerError> {
    use futures_util::StreamExt;
    engine.start_container(name).await?;
    let mut lines = std::pin::pin!(engine.container_log(name, LogRequest { follow: true, ..LogRequest::default() }));
    while let Some(line) = lines.next().await {
        log.line(&line?.text);
    }
    engine.wait_container(name).await
}

fn generator(generate: &Generate) -> std::result::Result<ContainerCreateBody, ImageError> {
    use std::os::unix::fs::MetadataExt;
    let read = |source| ImageError::Read { path: generate.tree.clone(), source };
    let tree: PathBuf = fs::canonicalize(&generate.tree).map_err(read)?;
    let owner = fs::metadata(&tree).map_err(read)?;
    let mount = Mount {
        typ: Some(MountType::BIND),
        source: Some(tree.display().to_string()),
        target: Some(generate.mount.clone()),
        ..Default::default()
    };
    Ok(ContainerCreateBody {
        image: Some(generate.image.clone()),
        entrypoint: Some(generate.argv[..1].to_vec()),
        cmd: Some(generate.argv[1..].to_vec()),
        user: Some(format!("{}:{}", owner.uid(), owner.gid())),
        working_dir: Some(generate.mount.clone()),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".into()),
            ..Default::default()
        }),
        ..Default::default()
    })
}
