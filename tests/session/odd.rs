//! Odd places and odd surroundings: roots whose names are no text, odd tags, languages, time zones, several at once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Done, Session};

const DEPLOY: &str = "--embedded socialNetwork deploy -config configs/embedded/socialNetwork/us-eu.yml -clients 1";

/// `maestro LINE` in `root`.
fn maestro(session: &Session, root: &Path, line: &str) -> Command {
    let mut command = session.command(&[]);
    command.arg("--root").arg(root).args(line.split_whitespace());
    command
}

fn done(mut command: Command) -> Done {
    command.output().unwrap().into()
}

/// All regular files below `dir`.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_root_with_blanks_and_bytes_that_are_no_text_works() {
    let session = Session::new();
    let root = session.root().join(OsStr::from_bytes(b"r \xff 'x"));
    std::fs::create_dir(&root).unwrap();
    for line in [
        DEPLOY,
        "--embedded socialNetwork run --ports auto",
        "--embedded socialNetwork wkld -E compose-post -r 20 -d 1 -c 4",
        "--embedded socialNetwork gather",
        "--embedded socialNetwork info",
        "--embedded socialNetwork clean",
    ] {
        done(maestro(&session, &root, line)).ok(line);
    }
    let mut found = Vec::new();
    files(session.root(), &mut found);
    assert!(found.iter().all(|path| path.starts_with(&root)), "all of it is in the root: {found:?}");
    assert!(found.iter().any(|path| path.ends_with("traces.csv")), "{found:?}");
    let refused = done(maestro(
        &session,
        &root,
        "--local socialNetworkMini deploy -config \
        configs/local/socialNetworkMini/debug.yml -clients 1",
    ));
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("is not UTF-8, and an engine cannot be told it"), "{}", refused.stderr);
}

#[test]
fn neither_language_nor_time_zone_changes_what_is_written() {
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gather/small/input.json");
    let gathered = |variables: &[(&str, &str)]| {
        let session = Session::new();
        let run = session.path("run");
        std::fs::create_dir(&run).unwrap();
        let mut command = session.command(&["gather", "--traces"]);
        command.arg(&input).arg("--run").arg(&run).envs(variables.iter().copied());
        let done = Done::from(command.output().unwrap()).ok("gather");
        let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap_or_default();
        let text = ["traces.csv", "windows.csv", "traces.info"].map(read);
        assert!(text.iter().take(2).all(|text| text.lines().count() > 1), "{text:?}");
        (text, done.stdout.replace(&run.display().to_string(), "RUN"))
    };
    let plain = gathered(&[("LC_ALL", "C"), ("TZ", "UTC")]);
    for (language, zone) in [
        ("tr_TR.UTF-8", "Europe/Istanbul"),
        ("de_DE.UTF-8", "Europe/Berlin"),
        ("de_DE.UTF-8", "CET-1CEST,M3.5.0,M10.5.0/3"),
        ("xx", "Nowhere/At_all"),
    ] {
        let other = gathered(&[("LC_ALL", language), ("LANG", language), ("TZ", zone)]);
        assert_eq!(other, plain, "{language} {zone}");
    }
}

#[test]
fn tags_are_in_utc_and_long_or_odd_ones_are_refused_in_one_line() {
    let session = Session::new();
    for tag in ["x".repeat(101), "a/b".into(), "..".into(), "a\nb".into(), "é\u{202e}".into(), "-".into()] {
        let args: Vec<&str> = DEPLOY.split(' ').chain(["--tag", &tag]).collect();
        let done = session.run_args(&args);
        assert_eq!(done.code, 2, "{tag:?}: {}", done.stderr);
        let odd = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(done.stderr.lines().count() <= 2 && !done.stderr.contains(odd), "{tag:?}: {:?}", done.stderr);
    }
    let fine = "x".repeat(100);
    session.ok(&format!("{DEPLOY} --tag {fine}"));
    // An hour that the clocks of Berlin show twice is still one hour for tags.
    let mut command = session.command(&DEPLOY.split(' ').collect::<Vec<_>>());
    let before = jiff::Timestamp::now().strftime("%Y%m%d%H%M%S").to_string();
    Done::from(command.env("TZ", "Europe/Berlin").output().unwrap()).ok("deploy");
    let after = jiff::Timestamp::now().strftime("%Y%m%d%H%M%S").to_string();
    let state = std::fs::read_to_string(session.path("deploy/embedded/.last.yml")).unwrap();
    let tag = state.lines().find_map(|line| line.strip_prefix("tag: ")).unwrap().trim_matches(['"', '\'']).to_owned();
    assert!((before..=after).contains(&tag), "{tag}");
}

#[test]
fn a_message_from_a_file_stays_one_line() {
    let session = Session::new();
    let path = session.write("p.yml", "replication_pair: \"US->EU\"\n\"a\\n\\e[2Jb\": 1\n");
    let done = session.run_args(&[
        "--embedded",
        "socialNetwork",
        "deploy",
        "-config",
        path.to_str().unwrap(),
        "-clients",
        "1",
    ]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(!done.stderr.contains('\u{1b}') && done.stderr.lines().count() <= 2, "{:?}", done.stderr);
}

#[test]
fn of_several_at_once_each_does_its_work_or_is_told_who_is_there() {
    let session = Session::new();
    let start = |line: &str| {
        let mut command = maestro(&session, session.root(), line);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let looks: Vec<_> = (0..4).map(|_| start("--embedded socialNetwork info --json")).collect();
    let works: Vec<_> = (0..6).map(|_| start(DEPLOY)).collect();
    let ended = |child: std::process::Child| Done::from(child.wait_with_output().unwrap());
    let mut deployed = 0;
    for done in works.into_iter().map(ended) {
        match done.code {
            0 => deployed += 1,
            3 => assert!(done.stderr.starts_with("maestro: another maestro (pid "), "{}", done.stderr),
            other => panic!("{other}: {}", done.stderr),
        }
    }
    assert!(deployed > 0);
    for done in looks.into_iter().map(ended) {
        assert!(done.code == 0 || done.code == 2, "{}", done.stderr);
    }
    let tags = std::fs::read_dir(session.path("deploy/embedded/socialNetwork")).unwrap().count();
    assert_eq!(tags, deployed, "nobody wrote into another one's directory");
    session.ok("--embedded socialNetwork info");
}
