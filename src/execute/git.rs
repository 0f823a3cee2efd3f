//! Pinned sources, through the `git` binary: a submodule where the working root has one, a checkout of its own elsewhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::error::{Exit, Fault};
use crate::ui;

/// Longest wait for a fetch; a benchmark's history can be large and a line slow.
const FETCH_LIMIT: Duration = Duration::from_secs(3600);

/// Longest wait for what needs no network.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);

/// What can go wrong with sources.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no `git`.
    #[error("cannot run `git`: {0}")]
    NoGit(std::io::Error),
    /// A command failed.
    #[error("`git {command}` failed: {why}")]
    Failed {
        /// Its first words.
        command: String,
        /// The last line it wrote.
        why: String,
        /// Whether another place could help.
        remote: bool,
    },
    /// A command did not end in time.
    #[error("`git {command}` did not end within {after:?}")]
    Slow {
        /// Its first words.
        command: String,
        /// The deadline.
        after: Duration,
    },
    /// The place to fetch from cannot be one.
    #[error("`{0}` is no address to fetch from")]
    Address(String),
    /// The checkout is at another commit and holds changes.
    #[error("`{path}` holds changes, so it is not moved from {from} to {to}")]
    Changed {
        /// The checkout.
        path: PathBuf,
        /// Its commit.
        from: String,
        /// The wanted commit.
        to: String,
    },
}

impl Fault for GitError {
    fn exit(&self) -> Exit {
        match self {
            GitError::Address(_) | GitError::Changed { .. } => Exit::Usage,
            GitError::NoGit(_) | GitError::Slow { .. } | GitError::Failed { remote: true, .. } => Exit::Unreachable,
            GitError::Failed { .. } => Exit::StepFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            GitError::NoGit(_) => "install it (`apt-get install git`)".into(),
            GitError::Failed { remote: true, .. } | GitError::Slow { .. } => {
                "fetch from a mirror with --url URL (or MAESTRO_DEPS_URL), or point --app-dir at a copy".into()
            }
            GitError::Address(_) => {
                "give an https://, ssh:// or file:// address, or a path; `#COMMIT` may follow".into()
            }
            GitError::Changed { .. } => {
                "commit or put away the changes first, or point --app-dir at another copy".into()
            }
            GitError::Failed { .. } => return None,
        })
    }
}

/// Sources to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The working root.
    pub root: PathBuf,
    /// The checkout, relative to the root.
    pub path: String,
    /// Where to fetch from.
    pub url: String,
    /// The branch that the commit is on.
    pub branch: String,
    /// The commit.
    pub commit: String,
    /// The root's own submodule pins it.
    pub submodule: bool,
}

impl std::fmt::Display for Checkout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.submodule { "submodule" } else { "checkout" };
        write!(f, "EnsureSources {how} {} at {} of {} (branch {})", self.path, self.commit, self.url, self.branch)
    }
}

impl Checkout {
    /// The checkout of `wanted`, except that a submodule of the root at the same path says which commit, and `given`
    /// (`URL[#COMMIT]`) says where from, and which.
    ///
    /// # Errors
    /// [`GitError::Address`], [`GitError::NoGit`].
    pub async fn resolve(wanted: Checkout, given: Option<&str>) -> Result<Checkout, GitError> {
        let mut checkout = wanted;
        if let Some(pinned) = pinned(&checkout.root, &checkout.path).await? {
            checkout.commit = pinned;
            checkout.submodule = true;
        }
        if let Some(given) = given {
            let (url, commit) = given.rsplit_once('#').map_or((given, None), |(url, commit)| (url, Some(commit)));
            let hex = |commit: &str| commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit());
            if url.is_empty() || url.starts_with('-') || commit.is_some_and(|commit| !hex(commit)) {
                return Err(GitError::Address(given.to_owned()));
            }
            url.clone_into(&mut checkout.url);
            if let Some(commit) = commit {
                commit.clone_into(&mut checkout.commit);
                checkout.submodule = false;
            }
        }
        Ok(checkout)
    }

    fn dir(&self) -> PathBuf {
        self.root.join(&self.path)
    }
}

/// The commit of the submodule at `path`, where the root is a work tree that has one.
async fn pinned(root: &Path, path: &str) -> Result<Option<String>, GitError> {
    if !root.join(".git").exists() {
        return Ok(None);
    }
    let listed = git(root, &["ls-files", "--stage", "--", path], LOCAL_LIMIT).await;
    let Ok(listed) = listed else { return Ok(None) };
    let words: Vec<&str> = listed.split_whitespace().collect();
    Ok(match words[..] {
        ["160000", commit, ..] => Some(commit.to_owned()),
        _ => None,
    })
}

/// Makes sure that the checkout is there, at its commit. Returns false when it was.
///
/// # Errors
/// [`GitError`].
pub async fn ensure(checkout: &Checkout) -> Result<bool, GitError> {
    let dir = checkout.dir();
    if let Some(head) = head(&dir).await? {
        if head.starts_with(&checkout.commit) {
            return Ok(false);
        }
        let changes = git(&dir, &["status", "--porcelain", "--untracked-files=no"], LOCAL_LIMIT).await?;
        if !changes.is_empty() {
            let (from, to) = (head, checkout.commit.clone());
            return Err(GitError::Changed { path: checkout.path.clone().into(), from, to });
        }
    }
    if checkout.submodule {
        submodule(checkout).await?
    } else {
        own(checkout, &dir).await?
    }
    match head(&dir).await? {
        Some(head) if head.starts_with(&checkout.commit) => Ok(true),
        found => Err(GitError::Failed {
            command: "checkout".into(),
            why: format!("it is at {}, not at {}", found.unwrap_or_else(|| "nothing".into()), checkout.commit),
            remote: false,
        }),
    }
}

/// The commit that `dir` is at; none when it is no repository of its own.
async fn head(dir: &Path) -> Result<Option<String>, GitError> {
    if !dir.join(".git").exists() {
        return Ok(None);
    }
    match git(dir, &["rev-parse", "--verify", "HEAD"], LOCAL_LIMIT).await {
        Ok(head) => Ok(Some(head.trim().to_owned())),
        Err(GitError::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The root's submodule, shallow where the other side allows it.
async fn submodule(checkout: &Checkout) -> Result<(), GitError> {
    // Without the address of today, so that the root's configuration keeps its own.
    git(&checkout.root, &["submodule", "init", "--", &checkout.path], LOCAL_LIMIT).await?;
    let url = format!("submodule.{}.url={}", checkout.path, checkout.url);
    let local = local_allowed(&checkout.url);
    let update = ["submodule", "update", "--checkout", "--progress"];
    let settings = ["-c", url.as_str(), "-c", local];
    let last = ["--", checkout.path.as_str()];
    let shallow = [&settings[..], &update, &["--depth", "1"], &last].concat();
    match git(&checkout.root, &shallow, FETCH_LIMIT).await {
        Err(GitError::Failed { .. }) => {
            git(&checkout.root, &[&settings[..], &update, &last].concat(), FETCH_LIMIT).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// A repository of its own at `dir`: the commit alone where the other side gives single commits, else the branch.
async fn own(checkout: &Checkout, dir: &Path) -> Result<(), GitError> {
    std::fs::create_dir_all(dir).map_err(GitError::NoGit)?;
    if !dir.join(".git").exists() {
        git(dir, &["init", "--quiet"], LOCAL_LIMIT).await?;
    }
    let local = local_allowed(&checkout.url);
    let fetch = ["-c", local, "fetch", "--progress", "--no-tags"];
    let (url, commit, branch) = (checkout.url.as_str(), checkout.commit.as_str(), checkout.branch.as_str());
    let one = git(dir, &[&fetch[..], &["--depth", "1", "--", url, commit]].concat(), FETCH_LIMIT).await;
    if let Err(GitError::Failed { .. }) = one {
        git(dir, &[&fetch[..], &["--", url, branch]].concat(), FETCH_LIMIT).await?;
    } else {
        one?;
    }
    git(dir, &["checkout", "--quiet", "--detach", commit], LOCAL_LIMIT).await.map(|_| ())
}

/// git refuses local paths for submodules unless told that they are meant.
fn local_allowed(url: &str) -> &'static str {
    let local = url.starts_with("file://") || url.starts_with('/') || url.starts_with('.');
    if local { "protocol.file.allow=always" } else { "protocol.file.allow=user" }
}

/// Runs git in `dir` and returns what it wrote to stdout.
async fn git(dir: &Path, args: &[&str], limit: Duration) -> Result<String, GitError> {
    let command = args.iter().filter(|word| !word.contains('=') && **word != "-c").take(2);
    let command = command.copied().collect::<Vec<_>>().join(" ");
    let mut child = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(GitError::NoGit)?;
    let (mut stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        let mut out = String::new();
        let reads_out = async {
            match &mut stdout {
                Some(stdout) => stdout.read_to_string(&mut out).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let (out_read, last) = tokio::join!(reads_out, follow(stderr));
        let status = child.wait().await?;
        out_read?;
        Ok::<_, std::io::Error>((status, out, last))
    };
    let done = tokio::time::timeout(limit, reading).await;
    let done = done.map_err(|_| GitError::Slow { command: command.clone(), after: limit })?;
    let (status, out, last) = done.map_err(GitError::NoGit)?;
    if status.success() {
        return Ok(out);
    }
    Err(GitError::Failed { command, why: last, remote: limit == FETCH_LIMIT })
}

/// Shows git's progress and returns the line that says most about a failure.
async fn follow(stderr: Option<tokio::process::ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let (mut line, mut last, mut said) = (Vec::new(), String::new(), String::new());
    let mut progress: Option<ui::Progress> = None;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        for byte in &buffer[..count] {
            if !matches!(byte, b'\r' | b'\n') {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            line.clear();
            if let Some((what, done, all)) = counted(&text) {
                progress.get_or_insert_with(|| ui::Progress::new("sources", all)).of(done, all, what);
            } else if text.starts_with("fatal: ") || text.starts_with("error: ") {
                text.split_once(": ").map_or("", |(_, rest)| rest).clone_into(&mut said);
            } else if !text.is_empty() {
                last = text;
            }
        }
    }
    if said.is_empty() { last } else { said }
}

/// `Receiving objects:  12% (120/1000), 1.2 MiB` as its words and numbers.
fn counted(text: &str) -> Option<(&str, u64, u64)> {
    let (what, rest) = text.split_once(':')?;
    let (_, numbers) = rest.split_once('(')?;
    let (done, rest) = numbers.split_once('/')?;
    let (all, _) = rest.split_once(')')?;
    Some((what, done.parse().ok()?, all.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_read() {
        let line = "Receiving objects:  12% (120/1000), 1.20 MiB | 3.00 MiB/s";
        assert_eq!(counted(line), Some(("Receiving objects", 120, 1000)));
        assert_eq!(counted("fatal: no"), None);
    }
}
