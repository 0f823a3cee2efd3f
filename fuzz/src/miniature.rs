//! The readers of the miniature: its configuration, the forms of its requests, and delays.

use std::path::Path;

use maestro::delay::{Matrix, Schedule};
use maestro::embedded::config::Config;
use maestro::embedded::form::{Form, integer};
use maestro::store::parse_yaml;

use super::{line, one_line, text, texts};

/// Reads `data` as the configuration of an embedded deployment.
pub fn config(data: &[u8]) {
    if let Err(error) = Config::parse(Path::new("c.yml"), &text(data)) {
        one_line(error);
    }
}

/// Those that come with the program.
pub fn config_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../configs/embedded/socialNetwork/us-eu.yml"),
        include_str!("../../configs/embedded/socialNetwork/us-sg.yml"),
    ])
}

/// Reads `data` as the form of a request.
pub fn form(data: &[u8]) {
    let form = Form::parse(data);
    for key in ["a", "text", "user_id"] {
        form.get(key).map(integer);
    }
    integer(&text(data));
}

/// A request of the workload.
pub fn form_examples() -> Vec<Vec<u8>> {
    texts(&["username=u&user_id=1e3&text=a+b%20%c3%a9&a", "%%%zz=+&=&&a==b", " -12.0 ", "9e15"])
}

/// Reads `data` as a matrix and as a schedule of delays.
pub fn delays(data: &[u8]) {
    let text = text(data);
    let told = |error: String| line(&maestro::error::Error::from(maestro::error::Plain::usage(error)).line());
    match parse_yaml::<Matrix>(Path::new("m.yml"), &text) {
        Ok(matrix) => match matrix.pairs() {
            Ok(pairs) => assert!(pairs.iter().all(|pair| pair.from != pair.to)),
            Err(error) => told(error.to_string()),
        },
        Err(error) => one_line(error),
    }
    match parse_yaml::<Schedule>(Path::new("s.yml"), &text) {
        Ok(schedule) => match schedule.check() {
            Ok(steps) => assert!(steps.windows(2).all(|two| two[0].0 <= two[1].0)),
            Err(error) => told(error.to_string()),
        },
        Err(error) => one_line(error),
    }
}

/// One of each, and every key.
pub fn delays_examples() -> Vec<Vec<u8>> {
    texts(&[
        "pairs:\n  - {from: a, to: b, delay_ms: 5, jitter_ms: 1, distribution: pareto, both: true}\n  - {from: a, to: c, \
         delay_ms: 0, port: 6379, loss_percent: 1, rate_mbit: 10, correlation_percent: 25}\n",
        "start: now\nsteps:\n  - {at_s: 0, rule: {delay_ms: 5}}\n  - {at_s: 10, rule: {}}\n",
    ])
}
