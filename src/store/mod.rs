//! Every path below the working root and every file that outlives the process.
//!
//! ```text
//! deploy/<target>/.last.yml                                         state that links commands   (state.rs)
//! deploy/<target>/<app>/<tag>/deployment.yml                        one deployment              (deployment.rs)
//! gather/<target>/<app>/<endpoint>/<gather tag>/<wkld tag>/         one run                     (run.rs)
//! sweeps/<name>/                                                    a sweep's journal
//! plots/                                                            figures
//! ```
//! Writes are atomic: a temporary file in the same directory, `fsync`, rename. Paths are functions of the values
//! in hand; nothing here remembers what an earlier command did.

mod deployment;
mod lock;
mod miniature;
mod run;
mod shipped;
mod state;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Exit, Fault};
use crate::experiment::{TargetName, Variant};

pub use deployment::Deployment;
pub use lock::Lock;
pub use miniature::MiniatureRecord;
pub use run::{
    CONTROLLER, ClockHosts, ClockOffset, DelayRecord, HostFacts, ImageRef, Ledger, LoadCounts, Outcome, PlacementRef,
    RunDir, RunRecord, Status, WorkloadRecord,
};
pub use state::State;

/// The version written into maestro's own files; reading refuses what is newer.
pub const FORMAT: u32 = 1;

/// A configuration or record file larger than this is refused unread.
const TEXT_LIMIT: u64 = 16 << 20;

/// What can go wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not there.
    #[error("no such file `{0}`")]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is not what the tool can use.
    #[error("`{path}`: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where it is known.
        why: String,
    },
    /// Another maestro works on the same root.
    #[error("another maestro (pid {pid}, `{command}`) is working on `{root}`")]
    Locked {
        /// Its process id.
        pid: u32,
        /// What it was asked to do.
        command: String,
        /// The working root.
        root: PathBuf,
    },
}

impl Fault for StoreError {
    fn exit(&self) -> Exit {
        match self {
            StoreError::Missing(_) | StoreError::Content { .. } => Exit::Usage,
            StoreError::Read { .. } | StoreError::Write { .. } | StoreError::Locked { .. } => Exit::Unreachable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            StoreError::Locked { .. } => Some("wait for it to end, or work in another root with --root DIR".into()),
            StoreError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space, or work in another root with --root DIR".into())
            }
            StoreError::Write { source, .. }
                if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Some("choose a root you may write to with --root DIR or MAESTRO_ROOT".into())
            }
            _ => None,
        }
    }
}

/// The working root and the paths below it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store below `root` (which may not exist yet).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Store { root: root.into() }
    }

    /// The working root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `configs/`: placements and sweeps.
    pub fn configs(&self) -> PathBuf {
        self.root.join("configs")
    }

    /// `plots/`: where figures go.
    pub fn plots(&self) -> PathBuf {
        self.root.join("plots")
    }

    /// `images.lock.yml`: the images of every app, to the digest.
    pub fn images_lock(&self) -> PathBuf {
        self.root.join("images.lock.yml")
    }

    /// `build/<app>/`: the logs of its last build.
    pub fn build_logs(&self, app: &str) -> PathBuf {
        self.root.join("build").join(app)
    }

    /// `sweeps/<name>/`: one sweep's journal and results.
    pub fn sweep(&self, name: &str) -> PathBuf {
        self.root.join("sweeps").join(name)
    }

    /// `deploy/<target>/.last.yml`.
    pub fn state_file(&self, target: TargetName) -> PathBuf {
        self.root.join("deploy").join(target.as_str()).join(".last.yml")
    }

    /// `deploy/<target>/<app>/<tag>/`.
    pub fn deploy_dir(&self, target: TargetName, app: &str, tag: &str) -> PathBuf {
        self.root.join("deploy").join(target.as_str()).join(app).join(tag)
    }

    /// `gather/<target>/`, below which all runs of a target are.
    pub fn gather_root(&self, target: TargetName) -> PathBuf {
        self.root.join("gather").join(target.as_str())
    }

    /// The directory of one run. `stem` is the placement file's name without its ending.
    pub fn run_path(&self, key: &RunKey<'_>) -> PathBuf {
        self.gather_root(key.target)
            .join(key.app)
            .join(key.endpoint)
            .join(gather_tag(key.stem, key.rate, key.variant))
            .join(key.tag)
    }

    /// A path of the user's or of a record, taken relative to the root unless absolute.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The text of a configuration file as typed: relative to the current directory, else to the root, else the one
    /// inside the binary. Returns the text and the path it came from.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is nowhere.
    pub fn read_config(&self, typed: &str) -> Result<(String, PathBuf), StoreError> {
        for path in [PathBuf::from(typed), self.resolve(typed)] {
            match read_text(&path) {
                Err(StoreError::Missing(_)) => {}
                Err(other) => return Err(other),
                Ok(text) => return Ok((text, path)),
            }
        }
        let shipped = shipped::SHIPPED.iter().find(|(path, _)| *path == typed.trim_start_matches("./"));
        shipped.map(|(path, text)| ((*text).to_owned(), PathBuf::from(path))).ok_or(StoreError::Missing(typed.into()))
    }

    /// A placement for `app` on `target` to begin with: the first of this root's, else of those that travel in this
    /// program.
    pub fn first_config(&self, target: TargetName, app: &str) -> Option<String> {
        let folder = format!("configs/{target}/{app}");
        let own = std::fs::read_dir(self.root.join(&folder)).ok().and_then(|entries| {
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.filter(|name| name.ends_with(".yml")).min().map(|name| format!("{folder}/{name}"))
        });
        let below = |path: &str| path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'));
        own.or_else(|| shipped::SHIPPED.iter().find(|(path, _)| below(path)).map(|(path, _)| (*path).to_owned()))
    }

    /// The text of `<target>/config.yml`, this site's facts about a target; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it is there and cannot be read.
    pub fn site_facts(&self, target: TargetName) -> Result<Option<String>, StoreError> {
        match read_text(&self.root.join(target.as_str()).join("config.yml")) {
            Ok(text) => Ok(Some(text)),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `path` as it is written into records: relative to the root when it is below it.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// What determines the path of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunKey<'a> {
    /// Where it ran.
    pub target: TargetName,
    /// The application's name.
    pub app: &'a str,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// The placement file's stem (`us-eu`).
    pub stem: &'a str,
    /// Offered requests per second.
    pub rate: f64,
    /// Baseline or antipode.
    pub variant: Variant,
    /// The run's own tag (`wkld_tag`).
    pub tag: &'a str,
}

/// `<stem>-<rate>[-antipode]`; a whole rate is written without a decimal point.
pub fn gather_tag(stem: &str, rate: f64, variant: Variant) -> String {
    let suffix = if variant.is_antipode() { "-antipode" } else { "" };
    format!("{stem}-{rate}{suffix}")
}

/// A tag for now, in UTC with seconds: `20261018141530`.
pub fn new_tag() -> String {
    jiff::Timestamp::now().strftime("%Y%m%d%H%M%S").to_string()
}

/// Creates `parent/tag` for this process alone, adding `-2`, `-3`, ... when it exists. Returns the tag and the path.
///
/// # Errors
/// [`StoreError::Write`] when the directory cannot be made.
pub fn create_exclusive(parent: &Path, tag: &str) -> Result<(String, PathBuf), StoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Write { path, source }
    };
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let mut attempt = 1_u32;
    loop {
        let name = if attempt == 1 { tag.to_owned() } else { format!("{tag}-{attempt}") };
        let path = parent.join(&name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok((name, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            Err(source) => return Err(failed(&path)(source)),
        }
    }
}

/// What lies in the nearest directory above `path` that is there, for somebody who mistyped it: at most eight names.
pub fn beside(path: &Path) -> Option<String> {
    let there = path.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.is_dir())?;
    let here = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let names = std::fs::read_dir(here).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort_unstable();
    let more = if names.len() > 8 { ", ..." } else { "" };
    names.truncate(8);
    (!names.is_empty()).then(|| format!("`{}` holds {}{more}", here.display(), names.join(", ")))
}

/// Reads a text file with a size limit.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::Read`], or [`StoreError::Content`] for a file that is too large or not UTF-8.
pub fn read_text(path: &Path) -> Result<String, StoreError> {
    let read_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing(path.to_owned()),
        _ => StoreError::Read { path: path.to_owned(), source },
    };
    let content_error = |why: String| StoreError::Content { path: path.to_owned(), why };
    let file = fs::File::open(path).map_err(read_error)?;
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(content_error(format!("larger than {} MiB; this is not a configuration file", TEXT_LIMIT >> 20)));
    }
    String::from_utf8(bytes)
        .map_err(|error| content_error(format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to())))
}

/// Reads a YAML file that a person may have written.
///
/// # Errors
/// As [`read_text`]; [`StoreError::Content`] carries the parser's first line with the place.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    parse_yaml(path, &read_text(path)?)
}

/// Parses YAML `text` that came from `path` (used for messages only).
///
/// # Errors
/// [`StoreError::Content`].
pub fn parse_yaml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, StoreError> {
    let content = |why: String| StoreError::Content { path: path.to_owned(), why };
    if text.trim().is_empty() {
        return Err(content("the file is empty".into()));
    }
    if text.contains('\0') {
        return Err(content("binary data, not YAML".into()));
    }
    serde_saphyr::from_str(text).map_err(|error| content(one_line(&error.to_string())))
}

/// The first line of a parser's message; the rest is a picture of the source.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

/// Reads a JSON file.
///
/// # Errors
/// As [`read_yaml`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| StoreError::Content { path: path.to_owned(), why: error.to_string() })
}

/// Writes `value` as YAML, atomically.
///
/// # Errors
/// [`StoreError::Write`], [`StoreError::Content`] when the value has no YAML form.
pub fn write_yaml<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    // A path is one line, however long: people grep these files.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| StoreError::Content { path: path.to_owned(), why: error.to_string() })?;
    write_atomic(path, text.as_bytes())
}

/// Writes `value` as indented JSON, atomically.
///
/// # Errors
/// As [`write_yaml`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| StoreError::Content { path: path.to_owned(), why: error.to_string() })?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a part; makes the directories above.
///
/// # Errors
/// [`StoreError::Write`]; the temporary file is removed again.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], for a file that only its owner may read, from its first byte on.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_with_mode(path, 0o600, |file| file.write_all(bytes))
}

/// As [`write_atomic`], for content that is produced piece by piece.
///
/// # Errors
/// [`StoreError::Write`].
pub fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut io::BufWriter<fs::File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_with_mode(path, 0o666, fill)
}

fn write_with_mode(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut io::BufWriter<fs::File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write { path: path.to_owned(), source };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        // One that a killed process of the same number has left may have another mode.
        fs::remove_file(&temporary).ok();
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        let mut file = io::BufWriter::new(made);
        fill(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| {
        // The write has failed already; a leftover that cannot be removed changes nothing about that.
        fs::remove_file(&temporary).ok();
        failed(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_filed_under_its_own_rate() {
        let store = Store::new("/r");
        let key = RunKey {
            target: TargetName::Gcp,
            app: "socialNetwork",
            endpoint: "compose-post",
            stem: "us-eu",
            rate: 125.0,
            variant: Variant::Antipode,
            tag: "20261018141530",
        };
        let expected = "/r/gather/gcp/socialNetwork/compose-post/us-eu-125-antipode/20261018141530";
        assert_eq!(store.run_path(&key), Path::new(expected));
        assert_eq!(gather_tag("us-eu", 12.5, Variant::Baseline), "us-eu-12.5");
    }

    #[test]
    fn two_runs_in_one_second_get_directories_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = create_exclusive(dir.path(), "20261018141530").unwrap();
        let (second, path) = create_exclusive(dir.path(), "20261018141530").unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("20261018141530", "20261018141530-2"));
        assert!(path.is_dir());
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yml");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic_with(&path, |_| Err(io::Error::other("disk on fire"))).unwrap_err();
        assert!(error.to_string().contains("a.yml"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_private_file_is_the_owners_alone_whatever_a_killed_process_left() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(dir.path().join(format!(".secret.{}.tmp", std::process::id())), "half").unwrap();
        write_private(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn unusable_yaml_is_named_with_its_place() {
        let path = Path::new("x.yml");
        let empty = parse_yaml::<State>(path, " \n").unwrap_err();
        assert_eq!(empty.to_string(), "`x.yml`: the file is empty");
        let twice = parse_yaml::<State>(path, "tag: a\ntag: b\n").unwrap_err();
        assert!(twice.to_string().contains("line 2"), "{twice}");
    }
}
