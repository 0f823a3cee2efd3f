//! Host keys: what is known, what a server shows, and what follows from the two.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use ssh2::{CheckResult, HostKeyType, KnownHostFileKind, Session};

use super::SshError;
use super::config::NewKeys;
use super::error::ChangedKey;
use super::words::matches;

/// One line of a known-hosts file that is about the host in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Key type as written (`ssh-ed25519`).
    pub kind: String,
    /// The key, base64.
    pub key: String,
    /// `@revoked`.
    pub revoked: bool,
    /// Where it stands.
    pub file: PathBuf,
    /// On which line.
    pub line: usize,
}

/// What to do with the key that a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one that is known.
    Same,
    /// Nothing is known about the host.
    New,
    /// Another key is known.
    Changed(Known),
    /// The key is marked as revoked.
    Revoked(Known),
}

/// The name under which a host's keys are kept: `[host]:port` unless the port is 22.
pub(super) fn entry_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Every line of `files` about `name` (as [`entry_name`] makes it). Files that are not there know nothing.
pub(super) fn lookup(session: &Session, files: &[PathBuf], name: &str) -> Vec<Known> {
    files
        .iter()
        .filter_map(|file| std::fs::read(file).ok().map(|bytes| (file, bytes)))
        .flat_map(|(file, bytes)| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines = text.lines().enumerate();
            lines.filter_map(|(index, line)| known(session, file, index + 1, line, name)).collect::<Vec<_>>()
        })
        .collect()
}

/// Numbers of the lines of `files` that are about `host`, as a connection to it would find them.
///
/// # Errors
/// [`SshError::System`] when the SSH library does not start.
pub fn known_lines(files: &[PathBuf], host: &str, port: u16) -> Result<Vec<usize>, SshError> {
    let session = Session::new()
        .map_err(|error| SshError::System { host: host.to_owned(), source: std::io::Error::other(error) })?;
    Ok(lookup(&session, files, &entry_name(host, port)).into_iter().map(|known| known.line).collect())
}

fn known(session: &Session, file: &Path, number: usize, line: &str, name: &str) -> Option<Known> {
    let mut words = line.split_whitespace().peekable();
    let revoked = match words.peek() {
        // Certificates cannot be checked here; a plain key of the host decides.
        Some(&"@cert-authority") => return None,
        Some(&"@revoked") => words.next().is_some(),
        Some(word) if word.starts_with('#') => return None,
        _ => false,
    };
    let (hosts, kind, key) = (words.next()?, words.next()?, words.next()?);
    let about = if hosts.starts_with("|1|") {
        hashed(session, &format!("{hosts} {kind} {key}"), name, key)
    } else {
        let patterns: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        matches(&patterns, name)
    };
    about.then(|| Known { kind: kind.to_owned(), key: key.to_owned(), revoked, file: file.to_owned(), line: number })
}

/// Whether a hashed line is about `name`: libssh2 has the HMAC.
fn hashed(session: &Session, line: &str, name: &str, key: &str) -> bool {
    let Ok(mut one) = session.known_hosts() else { return false };
    let Ok(blob) = STANDARD.decode(key) else { return false };
    one.read_str(line, KnownHostFileKind::OpenSSH).is_ok() && matches!(one.check(name, &blob), CheckResult::Match)
}

/// The host key algorithms to ask for, so that the server shows a key that can be compared: libssh2 would negotiate
/// ed25519 first and then call a host that is known by its RSA key changed. `None` when nothing is known.
pub(super) fn preferences(known: &[Known]) -> Option<String> {
    let mut algorithms: Vec<&str> = Vec::new();
    for entry in known.iter().filter(|entry| !entry.revoked) {
        let names: &[&str] = match entry.kind.as_str() {
            "ssh-rsa" => &["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
            other => &[other],
        };
        for name in names {
            if SUPPORTED.contains(name) && !algorithms.contains(name) {
                algorithms.push(name);
            }
        }
    }
    (!algorithms.is_empty()).then(|| algorithms.join(","))
}

const SUPPORTED: &[&str] = &[
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
];

/// Compares the key that a server showed with what is known.
pub(super) fn judge(known: &[Known], kind: HostKeyType, blob: &[u8]) -> Verdict {
    let key = STANDARD.encode(blob);
    if let Some(entry) = known.iter().find(|entry| entry.revoked && entry.key == key) {
        return Verdict::Revoked(entry.clone());
    }
    let good: Vec<&Known> = known.iter().filter(|entry| !entry.revoked).collect();
    if good.iter().any(|entry| entry.key == key) {
        return Verdict::Same;
    }
    let same_kind = good.iter().find(|entry| entry.kind == kind_name(kind));
    match same_kind.or(good.first()) {
        Some(entry) => Verdict::Changed((*entry).clone()),
        None => Verdict::New,
    }
}

/// The type's name in known-hosts files.
pub(super) fn kind_name(kind: HostKeyType) -> &'static str {
    match kind {
        HostKeyType::Rsa => "ssh-rsa",
        HostKeyType::Dss => "ssh-dss",
        HostKeyType::Ecdsa256 => "ecdsa-sha2-nistp256",
        HostKeyType::Ecdsa384 => "ecdsa-sha2-nistp384",
        HostKeyType::Ecdsa521 => "ecdsa-sha2-nistp521",
        HostKeyType::Ed25519 => "ssh-ed25519",
        HostKeyType::Unknown => "unknown",
    }
}

/// A key's fingerprint as OpenSSH prints it: `SHA256:...`.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// The fingerprint of a key that stands in a file.
pub(super) fn fingerprint_of(entry: &Known) -> String {
    STANDARD.decode(&entry.key).map_or_else(|_| "unreadable".to_owned(), |blob| fingerprint(&blob))
}

/// Adds a key to the first of `files`, in one write, so that several hosts may be added side by side.
///
/// # Errors
/// [`SshError::KnownHosts`] when the file cannot be written.
pub(super) fn record(files: &[PathBuf], name: &str, kind: HostKeyType, blob: &[u8]) -> Result<(), SshError> {
    let Some(file) = files.first() else { return Ok(()) };
    let failed = |source| SshError::KnownHosts { file: file.clone(), source };
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let unended = std::fs::read(file).is_ok_and(|bytes| bytes.last().is_some_and(|last| *last != b'\n'));
    let start = if unended { "\n" } else { "" };
    let line = format!("{start}{name} {} {}\n", kind_name(kind), STANDARD.encode(blob));
    options.open(file).and_then(|mut file| file.write_all(line.as_bytes())).map_err(failed)
}

/// Compares and, for a new key that may be accepted, records it. Returns whether it was recorded.
///
/// # Errors
/// [`SshError::HostKeyChanged`], [`SshError::HostKeyRevoked`], [`SshError::HostKeyUnknown`],
/// [`SshError::KnownHosts`].
pub(super) fn check(
    host: &str,
    name: &str,
    files: &[PathBuf],
    known: &[Known],
    shown: (&[u8], HostKeyType),
    new_keys: NewKeys,
) -> Result<bool, SshError> {
    let (blob, kind) = shown;
    let host = host.to_owned();
    match judge(known, kind, blob) {
        Verdict::Same => Ok(false),
        Verdict::Changed(entry) => Err(SshError::HostKeyChanged(Box::new(ChangedKey {
            host,
            name: name.to_owned(),
            shown: format!("{} {}", kind_name(kind), fingerprint(blob)),
            known: format!("{} {}", entry.kind, fingerprint_of(&entry)),
            file: entry.file,
            line: entry.line,
        }))),
        Verdict::Revoked(entry) => Err(SshError::HostKeyRevoked { host, file: entry.file, line: entry.line }),
        Verdict::New if new_keys == NewKeys::Refuse => Err(SshError::HostKeyUnknown {
            host,
            name: name.to_owned(),
            shown: format!("{} {}", kind_name(kind), fingerprint(blob)),
        }),
        Verdict::New => record(files, name, kind, blob).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ssh2::{HostKeyType, Session};

    use super::{Verdict, check, entry_name, judge, lookup, preferences};
    use crate::execute::ssh::config::NewKeys;

    // Keys of nobody, made with ssh-keygen.
    const ED: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIKFN4RXjLhZl+fjtTHDTgM1rmL0mu0Vm3ZsVXrSHkNDQ";

    fn blob(key: &str) -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(key).unwrap()
    }

    fn file(text: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        std::fs::write(&path, text).unwrap();
        (dir, vec![path])
    }

    #[test]
    fn names_lists_wildcards_and_ports_are_found() {
        let session = Session::new().unwrap();
        let text = format!(
            "# c\nn1,10.0.0.1 ssh-ed25519 {ED} me\n[n1]:2222 ssh-rsa AAAA\n*.lab,!gw.lab ssh-ed25519 {ED}\n\
             @cert-authority n1 ssh-rsa AAAA\n@revoked n1 ssh-rsa BBBB\n\nbroken\n"
        );
        let (_dir, files) = file(&text);
        let lines = |name: &str| lookup(&session, &files, name).iter().map(|k| k.line).collect::<Vec<_>>();
        assert_eq!(lines("n1"), [2, 6]);
        assert_eq!(lines(&entry_name("n1", 2222)), [3]);
        assert_eq!(lines("a.lab"), [4]);
        assert!(lines("gw.lab").is_empty() && lines("other").is_empty());
    }

    #[test]
    fn hashed_names_are_found() {
        // `ssh-keygen -H` of a line for host `n1`.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        std::fs::write(&path, format!("n1 ssh-ed25519 {ED}\n[n2]:2222 ssh-ed25519 {ED}\n")).unwrap();
        let hashed = std::process::Command::new("ssh-keygen").arg("-q").arg("-H").arg("-f").arg(&path).output();
        if !hashed.is_ok_and(|done| done.status.success()) {
            eprintln!("skipped: no ssh-keygen here");
            return;
        }
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("|1|"));
        let session = Session::new().unwrap();
        assert_eq!(lookup(&session, std::slice::from_ref(&path), "n1").len(), 1);
        assert_eq!(lookup(&session, std::slice::from_ref(&path), "[n2]:2222").len(), 1);
        assert!(lookup(&session, &[path], "n2").is_empty());
    }

    #[test]
    fn only_known_types_are_asked_for() {
        let session = Session::new().unwrap();
        let (_dir, files) = file("n1 ssh-rsa AAAA\nn1 ecdsa-sha2-nistp256 AAAA\nn1 sk-ssh-ed25519@openssh.com AAAA\n");
        let known = lookup(&session, &files, "n1");
        assert_eq!(preferences(&known).as_deref(), Some("rsa-sha2-512,rsa-sha2-256,ssh-rsa,ecdsa-sha2-nistp256"));
        assert_eq!(preferences(&[]), None);
    }

    #[test]
    fn verdicts() {
        let session = Session::new().unwrap();
        let (_dir, files) = file(&format!("n1 ssh-ed25519 {ED}\nn2 ssh-rsa AAAA\n@revoked * ssh-rsa BBBB\n"));
        let judged = |name: &str, key: &str| judge(&lookup(&session, &files, name), HostKeyType::Ed25519, &blob(key));
        assert_eq!(judged("n1", ED), Verdict::Same);
        assert!(matches!(judged("n1", "AAAA"), Verdict::Changed(entry) if entry.line == 1));
        assert!(matches!(judged("n2", ED), Verdict::Changed(entry) if entry.line == 2));
        assert_eq!(judged("n3", ED), Verdict::New);
        assert!(matches!(judged("n3", "BBBB"), Verdict::Revoked(entry) if entry.line == 3));
    }

    #[test]
    fn a_new_key_is_recorded_once_and_refused_when_strict() {
        let session = Session::new().unwrap();
        let (_dir, files) = file("other ssh-rsa AAAA");
        let see = |mode| {
            let known = lookup(&session, &files, "[n1]:2222");
            check("n1", "[n1]:2222", &files, &known, (&blob(ED), HostKeyType::Ed25519), mode)
        };
        let refused = see(NewKeys::Refuse).unwrap_err().to_string();
        assert!(refused.contains("not known yet"), "{refused}");
        assert!(see(NewKeys::Accept).unwrap());
        assert!(!see(NewKeys::Accept).unwrap());
        assert!(!see(NewKeys::Refuse).unwrap());
        let text = std::fs::read_to_string(&files[0]).unwrap();
        assert_eq!(text, format!("other ssh-rsa AAAA\n[n1]:2222 ssh-ed25519 {ED}\n"));
    }
}
