//! What can go wrong on the way to a host and on it, each with its next move.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Exit as Code, Fault};
use crate::execute::ssh::quote;

/// A failed conversation with a host.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The SSH configuration cannot be used.
    #[error("`{}`{}: {why}", file.display(), at(*line))]
    Config {
        /// The file.
        file: PathBuf,
        /// The line, from 1; 0 for the whole file.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A command that no shell can be given.
    #[error("cannot pass a command to a shell: {why}")]
    Argument {
        /// What is wrong with it.
        why: String,
    },
    /// This machine's own resources.
    #[error("cannot talk to `{host}`")]
    System {
        /// The host.
        host: String,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// The name has no address.
    #[error("`{host}`: no address for the name `{name}`")]
    NoSuchName {
        /// The host as the placement calls it.
        host: String,
        /// What was looked up.
        name: String,
    },
    /// No TCP connection.
    #[error("cannot reach `{host}` at `{address}`: {why}")]
    Unreachable {
        /// The host as the placement calls it.
        host: String,
        /// Name and port.
        address: String,
        /// The system's word for it.
        why: String,
    },
    /// Something answers, but not as an SSH server that can be used.
    #[error("no SSH session with `{host}` at `{address}`: {why}")]
    Handshake {
        /// The host as the placement calls it.
        host: String,
        /// Name and port.
        address: String,
        /// The library's word for it.
        why: String,
    },
    /// The host shows another key than the known one.
    #[error("{0}")]
    HostKeyChanged(Box<ChangedKey>),
    /// The key is marked as revoked.
    #[error("`{host}` shows a key that `{}` line {line} marks as revoked", file.display())]
    HostKeyRevoked {
        /// The host.
        host: String,
        /// Where.
        file: PathBuf,
        /// The line there.
        line: usize,
    },
    /// A new key where only known ones are accepted.
    #[error("the host key of `{host}` ({shown}) is not known yet, and new keys are not accepted")]
    HostKeyUnknown {
        /// The host.
        host: String,
        /// Its name in known-hosts files.
        name: String,
        /// Type and fingerprint shown.
        shown: String,
    },
    /// The new key cannot be recorded.
    #[error("cannot record a host key in `{}`", file.display())]
    KnownHosts {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No key was accepted.
    #[error("`{host}` does not let `{user}` in with {}", keys(tried))]
    NotLoggedIn {
        /// The host.
        host: String,
        /// The user.
        user: String,
        /// Keys that were offered.
        tried: Vec<String>,
    },
    /// The key needs a passphrase.
    #[error("`{host}` does not let `{user}` in, and the key `{}` needs a passphrase", file.display())]
    LockedKey {
        /// The host.
        host: String,
        /// The user.
        user: String,
        /// The key.
        file: PathBuf,
    },
    /// The connection ended in the middle of something.
    #[error("lost the connection to `{host}`: {why}")]
    Lost {
        /// The host.
        host: String,
        /// The library's word for it.
        why: String,
    },
    /// The server refuses a channel.
    #[error("`{host}` refuses to {doing}: {why}")]
    Refused {
        /// The host.
        host: String,
        /// What was asked.
        doing: String,
        /// The library's word for it.
        why: String,
    },
    /// A command went on for too long.
    #[error("`{command}` on `{host}` did not end within {} s", after.as_secs_f64())]
    TooLong {
        /// The host.
        host: String,
        /// The command.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// A command failed.
    #[error("`{command}` on `{host}` {how}{}", said(stderr))]
    Failed {
        /// The host.
        host: String,
        /// The command.
        command: String,
        /// Status or signal.
        how: String,
        /// The end of what it said on standard error.
        stderr: String,
    },
    /// The disk is full.
    #[error("no space left on `{host}` for `{path}`")]
    Full {
        /// The host.
        host: String,
        /// What was being written.
        path: String,
    },
    /// A copy differs from its original.
    #[error("`{path}` on `{host}` has SHA-256 {found} after the copy, the original {wanted}")]
    Checksum {
        /// The host.
        host: String,
        /// The file there.
        path: String,
        /// Its sum, hex.
        found: String,
        /// The original's, hex.
        wanted: String,
    },
    /// A file of this machine.
    #[error("cannot use `{}`", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A host key that is not the known one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// The host as the placement calls it.
    pub host: String,
    /// Its name in known-hosts files.
    pub name: String,
    /// Type and fingerprint shown.
    pub shown: String,
    /// Type and fingerprint known.
    pub known: String,
    /// Where it is known from.
    pub file: PathBuf,
    /// The line there.
    pub line: usize,
}

impl fmt::Display for ChangedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangedKey { host, shown, known, line, .. } = self;
        let file = self.file.display();
        write!(f, "`{host}` shows the key {shown}, but `{file}` line {line} knows it by {known}; ")?;
        f.write_str("the host was reinstalled, or somebody is in between")
    }
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" line {line}") }
}

fn keys(tried: &[String]) -> String {
    if tried.is_empty() { "any key: there is none to offer".to_owned() } else { tried.join(", ") }
}

fn said(stderr: &str) -> String {
    let text = stderr.trim().replace('\n', "; ");
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl SshError {
    pub(super) fn system(host: &str, source: std::io::Error) -> Self {
        SshError::System { host: host.to_owned(), source }
    }

    /// Whether trying again may help: the host may be starting, or its server busy.
    pub fn is_transient(&self) -> bool {
        matches!(self, SshError::Unreachable { .. } | SshError::Handshake { .. } | SshError::Lost { .. })
    }
}

impl Fault for SshError {
    fn exit(&self) -> Code {
        match self {
            SshError::Argument { .. } => Code::Bug,
            SshError::Config { .. } => Code::Usage,
            SshError::TooLong { .. } | SshError::Failed { .. } | SshError::Checksum { .. } => Code::StepFailed,
            _ => Code::Unreachable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SshError::HostKeyChanged(changed) => Some(format!(
                "if the change is expected: ssh-keygen -R {} -f {}",
                quote::quote(&changed.name),
                quote::quote(&changed.file.display().to_string())
            )),
            SshError::HostKeyUnknown { name, .. } => Some(format!(
                "check the fingerprint at the host, then add its key (ssh-keyscan {}), or leave --strict out",
                name.trim_start_matches('[').split(']').next().unwrap_or(name)
            )),
            SshError::LockedKey { file, .. } => Some(format!("unlock it first: ssh-add {}", file.display())),
            SshError::NotLoggedIn { host, .. } => {
                Some(format!("try `ssh {host} true`; set User and IdentityFile in the SSH configuration"))
            }
            SshError::NoSuchName { host, .. } => {
                Some(format!("give `Host {host}` a HostName in the SSH configuration"))
            }
            SshError::Unreachable { .. } | SshError::Lost { .. } | SshError::Handshake { .. } => {
                Some("see that the host is up, then run the same command again; it continues".into())
            }
            SshError::Full { host, .. } => {
                Some(format!("free some space on `{host}`, then run the same command again"))
            }
            SshError::Checksum { .. } => Some("run the same command again".into()),
            _ => None,
        }
    }
}
