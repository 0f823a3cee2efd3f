//! Whatever a command is doing when it is killed, the next one understands what is left.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::harness::{Session, wait_for};

const TARGET: &str = "--embedded socialNetwork";

const SWEEP: &str = "format: 1\nname: s\nconfigs: [us-eu]\nvariants: [baseline, antipode]\nrates: [20]\nrounds: 1\n\
    duration_s: 1\nfigures: []\nlate_client: flag\n";

/// Every command that writes, and how long it may run before it is killed, ms.
const COMMANDS: &[(&str, u64)] = &[
    ("deploy -config configs/embedded/socialNetwork/us-eu.yml -clients 1", 60),
    ("run --ports auto", 600),
    ("run -antipode --ports auto", 600),
    ("wkld -E compose-post -r 20 -d 1 -c 2", 1600),
    ("gather", 300),
    ("delay -d 5", 900),
    ("clean", 200),
    ("clean -restart", 600),
    ("sweep s.yml", 3000),
    ("info", 50),
];

/// What must work on whatever is left; in this order it leads from nothing to a gathered run and back.
const CYCLE: &[&str] = &[
    "deploy -config configs/embedded/socialNetwork/us-sg.yml -clients 1",
    "run --ports auto",
    "wkld -E compose-post -r 20 -d 1 -c 2",
    "gather",
    "clean",
];

fn start(session: &Session, line: &str) -> Child {
    let args: Vec<&str> = TARGET.split(' ').chain(line.split(' ')).collect();
    let mut command = session.command(&args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start maestro")
}

/// The command lines of all processes that name `root`.
fn processes(root: &Path) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let root = root.as_os_str().as_bytes();
        line.windows(root.len()).any(|part| part == root).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.collect()
}

/// Looks at the root with the commands that only read.
fn understood(session: &Session, what: &str) {
    for line in ["info", "info --json"] {
        let done = session.run(&format!("{TARGET} {line}"));
        assert_eq!(done.code, 0, "after {what}: {line}: {}", done.stderr);
    }
}

#[test]
fn the_root_of_a_killed_command_is_understood_by_the_next() {
    let kills = if std::env::var_os("MAESTRO_TEST_FULL").is_some() { 200 } else { 10 };
    let session = Session::new();
    session.write("s.yml", SWEEP);
    session.ok(&format!("{TARGET} {}", CYCLE[0]));
    let mut draws = Pcg64Mcg::seed_from_u64(20);
    let (mut killed, mut tried) = (0, 0);
    while killed < kills {
        let (line, longest) = COMMANDS[tried % COMMANDS.len()];
        tried += 1;
        assert!(tried < 20 * kills, "{killed} of {tried} commands could be killed: they end too early");
        let after = Duration::from_millis(draws.random_range(0..longest));
        let mut child = start(&session, line);
        // Where it is hit is left to chance; nothing below depends on it.
        std::thread::sleep(after);
        child.kill().unwrap();
        if child.wait().unwrap().code().is_none() {
            killed += 1;
        }
        understood(&session, &format!("kill {killed} of `{line}` after {after:?}"));
        if tried % (2 * COMMANDS.len()) == 0 {
            for line in CYCLE {
                let done = session.run(&format!("{TARGET} {line}"));
                assert_eq!(done.code, 0, "after {killed} kills: {line}: {}", done.stderr);
            }
        }
    }
    for line in ["sweep s.yml"].iter().chain(CYCLE) {
        session.ok(&format!("{TARGET} {line}"));
    }
    wait_for("the end of every process of this root", 30, || processes(session.root()).is_empty().then_some(()));
}
