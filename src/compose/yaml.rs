//! YAML as a tree that remembers lines: duplicate keys are refused, aliases and `<<` are resolved within a budget.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::ComposeError;

/// Nodes after aliases are resolved; beyond this a file is an attack or a mistake.
const NODE_LIMIT: usize = 100_000;
/// Bytes of text after aliases are resolved.
const TEXT_LIMIT: usize = 16 << 20;
const DEPTH_LIMIT: usize = 64;

/// A value with the line it starts on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub line: usize,
    pub value: Value,
}

/// Scalars keep their text: what type they have is for the key to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Scalar { text: String, quoted: bool },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub name: String,
    pub line: usize,
}

pub(super) fn fail(line: usize, path: &str, why: impl Into<String>) -> ComposeError {
    ComposeError { file: String::new(), line, path: path.to_owned(), why: why.into() }
}

/// The one document of `text`.
pub(super) fn parse(text: &str) -> Result<Node, ComposeError> {
    if text.trim().is_empty() {
        return Err(fail(0, "", "the file is empty"));
    }
    if text.contains('\0') {
        return Err(fail(0, "", "binary data, not YAML"));
    }
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        size: Size::default(),
        stack: Vec::new(),
        root: None,
    };
    composer.run()?;
    composer.root.ok_or_else(|| fail(0, "", "the file holds no value"))
}

/// A collection whose end has not been seen.
enum Open {
    List {
        line: usize,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        line: usize,
        anchor: usize,
        entries: Vec<(Key, Node)>,
        /// The lines of the keys so far.
        lines: HashMap<String, usize>,
        key: Option<Key>,
        merged: Vec<Node>,
    },
}

/// How much a value is.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: usize,
    text: usize,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, more: Size) {
        self.nodes = self.nodes.saturating_add(more.nodes);
        self.text = self.text.saturating_add(more.text);
    }
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Node, Size)>,
    size: Size,
    stack: Vec<Open>,
    root: Option<Node>,
}

impl Composer<'_> {
    fn run(&mut self) -> Result<(), ComposeError> {
        let mut documents = 0;
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|e| fail(e.marker().line(), "", e.info()))?;
            let line = span.start.line();
            match event {
                Event::DocumentStart(..) => documents += 1,
                _ if documents > 1 => return Err(fail(line, "", "more than one YAML document")),
                Event::Scalar(text, style, anchor, _) => {
                    self.value(anchor, Node { line, value: scalar(&text, style) })?;
                }
                Event::Alias(id) => self.alias(id, line)?,
                Event::SequenceStart(_, anchor, _) => self.open(Open::List { line, anchor, items: Vec::new() })?,
                Event::MappingStart(_, anchor, _) => {
                    let (entries, lines, merged) = (Vec::new(), HashMap::new(), Vec::new());
                    self.open(Open::Map { line, anchor, entries, lines, key: None, merged })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<(), ComposeError> {
        let (Open::List { line, .. } | Open::Map { line, .. }) = &open;
        if self.stack.len() >= DEPTH_LIMIT {
            return Err(fail(*line, "", format!("nested deeper than {DEPTH_LIMIT} levels")));
        }
        if let Some(Open::Map { key: None, .. }) = self.stack.last() {
            return Err(fail(*line, "", "a key must be a plain word"));
        }
        self.stack.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), ComposeError> {
        let (anchor, node) = match self.stack.pop() {
            Some(Open::List { line, anchor, items }) => (anchor, Node { line, value: Value::List(items) }),
            Some(Open::Map { line, anchor, mut entries, merged, .. }) => {
                for from in merged {
                    merge(&mut entries, from)?;
                }
                (anchor, Node { line, value: Value::Map(entries) })
            }
            None => return Ok(()),
        };
        self.value(anchor, node)
    }

    fn alias(&mut self, id: usize, line: usize) -> Result<(), ComposeError> {
        let Some((node, size)) = self.anchors.get(&id) else {
            return Err(fail(line, "", "an alias to a value that is not complete yet"));
        };
        let (node, size) = (Node { line, value: node.value.clone() }, *size);
        self.count(size, line)?;
        self.value(0, node)
    }

    fn count(&mut self, more: Size, line: usize) -> Result<(), ComposeError> {
        self.size += more;
        if self.size.nodes > NODE_LIMIT {
            return Err(fail(line, "", format!("more than {NODE_LIMIT} values once aliases are resolved")));
        }
        if self.size.text > TEXT_LIMIT {
            let limit = TEXT_LIMIT >> 20;
            return Err(fail(line, "", format!("more than {limit} MiB of text once aliases are resolved")));
        }
        Ok(())
    }

    /// A complete value: a key, an entry, an item or the root.
    fn value(&mut self, anchor: usize, node: Node) -> Result<(), ComposeError> {
        self.count(Size { nodes: 1, text: 0 }, node.line)?;
        if anchor > 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
            self.count(size, node.line)?;
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, lines, key, merged, .. }) => match key.take() {
                None => *key = Some(as_key(node)?),
                Some(key) if key.name == "<<" => merged.push(node),
                Some(key) => {
                    if let Some(first) = lines.insert(key.name.clone(), key.line) {
                        let why = format!("the key `{}` is given twice (first on line {first})", key.name);
                        return Err(fail(key.line, "", why));
                    }
                    entries.push((key, node));
                }
            },
        }
        Ok(())
    }
}

fn as_key(node: Node) -> Result<Key, ComposeError> {
    match node.value {
        Value::Scalar { text, .. } => Ok(Key { name: text, line: node.line }),
        _ => Err(fail(node.line, "", "a key must be a plain word")),
    }
}

/// Adds the entries of `from` (a map, or a list of maps) that are not there yet.
fn merge(entries: &mut Vec<(Key, Node)>, from: Node) -> Result<(), ComposeError> {
    match from.value {
        Value::Map(more) => {
            let known: HashSet<String> = entries.iter().map(|(key, _)| key.name.clone()).collect();
            entries.extend(more.into_iter().filter(|(key, _)| !known.contains(&key.name)));
            Ok(())
        }
        Value::List(maps) => maps.into_iter().try_for_each(|map| merge(entries, map)),
        _ => Err(fail(from.line, "<<", "only maps can be merged")),
    }
}

fn size(node: &Node) -> Size {
    let mut all = Size { nodes: 1, text: 0 };
    match &node.value {
        Value::Null => {}
        Value::Scalar { text, .. } => all.text = text.len(),
        Value::List(items) => items.iter().for_each(|item| all += size(item)),
        Value::Map(entries) => {
            for (key, value) in entries {
                all += Size { nodes: 1, text: key.name.len() };
                all += size(value);
            }
        }
    }
    all
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let quoted = style != ScalarStyle::Plain;
    match text {
        "" | "~" | "null" | "Null" | "NULL" if !quoted => Value::Null,
        _ => Value::Scalar { text: text.to_owned(), quoted },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn duplicate_keys_are_refused_with_both_lines() {
        assert!(
            error("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
                .contains("line 5: the key `c` is given twice (first on line 3)")
        );
    }

    #[test]
    fn merges_fill_in_what_is_not_given() {
        let node = parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n").unwrap();
        let Value::Map(entries) = node.value else { panic!() };
        let Value::Map(y) = &entries[1].1.value else { panic!() };
        let shown: Vec<_> = y.iter().map(|(key, node)| (key.name.as_str(), &node.value)).collect();
        let text = |text: &str| Value::Scalar { text: text.into(), quoted: false };
        assert_eq!(shown, [("b", &text("3")), ("a", &text("1"))]);
    }

    #[test]
    fn bombs_and_depth_and_tabs_are_refused() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (next, last) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
            bomb.push_str(&format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(",")));
        }
        assert!(error(&bomb).contains("values once aliases are resolved"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(","));
        assert!(error(&long).contains("of text once aliases are resolved"));
        assert!(error(&"[".repeat(100_000)).contains("nest") || error(&"[".repeat(100_000)).contains("recursion"));
        assert!(error("a:\n\tb: 1\n").contains("line 2"));
        assert!(error("&a [*a]\n").contains("not complete") || error("&a [*a]\n").contains("nchor"));
    }
}
