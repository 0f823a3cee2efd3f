//! Compose files that somebody's hand, editor or disk has damaged: whatever is in them, reading ends, with a file that
//! means the same when it is written and read again, or with one line that names the file.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use maestro::compose::{Source, parse};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// How long one file may take at most, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

const FILES: [&str; 3] = ["social-network.yml", "hotel-reservation.yml", "media-microservices.yml"];

/// What damages a line best: the signs that mean something in YAML and in compose files, and values at their limits.
const PIECES: &[&str] = &[
    "&a",
    "*a",
    "<<: *a",
    "&a &a",
    "!!binary",
    "!<x>",
    "? ",
    "- ",
    ": ",
    ":",
    "|",
    ">-",
    "|+9",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "#",
    "%YAML 9.9",
    "---",
    "...",
    "\t",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\0",
    "${",
    "${A",
    "${A:-${B}}",
    "${A:?}",
    "$$",
    "$",
    "${A-",
    "~",
    "null",
    "yes",
    ".nan",
    "-0",
    "-1",
    "1e400",
    "0x7fffffffffffffffff",
    "99999999999999999999999h",
    "18446744073709551616",
    "65536:65536",
    "1-65535:1-65535",
    "70000-1",
    "::1:80:80",
    "/a:/b:rw,z,x",
    "9999999999g",
    "0o8888",
    "a=b=c",
    "=",
    "é",
    "\u{202e}",
    "x-",
    "services:",
    "image:",
];

fn text_of(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// `text` with one thing wrong with it.
fn damaged(text: &str, random: &mut Pcg64) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return PIECES[random.random_range(0..PIECES.len())].to_owned();
    }
    let (at, other) = (random.random_range(0..lines.len()), random.random_range(0..lines.len()));
    let piece = PIECES[random.random_range(0..PIECES.len())];
    match random.random_range(0..10) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at].clone()),
        2 => lines.swap(at, other),
        3 => lines[at].insert_str(0, if random.random() { "  " } else { " " }),
        4 => lines[at] = lines[at].strip_prefix("  ").unwrap_or_default().to_owned(),
        5 => lines.truncate(at),
        6 => {
            let value = lines[at].find(": ").map_or(0, |colon| colon + 2);
            lines[at].replace_range(value.., piece);
        }
        7 => lines[at].push_str(&piece.repeat(random.random_range(1..200))),
        8 => {
            let places: Vec<usize> = lines[at].char_indices().map(|(index, _)| index).collect();
            let place = places.get(random.random_range(0..places.len().max(1))).copied().unwrap_or(0);
            lines[at].insert_str(place, piece);
        }
        _ => {
            let end = (at + 3).min(lines.len());
            let block = lines[at..end].to_vec();
            for _ in 0..random.random_range(1..30) {
                lines.splice(at..at, block.iter().cloned());
            }
        }
    }
    lines.join("\n")
}

/// Reads `text`; the file, or the error's line. Panics when what was read does not survive writing and reading.
fn read(text: &str) -> Result<PathBuf, String> {
    let source = |name| Source {
        name,
        directory: Path::new("/app"),
        variables: &|name| (name == "A").then(|| "a".repeat(100)),
        read: &|_| Ok("E=1\n".to_owned()),
    };
    let file = parse(text, &source("c.yml")).map_err(|error| error.to_string())?.file;
    let written = file.to_yaml();
    let again = parse(&written, &source("again")).unwrap_or_else(|error| panic!("{error}\nwas written:\n{written}"));
    assert_eq!(again.file, file, "was written:\n{written}");
    Ok(file.directory)
}

/// What came of it, within [`PATIENCE`].
fn read_in_time(what: &str, text: String) -> Result<PathBuf, String> {
    let (sender, receiver) = mpsc::channel();
    let shown = text.clone();
    std::thread::spawn(move || sender.send(read(&text)));
    match receiver.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(why) => panic!("{what}: {why} (a panic above, or no end after {PATIENCE:?}):\n{shown:.4000}"),
    }
}

#[test]
fn damaged_files_are_read_or_refused_in_one_line() {
    let rounds = if std::env::var_os("MAESTRO_TEST_FULL").is_some() { 20_000 } else { 400 };
    let (mut fine, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut random = Pcg64::seed_from_u64(round);
        let name = FILES[random.random_range(0..FILES.len())];
        let mut text = text_of(name);
        for _ in 0..random.random_range(1..4) {
            text = damaged(&text, &mut random);
        }
        match read_in_time(&format!("{name}, round {round}"), text) {
            Ok(_) => fine += 1,
            Err(line) => {
                assert!(line.starts_with("`c.yml`") && !line.contains('\n'), "{name}, round {round}: {line:?}");
                refused += 1;
            }
        }
    }
    assert!(fine > rounds / 20 && refused > rounds / 20, "the damage is of the right size: {fine} fine, {refused} not");
}

#[test]
fn what_grows_without_bound_is_refused() {
    let services = |more: &str| format!("services:\n  web:\n    image: i\n{more}");
    let doubled = |first: &str, each: &dyn Fn(usize) -> String| {
        let mut text = format!("x-0: &x0 {first}\n");
        (1..60).for_each(|level| text.push_str(&format!("x-{level}: &x{level} {}\n", each(level - 1))));
        text + &services("")
    };
    let numbered = |count: usize| (0..count).map(|n| format!("      K{n}: v\n")).collect::<String>();
    for (what, text) in [
        ("lists of lists", doubled("[a, b]", &|last| format!("[*x{last}, *x{last}]"))),
        ("maps of maps", doubled("{a: b}", &|last| format!("{{a: *x{last}, b: *x{last}}}"))),
        ("long texts", format!("x-a: &a {}\nx-b: [{}]\n", "x".repeat(1 << 20), ["*a"; 5000].join(",")) + &services("")),
        ("deep lists", services(&format!("    x-a: {}\n", "[".repeat(50_000)))),
        ("deep maps", services(&format!("    x-a: {}\n", "{a: ".repeat(50_000)))),
        ("many keys", services(&format!("    environment:\n{}", numbered(200_000)))),
        ("deep defaults", services(&format!("    hostname: \"{}x{}\"\n", "${B:-".repeat(5000), "}".repeat(5000)))),
    ] {
        let line = read_in_time(what, text).expect_err(what);
        assert!(line.starts_with("`c.yml`") && line.len() < 300, "{what}: {line}");
    }
    // As large as allowed is read, and not for ever.
    read_in_time("many keys", services(&format!("    environment:\n{}", numbered(30_000)))).expect("a large file");
}
