//! One self-contained HTML file about a set of runs: verdict, conditions, figures, tables and the ledger. It needs no
//! network (its policy forbids it), brings its fonts, and equal input gives equal bytes.
//!
//! ```text
//! paths ──collect──> Source (runs, records, what was left out) ──page──> HTML
//! ```

mod html;
mod tables;
mod verdict;

use std::path::{Path, PathBuf};

use crate::plot::{self, FIGURES, Kind, LeftOut, PlotError, Run};
use crate::store::{RunDir, RunRecord, Store};

use html::{Html, escape};

/// What a report is about.
#[derive(Clone, Debug)]
pub struct Source {
    /// Every usable run with its record, when it has one, and its directory.
    pub runs: Vec<Reported>,
    /// Runs that cannot be used.
    pub left_out: Vec<LeftOut>,
}

/// A run in a report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Its numbers.
    pub run: Run,
    /// `run.yml`.
    pub record: Option<Box<RunRecord>>,
    /// Where it is.
    pub path: PathBuf,
}

/// Reads the runs that `inputs` (run directories, directories of runs, plot configs) mean.
///
/// # Errors
/// [`PlotError::Empty`] when there is no usable run, [`PlotError::Store`].
pub fn collect(store: &Store, inputs: &[PathBuf]) -> Result<Source, PlotError> {
    let mut dirs: Vec<String> = Vec::new();
    for input in inputs {
        for dir in plot::expand(store, input)? {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
    }
    let (runs, left_out) = plot::load_present(store, &dirs);
    if runs.is_empty() {
        let why = left_out.first().map(|run| format!("; the first: {}", run.why)).unwrap_or_default();
        return Err(PlotError::Empty(format!("none of {} runs can be used{why}", dirs.len())));
    }
    let with_record = |run: Run| {
        let path = store.resolve(&run.dir);
        // A record that is missing or unreadable leaves its part of the page empty.
        let record = RunDir::new(&path).read_record().ok().map(Box::new);
        Reported { run, record, path }
    };
    Ok(Source { runs: runs.into_iter().map(with_record).collect(), left_out })
}

/// The page about `source`; links to raw files are relative to `base`, the directory the page will be in.
///
/// # Errors
/// [`PlotError::Draw`] when a figure cannot be drawn.
pub fn page(source: &Source, base: &Path) -> Result<String, PlotError> {
    let runs: Vec<Run> = source.runs.iter().map(|reported| reported.run.clone()).collect();
    let mut page = Html::new(&title(&runs));
    page.section("verdict", "Verdict", |html| verdict::write(html, &runs, &source.left_out));
    page.section("conditions", "Conditions", |html| tables::conditions(html, &source.runs));
    let drawn = figures(&runs)?;
    page.section("figures", "Figures", |html| write_figures(html, &drawn));
    page.section("cells", "Measurements", |html| tables::cells(html, &runs));
    page.section("runs", "Runs", |html| tables::runs(html, &source.runs, base));
    page.section("ledger", "Completeness", |html| tables::ledger(html, &source.runs));
    Ok(page.finish())
}

/// `US→EU, US→SG: 40 runs of socialNetwork`.
fn title(runs: &[Run]) -> String {
    let mut pairs: Vec<String> = runs.iter().map(|run| plot::figure::pair_label(&run.pair)).collect();
    pairs.sort();
    pairs.dedup();
    let count = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    format!("Consistency windows {}: {count}", pairs.join(", "))
}

/// A figure, or why it is not there.
type Drawn = (&'static Kind, Result<Shown, String>);

/// A drawing and whether it has two columns.
struct Shown {
    svg: String,
    wide: bool,
}

/// Every figure from the runs that have what it needs.
fn figures(runs: &[Run]) -> Result<Vec<Drawn>, PlotError> {
    let mut drawn = Vec::new();
    for kind in ordered() {
        let usable: Vec<Run> =
            runs.iter().filter(|run| kind.needs.iter().all(|part| run.has(*part))).cloned().collect();
        let outcome = if usable.is_empty() {
            let missing = kind.needs.iter().filter(|part| !runs.iter().any(|run| run.has(**part)));
            let missing: Vec<&str> = missing.map(|part| part.files()).collect();
            Err(match missing.as_slice() {
                [] => "needs parts that no run has together".to_owned(),
                _ => format!("needs {}, which none of these runs has", missing.join(" and ")),
            })
        } else {
            match (kind.build)(&usable) {
                Ok(mut drawing) => {
                    drawing.figure.alarm = plot::void(&usable);
                    if usable.len() < runs.len() {
                        let note = format!("{} of {} runs have what this figure needs.", usable.len(), runs.len());
                        drawing.figure.notes.push(note);
                    }
                    let wide = drawing.figure.width > plot::WIDTH;
                    Ok(Shown { svg: plot::svg(&drawing.figure)?.bare().to_owned(), wide })
                }
                Err(PlotError::Draw(why)) => return Err(PlotError::Draw(why)),
                Err(other) => Err(other.to_string()),
            }
        };
        drawn.push((kind, outcome));
    }
    Ok(drawn)
}

/// The figure that tells most first; those that repeat a part of another are left to `maestro plot`.
fn ordered() -> impl Iterator<Item = &'static Kind> {
    let names = [
        "throughput_latency_with_consistency_window",
        "violation_rate",
        "window_cdf",
        "visibility_latency_overhead",
        "latency_spectrum",
        "timeline",
        "per_inconsistencies",
        "storage_overhead",
    ];
    names.into_iter().filter_map(|name| FIGURES.iter().find(|kind| kind.name == name))
}

fn write_figures(html: &mut Html, drawn: &[Drawn]) {
    for (kind, outcome) in drawn {
        let (name, about) = (escape(kind.name), escape(kind.about));
        match outcome {
            Ok(Shown { svg, wide }) => html.raw(&format!(
                "<figure id=\"fig-{name}\"{}><div class=\"scroll\">{svg}</div>\
                 <figcaption><code>{name}</code>: {about}</figcaption></figure>\n",
                if *wide { " class=\"wide\"" } else { "" }
            )),
            Err(why) => html.raw(&format!(
                "<figure class=\"absent\" id=\"fig-{name}\"><figcaption><code>{name}</code> is not here: it {}.</figcaption></figure>\n",
                escape(why)
            )),
        }
    }
}
