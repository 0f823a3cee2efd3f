//! How long the window figure of forty run directories takes: reading and drawing it as SVG, and rendering the PNG.
//!
//! `cargo bench --bench figures`

#![allow(missing_docs, clippy::expect_used, reason = "a bench says what went wrong by panicking")]

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use maestro::plot::{self, Run};
use maestro::store::Store;

const NAME: &str = "throughput_latency_with_consistency_window";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plots")
}

fn runs(store: &Store, dirs: &[String], kind: &plot::Kind) -> Vec<Run> {
    let (runs, left_out) = plot::load(store, dirs, kind.needs);
    assert!(left_out.is_empty() && runs.len() == 40);
    runs
}

fn figures(c: &mut Criterion) {
    let store = Store::new(fixtures());
    let kind = plot::find(NAME).expect("the figure");
    let chosen = plot::read_config(&fixtures().join("plots_all.yml"), &[NAME.to_owned()]).expect("the config");
    let dirs = &chosen.first().expect("its runs").1;
    let drawn = |runs: &[Run]| plot::svg(&(kind.build)(runs).expect("a figure").figure).expect("a drawing");
    let ready = runs(&store, dirs, kind);
    let picture = drawn(&ready);
    c.bench_function("window_figure_40_runs_read_and_svg", |b| b.iter(|| drawn(black_box(&runs(&store, dirs, kind)))));
    c.bench_function("window_figure_40_runs_svg_alone", |b| b.iter(|| drawn(black_box(&ready))));
    c.bench_function("window_figure_png_600_dpi", |b| b.iter(|| picture.png().expect("a PNG")));
    c.bench_function("window_figure_pdf", |b| b.iter(|| picture.pdf().expect("a PDF")));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = figures
}
criterion_main!(benches);
