//! What is fuzzed: plain functions over bytes, with examples to start from. They are run by libFuzzer, and on stable by
//! the tests, which mutate the examples.
//!
//! Every one of them holds that reading ends, without a panic, and that what cannot be used is refused in one line.

pub mod compose;
pub mod images;
pub mod load;
pub mod miniature;
pub mod placement;
pub mod records;
pub mod response;
pub mod run_dir;
pub mod ssh;
pub mod sweep;
pub mod trace;

use std::path::{Path, PathBuf};

use maestro::error::{Error, Fault};

/// One reader of bytes from outside.
pub struct Target {
    /// As in `fuzz/run.sh 60 NAME`.
    pub name: &'static str,
    /// Panics when the input is read wrongly.
    pub check: fn(&[u8]),
    /// Inputs that mutations start from.
    pub examples: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, check: fn(&[u8]), examples: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, check, examples }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("claims", sweep::claims, sweep::claims_examples),
    target("compose", compose::check, compose::examples),
    target("delays", miniature::delays, miniature::delays_examples),
    target("deployment", records::deployment, records::deployment_examples),
    target("dockerfile", images::dockerfile, images::dockerfile_examples),
    target("dockerignore", images::ignore, images::ignore_examples),
    target("form", miniature::form, miniature::form_examples),
    target("hlog", load::hlog, load::hlog_examples),
    target("images_lock", images::lock, images::lock_examples),
    target("journal", sweep::journal, sweep::journal_examples),
    target("known_hosts", ssh::known_hosts, ssh::known_hosts_examples),
    target("miniature", miniature::config, miniature::config_examples),
    target("out", load::out, load::out_examples),
    target("placement", placement::check, placement::examples),
    target("plot_config", records::plot_config, records::plot_config_examples),
    target("response", response::check, response::examples),
    target("run_dir", run_dir::check, run_dir::examples),
    target("run_record", records::run, records::run_examples),
    target("saved", trace::saved, trace::saved_examples),
    target("site", placement::site, placement::site_examples),
    target("ssh_config", ssh::config, ssh::config_examples),
    target("state", records::state, records::state_examples),
    target("sweep", sweep::spec, sweep::spec_examples),
    target("trace", trace::check, trace::examples),
    target("words", load::words, load::words_examples),
];

/// Panics unless `error` is one line that can be shown.
fn one_line(error: impl Fault) {
    let error = Error::from(error);
    line(&error.line());
    // A hint is a line of its own.
    if let Some(hint) = error.hint() {
        line(&hint);
    }
}

/// Panics unless `text` is one line that can be shown.
fn line(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "not one line: {text:?}");
    assert!(text.len() < 20_000, "a line of {} bytes", text.len());
}

/// The bytes as text, as far as they are text.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// A folder in memory for readers that open files themselves, its own for each thread.
fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: PathBuf = {
            let place = Path::new("/dev/shm");
            let place = if place.is_dir() { place.to_owned() } else { std::env::temp_dir() };
            let thread = format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_digit(), "");
            let folder = place.join(format!("maestro-fuzz-{}-{thread}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder for files");
            folder
        };
    }
    FOLDER.with(Clone::clone)
}

/// A file of that name with `data` in it.
fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, data).expect("a file to read");
    path
}

/// Examples as bytes.
fn texts(examples: &[&str]) -> Vec<Vec<u8>> {
    examples.iter().map(|text| text.as_bytes().to_vec()).collect()
}
