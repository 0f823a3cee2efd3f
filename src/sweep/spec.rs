//! The sweep file: a matrix of cells, and the order of its runs.

use std::path::Path;

use indexmap::IndexMap;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::{Exit, Fault};
use crate::experiment::{TargetName, Variant};
use crate::store::{FORMAT, StoreError, parse_yaml};

/// The most runs of a sweep: at three seconds each, a month without a pause.
const MOST_RUNS: u64 = 1_000_000;

/// What is wrong with a sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] StoreError),
    /// Its content makes no sweep.
    #[error("`{path}`: {why}")]
    Spec {
        /// The sweep file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The directory holds another sweep.
    #[error("`{dir}` holds a different sweep (its matrix has changed)")]
    Other {
        /// The sweep's directory.
        dir: String,
    },
}

impl Fault for SweepError {
    fn exit(&self) -> Exit {
        match self {
            SweepError::File(error) => error.exit(),
            SweepError::Spec { .. } | SweepError::Other { .. } => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SweepError::File(error) => error.hint(),
            SweepError::Spec { .. } => Some("see configs/sweeps/sosp23.yml for a complete example".into()),
            SweepError::Other { .. } => Some("choose another --name, or restore the sweep file".into()),
        }
    }
}

/// What happens to the application between two runs of one cell's variant and placement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Between {
    /// Nothing.
    None,
    /// The services restart empty.
    #[default]
    Restart,
    /// Everything is removed and deployed again.
    Redeploy,
}

/// The order of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Round by round; the cells of a round in random order (by seed), so that drift does not look like an effect.
    #[default]
    Interleaved,
    /// Cell by cell, all rounds of one together, as the Python tool did.
    Blocked,
}

/// What an interleaved order may not tear apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blocks {
    /// All runs of a placement stay together: deploying is expensive.
    #[default]
    Config,
    /// Everything may be mixed: deploying is cheap.
    None,
}

/// What becomes of a run whose client was late (a busy or small machine).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LateClient {
    /// It is void: tried again, then left out.
    #[default]
    Void,
    /// It is kept, flagged in every table and figure.
    Flag,
}

/// Values for `--quick`, in place of the full ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quick {
    /// Duration of a run, s.
    pub duration_s: Option<f64>,
    /// Warm-up, s.
    pub warmup_s: Option<f64>,
    /// Rounds per cell.
    pub rounds: Option<u32>,
    /// What becomes of runs whose client was late.
    pub late_client: Option<LateClient>,
}

/// Other values for the cells that match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Only cells of this placement.
    pub config: Option<String>,
    /// Only cells of this variant.
    pub variant: Option<Variant>,
    /// Only cells of this endpoint.
    pub endpoint: Option<String>,
    /// Only cells of this rate.
    pub rate: Option<f64>,
    /// Their duration, s.
    pub duration_s: Option<f64>,
    /// Their warm-up, s.
    pub warmup_s: Option<f64>,
    /// Their connections per client.
    pub connections: Option<usize>,
    /// Their threads per client.
    pub threads: Option<usize>,
}

/// Delay added to the replication path for the whole sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelaySpec {
    /// ms.
    pub delay_ms: f64,
    /// ms.
    #[serde(default)]
    pub jitter_ms: f64,
    /// As in `delay -dist`.
    #[serde(default = "uniform")]
    pub distribution: String,
}

fn uniform() -> String {
    "uniform".into()
}

/// A sweep file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Version of this file's form.
    pub format: u32,
    /// Name, also of the sweep's directory.
    pub name: String,
    /// Placements: names (`us-eu` is `configs/<target>/<app>/us-eu.yml`) or paths.
    pub configs: Vec<String>,
    /// Variants.
    pub variants: Vec<Variant>,
    /// Offered rates, requests/s.
    pub rates: Vec<f64>,
    /// Endpoints.
    #[serde(default = "compose_post")]
    pub endpoints: Vec<String>,
    /// Connections per client; several values are one more axis.
    #[serde(default = "one")]
    pub connections: Vec<usize>,
    /// Threads per client; several values are one more axis.
    #[serde(default = "one")]
    pub threads: Vec<usize>,
    /// Client hosts.
    #[serde(default = "once")]
    pub clients: u32,
    /// Rounds per cell.
    pub rounds: u32,
    /// Duration of a run, s.
    pub duration_s: f64,
    /// First part cut from every series, s.
    #[serde(default)]
    pub warmup_s: f64,
    /// `constant` or `poisson`.
    #[serde(default = "constant")]
    pub arrivals: String,
    /// Between two runs.
    #[serde(default)]
    pub between: Between,
    /// Order of runs.
    #[serde(default)]
    pub order: Order,
    /// What the order keeps together.
    #[serde(default)]
    pub blocks: Blocks,
    /// Seed of the order and of the workloads.
    #[serde(default = "one_seed")]
    pub seed: u64,
    /// How often a failed run is tried again before it is quarantined.
    #[serde(default = "once")]
    pub retries: u32,
    /// What becomes of runs whose client was late.
    #[serde(default)]
    pub late_client: LateClient,
    /// Add rounds per cell until this holds, e.g. `window.p90 ci < 5%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Limit of rounds per cell for `until`.
    #[serde(default = "thirty")]
    pub max_rounds: u32,
    /// Injected delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelaySpec>,
    /// Per-cell values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// The short form.
    #[serde(default)]
    pub quick: Quick,
    /// Figures to draw at the end.
    #[serde(default = "default_figures")]
    pub figures: Vec<String>,
}

fn compose_post() -> Vec<String> {
    vec!["compose-post".into()]
}
fn one() -> Vec<usize> {
    vec![1]
}
fn once() -> u32 {
    1
}
fn one_seed() -> u64 {
    1
}
fn thirty() -> u32 {
    30
}
fn constant() -> String {
    "constant".into()
}
fn default_figures() -> Vec<String> {
    vec!["throughput_latency_with_consistency_window".into()]
}

/// One combination of the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The placement as in the file.
    pub config: String,
    /// Baseline or antipode.
    pub variant: Variant,
    /// The endpoint.
    pub endpoint: String,
    /// Offered rate, requests/s.
    pub rate: f64,
    /// Connections per client.
    pub connections: usize,
    /// Threads per client.
    pub threads: usize,
    /// Duration, s.
    pub duration_s: f64,
    /// Warm-up, s.
    pub warmup_s: f64,
}

impl Cell {
    /// The cell's name, unique in its sweep: `us-eu antipode compose-post 100/s c4 t2`.
    pub fn id(&self) -> String {
        format!(
            "{} {} {} {}/s c{} t{}",
            self.stem(),
            self.variant,
            self.endpoint,
            self.rate,
            self.connections,
            self.threads
        )
    }

    /// The placement's name without folder and ending.
    pub fn stem(&self) -> String {
        Path::new(&self.config).file_stem().map_or_else(|| self.config.clone(), |s| s.to_string_lossy().into_owned())
    }

    /// The placement's path for a target and an app.
    pub fn config_path(&self, target: TargetName, app: &str) -> String {
        if self.config.contains('/') || self.config.ends_with(".yml") {
            return self.config.clone();
        }
        format!("configs/{target}/{app}/{}.yml", self.config)
    }
}

/// One run of a sweep: which cell, which round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// Index into the cells.
    pub cell: usize,
    /// Round, from 0.
    pub round: u32,
}

impl Spec {
    /// Reads a sweep's `text` from `path` and checks it.
    ///
    /// # Errors
    /// [`SweepError`] with the place.
    pub fn parse(path: &Path, text: &str) -> Result<Spec, SweepError> {
        let spec: Spec = parse_yaml(path, text)?;
        let wrong = |why: String| Err(SweepError::Spec { path: path.display().to_string(), why });
        if spec.format > FORMAT {
            return wrong(format!("format {} is newer than this maestro understands ({FORMAT})", spec.format));
        }
        for (axis, empty) in [
            ("configs", spec.configs.is_empty()),
            ("variants", spec.variants.is_empty()),
            ("rates", spec.rates.is_empty()),
            ("endpoints", spec.endpoints.is_empty()),
            ("connections", spec.connections.is_empty()),
            ("threads", spec.threads.is_empty()),
        ] {
            if empty {
                return wrong(format!("`{axis}` is empty: there is nothing to run"));
            }
        }
        if let Some(rate) = spec.rates.iter().find(|r| !r.is_finite() || **r <= 0.0) {
            return wrong(format!("rate {rate} must be greater than 0"));
        }
        if spec.rounds == 0 || !spec.duration_s.is_finite() || spec.duration_s <= 0.0 {
            return wrong("`rounds` and `duration_s` must be greater than 0".into());
        }
        if let Some(count) = spec.too_many() {
            return wrong(format!("{count} runs are asked for; a sweep has at most {MOST_RUNS}"));
        }
        if spec.name.is_empty() || spec.name.contains(['/', '\0']) || spec.name.starts_with('.') {
            return wrong(format!("name `{}` cannot be a directory name", spec.name.escape_debug()));
        }
        let cells = spec.cells();
        let names: std::collections::HashSet<String> = cells.iter().map(Cell::id).collect();
        if names.len() < cells.len() {
            return wrong("two cells of the matrix are the same; remove the repeated value".into());
        }
        if let Some(cell) = cells.iter().find(|c| !(c.duration_s.is_finite() && c.duration_s > 0.0)) {
            return wrong(format!("`{}`: `duration_s` must be greater than 0", cell.id()));
        }
        if let Some(cell) = cells.iter().find(|c| !(0.0..c.duration_s).contains(&c.warmup_s)) {
            return wrong(format!("`{}`: the warm-up is not shorter than the run", cell.id()));
        }
        Ok(spec)
    }

    /// How many runs the file asks for, when they are more than [`MOST_RUNS`].
    fn too_many(&self) -> Option<u64> {
        let axes = [
            self.configs.len(),
            self.variants.len(),
            self.rates.len(),
            self.endpoints.len(),
            self.connections.len(),
            self.threads.len(),
        ];
        let rounds = self.rounds.max(self.quick.rounds.unwrap_or(0)).max(self.max_rounds);
        let runs = axes.iter().fold(u64::from(rounds), |runs, axis| runs.saturating_mul(*axis as u64));
        (runs > MOST_RUNS).then_some(runs)
    }

    /// The same sweep in its short form.
    pub fn quickened(mut self) -> Spec {
        self.duration_s = self.quick.duration_s.unwrap_or(5.0);
        self.warmup_s = self.quick.warmup_s.unwrap_or(1.0);
        self.rounds = self.quick.rounds.unwrap_or(1);
        self.late_client = self.quick.late_client.unwrap_or(self.late_client);
        self
    }

    /// Every combination, in the order of the file.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for config in &self.configs {
            for &variant in &self.variants {
                for endpoint in &self.endpoints {
                    for &connections in &self.connections {
                        for &threads in &self.threads {
                            for &rate in &self.rates {
                                cells.push(self.overridden(Cell {
                                    config: config.clone(),
                                    variant,
                                    endpoint: endpoint.clone(),
                                    rate,
                                    connections,
                                    threads,
                                    duration_s: self.duration_s,
                                    warmup_s: self.warmup_s,
                                }));
                            }
                        }
                    }
                }
            }
        }
        cells
    }

    fn overridden(&self, mut cell: Cell) -> Cell {
        for rule in &self.overrides {
            let applies = rule.config.as_ref().is_none_or(|c| *c == cell.config)
                && rule.variant.is_none_or(|v| v == cell.variant)
                && rule.endpoint.as_ref().is_none_or(|e| *e == cell.endpoint)
                && rule.rate.is_none_or(|r| r == cell.rate);
            if applies {
                cell.duration_s = rule.duration_s.unwrap_or(cell.duration_s);
                cell.warmup_s = rule.warmup_s.unwrap_or(cell.warmup_s);
                cell.connections = rule.connections.unwrap_or(cell.connections);
                cell.threads = rule.threads.unwrap_or(cell.threads);
            }
        }
        cell
    }

    /// The order of the runs of `rounds` (a range of round numbers), the same for equal seeds.
    pub fn order(&self, cells: &[Cell], rounds: std::ops::Range<u32>) -> Vec<RunId> {
        match self.order {
            Order::Blocked => {
                (0..cells.len()).flat_map(|cell| rounds.clone().map(move |round| RunId { cell, round })).collect()
            }
            Order::Interleaved => self.blocks(cells).iter().flat_map(|block| self.shuffled(block, &rounds)).collect(),
        }
    }

    /// The groups of cells that an interleaved order keeps together.
    fn blocks(&self, cells: &[Cell]) -> Vec<Vec<usize>> {
        let mut blocks: IndexMap<&str, Vec<usize>> = IndexMap::new();
        for (index, cell) in cells.iter().enumerate() {
            let key = if self.blocks == Blocks::Config { cell.config.as_str() } else { "" };
            blocks.entry(key).or_default().push(index);
        }
        blocks.into_values().collect()
    }

    fn shuffled(&self, block: &[usize], rounds: &std::ops::Range<u32>) -> Vec<RunId> {
        let mut runs = Vec::new();
        for round in rounds.clone() {
            let mut cells = block.to_vec();
            let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(self.seed.wrapping_add(u64::from(round)));
            cells.shuffle(&mut rng);
            runs.extend(cells.into_iter().map(|cell| RunId { cell, round }));
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "format: 1\nname: t\nconfigs: [us-eu, us-sg]\nvariants: [baseline, antipode]\n\
                        rates: [50, 100]\nconnections: [4]\nthreads: [2]\nrounds: 2\nduration_s: 10\n";

    fn spec(extra: &str) -> Spec {
        Spec::parse(Path::new("t.yml"), &format!("{TEXT}{extra}")).unwrap()
    }

    #[test]
    fn the_matrix_is_the_product_of_its_axes() {
        let spec = spec("");
        let cells = spec.cells();
        assert_eq!(cells.len(), 8);
        assert_eq!(cells[0].id(), "us-eu baseline compose-post 50/s c4 t2");
        assert_eq!(cells[0].config_path(TargetName::Gcp, "socialNetwork"), "configs/gcp/socialNetwork/us-eu.yml");
    }

    #[test]
    fn every_order_holds_every_run_once_and_is_fixed_by_its_seed() {
        for extra in ["order: blocked\n", "", "blocks: none\n"] {
            let spec = spec(extra);
            let cells = spec.cells();
            let order = spec.order(&cells, 0..2);
            let mut sorted = order.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), 16);
            assert_eq!(order, spec.order(&cells, 0..2));
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        for (extra, why) in [
            ("rounds: 4000000000\n", "runs are asked for; a sweep has at most 1000000"),
            ("max_rounds: 4000000000\n", "runs are asked for; a sweep has at most 1000000"),
            ("warmup_s: .nan\n", "the warm-up is not shorter than the run"),
            ("overrides:\n  - duration_s: 0\n", "`duration_s` must be greater than 0"),
        ] {
            let text =
                if extra.starts_with("rounds") { TEXT.replace("rounds: 2\n", extra) } else { format!("{TEXT}{extra}") };
            let error = Spec::parse(Path::new("t.yml"), &text).unwrap_err().to_string();
            assert!(error.contains(why), "{extra}: {error}");
        }
    }

    #[test]
    fn placements_stay_together_unless_told_otherwise() {
        let spec = spec("");
        let cells = spec.cells();
        let order = spec.order(&cells, 0..2);
        let changes = order.windows(2).filter(|w| cells[w[0].cell].config != cells[w[1].cell].config).count();
        assert_eq!(changes, 1);
    }

    #[test]
    fn overrides_touch_only_the_cells_that_match() {
        let spec = spec("overrides:\n  - rate: 100\n    variant: antipode\n    duration_s: 99\n");
        let long: Vec<Cell> = spec.cells().into_iter().filter(|c| c.duration_s == 99.0).collect();
        assert_eq!(long.len(), 2);
        assert!(long.iter().all(|c| c.rate == 100.0 && c.variant == Variant::Antipode));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (text, needle) in [
            (TEXT.replace("[50, 100]", "[]"), "`rates` is empty"),
            (TEXT.replace("[50, 100]", "[50, -1]"), "greater than 0"),
            (TEXT.replace("[50, 100]", "[50, 50]"), "the same"),
            (TEXT.replace("name: t", "name: ../t"), "directory name"),
            (format!("{TEXT}speed: 3\n"), "speed"),
            (format!("{TEXT}warmup_s: 10\n"), "warm-up"),
        ] {
            let error = Spec::parse(Path::new("t.yml"), &text).unwrap_err().to_string();
            assert!(error.contains(needle), "{needle}: {error}");
        }
    }
}
