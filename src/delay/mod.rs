//! Delay on a replication path: asked for, made, proved, and gone again by itself.
//!
//! ```text
//! command/delay ── attach ──engine──> helper container in the receiver's (or sender's) network namespace
//!                                       helper   lease, peer addresses, schedule, control socket
//!                                         netem  traffic control in the kernel         (netlink)
//!                                         proxy  transparent TCP proxy + redirect rules (netlink)
//!                                       probe    echo and round trips: what was obtained
//!                    proof <── samples ──┘
//! ```
//! Why a container and not a process on the host: a container with `network_mode: container:ID` enters another
//! container's network namespace through the engine's API alone. The same request works on the local engine, on a
//! remote one, and through the engine sockets that are forwarded over SSH from every host of a cluster; it needs no
//! root on any host, no tool there, and nothing inside the application's image.

pub mod proof;
pub mod proxy;
pub mod spec;

pub(crate) mod attach;
pub(crate) mod enact;
mod helper;
mod netem;
mod netlink;
mod plan;
mod priority;
mod probe;
mod wire;

pub use plan::{Matrix, Pair, Schedule, Start, Step};
pub use wire::{Backend, Following, Probed, Reply, Request, Rule, RuleStatus, Rules, Status};

pub(crate) use helper::{Options, control, serve};

use crate::error::{Exit, Fault};

/// What can go wrong with a delay.
#[derive(Debug, thiserror::Error)]
pub enum DelayError {
    /// The specification contradicts itself.
    #[error("{0}")]
    Refused(String),
    /// The kernel refused a request.
    #[error("the kernel refused to {what}: {why}")]
    Kernel {
        /// What was asked, e.g. `redirect connections`.
        what: String,
        /// Its answer.
        why: String,
    },
    /// The kernel has no netem (or lacks what it hangs below).
    #[error("kernel has no sch_{0}")]
    NoNetem(&'static str),
    /// Somebody else shapes this interface.
    #[error("interface `{interface}` already has the root discipline `{qdisc}`, which is not ours to replace")]
    ForeignQdisc {
        /// The interface.
        interface: String,
        /// Kind and handle.
        qdisc: String,
    },
    /// A peer has no address.
    #[error("no address found for peer `{0}`")]
    Unresolved(String),
    /// The delay asked for is not the delay obtained.
    #[error("delay {pair}: {why}; the rule was removed")]
    NotObtained {
        /// `from -> to`.
        pair: String,
        /// Both numbers.
        why: String,
    },
    /// The helper said no.
    #[error("{message}")]
    Helper {
        /// Its words.
        message: String,
        /// Its exit code.
        exit: i32,
    },
    /// The helper cannot be spoken to.
    #[error("delay helper at `{place}`: {source}")]
    Unreachable {
        /// The socket or container.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Fault for DelayError {
    fn exit(&self) -> Exit {
        match self {
            DelayError::Refused(_) => Exit::Usage,
            DelayError::NoNetem(_) | DelayError::Unresolved(_) | DelayError::Unreachable { .. } => Exit::Unreachable,
            DelayError::Kernel { .. } | DelayError::ForeignQdisc { .. } | DelayError::NotObtained { .. } => {
                Exit::StepFailed
            }
            DelayError::Helper { exit, .. } => match exit {
                2 => Exit::Usage,
                3 => Exit::Unreachable,
                _ => Exit::StepFailed,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DelayError::NoNetem(_) => Some("use `--backend proxy`, or `auto` which does so by itself".to_owned()),
            DelayError::ForeignQdisc { .. } => {
                Some("use `--backend proxy`, or remove the other discipline first".to_owned())
            }
            DelayError::NotObtained { .. } => {
                Some("a busy host or another delay on the path; see both numbers and try again".to_owned())
            }
            _ => None,
        }
    }
}

/// Now, us since the epoch.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
