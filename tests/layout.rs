//! The arrows of knowledge: which room may use which, read off each file's `crate::` paths. Also the sizes and the
//! habits that a machine can check.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what went wrong by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that everybody may use.
const COMMON: &[&str] = &["error", "finding", "wait", "experiment", "ui", "stats", "secret", "Context"];

/// What each room may use besides `COMMON` and itself. `*` means everything but `cli`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("analysis", &["store", "trace"]),
    ("app", &["placement", "plan", "inventory", "trace"]),
    ("bundle", &["plot", "store"]),
    ("cli", &["*"]),
    ("command", &["*"]),
    ("clock", &[]),
    ("cloud", &["app", "inventory", "placement", "plan"]),
    ("cluster", &["app", "compose", "inventory", "placement", "plan", "swarm"]),
    ("compose", &[]),
    ("delay", &["execute", "local", "store"]),
    ("experiment", &["app", "placement", "store"]),
    ("images", &["app", "compose", "store"]),
    ("inventory", &["placement"]),
    ("local", &["app", "compose", "plan"]),
    ("placement", &["app", "store", "inventory", "compose"]),
    ("plan", &["app", "cloud", "cluster", "compose", "images", "local", "placement", "inventory", "store", "swarm"]),
    ("plot", &["analysis", "store", "trace"]),
    ("store", &[]),
    ("swarm", &["app", "compose", "placement", "plan", "inventory"]),
    (
        "target",
        &[
            "app",
            "cloud",
            "cluster",
            "embedded",
            "local",
            "placement",
            "plan",
            "inventory",
            "store",
            "swarm",
            "compose",
        ],
    ),
    ("trace", &["store"]),
    ("ui", &["error"]),
    ("wait", &["error"]),
    ("wkld", &[]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The room a file belongs to: `src/wkld/engine.rs` -> `wkld`.
fn room(path: &Path) -> String {
    let relative = path.strip_prefix(src()).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its test module and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Rooms named after `crate::` in `code`, also inside `use crate::{a, b::c}`.
fn used(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word =
            |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in group.split_inclusive([',', '{', '}']) {
                if depth == 0 {
                    rooms.insert(word(part));
                }
                depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                if depth < 0 {
                    break;
                }
            }
        } else {
            rooms.insert(word(rest));
        }
    }
    rooms.remove("");
    rooms
}

#[test]
fn rooms_use_only_what_they_may() {
    let mut files = Vec::new();
    sources(&src(), &mut files);
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in files {
        let room = room(&file);
        for other in used(&code(&file)) {
            if other == room || COMMON.contains(&other.as_str()) || room == "lib" || room == "main" {
                continue;
            }
            let allowed =
                rules.get(room.as_str()).is_none_or(|may| may.contains(&"*") || may.contains(&other.as_str()));
            if !allowed || (other == "cli" && room != "cli") {
                wrong.push(format!("{}: `{room}` uses `{other}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that run backwards:\n{}", wrong.join("\n"));
}

/// Who may write a file otherwise than by the store's atomic functions, and why.
const WRITERS: &[(&str, &str)] = &[
    ("bundle.rs", "into a folder of its own, which is packed into a file by the store"),
    ("embedded/process.rs", "the miniature's log"),
    ("embedded/truth.rs", "a log that grows while the miniature runs"),
    ("execute/cluster/images.rs", "a large archive: beside its place, then renamed"),
    ("execute/docker/build.rs", "a build's log"),
    ("execute/docker/bundle.rs", "a large archive: beside its place, then renamed"),
    ("execute/inspect.rs", "to see whether it can be done; removed at once"),
    ("service/compose_post.rs", "a mark inside its container"),
];

#[test]
fn files_are_written_by_the_store_and_unsafe_is_in_one_module() {
    let mut files = Vec::new();
    sources(&src(), &mut files);
    let (mut writers, mut unsafe_ones) = (Vec::new(), Vec::new());
    for file in files {
        let code = code(&file);
        let name = file.strip_prefix(src()).unwrap().display().to_string();
        if name.ends_with("tests.rs") {
            continue;
        }
        if ["fs::write(", "File::create(", "fs::copy("].iter().any(|call| code.contains(call)) {
            writers.push(name.clone());
        }
        if code.contains("unsafe {") || code.contains("(unsafe_code") {
            unsafe_ones.push(name);
        }
    }
    writers.sort();
    assert_eq!(writers, WRITERS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!(unsafe_ones, ["delay/priority.rs"]);
}

#[test]
fn only_cli_knows_clap_and_only_ui_prints() {
    let mut files = Vec::new();
    sources(&src(), &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let (room, code) = (room(&file), code(&file));
        if room != "cli" && (code.contains("use clap") || code.contains("clap::")) {
            wrong.push(format!("{} knows clap", file.display()));
        }
        let prints = ["println!(", "print!(", "eprintln!(", "eprint!("].iter().any(|p| code.contains(p));
        if room != "ui" && prints {
            wrong.push(format!("{} prints", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_rooms_in_the_documents_is_the_one_in_the_sources() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let rooms = text.split("\n## Rooms").nth(1).unwrap().split("\n## ").next().unwrap();
    let first = rooms.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let named = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let told: BTreeSet<String> = named.map(|name| name.trim_end_matches(".rs").trim_end_matches('/').into()).collect();
    let files = fs::read_dir(src()).unwrap().map(|entry| room(&entry.unwrap().path()));
    let there: BTreeSet<String> = files.filter(|room| room != "lib" && room != "main").collect();
    assert_eq!(told, there);
}

#[test]
fn every_room_opens_with_what_it_owns() {
    let mut files = Vec::new();
    sources(&src(), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} has no module comment", file.display());
    }
}

/// Crates of which two generations are in the tree, because crates that we use disagree.
const TWICE: &[&str] = &[
    "base64",
    "bitflags",
    "block-buffer",
    "cpufeatures",
    "crypto-common",
    "digest",
    "getrandom",
    "hashbrown",
    "indexmap",
    "kurbo",
    "miniz_oxide",
    "png",
    "rand",
    "rand_core",
    "schemars",
    "sha2",
    "syn",
];

/// Whether `expression` (SPDX, as crates write it) can be met with `allowed`: each part of an AND, one of each OR.
fn licensed(expression: &str, allowed: &[String]) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let choices = plain.split(" AND ").map(|part| part.split(" OR ").map(str::trim).collect::<Vec<_>>());
    choices.into_iter().all(|choice| choice.iter().any(|name| allowed.iter().any(|a| a == name)))
}

#[test]
fn third_party_crates_are_licensed_compatibly_and_come_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let policy = fs::read_to_string(root.join("deny.toml")).unwrap();
    let list = policy.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    let allowed: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let words = "metadata --locked --offline --filter-platform x86_64-unknown-linux-gnu --format-version 1";
    let output = std::process::Command::new(env!("CARGO")).args(words.split(' ')).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let (name, licence) = (package["name"].as_str().unwrap(), package["license"].as_str().unwrap_or("none"));
        assert!(licensed(licence, &allowed), "{name}: `{licence}`");
        versions.entry(name).or_default().insert(package["version"].as_str().unwrap());
    }
    let twice = versions.iter().filter(|(name, seen)| seen.len() > 1 && !TWICE.contains(name));
    assert_eq!(twice.collect::<Vec<_>>(), [], "in the tree twice");
    assert!(
        !licensed("GPL-3.0", &allowed) && !licensed("MIT AND GPL-2.0", &allowed) && licensed("MIT/GPL-2.0", &allowed)
    );
}
