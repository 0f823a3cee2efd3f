//! Sweeps: a matrix of workloads as data, the order they run in, and the journal that makes them resumable.
//!
//! The story that carries a sweep out is `command/sweep.rs`; everything here is pure or reads and writes one
//! sweep's own directory.

mod journal;
mod spec;

pub use journal::{Event, Journal, Progress, RunState};
pub use spec::{Between, Blocks, Cell, Order, Quick, RunId, Spec, SweepError};
