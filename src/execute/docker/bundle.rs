//! Images to a folder and back: each as a tar compressed with zstd, verified by digest on the way in.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::feed::{drain, feed};
use super::{DockerError, Engine};
use crate::error::Result;
use crate::images::{Bundle, BundleEntry, INDEX, ImageError, mangled};
use crate::store::{FORMAT, StoreError, parse_yaml, read_text, write_yaml};
use crate::ui;

/// Compression level: beyond it time grows and size does not shrink.
const LEVEL: i32 = 3;

/// Saves `images` of `app` into `dir`, one file each, and an index. Files that are there already and hold the same
/// image are kept.
///
/// # Errors
/// [`DockerError::NoImage`], [`StoreError::Write`], [`DockerError::Feed`].
pub async fn save(engine: &Engine, app: &str, images: &[String], dir: &Path) -> Result<Bundle> {
    fs::create_dir_all(dir).map_err(|source| StoreError::Write { path: dir.to_owned(), source })?;
    let old = index(dir).unwrap_or_else(|_| Bundle { format: FORMAT, app: app.to_owned(), images: Vec::new() });
    let mut bundle = Bundle { format: FORMAT, app: app.to_owned(), images: Vec::new() };
    let progress = ui::Progress::new("images saved", images.len() as u64);
    for (number, image) in images.iter().enumerate() {
        progress.set(number as u64, image);
        let entry = save_one(engine, image, dir, &old).await?;
        bundle.images.push(entry);
    }
    drop(progress);
    write_yaml(&dir.join(INDEX), &bundle)?;
    Ok(bundle)
}

async fn save_one(engine: &Engine, image: &str, dir: &Path, old: &Bundle) -> Result<BundleEntry> {
    let missing = || DockerError::NoImage { image: image.to_owned(), address: engine.address().to_owned() };
    let facts = engine.image(image).await?.ok_or_else(missing)?;
    let file = format!("{}.tar.zst", mangled(image));
    let path = dir.join(&file);
    let same = old.images.iter().find(|entry| entry.image == image && entry.id == facts.id && entry.file == file);
    if let Some(entry) = same
        && fs::metadata(&path).is_ok_and(|metadata| metadata.len() == entry.bytes)
    {
        return Ok(entry.clone());
    }
    let temporary = dir.join(format!(".{file}.{}.tmp", std::process::id()));
    let written = write_one(engine, image, &temporary).await;
    let (bytes, sha256) = match written {
        Ok(written) => written,
        Err(error) => {
            // The save has failed already; a leftover that cannot be removed changes nothing about that.
            fs::remove_file(&temporary).ok();
            return Err(error);
        }
    };
    fs::rename(&temporary, &path).map_err(|source| StoreError::Write { path, source })?;
    let (image, id) = (image.to_owned(), facts.id);
    Ok(BundleEntry { image, file, id, architecture: facts.architecture, bytes, sha256 })
}

async fn write_one(engine: &Engine, image: &str, path: &Path) -> Result<(u64, String)> {
    let failed = |source| StoreError::Write { path: path.to_owned(), source };
    let file = fs::File::create(path).map_err(failed)?;
    let sink = Sink { file, hash: Sha256::new(), bytes: 0 };
    let encoder = zstd::Encoder::new(sink, LEVEL).map_err(failed)?;
    let doing = format!("save `{image}` to `{}`", path.display());
    let sink = drain(engine.save_images(&[image]), &doing, encoder, |encoder| {
        let sink = encoder.finish()?;
        sink.file.sync_all()?;
        Ok(sink)
    })
    .await?;
    Ok((sink.bytes, hex(&sink.hash.finalize())))
}

/// A file, with the digest and size of what went into it.
struct Sink {
    file: fs::File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Loads every image of `dir` that the engine does not have; each file is verified before it is loaded, each image
/// after.
///
/// # Errors
/// [`ImageError::Empty`], [`ImageError::Damaged`], [`ImageError::Architecture`], and what the engine refuses.
pub async fn load(engine: &Engine, dir: &Path) -> Result<Bundle> {
    let bundle = index(dir)?;
    let facts = engine.facts().await?;
    let other = |entry: &&BundleEntry| !entry.architecture.is_empty() && entry.architecture != facts.architecture;
    let foreign: Vec<_> =
        bundle.images.iter().filter(other).map(|e| (e.image.clone(), e.architecture.clone())).collect();
    if !foreign.is_empty() {
        return Err(ImageError::Architecture { engine: facts.architecture, images: foreign }.into());
    }
    let progress = ui::Progress::new("images loaded", bundle.images.len() as u64);
    for (number, entry) in bundle.images.iter().enumerate() {
        progress.set(number as u64, &entry.image);
        load_one(engine, entry, dir).await?;
    }
    Ok(bundle)
}

async fn load_one(engine: &Engine, entry: &BundleEntry, dir: &Path) -> Result<()> {
    if engine.image(&entry.image).await?.is_some_and(|facts| facts.id == entry.id) {
        ui::detail(format_args!("{} is there already", entry.image));
        return Ok(());
    }
    let path = plain(dir, &entry.file)?;
    let damaged = |why: String| ImageError::Damaged { file: path.clone(), why };
    let hashed = path.clone();
    let found = tokio::task::spawn_blocking(move || sha256(&hashed)).await.map_err(io::Error::other);
    let found = found.and_then(|found| found).map_err(|source| ImageError::Read { path: path.clone(), source })?;
    if found != entry.sha256 {
        return Err(damaged(format!("its SHA-256 is {found}, the index says {}", entry.sha256)).into());
    }
    let from = path.clone();
    let tar = feed(move |to| io::copy(&mut zstd::Decoder::new(fs::File::open(from)?)?, to).map(|_| ()));
    engine.load_images(&format!("`{}`", path.display()), tar).await?;
    match engine.image(&entry.image).await? {
        Some(facts) if facts.id == entry.id => Ok(()),
        Some(facts) => Err(damaged(format!("it holds {}, the index says {}", facts.id, entry.id)).into()),
        None => Err(damaged(format!("`{}` is not in it", entry.image)).into()),
    }
}

/// The index of `dir`.
///
/// # Errors
/// [`ImageError::Empty`], [`StoreError::Content`].
pub fn index(dir: &Path) -> Result<Bundle> {
    let path = dir.join(INDEX);
    let text = match read_text(&path) {
        Err(StoreError::Missing(_)) => return Err(ImageError::Empty(dir.to_owned()).into()),
        other => other?,
    };
    let bundle: Bundle = parse_yaml(&path, &text)?;
    if bundle.format > FORMAT {
        let why = format!("format {} is newer than this maestro knows ({FORMAT})", bundle.format);
        return Err(StoreError::Content { path, why }.into());
    }
    Ok(bundle)
}

/// A file of the folder itself, wherever the index points.
fn plain(dir: &Path, file: &str) -> std::result::Result<PathBuf, ImageError> {
    if file.is_empty() || file.starts_with('.') || file.contains('/') {
        let why = format!("the index names `{}`, which is no file of this folder", file.escape_debug());
        return Err(ImageError::Damaged { file: dir.join(INDEX), why });
    }
    Ok(dir.join(file))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
