//! From a host's configuration to a connection that is logged in: TCP, handshake, host key, key of the user.
//!
//! Everything here blocks and runs on the connection's own thread.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_user_timeout};
use ssh2::{MethodType, Session};

use super::SshError;
use super::config::HostConfig;
use super::known_hosts;
use super::session::{Carrier, Ready};
use crate::ui;

/// Longest wait for a TCP connection unless the configuration says otherwise.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for any one answer of the server while logging in, ms.
const ANSWER_LIMIT_MS: u32 = 20_000;

/// Bytes that the other side's kernel does not acknowledge for this long mean that it is gone, ms.
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// The least pause between two signs of life that libssh2 lets through, s; the pump decides when.
const KEEP_ALIVE_S: u32 = 5;

/// OpenSSH's server ends the connection after six refused keys.
const MAX_KEYS: usize = 5;

/// A host and the user to log in as.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// How it is reached.
    pub config: HostConfig,
    /// Who logs in.
    pub user: String,
}

impl Login {
    fn address(&self) -> String {
        known_hosts::entry_name(&self.config.host_name, self.config.port)
    }

    /// Connects over TCP, or over `through` when other hosts are in between, and logs in.
    ///
    /// # Errors
    /// [`SshError`] for each way in which it can fail.
    pub(super) fn establish(&self, through: Option<UnixStream>) -> Result<Ready, SshError> {
        let carrier = match through {
            Some(stream) => Carrier::Through(stream),
            None => Carrier::Tcp(self.dial()?),
        };
        let alias = &self.config.alias;
        let socket = carrier.try_clone().map_err(|error| SshError::system(alias, error))?;
        let mut session = Session::new().map_err(|error| self.handshake_failed(&error))?;
        session.set_timeout(ANSWER_LIMIT_MS);
        let looked_up = self.config.host_key_alias.as_deref().unwrap_or(&self.config.host_name);
        let name = known_hosts::entry_name(looked_up, self.config.port);
        let known = known_hosts::lookup(&session, &self.config.known_hosts_files, &name);
        if let Some(preferences) = known_hosts::preferences(&known) {
            session.method_pref(MethodType::HostKey, &preferences).map_err(|error| self.handshake_failed(&error))?;
        }
        match carrier {
            Carrier::Tcp(stream) => session.set_tcp_stream(stream),
            Carrier::Through(stream) => session.set_tcp_stream(stream),
        }
        session.handshake().map_err(|error| self.handshake_failed(&error))?;
        let shown = session.host_key().ok_or_else(|| SshError::Handshake {
            host: alias.clone(),
            address: self.address(),
            why: "the server shows no host key".into(),
        })?;
        let files = &self.config.known_hosts_files;
        if known_hosts::check(alias, &name, files, &known, shown, self.config.new_keys)? {
            let (blob, kind) = shown;
            let kind = known_hosts::kind_name(kind);
            let print = known_hosts::fingerprint(blob);
            ui::note(format_args!("{alias}: recorded its host key {kind} {print}"));
        }
        self.authenticate(&session)?;
        // Not before: libssh2 would send it in the middle of the key exchange, and the server would hang up.
        session.set_keepalive(false, KEEP_ALIVE_S);
        Ok(Ready { session, socket })
    }

    fn dial(&self) -> Result<TcpStream, SshError> {
        let unreachable =
            |why: String| SshError::Unreachable { host: self.config.alias.clone(), address: self.address(), why };
        let limit = self.config.connect_timeout_s.map_or(CONNECT_LIMIT, Duration::from_secs);
        let addresses = (self.config.host_name.as_str(), self.config.port).to_socket_addrs().map_err(|_| {
            SshError::NoSuchName { host: self.config.alias.clone(), name: self.config.host_name.clone() }
        })?;
        let mut why = "its name has no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    let tuned = stream.set_nodelay(true).and_then(|()| {
                        set_socket_keepalive(&stream, true)?;
                        Ok(set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS)?)
                    });
                    return tuned.map(|()| stream).map_err(|error| unreachable(error.to_string()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    why = format!("no answer within {} s", limit.as_secs());
                }
                Err(error) => why = plain(&error),
            }
        }
        Err(unreachable(why))
    }

    fn handshake_failed(&self, error: &ssh2::Error) -> SshError {
        SshError::Handshake {
            host: self.config.alias.clone(),
            address: self.address(),
            why: error.message().to_owned(),
        }
    }

    /// Offers keys in the order of OpenSSH: configured keys that the agent holds, configured files, the agent's other
    /// keys.
    fn authenticate(&self, session: &Session) -> Result<(), SshError> {
        let mut tried = Vec::new();
        let files = self.identity_files();
        let agent = self.agent_keys(session);
        let wanted: Vec<Vec<u8>> = files.iter().filter_map(|file| public_half(file)).collect();
        if let Some((agent, keys)) = &agent {
            for key in keys.iter().filter(|key| wanted.iter().any(|blob| blob == key.blob())) {
                if self
                    .offer(&mut tried, format!("agent key `{}`", key.comment()), || agent.userauth(&self.user, key))?
                {
                    return Ok(());
                }
            }
        }
        let mut locked = Vec::new();
        for file in &files {
            if is_locked(file) {
                locked.push(file.clone());
                continue;
            }
            let by_file = || session.userauth_pubkey_file(&self.user, None, file, None);
            if self.offer(&mut tried, format!("`{}`", file.display()), by_file)? {
                return Ok(());
            }
        }
        if let Some((agent, keys)) = agent.as_ref().filter(|_| !self.config.identities_only) {
            for key in keys.iter().filter(|key| !wanted.iter().any(|blob| blob == key.blob())) {
                if self
                    .offer(&mut tried, format!("agent key `{}`", key.comment()), || agent.userauth(&self.user, key))?
                {
                    return Ok(());
                }
            }
        }
        let host = self.config.alias.clone();
        match locked.into_iter().next() {
            Some(file) => Err(SshError::LockedKey { host, user: self.user.clone(), file }),
            None => Err(SshError::NotLoggedIn { host, user: self.user.clone(), tried }),
        }
    }

    /// One key. `Ok(false)` when the server or the key says no, an error when the connection is lost.
    fn offer(
        &self,
        tried: &mut Vec<String>,
        name: String,
        with: impl FnOnce() -> Result<(), ssh2::Error>,
    ) -> Result<bool, SshError> {
        if tried.len() >= MAX_KEYS {
            return Ok(false);
        }
        tried.push(name);
        match with() {
            Ok(()) => Ok(true),
            Err(error) if super::lane::ends_connection(&error) => Err(self.handshake_failed(&error)),
            Err(error) => {
                tracing::debug!("{}: {}", self.config.alias, error);
                Ok(false)
            }
        }
    }

    fn identity_files(&self) -> Vec<PathBuf> {
        if !self.config.identity_files.is_empty() {
            return self.config.identity_files.clone();
        }
        let dir = super::words::home().join(".ssh");
        ["id_ed25519", "id_ecdsa", "id_rsa"].iter().map(|name| dir.join(name)).filter(|file| file.exists()).collect()
    }

    fn agent_keys(&self, session: &Session) -> Option<(ssh2::Agent, Vec<ssh2::PublicKey>)> {
        match &self.config.identity_agent {
            Some(path) if path.as_os_str().is_empty() => return None,
            Some(_) => {}
            None => drop(std::env::var_os("SSH_AUTH_SOCK")?),
        }
        let mut agent = session.agent().ok()?;
        if let Some(path) = &self.config.identity_agent {
            agent.set_identity_path(path).ok()?;
        }
        agent.connect().ok()?;
        agent.list_identities().ok()?;
        let keys = agent.identities().ok()?;
        Some((agent, keys))
    }
}

/// The system's word without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The public key beside a private one.
fn public_half(file: &Path) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    let text = std::fs::read_to_string(PathBuf::from(name)).ok()?;
    base64::engine::general_purpose::STANDARD.decode(text.split_whitespace().nth(1)?).ok()
}

/// Whether a private key needs a passphrase: libssh2 would only say that it cannot read it.
fn is_locked(file: &Path) -> bool {
    use base64::Engine as _;
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        return true;
    }
    if !text.contains("BEGIN OPENSSH PRIVATE KEY") {
        return false;
    }
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    // "openssh-key-v1", NUL, then the cipher's name with its length in four bytes before it.
    let head = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    head.starts_with(b"openssh-key-v1\0") && head.get(15..23) != Some(b"\0\0\0\x04none".as_slice())
}
