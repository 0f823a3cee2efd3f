//! The readers of what maestro itself writes: what is read is the same when it is written and read again.

use std::fmt::Debug;
use std::path::Path;

use maestro::plot;
use maestro::store::{Deployment, RunRecord, State, parse_yaml, write_yaml};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{file, folder, one_line, text, texts};

/// Reads `data` as a `T`, and what was read once more from how the store writes it.
fn record<T: DeserializeOwned + Serialize + Debug>(name: &str, data: &[u8]) {
    let record: T = match parse_yaml(Path::new(name), &text(data)) {
        Ok(record) => record,
        Err(error) => return one_line(error),
    };
    let path = folder().join(name);
    write_yaml(&path, &record).expect("what was read can be written");
    let written = std::fs::read_to_string(&path).expect("what was written is there");
    let again: T = parse_yaml(&path, &written).unwrap_or_else(|error| panic!("{error}\nwas written:\n{written}"));
    // By their form for debugging: NaN is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{record:?}"), "was written:\n{written}");
}

/// Reads `data` as `.last.yml`.
pub fn state(data: &[u8]) {
    record::<State>(".last.yml", data);
}

/// The Python tool's file, and one with keys that this version does not know.
pub fn state_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../tests/fixtures/gather/small/last.yml"),
        include_str!("../../tests/fixtures/gather/small_gcp/last.yml"),
        "app: a\nwkld_rate: 12.5\nwkld_connections: 4\nother: {a: [1, -2, 0.5, null, true, \"x: y\"]}\n",
    ])
}

/// Reads `data` as `deployment.yml`.
pub fn deployment(data: &[u8]) {
    record::<Deployment>("deployment.yml", data);
}

/// A running one with a delay, and one that is new.
pub fn deployment_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../examples/deployment.yml"),
        "format: 1\napp: socialNetwork\ntarget: gsd\ntag: t\nconfig: c.yml\nconfig_sha256: ''\nzone_pair: US->EU\n\
         clients: 1\nuid: u-1\nhosts: {n1: {role: manager}}\n",
    ])
}

/// Reads `data` as `run.yml`.
pub fn run(data: &[u8]) {
    record::<RunRecord>("run.yml", data);
}

/// One that ended.
pub fn run_examples() -> Vec<Vec<u8>> {
    texts(&[include_str!("../examples/run.yml")])
}

/// Reads `data` as a plot config.
pub fn plot_config(data: &[u8]) {
    let path = file("plot.yml", data);
    for wanted in [&[][..], &["window_cdf".to_owned()]] {
        if let Err(error) = plot::read_config(&path, wanted) {
            one_line(error);
        }
    }
    if let Err(error) = plot::expand(&maestro::store::Store::new(folder()), &path) {
        one_line(error);
    }
}

/// The one that comes with the program, and small ones.
pub fn plot_config_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../plots/configs/sample.yml"),
        "window_cdf: [gather/a/b, gather/c]\ntimeline:\n",
        "a: &a [x]\nb: *a\n",
    ])
}
