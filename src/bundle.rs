//! One archive for an artifact repository: run records with their raw files, the figures made from them, the sweep, the
//! placements, the images' digests, the commands and the sums of everything; and the check that all of it still holds.
//!
//! ```text
//! NAME/commands.sh      what was typed, or what has the same effect
//! NAME/plots.yml        figure -> run directories, for `maestro plot`
//! NAME/figures/*.svg    the figures as drawn from the files in this archive
//! NAME/gather/...       run directories          NAME/sweeps/...  the sweep's plan and journal
//! NAME/deploy/...       placements               NAME/images.lock.yml
//! NAME/SHA256SUMS       as `sha256sum -c` reads it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::error::{Exit, Fault, Result};
use crate::plot::{self, Format, Output};
use crate::store::{RunDir, Store, StoreError, read_text, read_yaml, write_atomic_with, write_yaml};

/// Compression level: traces shrink tenfold at it, and higher ones take minutes.
const LEVEL: i32 = 9;
/// The list of sums.
const SUMS: &str = "SHA256SUMS";
/// The plot config.
const PLOTS: &str = "plots.yml";
/// Where figures are.
const FIGURES: &str = "figures";
/// The part of a figure's file name that is a time elsewhere: equal input gives an equal archive.
const FIGURE_TAG: &str = "bundle";

/// An archive that cannot be made or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A run outside the root: the archive keeps paths relative to it.
    #[error("run `{run}` is not below the working root `{root}`")]
    Outside {
        /// The run.
        run: String,
        /// The root.
        root: PathBuf,
    },
    /// No archive of this form.
    #[error("`{path}` is no bundle: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// One fragment.
        why: String,
    },
    /// Files that are not as they were.
    #[error("`{path}` does not hold: {}", .faults.join("; "))]
    Broken {
        /// The archive.
        path: PathBuf,
        /// One fragment per file or figure.
        faults: Vec<String>,
    },
}

impl Fault for BundleError {
    fn exit(&self) -> Exit {
        match self {
            BundleError::Outside { .. } | BundleError::Form { .. } => Exit::Usage,
            BundleError::Broken { .. } => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        matches!(self, BundleError::Outside { .. }).then(|| "name the root that holds it: --root DIR".to_owned())
    }
}

/// What goes into an archive.
#[derive(Debug)]
pub struct Contents {
    /// Its name, which is also that of its only folder.
    pub name: String,
    /// Figure -> run directories relative to the root.
    pub figures: IndexMap<String, Vec<String>>,
    /// The run directories, each once.
    pub runs: BTreeSet<String>,
    /// Other files, relative to the root.
    pub others: BTreeSet<String>,
}

impl Contents {
    /// What belongs to `path`: a sweep's directory, a plot config, a run directory or a directory of runs.
    ///
    /// # Errors
    /// [`plot::PlotError`] when there is no run, [`BundleError::Outside`].
    pub fn of(store: &Store, path: &Path) -> Result<Self> {
        let path = plot::in_root(store, path);
        let config = path.join(PLOTS);
        let sweep = config.is_file();
        let listed = if sweep { config } else { path.clone() };
        let runs: BTreeSet<String> = plot::expand(store, &listed)?.into_iter().collect();
        if let Some(run) = runs.iter().find(|run| Path::new(run).is_absolute()) {
            return Err(BundleError::Outside { run: run.clone(), root: store.root().to_owned() }.into());
        }
        let figures = match listed.is_file() {
            true => given(read_yaml::<plot::Config>(&listed)?),
            false => [("throughput_latency_with_consistency_window".to_owned(), runs.iter().cloned().collect())].into(),
        };
        let mut others = conditions(store, &runs);
        if sweep {
            others.extend(
                files(&path)?.iter().map(|file| store.relative(file)).filter(|file| Path::new(file).is_relative()),
            );
        }
        let name = path.file_stem().map_or_else(|| "bundle".to_owned(), |stem| stem.to_string_lossy().into_owned());
        Ok(Contents { name, figures, runs, others })
    }
}

fn given(config: plot::Config) -> IndexMap<String, Vec<String>> {
    config.into_iter().filter_map(|(name, runs)| Some((name, runs?))).filter(|(_, runs)| !runs.is_empty()).collect()
}

/// The placements of the runs' deployments and the images' digests, as far as they are there.
fn conditions(store: &Store, runs: &BTreeSet<String>) -> BTreeSet<String> {
    let records = runs.iter().filter_map(|run| RunDir::new(store.resolve(run)).read_record().ok());
    let placements = records.map(|run| store.deploy_dir(run.target, &run.app, &run.deployment).join("placement.yml"));
    let all = placements.chain([store.images_lock()]);
    all.filter(|path| path.is_file()).map(|path| store.relative(&path)).collect()
}

/// Every file below `dir`, hidden ones too, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the archive to `to`; gives the number of files in it.
///
/// # Errors
/// [`StoreError`], [`plot::PlotError`] when a figure cannot be drawn.
pub fn write(store: &Store, contents: &Contents, to: &Path) -> Result<usize> {
    let staged = Staged::new(to.parent().unwrap_or(Path::new(".")))?;
    draw(store, &contents.figures, &staged.0.join(FIGURES))?;
    write_yaml(&staged.0.join(PLOTS), &contents.figures)?;
    let commands = commands(store, contents);
    fs::write(staged.0.join("commands.sh"), commands).map_err(|source| staged.failed(source))?;
    let mut entries: BTreeMap<String, PathBuf> = BTreeMap::new();
    for run in &contents.runs {
        entries.extend(files(&store.resolve(run))?.into_iter().map(|path| (store.relative(&path), path)));
    }
    entries.extend(contents.others.iter().map(|other| (other.clone(), store.resolve(other))));
    entries.extend(files(&staged.0)?.into_iter().map(|path| (below(&staged.0, &path), path)));
    write_atomic_with(to, |file| pack(&contents.name, &entries, file))?;
    Ok(entries.len())
}

fn below(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}

fn draw(store: &Store, figures: &IndexMap<String, Vec<String>>, directory: &Path) -> Result<()> {
    let output = Output { directory: directory.to_owned(), tag: FIGURE_TAG.to_owned(), formats: vec![Format::Svg] };
    for (name, runs) in figures {
        plot::draw(store, name, runs, &output)?;
    }
    Ok(())
}

fn pack(name: &str, entries: &BTreeMap<String, PathBuf>, to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(to, LEVEL)?);
    let mut sums = String::new();
    for (inside, path) in entries {
        let mut file = File::open(path)?;
        let mut header = header(file.metadata()?.len());
        let sum = sha256(&mut file)?;
        sums.push_str(&format!("{sum}  {inside}\n"));
        tar.append_data(&mut header, format!("{name}/{inside}"), File::open(path)?)?;
    }
    tar.append_data(&mut header(sums.len() as u64), format!("{name}/{SUMS}"), sums.as_bytes())?;
    tar.into_inner()?.finish()?;
    Ok(())
}

/// A header without time and owner, so that equal files give an equal archive.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn sha256(from: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(from, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The commands that make runs under the same conditions, one block per run.
fn commands(store: &Store, contents: &Contents) -> String {
    let mut text =
        "#!/bin/sh\n# The runs of this archive, by hand; a sweep's file is the shorter way.\nset -e\n".to_owned();
    for run in &contents.runs {
        let Ok(record) = RunDir::new(store.resolve(run)).read_record() else { continue };
        let (target, app, w) = (record.target, &record.app, &record.workload);
        let flag = if record.variant.is_antipode() { " -antipode" } else { "" };
        text.push_str(&format!(
            "\n# {run}\nmaestro --{target} {app} deploy -config {} -clients {}\nmaestro --{target} {app} run{flag}\n\
             maestro --{target} {app} wkld -E {} -r {} -d {} -c {} -t {} --seed {}\n\
             maestro --{target} {app} gather\nmaestro --{target} {app} clean\n",
            record.placement.path, w.clients, record.endpoint, w.rate, w.duration_s, w.connections, w.threads, w.seed,
        ));
    }
    text
}

/// What was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Files whose sums are as listed.
    pub files: usize,
    /// Figures that were drawn again and are equal, byte for byte.
    pub figures: usize,
}

/// Unpacks the archive aside, compares every sum, draws every figure from the raw files and compares it.
///
/// # Errors
/// [`BundleError::Form`], [`BundleError::Broken`] with everything that differs.
pub fn verify(archive: &Path) -> Result<Checked> {
    let staged = Staged::new(&std::env::temp_dir())?;
    let form = |why: String| BundleError::Form { path: archive.to_owned(), why };
    let file = File::open(archive).map_err(|source| StoreError::Read { path: archive.to_owned(), source })?;
    let unpacked = zstd::Decoder::new(file).and_then(|tar| tar::Archive::new(tar).unpack(&staged.0));
    unpacked.map_err(|error| form(one_line(&error)))?;
    let root = only_folder(&staged.0).ok_or_else(|| form("it does not hold exactly one folder".into()))?;
    let listed = listed(&root).map_err(form)?;
    let mut faults = wrong_sums(&root, &listed)?;
    let figures = if faults.is_empty() { wrong_figures(&root, &mut faults)? } else { 0 };
    if faults.is_empty() {
        Ok(Checked { files: listed.len(), figures })
    } else {
        Err(BundleError::Broken { path: archive.to_owned(), faults }.into())
    }
}

fn one_line(error: &io::Error) -> String {
    error.to_string().replace('\n', " ")
}

fn only_folder(dir: &Path) -> Option<PathBuf> {
    let mut inside = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let folder = inside.next().filter(|path| path.is_dir())?;
    inside.next().is_none().then_some(folder)
}

/// File -> sum, from the list in the archive.
fn listed(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = File::open(root.join(SUMS)).map_err(|error| format!("{SUMS}: {error}"))?;
    let lines = BufReader::new(text).lines();
    let line = |line: io::Result<String>| {
        let line = line.map_err(|error| format!("{SUMS}: {error}"))?;
        let (sum, file) = line.split_once("  ").ok_or_else(|| format!("{SUMS}: `{line}` is no sum"))?;
        Ok((file.to_owned(), sum.to_owned()))
    };
    lines.map(line).collect()
}

fn wrong_sums(root: &Path, listed: &BTreeMap<String, String>) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    for (file, sum) in listed {
        let seen = File::open(root.join(file)).and_then(|mut file| sha256(&mut file));
        match seen {
            Ok(seen) if seen == *sum => {}
            Ok(_) => faults.push(format!("{file}: its content has changed")),
            Err(error) => faults.push(format!("{file}: {error}")),
        }
    }
    let there = files(root)?.into_iter().map(|path| below(root, &path));
    let extra = there.filter(|file| file != SUMS && !listed.contains_key(file));
    faults.extend(extra.map(|file| format!("{file}: it is not listed in {SUMS}")));
    Ok(faults)
}

/// Draws every figure again; the number of equal ones.
fn wrong_figures(root: &Path, faults: &mut Vec<String>) -> Result<usize> {
    let figures: IndexMap<String, Vec<String>> = read_yaml(&root.join(PLOTS))?;
    let again = root.join("again");
    draw(&Store::new(root), &figures, &again)?;
    let mut equal = 0;
    for file in files(&again)? {
        let name = below(&again, &file);
        match read_text(&root.join(FIGURES).join(&name)) {
            Ok(old) if old == read_text(&file)? => equal += 1,
            Ok(_) => faults.push(format!("{FIGURES}/{name}: drawn again, it differs")),
            Err(error) => faults.push(error.to_string()),
        }
    }
    Ok(equal)
}

/// A folder that is gone when this is dropped.
struct Staged(PathBuf);

impl Staged {
    fn new(parent: &Path) -> Result<Self, StoreError> {
        let dir = parent.join(format!(".maestro-bundle-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|source| StoreError::Write { path: dir.clone(), source })?;
        Ok(Staged(dir))
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Write { path: self.0.clone(), source }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed from a temporary folder is nobody's loss.
        fs::remove_dir_all(&self.0).ok();
    }
}
