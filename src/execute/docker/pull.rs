//! Public images: asked for at their registries before anything moves, then pulled a few at a time, locked ones to the
//! digest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::build::locked;
use super::images::split_tag;
use super::{DockerError, Engine, LayerProgress};
use crate::error::Result;
use crate::images::{ImageError, Locked};
use crate::ui;

/// How many images are pulled at once; the engine itself takes three layers at a time.
const AT_ONCE: usize = 3;

type Wanted = (String, Option<Locked>);

/// What is to be done about one image.
enum Case {
    /// The engine has it.
    Present,
    /// The registry has it for this architecture.
    Pull,
    /// Only for these others.
    Foreign(String),
    /// Nobody answers for it.
    Unknown(String),
}

/// Makes sure that the engine has all of `images`.
///
/// # Errors
/// [`ImageError::Architecture`] or [`ImageError::Unavailable`] naming all of them before anything is pulled,
/// [`ImageError::Drift`] when one is not what the lock says.
pub(super) async fn ensure(engine: &Engine, images: &[Wanted]) -> Result<()> {
    let facts = engine.facts().await?;
    let asked: Vec<_> = images.iter().map(|wanted| case(engine, wanted, &facts.architecture)).collect();
    let cases = join_all(asked).await;
    let (mut foreign, mut unknown, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (wanted, case) in images.iter().zip(cases) {
        match case? {
            Case::Present => {}
            Case::Pull => missing.push(wanted),
            Case::Foreign(other) => foreign.push((wanted.0.clone(), other)),
            Case::Unknown(why) => unknown.push((wanted.0.clone(), why)),
        }
    }
    if !foreign.is_empty() {
        return Err(ImageError::Architecture { engine: facts.architecture, images: foreign }.into());
    }
    if !unknown.is_empty() {
        return Err(ImageError::Unavailable(unknown).into());
    }
    pull_all(engine, &missing).await?;
    check(engine, images, &facts.architecture).await
}

async fn case(engine: &Engine, wanted: &Wanted, architecture: &str) -> std::result::Result<Case, DockerError> {
    let (name, locked) = wanted;
    if let Some(facts) = engine.image(name).await? {
        // A locked image of another id is pulled again, to the digest.
        let right = locked.as_ref().is_none_or(|locked| locked.id == facts.id || locked.digest.is_none());
        if right {
            return Ok(Case::Present);
        }
    }
    match engine.remote_image(&reference(name, locked.as_ref())).await {
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(Case::Unknown(why(&error))),
        Ok(remote) => {
            let here = |(_, other): &(String, String)| other == architecture;
            if remote.platforms.is_empty() || remote.platforms.iter().any(here) {
                return Ok(Case::Pull);
            }
            let mut others: Vec<String> = remote.platforms.into_iter().map(|(_, other)| other).collect();
            others.dedup();
            Ok(Case::Foreign(others.join(", ")))
        }
    }
}

/// The registry's answer without what the caller knows.
fn why(error: &DockerError) -> String {
    match error {
        DockerError::Refused { message, .. } | DockerError::NotFound { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// The name by digest where the lock has one.
fn reference(name: &str, locked: Option<&Locked>) -> String {
    match locked.and_then(|locked| locked.digest.as_deref()) {
        Some(digest) => format!("{}@{digest}", split_tag(name).0),
        None => name.to_owned(),
    }
}

async fn pull_all(engine: &Engine, missing: &[&Wanted]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let progress = ui::Progress::new("images pulled", missing.len() as u64);
    let board = Board { progress: &progress, done: 0.into(), turns: Semaphore::new(AT_ONCE) };
    let pulls: Vec<_> = missing.iter().map(|wanted| pull(engine, wanted, &board)).collect();
    let results = join_all(pulls).await;
    drop(progress);
    for result in results {
        ui::note(result?);
    }
    Ok(())
}

/// The one progress line that all pulls share, and whose turn it is.
struct Board<'a> {
    progress: &'a ui::Progress,
    done: AtomicU64,
    turns: Semaphore,
}

impl Board<'_> {
    fn show(&self, message: &str) {
        self.progress.set(self.done.load(Ordering::Relaxed), message);
    }

    fn finished(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn pull(engine: &Engine, wanted: &Wanted, board: &Board<'_>) -> std::result::Result<String, DockerError> {
    let _turn = board.turns.acquire().await;
    let (name, locked) = wanted;
    let reference = reference(name, locked.as_ref());
    let began = Instant::now();
    let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
    engine
        .pull_image(&reference, "", |layer| {
            let (done, total) = account(&mut layers, &layer);
            board.show(&format!("{name} {}/{} MB", done >> 20, total >> 20));
        })
        .await?;
    if reference != *name {
        engine.tag_image(&reference, name).await?;
    }
    board.finished();
    board.show("");
    let size = engine.image(name).await?.map_or(0, |facts| facts.size);
    Ok(format!("pulled {name} ({} MB) in {:.1} s", size >> 20, began.elapsed().as_secs_f64()))
}

/// Bytes downloaded and to be downloaded over all layers seen so far.
fn account(layers: &mut HashMap<String, (u64, u64)>, layer: &LayerProgress) -> (u64, u64) {
    if layer.status == "Downloading" {
        layers.insert(layer.layer.clone(), (layer.current, layer.total));
    } else if layer.status.starts_with("Download complete")
        && let Some((done, total)) = layers.get_mut(&layer.layer)
    {
        *done = *total;
    }
    layers.values().fold((0, 0), |(done, all), (current, total)| (done + current, all + total))
}

/// What is there now must be for this architecture and, where locked, to the digest.
async fn check(engine: &Engine, images: &[Wanted], architecture: &str) -> Result<()> {
    let (mut foreign, mut drifts) = (Vec::new(), Vec::new());
    for (name, wanted) in images {
        let found = locked(engine, name).await?;
        // Images made from a bare tree may say nothing.
        if !found.architecture.is_empty() && found.architecture != architecture {
            foreign.push((name.clone(), found.architecture.clone()));
        }
        drifts.extend(wanted.as_ref().and_then(|wanted| wanted.drift(name, &found)));
    }
    if !foreign.is_empty() {
        return Err(ImageError::Architecture { engine: architecture.to_owned(), images: foreign }.into());
    }
    if !drifts.is_empty() {
        return Err(ImageError::Drift(drifts).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_adds_up_over_layers() {
        let mut layers = HashMap::new();
        let layer = |id: &str, status: &str, current, total| LayerProgress {
            layer: id.into(),
            status: status.into(),
            current,
            total,
        };
        account(&mut layers, &layer("a", "Downloading", 5, 10));
        assert_eq!(account(&mut layers, &layer("b", "Downloading", 1, 30)), (6, 40));
        assert_eq!(account(&mut layers, &layer("a", "Download complete", 0, 0)), (11, 40));
        assert_eq!(account(&mut layers, &layer("a", "Extracting", 1, 10)), (11, 40));
    }
}
