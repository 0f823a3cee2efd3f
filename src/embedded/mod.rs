//! The embedded target's runtime: a miniature of the social network inside this process.
//!
//! ```text
//! http ──> compose ──> store (origin) ──link──> store (replica)      posts, asynchronous replication
//!             └──────> queue ────────link────> notify ──> social     notifications, 32 consumers, home timelines
//! compose, notify, read ──> spans ──> jaeger                         traces as Jaeger's query API gives them
//!                      └──> truth                                    what really happened, on one monotonic clock
//! ```
//! Distances, service times and worker counts are a [`config::Config`]; nothing here knows a target, a plan or the
//! command line. [`serve`] is the body of the background process, [`process`] starts, finds and stops it.

mod admin;
pub(crate) mod answer;
pub mod canary;
pub mod client;
pub mod clock;
mod compose;
pub mod config;
pub mod control;
pub mod dist;
pub mod faults;
pub mod form;
mod http;
pub(crate) mod ids;
pub mod jaeger;
mod lineage;
pub mod link;
mod miniature;
mod notify;
pub(crate) mod post;
pub mod probe;
pub mod process;
pub mod query;
mod queue;
mod read;
pub mod ready;
pub mod serve;
mod social;
pub mod spans;
mod station;
mod store;
mod truth;
