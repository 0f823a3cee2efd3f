//! Sweeps: a matrix of workloads as data, the order they run in, and the journal that makes them resumable.
//!
//! The story that carries a sweep out is `command/sweep.rs`; everything here is pure or reads and writes one
//! sweep's own directory.

mod claims;
mod journal;
mod metrics;
mod spec;
mod spent;
mod until;

pub use claims::{Claim, Claims, Judgement, Observed, judge};
pub use journal::{Begun, Event, Journal, Progress, RunState};
pub use metrics::Metrics;
pub use spec::{Between, Blocks, Cell, DelaySpec, LateClient, Order, Quick, RunId, Spec, SweepError};
pub use spent::Spent;
pub use until::Until;
