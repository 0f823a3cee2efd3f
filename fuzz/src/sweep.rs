//! The readers of sweeps: the file, its claims, its journal.

use std::path::Path;

use maestro::sweep::{Claims, Journal, Spec, Until};

use super::{file, one_line, text, texts};

/// Reads `data` as a sweep; every run of it is in its order once.
pub fn spec(data: &[u8]) {
    match Spec::parse(Path::new("s.yml"), &text(data)) {
        Ok(spec) => {
            for spec in [spec.clone(), spec.quickened()] {
                let cells = spec.cells();
                let runs = u64::from(spec.rounds) * cells.len() as u64;
                // The order of a sweep that is as large as allowed takes a while.
                if runs < 10_000 {
                    assert_eq!(spec.order(&cells, 0..spec.rounds).len() as u64, runs);
                }
            }
        }
        Err(error) => one_line(error),
    }
}

/// Those that come with the program.
pub fn spec_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../configs/sweeps/quick.yml"),
        include_str!("../../configs/sweeps/sosp23.yml"),
        "format: 1\nname: t\nconfigs: [a]\nvariants: [baseline]\nrates: [1]\nrounds: 1\nduration_s: 2\noverrides: \
         [{rate: 1, warmup_s: 1}]\nquick: {rounds: 1}\n",
    ])
}

/// Reads `data` as claims, and its lines as conditions of adaptive rounds.
pub fn claims(data: &[u8]) {
    let text = text(data);
    for line in text.lines().take(4) {
        if let Err(error) = Until::parse(line) {
            one_line(error);
        }
    }
    if let Err(error) = Claims::parse(Path::new("c.yml"), &text) {
        one_line(error);
    }
}

/// Those that come with the program.
pub fn claims_examples() -> Vec<Vec<u8>> {
    texts(&[include_str!("../../configs/reproduce/sosp23.yml"), "window.p90 ci < 5%\nthroughput ci < 1e-3%\n"])
}

/// Reads `data` as a journal; what opening it cut off is not missed when it is read again.
pub fn journal(data: &[u8]) {
    let path = file("journal.jsonl", data);
    match Journal::open(&path) {
        Ok((_, progress)) => match Journal::progress(&path) {
            Ok(again) => assert_eq!(again.ended, progress.ended),
            Err(error) => panic!("was read, and is not any more: {error}"),
        },
        Err(error) => one_line(error),
    }
}

/// Every event once, and a torn line.
pub fn journal_examples() -> Vec<Vec<u8>> {
    texts(&[
        "{\"event\":\"started\",\"cell\":\"c\",\"round\":0,\"attempt\":1,\"at_us\":1}\n{\"event\":\"finished\",\"cell\":\
         \"c\",\"round\":0,\"dir\":\"gather/x\",\"status\":\"complete\",\"load_s\":5.0,\"idle_s\":0.2,\"at_us\":2}\n\
         {\"event\":\"ended\",\"at_us\":3}\n",
        "{\"event\":\"failed\",\"cell\":\"c\",\"round\":1,\"attempt\":1,\"reason\":\"x\",\"at_us\":2}\n{\"event\":\
         \"quarantined\",\"cell\":\"c\",\"round\":1,\"reason\":\"y\",\"at_us\":2}\n{\"event\":\"sta",
    ])
}
