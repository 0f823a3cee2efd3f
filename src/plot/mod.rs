//! Figures: run directories in, pictures and the tables behind them out.
//!
//! ```text
//! run directories ──run_data──> Run ──table──> cells (medians over rounds) ──figures/*──> Drawing { Figure, frames }
//! Figure ──layout, draw──> SVG ──render──> PNG, PDF          Figure ──pgf──> TeX          frames ──> JSON, CSV
//! ```
//! One row of [`FIGURES`] per figure. Equal input gives equal bytes.

mod canvas;
mod draw;
pub mod figure;
mod figures;
mod inputs;
mod layout;
pub mod out_file;
mod pgf;
mod render;
pub mod run_data;
pub mod scale;
pub mod table;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::error::{Exit, Fault};
use crate::store::{self, Status, Store, StoreError};

pub use canvas::escape;
pub use figure::Figure;
pub use figures::WIDTH;
pub use inputs::{expand, in_root};
pub use render::{Svg, font_css, svg};
pub use run_data::{Part, Run, RunError};
pub use table::Frame;

/// A kind of figure.
pub struct Kind {
    /// Its name in configs and file names.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The parts of a run directory that it reads.
    pub needs: &'static [Part],
    /// Makes it from runs that have those parts.
    pub build: fn(&[Run]) -> Result<Drawing, PlotError>,
}

/// Every figure: those of the Python tool by their names, then maestro's own.
pub static FIGURES: [Kind; 10] = [
    Kind {
        name: "per_inconsistencies",
        about: "the share of violations per run, as a box per zone pair",
        needs: &[Part::Traces],
        build: figures::inconsistencies::build,
    },
    Kind {
        name: "throughput_latency",
        about: "p90 latency over throughput",
        needs: &[Part::Load],
        build: figures::latency::build,
    },
    Kind {
        name: "throughput_visibility_latency",
        about: "p90 visibility latency over throughput",
        needs: &[Part::Load, Part::Traces],
        build: figures::visibility::build,
    },
    Kind {
        name: "visibility_latency_overhead",
        about: "what antipode adds to the p90 visibility latency, at every rate",
        needs: &[Part::Load, Part::Traces],
        build: figures::visibility_overhead::build,
    },
    Kind {
        name: "throughput_latency_with_consistency_window",
        about: "p90 latency over throughput, and the p90 consistency window at the highest common rate",
        needs: &[Part::Load, Part::Traces],
        build: figures::window::build,
    },
    Kind {
        name: "storage_overhead",
        about: "what lineage costs in stores and messages",
        needs: &[Part::Sizes],
        build: figures::storage::build,
    },
    Kind {
        name: "window_cdf",
        about: "the distribution of consistency windows at the highest common rate",
        needs: &[Part::Traces],
        build: figures::window_cdf::build,
    },
    Kind {
        name: "violation_rate",
        about: "the share of violations over the offered rate, with Wilson intervals",
        needs: &[Part::Traces],
        build: figures::violations::build,
    },
    Kind {
        name: "latency_spectrum",
        about: "the latency at every percentile, at the highest common rate",
        needs: &[Part::Spectrum],
        build: figures::spectrum::build,
    },
    Kind {
        name: "timeline",
        about: "throughput, p99 latency and violations second by second, at the highest common rate",
        needs: &[Part::Timeline, Part::Traces],
        build: figures::timeline::build,
    },
];

/// A figure with the numbers behind it.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// What is drawn.
    pub figure: Figure,
    /// The tables behind it.
    pub frames: Vec<Frame>,
    /// Single numbers behind it (`peak_rps`).
    pub facts: Vec<(String, Value)>,
    /// A table worth printing besides the picture; the first row is the header.
    pub printed: Option<Vec<Vec<String>>>,
}

/// What can go wrong on the way to a figure.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// No such figure.
    #[error("unknown plot `{0}`")]
    Unknown(String),
    /// A config without runs for a figure, or without the figure that was asked for.
    #[error("{0}")]
    Empty(String),
    /// A path that is not there.
    #[error("no such file `{path}`")]
    NoPath {
        /// As typed.
        path: String,
        /// What is there instead, for the hint.
        beside: Option<String>,
    },
    /// Every run of a figure was left out.
    #[error("`{figure}`: none of its runs can be used; the first: {why}")]
    NothingLeft {
        /// The figure's name.
        figure: &'static str,
        /// Why the first run was left out.
        why: String,
    },
    /// Several figures of a config could not be drawn; each has been named.
    #[error("{failed} of {of} plots not drawn")]
    Several {
        /// How many.
        failed: usize,
        /// Of how many.
        of: usize,
    },
    /// The runs do not hold what the figure is about.
    #[error("`{figure}`: {what}")]
    Lacks {
        /// The figure's name.
        figure: &'static str,
        /// What is missing.
        what: String,
    },
    /// Drawing or rendering failed.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// A file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Fault for PlotError {
    fn exit(&self) -> Exit {
        match self {
            PlotError::Unknown(_)
            | PlotError::Empty(_)
            | PlotError::NoPath { .. }
            | PlotError::NothingLeft { .. }
            | PlotError::Several { .. }
            | PlotError::Lacks { .. } => Exit::Usage,
            PlotError::Draw(_) => Exit::Bug,
            PlotError::Store(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            PlotError::Unknown(_) => {
                let names: Vec<&str> = FIGURES.iter().map(|kind| kind.name).collect();
                Some(format!("known plots: {}", names.join(", ")))
            }
            PlotError::NothingLeft { .. } => Some(
                "run directories are those that `maestro gather` prints, relative to the working root (--root DIR names \
                 another)"
                    .into(),
            ),
            PlotError::NoPath { beside, .. } => beside.clone(),
            PlotError::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// The figure called `name`.
///
/// # Errors
/// [`PlotError::Unknown`].
pub fn find(name: &str) -> Result<&'static Kind, PlotError> {
    FIGURES.iter().find(|kind| kind.name == name).ok_or_else(|| PlotError::Unknown(name.to_owned()))
}

/// A file format of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The drawing.
    Svg,
    /// The drawing at 600 dpi.
    Png,
    /// The drawing for documents.
    Pdf,
    /// The tables behind it.
    Csv,
    /// pgfplots code for a paper.
    Pgf,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 5] = [Format::Svg, Format::Png, Format::Pdf, Format::Csv, Format::Pgf];

    /// The file's ending, which is also its name on the command line.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Svg => "svg",
            Format::Png => "png",
            Format::Pdf => "pdf",
            Format::Csv => "csv",
            Format::Pgf => "pgf",
        }
    }
}

/// Where figures go.
#[derive(Clone, Debug)]
pub struct Output {
    /// The directory; made when it is not there.
    pub directory: PathBuf,
    /// The part of the file name after `<figure>__`.
    pub tag: String,
    /// What is written.
    pub formats: Vec<Format>,
}

/// A figure that was drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The figure's name.
    pub name: &'static str,
    /// What was written, in the order of the formats.
    pub files: Vec<PathBuf>,
    /// Runs that are not in it.
    pub left_out: Vec<LeftOut>,
    /// Why the figure must not be used.
    pub alarm: Option<String>,
    /// The numbers behind it, as `--data` writes them.
    pub data: Value,
    /// A table worth printing besides the picture; the first row is the header.
    pub printed: Option<Vec<Vec<String>>>,
}

/// A run that is not in a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its directory as named.
    pub dir: String,
    /// Why.
    pub why: String,
}

/// A plot config: figure -> run directories relative to the root.
pub type Config = IndexMap<String, Option<Vec<String>>>;

/// Reads the runs in `dirs` (relative to the root of `store`) with what `needs` names. Runs that cannot be used are left
/// out and named; void ones as well, unless all are void: then there is nothing better, and [`void`] says why.
pub fn load(store: &Store, dirs: &[String], needs: &[Part]) -> (Vec<Run>, Vec<LeftOut>) {
    read_all(dirs, |dir| run_data::load(dir, &store.resolve(dir), needs))
}

/// As [`load`], with every part that a run has; only runs that cannot be identified, and void ones, are left out.
pub fn load_present(store: &Store, dirs: &[String]) -> (Vec<Run>, Vec<LeftOut>) {
    read_all(dirs, |dir| run_data::load_present(dir, &store.resolve(dir)))
}

fn read_all(dirs: &[String], read: impl Fn(&str) -> Result<Run, RunError>) -> (Vec<Run>, Vec<LeftOut>) {
    let (mut runs, mut left_out) = (Vec::with_capacity(dirs.len()), Vec::new());
    for dir in dirs {
        match read(dir) {
            Ok(run) => runs.push(run),
            Err(error) => left_out.push(LeftOut { dir: dir.clone(), why: error.to_string() }),
        }
    }
    if runs.iter().any(|run| run.status != Status::Void) {
        let (void, usable): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.status == Status::Void);
        let why = |run: Run| LeftOut { why: format!("void: {}", run.reasons.join("; ")), dir: run.dir };
        left_out.extend(void.into_iter().map(why));
        runs = usable;
    }
    (runs, left_out)
}

/// What must be said about runs that are all void.
pub fn void(runs: &[Run]) -> Option<String> {
    let first = runs.iter().find(|run| run.status == Status::Void)?;
    let runs = match runs.len() {
        1 => "this run is void".to_owned(),
        2 => "both runs are void".to_owned(),
        n => format!("all {n} runs are void"),
    };
    Some(format!("NOT TO BE USED: {runs} ({})", first.reasons.join("; ")))
}

/// Draws the figure `name` from the runs in `dirs` (relative to the root of `store`, or absolute) and writes it.
///
/// # Errors
/// [`PlotError`]; a run that cannot be used is not an error as long as another one can.
pub fn draw(store: &Store, name: &str, dirs: &[String], output: &Output) -> Result<Drawn, PlotError> {
    let kind = find(name)?;
    if dirs.is_empty() {
        return Err(PlotError::Empty(format!("no runs for `{name}`")));
    }
    let (runs, left_out) = load(store, dirs, kind.needs);
    if runs.is_empty() {
        let why = left_out.first().map(|run| run.why.clone()).unwrap_or_default();
        return Err(PlotError::NothingLeft { figure: kind.name, why });
    }
    let mut drawing = (kind.build)(&runs)?;
    drawing.figure.alarm = void(&runs);
    if !left_out.is_empty() {
        drawing.figure.notes.push(format!("{} of {} runs left out.", left_out.len(), dirs.len()));
    }
    let files = write(kind.name, &drawing, output)?;
    let alarm = drawing.figure.alarm.take();
    Ok(Drawn { name: kind.name, files, left_out, alarm, data: data(&drawing, &runs), printed: drawing.printed })
}

/// Writes every format of a drawing; nothing is overwritten.
fn write(name: &str, drawing: &Drawing, output: &Output) -> Result<Vec<PathBuf>, PlotError> {
    let stem = free_stem(name, output);
    let path = |ending: &str| output.directory.join(format!("{stem}.{ending}"));
    let picture = render::svg(&drawing.figure)?;
    let mut files = Vec::new();
    for format in &output.formats {
        let file = path(format.ending());
        match format {
            Format::Svg => store::write_atomic(&file, picture.standalone().as_bytes())?,
            Format::Png => store::write_atomic(&file, &picture.png()?)?,
            Format::Pdf => store::write_atomic(&file, &picture.pdf()?)?,
            Format::Pgf => store::write_atomic(&file, pgf::write(&drawing.figure).as_bytes())?,
            Format::Csv => {
                for frame in drawing.frames.iter().skip(1) {
                    let file = path(&format!("{}.csv", file_part(&frame.name)));
                    store::write_atomic(&file, frame.to_csv().as_bytes())?;
                    files.push(file);
                }
                let Some(frame) = drawing.frames.first() else { continue };
                store::write_atomic(&file, frame.to_csv().as_bytes())?;
            }
        }
        files.push(file);
    }
    Ok(files)
}

/// `<name>__<tag>`, with `-2`, `-3`, ... when a file of that name is there already.
fn free_stem(name: &str, output: &Output) -> String {
    let taken = |stem: &str| {
        Format::ALL.iter().any(|format| output.directory.join(format!("{stem}.{}", format.ending())).exists())
    };
    let first = format!("{name}__{}", output.tag);
    let mut stem = first.clone();
    let mut attempt = 2;
    while taken(&stem) {
        stem = format!("{first}-{attempt}");
        attempt += 1;
    }
    stem
}

/// A frame's name as part of a file name: `bars__US->EU` becomes `bars__US-EU`.
fn file_part(name: &str) -> String {
    name.replace("->", "-").replace(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c), "_")
}

/// The numbers behind a figure: `dirs`, every frame by its name, and the single facts.
fn data(drawing: &Drawing, runs: &[Run]) -> Value {
    let mut object = Map::new();
    let dirs: Vec<&str> = runs.iter().map(|run| run.dir.as_str()).collect();
    object.insert("dirs".into(), dirs.into());
    for frame in &drawing.frames {
        object.insert(frame.name.clone(), frame.to_json());
    }
    for (name, value) in &drawing.facts {
        object.insert(name.clone(), value.clone());
    }
    Value::Object(object)
}

/// Reads a plot config and picks the figures in `wanted` (all of the config's when empty), in the config's order.
///
/// # Errors
/// [`PlotError::Unknown`] for a name that is no figure, [`PlotError::Empty`] when nothing is left to draw,
/// [`PlotError::Store`] when the file cannot be read.
pub fn read_config(path: &Path, wanted: &[String]) -> Result<Vec<(&'static Kind, Vec<String>)>, PlotError> {
    for name in wanted {
        find(name)?;
    }
    let config: Config = store::read_yaml(path)?;
    let mut chosen = Vec::new();
    for (name, dirs) in config {
        let kind = find(&name)?;
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let dirs = dirs.unwrap_or_default();
        if dirs.is_empty() {
            return Err(PlotError::Empty(format!("`{}`: no runs for `{name}`", path.display())));
        }
        chosen.push((kind, dirs));
    }
    if let Some(missing) = wanted.iter().find(|name| !chosen.iter().any(|(kind, _)| kind.name == **name)) {
        return Err(PlotError::Empty(format!("`{}` names no runs for `{missing}`", path.display())));
    }
    if chosen.is_empty() {
        return Err(PlotError::Empty(format!("`{}` names no figure", path.display())));
    }
    Ok(chosen)
}
