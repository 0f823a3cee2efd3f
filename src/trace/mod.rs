//! Traces of a run, read as they arrive: from a Jaeger query API or from saved answers, reduced on the way to what
//! an observation needs. Nothing is dropped without being counted.

mod blocks;
mod decode;
mod feed;
pub mod file;
pub mod jaeger;
mod model;
mod response;
mod scan;
mod shape;
pub mod story;
#[cfg(test)]
mod tests;

pub use feed::FeedError;
pub use model::{Seen, Trace, TraceId};
pub use response::{Loss, ResponseError, Tally};
pub use shape::{Field, Place, Shape};

use std::io::Read;
use std::time::Duration;

/// Reads one answer from `from` on the calling thread, `size` bytes at a time. Mainly for tests and tools: gather
/// reads on a thread of its own.
///
/// # Errors
/// [`ResponseError`]; what was read before is in `tally` and went to `sink`.
pub fn read_here(
    from: impl Read + Send + 'static,
    size: usize,
    shape: &Shape,
    tally: &mut Tally,
    sink: &mut dyn FnMut(Trace),
) -> Result<(), ResponseError> {
    response::read(&mut feed::Feed::direct(from, size), &shape::Matcher::new(shape), tally, sink)
}

/// Reads one answer from `from`, which a thread of its own empties; gives up when nothing comes for `idle`.
///
/// # Errors
/// As [`read_here`].
pub fn read_ahead(
    from: impl Read + Send + 'static,
    idle: Duration,
    shape: &Shape,
    tally: &mut Tally,
    sink: &mut dyn FnMut(Trace),
) -> Result<(), ResponseError> {
    let mut feed = feed::Feed::threaded(from, idle).map_err(|error| ResponseError::Broken(error.into(), 0))?;
    response::read(&mut feed, &shape::Matcher::new(shape), tally, sink)
}
