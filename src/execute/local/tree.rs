//! Small root file systems, put together from files of this machine and written as a tar for an image import.
//!
//! A program comes with its dynamic loader and every library that the loader resolves for it, so that it runs where
//! there is nothing else; a static program comes alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// A root file system in the making. Paths are absolute.
#[derive(Debug, Default)]
pub(super) struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    /// Where libraries are looked for before the system's own places.
    library_path: Vec<PathBuf>,
}

#[derive(Debug)]
enum Entry {
    Dir { mode: u32, owner: u64 },
    File { source: PathBuf, mode: u32, size: u64 },
    Text { content: String, mode: u32 },
    Link { target: PathBuf },
}

impl Tree {
    /// An empty tree with the usual directories; `bin`, `sbin`, `lib` and `lib64` are links below `/usr`.
    pub(super) fn new() -> Self {
        let mut tree = Tree::default();
        for dir in ["/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var"] {
            tree.dir(dir, 0o755, 0);
        }
        tree.dir("/tmp", 0o1777, 0);
        for name in ["bin", "sbin", "lib", "lib64"] {
            tree.dir(&format!("/usr/{name}"), 0o755, 0);
            tree.link(&format!("/{name}"), format!("usr/{name}"));
        }
        tree
    }

    /// Looks for libraries in `dirs` first.
    pub(super) fn with_libraries_from(mut self, dirs: Vec<PathBuf>) -> Self {
        self.library_path = dirs;
        self
    }

    /// An empty directory with this mode, owned by user and group number `owner`.
    pub(super) fn dir(&mut self, path: &str, mode: u32, owner: u64) {
        self.entries.insert(path.into(), Entry::Dir { mode, owner });
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: impl Into<PathBuf>) {
        self.entries.insert(path.into(), Entry::Link { target: target.into() });
    }

    /// A small file with this content.
    pub(super) fn text(&mut self, path: &str, content: impl Into<String>, mode: u32) {
        self.entries.insert(path.into(), Entry::Text { content: content.into(), mode });
    }

    /// The file, link or directory `source` of this machine as `path`; a link stays a link.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn copy(&mut self, source: &Path, path: &Path) -> io::Result<()> {
        let facts = fs::symlink_metadata(source)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o7777;
        let path = below_usr(path);
        let entry = if facts.is_symlink() {
            Entry::Link { target: fs::read_link(source)? }
        } else if facts.is_dir() {
            Entry::Dir { mode, owner: 0 }
        } else {
            Entry::File { source: source.to_owned(), mode, size: facts.len() }
        };
        self.entries.entry(path).or_insert(entry);
        Ok(())
    }

    /// A program or a library with everything that the dynamic loader needs for it. `loader` serves libraries, which
    /// do not name one themselves.
    ///
    /// # Errors
    /// When a file cannot be read or a library cannot be found.
    pub(super) fn program(&mut self, source: &Path, path: &Path, loader: Option<&Path>) -> io::Result<()> {
        let real = fs::canonicalize(source)?;
        self.copy(&real, path)?;
        if let Some(loader) = interpreter(&real)?.as_deref().or(loader) {
            for library in libraries(loader, &real, &self.library_path)? {
                let real = fs::canonicalize(&library)?;
                // Staged libraries keep the place they would have if they were installed.
                let place = self.library_path.iter().find_map(|dir| library.strip_prefix(dir).ok());
                let place = place.map_or_else(|| library.clone(), |name| Path::new("/usr/lib").join(name));
                self.copy(&real, &place)?;
            }
            self.copy(&fs::canonicalize(loader)?, loader)?;
        }
        Ok(())
    }

    /// Adds the libraries of every ELF file that is already in the tree.
    ///
    /// # Errors
    /// As [`Tree::program`].
    pub(super) fn complete(&mut self, loader: &Path) -> io::Result<()> {
        let files: Vec<(PathBuf, PathBuf)> = self
            .entries
            .iter()
            .filter_map(|(path, entry)| match entry {
                Entry::File { source, .. } if is_elf(source) => Some((source.clone(), path.clone())),
                _ => None,
            })
            .collect();
        for (source, path) in files {
            self.program(&source, &path, Some(loader))?;
        }
        Ok(())
    }

    /// Writes the tree as a tar with fixed times, so that equal trees give equal bytes.
    ///
    /// # Errors
    /// When a file cannot be read or `to` cannot be written.
    pub(super) fn write(&self, to: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(to);
        let mut seen = std::collections::BTreeSet::new();
        for (path, entry) in &self.entries {
            for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                let missing = !self.entries.contains_key(parent) && parent != Path::new("/");
                if missing && seen.insert(parent.to_owned()) {
                    append(&mut tar, parent, &Entry::Dir { mode: 0o755, owner: 0 })?;
                }
            }
            append(&mut tar, path, entry)?;
        }
        tar.into_inner()?.flush()
    }
}

fn append(tar: &mut tar::Builder<impl Write>, path: &Path, entry: &Entry) -> io::Result<()> {
    let name: PathBuf = path.components().filter(|c| !matches!(c, Component::RootDir)).collect();
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    match entry {
        Entry::Dir { mode, owner } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            header.set_uid(*owner);
            header.set_gid(*owner);
            header.set_size(0);
            tar.append_data(&mut header, name, io::empty())
        }
        Entry::File { source, mode, size } => {
            header.set_mode(*mode);
            header.set_size(*size);
            tar.append_data(&mut header, name, fs::File::open(source)?.take(*size))
        }
        Entry::Text { content, mode } => {
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes())
        }
        Entry::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, name, target)
        }
    }
}

/// `/lib/x` as `/usr/lib/x`: the tree has the former as links.
fn below_usr(path: &Path) -> PathBuf {
    let mut parts = path.components().skip(1);
    let first = parts.next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
    let merged = ["bin", "sbin", "lib", "lib64"].iter().any(|name| first == *name);
    if merged && parts.next().is_some() {
        Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
    } else {
        path.to_owned()
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// The dynamic loader that an ELF program asks for (program header `PT_INTERP`); `None` for a static one, a library,
/// or anything that is not a 64-bit little-endian ELF file.
pub(super) fn interpreter(path: &Path) -> io::Result<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    let mut file = fs::File::open(path)?;
    let mut header = [0; 64];
    if file.read_exact(&mut header).is_err() || header[..6] != *b"\x7fELF\x02\x01" {
        return Ok(None);
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
    let (table, entry, count) = (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]));
    for index in 0..count {
        let mut program = [0; 56];
        file.seek(SeekFrom::Start(table + index * entry))?;
        file.read_exact(&mut program)?;
        if number(&program[..4]) == u64::from(PT_INTERP) {
            let mut name = vec![0; usize::try_from(number(&program[32..40])).unwrap_or(0).min(4096)];
            file.seek(SeekFrom::Start(number(&program[8..16])))?;
            file.read_exact(&mut name)?;
            let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// What the loader would load for `program`: it is asked itself (`ld.so --list`).
fn libraries(loader: &Path, program: &Path, first: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut command = Command::new(loader);
    if !first.is_empty() {
        let path = std::env::join_paths(first).map_err(io::Error::other)?;
        command.arg("--library-path").arg(path);
    }
    let output = command.arg("--list").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {}", program.display(), why.trim())));
    }
    listed(&text).map_err(|library| io::Error::other(format!("{} needs {library}", program.display())))
}

/// The paths in the loader's list; the name of a library that is not there as error.
fn listed(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        let place = place.split(" (").next().unwrap_or(place);
        if place.starts_with('/') {
            found.push(place.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_is_understood() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(listed(text).unwrap(), [Path::new("/lib/x/libm.so.6"), Path::new("/lib64/ld.so.2")]);
        assert_eq!(listed("\tlibq.so => not found\n").unwrap_err(), "libq.so");
        assert_eq!(listed("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_tree_is_a_tar_with_parents_first_and_links_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "hello").unwrap();
        let mut tree = Tree::new();
        tree.copy(&dir.path().join("f"), Path::new("/lib/deep/f")).unwrap();
        tree.text("/etc/passwd", "root:x:0:0::/:\n", 0o644);
        let mut bytes = Vec::new();
        tree.write(&mut bytes).unwrap();
        let mut tar = tar::Archive::new(&bytes[..]);
        let names: Vec<String> =
            tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        let at = |name: &str| names.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name} in {names:?}"));
        assert!(at("usr/lib") < at("usr/lib/deep") && at("usr/lib/deep") < at("usr/lib/deep/f"));
        assert!(names.contains(&"lib".to_owned()) && names.contains(&"tmp".to_owned()));
    }

    #[test]
    fn this_very_program_names_its_loader_or_is_static() {
        let me = std::env::current_exe().unwrap();
        if let Some(loader) = interpreter(&me).unwrap() {
            assert!(loader.is_absolute(), "{loader:?}");
            assert!(libraries(&loader, &me, &[]).unwrap().iter().any(|l| l.to_string_lossy().contains("libc.so")));
        }
    }
}
