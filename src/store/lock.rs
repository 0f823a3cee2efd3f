//! One maestro at a time changes a root. The lock is the kernel's (`flock`), so it vanishes with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::{Store, StoreError};

/// Held while a command changes the root; released when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Store {
    /// Takes the root's lock for `command` (shown to whoever finds it taken).
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it, [`StoreError::Write`] when the file cannot be made.
    pub fn lock(&self, command: &str) -> Result<Lock, StoreError> {
        self.lock_dir(&self.root().join("deploy"), command)
    }

    /// Takes the lock of one directory below the root (a sweep's), making the directory.
    ///
    /// # Errors
    /// As [`Store::lock`].
    pub fn lock_dir(&self, directory: &Path, command: &str) -> Result<Lock, StoreError> {
        let path = directory.join(".lock");
        let failed = |path: PathBuf| move |source| StoreError::Write { path, source };
        std::fs::create_dir_all(directory).map_err(failed(directory.to_owned()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(path.clone()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.locked_by(&mut file)),
            Err(TryLockError::Error(source)) => return Err(StoreError::Write { path, source }),
        }
        let note = format!("{} {command}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(failed(path))?;
        Ok(Lock { _file: file })
    }

    /// Process id of whoever holds the lock of `directory` at this moment.
    pub fn lock_holder(&self, directory: &Path) -> Option<u32> {
        let mut file = File::open(directory.join(".lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => match self.locked_by(&mut file) {
                StoreError::Locked { pid, .. } => Some(pid),
                _ => None,
            },
            _ => None,
        }
    }

    fn locked_by(&self, file: &mut File) -> StoreError {
        let mut note = String::new();
        if file.read_to_string(&mut note).is_err() {
            note.clear();
        }
        let (pid, command) = note.trim().split_once(' ').unwrap_or(("0", "unknown"));
        StoreError::Locked { pid: pid.parse().unwrap_or(0), command: command.to_owned(), root: self.root().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_about_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let held = store.lock("wkld").unwrap();
        let error = store.lock("clean").unwrap_err();
        assert!(matches!(&error, StoreError::Locked { command, .. } if command == "wkld"), "{error}");
        assert_eq!(store.lock_holder(&dir.path().join("deploy")), Some(std::process::id()));
        assert_eq!(store.lock_holder(&dir.path().join("elsewhere")), None);
        drop(held);
        // A process that another test is just starting may hold a copy of the descriptor until its exec.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while let Err(error) = store.lock("clean") {
            assert!(std::time::Instant::now() < deadline, "{error}");
            std::thread::yield_now();
        }
    }
}
