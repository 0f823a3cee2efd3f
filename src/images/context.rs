//! A build context: the files of a folder that `.dockerignore` leaves, as a tar that is the same whenever they are.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Ignore, ImageError, Replacement, replaced};

const IGNORE_FILE: &str = ".dockerignore";

/// What an image is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    root: PathBuf,
    dockerfile: String,
    ignore: Ignore,
    replacements: Vec<Replacement>,
}

/// A file, folder or link of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/` between parts.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions.
    pub mode: u32,
}

/// Kinds of entries; sockets, devices and pipes are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// So many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A symbolic link to there.
    Link(PathBuf),
}

impl Context {
    /// The context for the image `tag` in the folder `root`, with `replacements` made in its Dockerfile.
    ///
    /// # Errors
    /// [`ImageError::NoContext`] when the folder or the Dockerfile is missing, [`ImageError::Pattern`].
    pub fn open(
        tag: &str,
        root: impl Into<PathBuf>,
        dockerfile: &str,
        replacements: Vec<Replacement>,
    ) -> Result<Self, ImageError> {
        let root = root.into();
        let missing = |path: PathBuf| ImageError::NoContext { tag: tag.to_owned(), path };
        if !root.is_dir() {
            return Err(missing(root));
        }
        let file = root.join(dockerfile);
        if !file.is_file() {
            return Err(missing(file));
        }
        let path = root.join(IGNORE_FILE);
        let ignore = match fs::read_to_string(&path) {
            Ok(text) => {
                Ignore::parse(&text).map_err(|(line, pattern, why)| ImageError::Pattern { path, line, pattern, why })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ignore::default(),
            Err(source) => return Err(ImageError::Read { path, source }),
        };
        Ok(Context { root, dockerfile: dockerfile.to_owned(), ignore, replacements })
    }

    /// The Dockerfile as it is sent, and how often each replacement was made.
    ///
    /// # Errors
    /// [`ImageError::Read`].
    pub fn dockerfile(&self) -> Result<(String, Vec<usize>), ImageError> {
        let path = self.root.join(&self.dockerfile);
        let text = fs::read_to_string(&path).map_err(|source| ImageError::Read { path, source })?;
        Ok(replaced(&text, &self.replacements))
    }

    /// Everything that is sent, in the order of its paths.
    ///
    /// # Errors
    /// [`ImageError::Read`] for a folder that cannot be listed.
    pub fn entries(&self) -> Result<Vec<Entry>, ImageError> {
        let mut entries = Vec::new();
        self.walk(&self.root, "", &mut entries)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn walk(&self, folder: &Path, prefix: &str, entries: &mut Vec<Entry>) -> Result<(), ImageError> {
        let failed = |source| ImageError::Read { path: folder.to_owned(), source };
        for item in fs::read_dir(folder).map_err(failed)? {
            let item = item.map_err(failed)?;
            let path = format!("{prefix}{}", item.file_name().to_string_lossy());
            let ignored = self.ignore.is_ignored(&path) && !self.is_always_sent(&path);
            if ignored && self.ignore.is_final() && !self.leads_to_dockerfile(&path) {
                continue;
            }
            let read = |source| ImageError::Read { path: item.path(), source };
            let metadata = item.path().symlink_metadata().map_err(read)?;
            let kind = if metadata.is_dir() {
                self.walk(&item.path(), &format!("{path}/"), entries)?;
                EntryKind::Folder
            } else if metadata.is_symlink() {
                EntryKind::Link(fs::read_link(item.path()).map_err(read)?)
            } else if metadata.is_file() {
                EntryKind::File(metadata.len())
            } else {
                continue;
            };
            if !ignored {
                entries.push(Entry { path, kind, mode: mode(&metadata) });
            }
        }
        Ok(())
    }

    /// The engine needs these two whatever the rules say.
    fn is_always_sent(&self, path: &str) -> bool {
        path == IGNORE_FILE || path == self.dockerfile
    }

    fn leads_to_dockerfile(&self, path: &str) -> bool {
        self.dockerfile.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Writes the tar: owned by root, without times, so that equal files give equal bytes.
    ///
    /// # Errors
    /// Naming the file that could not be read, or that changed while it was read; and what `to` returns.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let entries = self.entries().map_err(io::Error::other)?;
        let mut tar = tar::Builder::new(to);
        for entry in &entries {
            let name = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", entry.path));
            self.append(&mut tar, entry).map_err(name)?;
        }
        tar.into_inner()?.flush()
    }

    fn append(&self, tar: &mut tar::Builder<&mut dyn Write>, entry: &Entry) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match &entry.kind {
            EntryKind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, format!("{}/", entry.path), io::empty())
            }
            EntryKind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, &entry.path, target)
            }
            EntryKind::File(_) if entry.path == self.dockerfile && !self.replacements.is_empty() => {
                let (text, _) = self.dockerfile().map_err(io::Error::other)?;
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, &entry.path, text.as_bytes())
            }
            EntryKind::File(size) => {
                header.set_size(*size);
                let file = fs::File::open(self.root.join(&entry.path))?;
                tar.append_data(&mut header, &entry.path, Exactly { file, left: *size })
            }
        }
    }

    /// `sha256:` of the tar.
    ///
    /// # Errors
    /// As [`Context::write`].
    pub fn digest(&self) -> io::Result<String> {
        let mut hash = Hash(Sha256::new());
        self.write(&mut hash)?;
        Ok(hash.text())
    }
}

/// A file of which exactly so many bytes are wanted: one that shrinks or grows while it is read would break the tar.
struct Exactly {
    file: fs::File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.file.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "became shorter while it was read"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// A writer that keeps only the SHA-256 of what is written.
pub(super) struct Hash(pub(super) Sha256);

impl Hash {
    pub(super) fn text(self) -> String {
        let hex: String = self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn paths(context: &Context) -> Vec<String> {
        context.entries().unwrap().into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn ignored_files_stay_at_home_but_the_dockerfile_goes() {
        let dir = folder(&[
            (".dockerignore", "build\n*.log\nd\n"),
            ("d/Dockerfile", "FROM scratch\n"),
            ("d/other", ""),
            ("build/x", ""),
            ("a.log", ""),
            ("src/a.c", ""),
        ]);
        std::os::unix::fs::symlink("src/a.c", dir.path().join("link")).unwrap();
        let context = Context::open("t", dir.path(), "d/Dockerfile", Vec::new()).unwrap();
        assert_eq!(paths(&context), [".dockerignore", "d/Dockerfile", "link", "src", "src/a.c"]);
    }

    #[test]
    fn a_rule_that_takes_back_reaches_into_ignored_folders() {
        let dir =
            folder(&[(".dockerignore", "docs\n!docs/keep\n"), ("Dockerfile", ""), ("docs/a", ""), ("docs/keep/b", "")]);
        let context = Context::open("t", dir.path(), "Dockerfile", Vec::new()).unwrap();
        assert_eq!(paths(&context), [".dockerignore", "Dockerfile", "docs/keep", "docs/keep/b"]);
    }

    #[test]
    fn the_digest_is_of_content_and_not_of_times_or_ignored_files() {
        let files = [(".dockerignore", "*.log\n"), ("Dockerfile", "FROM a\n"), ("b", "1")];
        let (one, two) = (folder(&files), folder(&files));
        fs::write(two.path().join("x.log"), "noise").unwrap();
        let digest = |dir: &tempfile::TempDir, replacements: Vec<Replacement>| {
            Context::open("t", dir.path(), "Dockerfile", replacements).unwrap().digest().unwrap()
        };
        assert_eq!(digest(&one, Vec::new()), digest(&two, Vec::new()));
        let base = Replacement::Base { from: "a".into(), to: "b".into() };
        assert_ne!(digest(&one, vec![base]), digest(&one, Vec::new()));
        fs::write(two.path().join("b"), "2").unwrap();
        assert_ne!(digest(&one, Vec::new()), digest(&two, Vec::new()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = folder(&[("Dockerfile", "")]);
        let error = Context::open("web:1", dir.path(), "x/Dockerfile", Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("`web:1` is built from `") && error.ends_with("x/Dockerfile`, which is not there"));
    }
}
