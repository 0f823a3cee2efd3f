//! The readers of Dockerfiles, of what a build context leaves out, and of the lock.

use std::collections::HashMap;

use maestro::images::{Ignore, Lock, Replacement, bases, replaced};

use super::{file, folder, line, one_line, text, texts};

const PATHS: [&str; 6] = ["a", "a/b/c.log", "target/x", "é/ü", "README.md", ".git/HEAD"];

/// Reads `data` as a `.dockerignore` and asks for paths.
pub fn ignore(data: &[u8]) {
    match Ignore::parse(&text(data)) {
        Ok(rules) => PATHS.iter().for_each(|path| _ = std::hint::black_box(rules.is_ignored(path))),
        Err((at, pattern, why)) => {
            assert!(at > 0);
            let plain = maestro::error::Plain::usage(format!("{at}: {pattern}: {why}"));
            line(&maestro::error::Error::from(plain).line());
        }
    }
}

/// Rules of every form.
pub fn ignore_examples() -> Vec<Vec<u8>> {
    texts(&[
        "# comment\n/target/\n**/*.log\n!README*.md\n[a-c]?x\\*\n",
        "*\n!a/**/z\n[^a-]\n",
        "**/**/**/**/a*b*c*d*\n..\n.\n",
    ])
}

/// Reads `data` as a Dockerfile: a replaced base is gone, everything else stays.
pub fn dockerfile(data: &[u8]) {
    let text = text(data);
    let given = HashMap::from([("A".to_owned(), "given".to_owned())]);
    for base in bases(&text, &given) {
        assert!(base != "scratch");
        let replacement = Replacement::Base { from: base.clone(), to: "other:1".to_owned() };
        let (after, counts) = replaced(&text, &[replacement]);
        assert_eq!(counts.len(), 1);
        assert_eq!(after.lines().count(), text.lines().count());
        assert!(counts[0] > 0 || after == text);
    }
}

/// Stages, arguments and platforms.
pub fn dockerfile_examples() -> Vec<Vec<u8>> {
    texts(&[
        "ARG A=ubuntu:20.04\nFROM --platform=linux/amd64 ${A} AS build\nRUN x\nFROM scratch\nCOPY --from=build /a /b\n",
        "from alpine\nFROM build as b\nFROM $A\n",
    ])
}

/// Reads `data` as `images.lock.yml`; what it says drifts from nothing but other values.
pub fn lock(data: &[u8]) {
    let path = file("images.lock.yml", data);
    match Lock::read(&path) {
        Ok(lock) => {
            for images in lock.apps.values() {
                for (name, locked) in images {
                    for found in images.values() {
                        if let Some(drift) = locked.drift(name, found) {
                            let plain = maestro::error::Plain::usage(drift.to_string());
                            line(&maestro::error::Error::from(plain).line());
                        }
                    }
                }
            }
            let again = folder().join("again.lock.yml");
            lock.write(&again).expect("what was read can be written");
            Lock::read(&again).expect("what was written can be read");
        }
        Err(error) => one_line(error),
    }
}

/// Pulled, built and generated images.
pub fn lock_examples() -> Vec<Vec<u8>> {
    texts(&[include_str!("../examples/images.lock.yml"), "format: 1\napps: {}\n"])
}
