//! A terminal session in a root of its own.

#![allow(dead_code, reason = "each test file uses the part it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// A working root and the binary under test.
pub struct Session {
    root: tempfile::TempDir,
}

/// What a finished command left.
pub struct Done {
    /// Its exit code; -1 when it was killed.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Session {
    /// A session in a fresh directory that goes away with it.
    pub fn new() -> Self {
        Session { root: tempfile::tempdir().expect("a temporary directory") }
    }

    /// The working root.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path below the root.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// Writes a file below the root, with the directories above it.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("make directories");
        std::fs::write(&path, content).expect("write a file");
        path
    }

    /// The command `maestro ARGS` in this root, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maestro"));
        command.args(args).current_dir(self.root()).env_remove("MAESTRO_ROOT").env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Runs `maestro LINE` (split at blanks) to its end.
    pub fn run(&self, line: &str) -> Done {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.run_args(&args)
    }

    /// Runs `maestro ARGS` to its end.
    pub fn run_args(&self, args: &[&str]) -> Done {
        self.command(args).output().expect("start maestro").into()
    }

    /// Runs `maestro LINE` and demands exit code 0.
    pub fn ok(&self, line: &str) -> Done {
        self.run(line).ok(line)
    }
}

impl Done {
    /// Demands exit code 0 of `maestro LINE`.
    pub fn ok(self, line: &str) -> Done {
        assert_eq!(self.code, 0, "maestro {line}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Looks every 20 ms until `look` gives a value.
///
/// # Panics
/// After `seconds`, naming `what`.
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: not seen after {seconds} s");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The binary under test without its debugging information: a quarter of it, which is what images and hosts are given.
pub fn stripped() -> &'static Path {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| {
        let binary = Path::new(env!("CARGO_BIN_EXE_maestro"));
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("maestro-stripped");
        // Made beside it and moved there: another test process may be reading the one of before.
        let fresh = copy.with_extension(std::process::id().to_string());
        let done = Command::new("strip").arg("-o").arg(&fresh).arg(binary).status();
        let made = done.is_ok_and(|status| status.success()) && std::fs::rename(&fresh, &copy).is_ok();
        if made { copy } else { binary.to_owned() }
    });
    &COPY
}
