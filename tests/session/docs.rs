//! The documents: every command in them exists as written, and the tutorial's first part runs as written.

use std::path::{Path, PathBuf};

use crate::harness::Session;

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name))).collect()
}

/// The `maestro` lines of a text's shell blocks, without comments.
fn commands(text: &str) -> Vec<String> {
    let mut shell = false;
    let mut found = Vec::new();
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => shell = !shell && language == "sh",
            None if shell && line.starts_with("maestro ") => {
                found.push(line.split(" #").next().unwrap().trim().to_owned());
            }
            None => {}
        }
    }
    found
}

#[test]
fn every_command_in_the_documents_is_in_the_grammar() {
    let session = Session::new();
    let mut seen = 0;
    for path in documents() {
        for line in commands(&std::fs::read_to_string(&path).unwrap()) {
            let own = line.split(" -- ").next().unwrap().trim_start_matches("maestro ");
            let done = session.run(&format!("{own} -h"));
            assert_eq!(done.code, 0, "{}: `{line}`: {}", path.display(), done.stderr);
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
}

/// The scripts that the documents name: `./check`, `deps/release.sh`.
#[test]
fn every_script_in_the_documents_is_there_and_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let scripts = text.lines().filter_map(|line| line.split_whitespace().next());
        for script in scripts.filter(|word| ["./", "deps/", "benches/"].iter().any(|start| word.starts_with(start))) {
            let file = root.join(script);
            let mode = std::fs::metadata(&file).map(|facts| facts.permissions().mode()).unwrap_or_default();
            assert!(mode & 0o100 != 0, "{}: `{script}` cannot be run", path.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_document_that_is_linked_is_there() {
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split([')', '#']).next().unwrap();
            let there = target.is_empty() || target.contains("://") || path.parent().unwrap().join(target).exists();
            assert!(there, "{}: `{target}` is not there", path.display());
        }
    }
}

/// A session whose placement takes free ports: others on this machine may have the usual ones.
fn anywhere() -> Session {
    let session = Session::new();
    let placement = "configs/embedded/socialNetwork/us-sg.yml";
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(placement)).unwrap();
    session.write(placement, shipped.replace("8080", "0").replace("8082", "0").replace("16686", "0"));
    session
}

#[test]
fn the_first_experiment_of_the_readme_runs_as_written() {
    let session = anywhere();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let part = text.split("\n## ").find(|part| part.starts_with("A first experiment")).unwrap();
    let lines = commands(part);
    assert!(lines.len() >= 7, "{lines:?}");
    for line in lines {
        // As written, but for a shorter load.
        session.ok(&line.trim_start_matches("maestro ").replace("-d 20", "-d 3"));
    }
}

#[test]
fn the_first_part_of_the_tutorial_runs_as_written() {
    let session = anywhere();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/tutorial.md")).unwrap();
    let first = text.split("\n## ").find(|part| part.starts_with("1.")).unwrap();
    let mut verdicts = Vec::new();
    for line in commands(first) {
        let own = line.trim_start_matches("maestro ");
        if own.ends_with("doctor") {
            continue;
        }
        let done = session.ok(own);
        if own.ends_with("gather") {
            verdicts.push(done.stdout);
        }
    }
    assert_eq!(verdicts.len(), 2);
    let none = |verdict: &String| verdict.contains("violations    none in ");
    assert_eq!(verdicts.iter().map(none).collect::<Vec<_>>(), [false, true], "{verdicts:?}");
    assert!(session.path("report.html").is_file());
}
