//! What a Dockerfile is built from, and its text with replacements made on the way to the engine.

use std::collections::HashMap;

use crate::app::Remedy;

/// Text or a base image to be replaced in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The image of `FROM`.
    Base {
        /// As it is written.
        from: String,
        /// Instead.
        to: String,
    },
    /// Text anywhere.
    Text {
        /// Any of these.
        from: Vec<String>,
        /// Instead.
        to: String,
    },
}

impl Replacement {
    /// The replacement that `remedy` asks for in the Dockerfile of `context`.
    pub fn of(remedy: &Remedy, context: &str) -> Option<Self> {
        match remedy {
            Remedy::Base { context: other, from, to } if *other == context => {
                Some(Replacement::Base { from: (*from).to_owned(), to: (*to).to_owned() })
            }
            Remedy::Text { context: other, from, to } if *other == context => {
                let from = from.iter().map(|text| (*text).to_owned()).collect();
                Some(Replacement::Text { from, to: (*to).to_owned() })
            }
            _ => None,
        }
    }
}

/// `text` with all replacements made, and how often each was.
pub fn replaced(text: &str, replacements: &[Replacement]) -> (String, Vec<usize>) {
    let mut text = text.to_owned();
    let mut counts = Vec::new();
    for replacement in replacements {
        let (next, count) = match replacement {
            Replacement::Text { from, to } => {
                let count = from.iter().map(|from| text.matches(from.as_str()).count()).sum();
                (from.iter().fold(text.clone(), |text, from| text.replace(from.as_str(), to)), count)
            }
            Replacement::Base { from, to } => replace_base(&text, from, to),
        };
        text = next;
        counts.push(count);
    }
    (text, counts)
}

fn replace_base(text: &str, from: &str, to: &str) -> (String, usize) {
    let mut count = 0;
    let line = |line: &str| match from_line(line) {
        Some(FromLine { image, .. }) if image == from => {
            count += 1;
            line.replacen(from, to, 1)
        }
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.split_inclusive('\n').map(line).collect();
    (lines.concat(), count)
}

struct FromLine<'a> {
    image: &'a str,
    stage: Option<&'a str>,
}

/// `FROM [--platform=x] image [AS stage]`.
fn from_line(line: &str) -> Option<FromLine<'_>> {
    let mut words = line.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("FROM") {
        return None;
    }
    let image = words.by_ref().find(|word| !word.starts_with("--"))?;
    let stage = words.next().filter(|word| word.eq_ignore_ascii_case("AS")).and_then(|_| words.next());
    Some(FromLine { image, stage })
}

/// The images that a Dockerfile is built from, each once: not `scratch`, not its own stages. Arguments declared before
/// the first `FROM` are put in, `given` ones before their defaults.
pub fn bases(text: &str, given: &HashMap<String, String>) -> Vec<String> {
    let mut arguments: HashMap<String, String> = HashMap::new();
    let mut stages: Vec<String> = Vec::new();
    let mut bases: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first.eq_ignore_ascii_case("ARG") && stages.is_empty() && bases.is_empty() {
            if let Some((name, value)) = words.next().and_then(|word| word.split_once('=')) {
                let value = given.get(name).map_or_else(|| value.trim_matches(['"', '\'']).to_owned(), Clone::clone);
                arguments.insert(name.to_owned(), value);
            }
            continue;
        }
        let Some(from) = from_line(line) else { continue };
        let image = substituted(from.image, &arguments);
        let known = image == "scratch" || stages.contains(&image.to_ascii_lowercase()) || bases.contains(&image);
        if !known {
            bases.push(image);
        }
        stages.push(from.stage.unwrap_or_default().to_ascii_lowercase());
    }
    bases
}

/// `${NAME}` and `$NAME` of the arguments; unknown ones stay.
fn substituted(text: &str, arguments: &HashMap<String, String>) -> String {
    let mut text = text.to_owned();
    let mut names: Vec<&String> = arguments.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        text = text.replace(&format!("${{{name}}}"), &arguments[name]).replace(&format!("${name}"), &arguments[name]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_found_through_arguments_and_stages() {
        let text = "ARG BASE=\"ubuntu\"\nARG TAG=xenial\nFROM ${BASE}:${TAG} AS build\nRUN x\nFROM scratch\n\
                    COPY --from=build /a /\nfrom --platform=linux/amd64 mongo:4.2\nFROM build\n";
        assert_eq!(bases(text, &HashMap::new()), ["ubuntu:xenial", "mongo:4.2"]);
        let given = HashMap::from([("TAG".to_owned(), "jammy".to_owned())]);
        assert_eq!(bases(text, &given)[0], "ubuntu:jammy");
    }

    #[test]
    fn replacements_are_counted_so_that_a_useless_one_shows() {
        let text = "FROM debian:10.6 AS a\nRUN wget https://old/x\nRUN echo debian:10.6\n";
        let base = Replacement::Base { from: "debian:10.6".into(), to: "debian/eol:buster".into() };
        let moved =
            Replacement::Text { from: vec!["https://old/".into(), "https://older/".into()], to: "https://new/".into() };
        let gone = Replacement::Base { from: "ubuntu".into(), to: "x".into() };
        let (text, counts) = replaced(text, &[base, moved, gone]);
        assert_eq!(text, "FROM debian/eol:buster AS a\nRUN wget https://new/x\nRUN echo debian:10.6\n");
        assert_eq!(counts, [1, 1, 0]);
    }
}
