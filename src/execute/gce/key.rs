//! The key pair of a deployment, in OpenSSH's form.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::error::{Exit, Plain, Result};
use crate::store::{StoreError, read_text};

const KIND: &[u8] = b"ssh-ed25519";

/// Makes sure that the private key `path` is there, and its public half beside it. One that is there stays.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn ensure(path: &Path) -> Result<()> {
    if path.exists() && read_text(&public_path(path)).is_ok() {
        return Ok(());
    }
    let (private, public) = make(rand::rng().random(), rand::rng().random())?;
    let failed = |source| StoreError::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    write_secret(path, private.as_bytes()).map_err(failed)?;
    crate::store::write_atomic(&public_path(path), public.as_bytes())?;
    Ok(())
}

/// The public half of the private key `path`: kind and key, without a comment.
///
/// # Errors
/// When it cannot be read.
pub(super) fn public(path: &Path) -> Result<String> {
    let text = read_text(&public_path(path))?;
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub")
}

/// Written whole or not at all, and at no time readable by others.
fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// A pair from a secret seed; `check` only shows a reader that it decrypted well.
/// Source: OpenSSH, PROTOCOL.key ("openssh-key-v1", unencrypted) and RFC 8709 for the key's own form.
fn make(seed: [u8; 32], check: u32) -> Result<(String, String)> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|error| Plain::new(Exit::Bug, format!("cannot make a key: {error}")))?;
    let point = pair.public_key().as_ref();
    let public = [string(KIND), string(point)].concat();
    let mut secret = [check.to_be_bytes(), check.to_be_bytes()].concat();
    secret.extend([public.clone(), string(&[&seed[..], point].concat()), string(b"maestro")].concat());
    // Padded to blocks of eight with 1, 2, 3, ...
    secret.extend((1_u8..).take(secret.len().next_multiple_of(8) - secret.len()));
    let blob = [
        b"openssh-key-v1\0".to_vec(),
        [string(b"none"), string(b"none"), string(b"")].concat(),
        1_u32.to_be_bytes().to_vec(),
        string(&public),
        string(&secret),
    ]
    .concat();
    let body = STANDARD.encode(blob);
    let lines: Vec<&str> = body.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let begin = "-----BEGIN OPENSSH PRIVATE KEY-----";
    let private = format!("{begin}\n{}\n{}\n", lines.join("\n"), begin.replace("BEGIN", "END"));
    Ok((private, format!("ssh-ed25519 {} maestro\n", STANDARD.encode(&public))))
}

/// A length in four bytes, then the bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn openssh_reads_the_pair_and_nobody_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh/id");
        super::ensure(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let public = super::public(&path).unwrap();
        super::ensure(&path).unwrap();
        assert_eq!(super::public(&path).unwrap(), public, "the same pair stays");
        let Ok(done) = std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output() else {
            eprintln!("skipped: no ssh-keygen here");
            return;
        };
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let derived = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(derived.starts_with(&public), "{derived} is not {public}");
    }
}
