//! Values with their path and line, and maps that notice which of their keys nobody asked for.

use std::time::Duration;

use indexmap::IndexMap;

use super::Result;
use crate::compose::yaml::{Key, Node, Value, fail};
use crate::compose::{ComposeError, Warning, units};

/// A value and where it is.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub path: String,
    node: Node,
}

impl Item {
    pub fn root(node: Node) -> Self {
        Item { path: String::new(), node }
    }

    pub fn line(&self) -> usize {
        self.node.line
    }

    pub fn fail(&self, why: impl Into<String>) -> ComposeError {
        fail(self.node.line, &self.path, why)
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    fn child(&self, key: &str, node: Node) -> Item {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Item { path, node }
    }

    /// A scalar's text.
    pub fn text(&self) -> Result<String> {
        match &self.node.value {
            Value::Scalar { text, .. } => Ok(text.clone()),
            Value::Null => Err(self.fail("a value is missing")),
            Value::List(_) => Err(self.fail("one value is wanted here, not a list")),
            Value::Map(_) => Err(self.fail("one value is wanted here, not a map")),
        }
    }

    /// A scalar's text; none for null.
    pub fn maybe_text(&self) -> Result<Option<String>> {
        if self.is_null() { Ok(None) } else { self.text().map(Some) }
    }

    pub fn convert<T>(&self, wanted: &str, convert: impl Fn(&str) -> Option<T>) -> Result<T> {
        let text = self.text()?;
        convert(&text).ok_or_else(|| self.fail(format!("`{}` is not {wanted}", text.escape_debug())))
    }

    pub fn flag(&self) -> Result<bool> {
        self.convert("true or false", units::flag)
    }

    /// The items of a list; null is an empty one.
    pub fn list(self) -> Result<Vec<Item>> {
        match self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::List(items) => {
                let item = |(index, node)| Item { path: format!("{}[{index}]", self.path), node };
                Ok(items.into_iter().enumerate().map(item).collect())
            }
            _ => Err(self.fail("a list is wanted here")),
        }
    }

    /// A list of texts; one text stands for a list of one.
    pub fn texts(self) -> Result<Vec<String>> {
        match self.node.value {
            Value::Scalar { text, .. } => Ok(vec![text]),
            _ => self.list()?.iter().map(Item::text).collect(),
        }
    }

    /// The entries of a map; null is an empty one.
    pub fn entries(self) -> Result<Vec<(String, Item)>> {
        let Item { path, node: Node { line, value } } = self;
        let here = Item { path, node: Node { line, value: Value::Null } };
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Map(entries) => {
                let entry = |(key, node): (Key, Node)| {
                    let item = here.child(&key.name, node);
                    (key.name, item)
                };
                Ok(entries.into_iter().map(entry).collect())
            }
            _ => Err(here.fail("a map is wanted here")),
        }
    }

    pub fn fields(self) -> Result<Fields> {
        let lines = match &self.node.value {
            Value::Map(entries) => entries.iter().map(|(key, _)| key.line).collect(),
            _ => Vec::new(),
        };
        let entries = self.entries()?.into_iter().zip(lines).map(|((name, item), line)| (name, line, item)).collect();
        Ok(Fields { entries })
    }

    /// `{K: V}` or `[K=V, K]`; a name alone or with null has no value.
    pub fn pairs(self) -> Result<IndexMap<String, Option<String>>> {
        if self.is_map() || self.is_null() {
            return self.entries()?.into_iter().map(|(name, item)| Ok((name, item.maybe_text()?))).collect();
        }
        let mut pairs = IndexMap::new();
        for item in self.list()? {
            let text = item.text()?;
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text, None),
            };
            if name.is_empty() {
                return Err(item.fail("a name is missing before `=`"));
            }
            pairs.insert(name, value);
        }
        Ok(pairs)
    }

    /// As [`Item::pairs`], where no value is an empty one.
    pub fn labels(self) -> Result<IndexMap<String, String>> {
        Ok(self.pairs()?.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
    }
}

/// A map being read; what is left over at the end is warned about.
pub(super) struct Fields {
    entries: Vec<(String, usize, Item)>,
}

impl Fields {
    /// The value of `key`, null included.
    pub fn take_any(&mut self, key: &str) -> Option<Item> {
        let at = self.entries.iter().position(|(name, ..)| name == key)?;
        Some(self.entries.remove(at).2)
    }

    /// The value of `key`; none when it is absent or null.
    pub fn take(&mut self, key: &str) -> Option<Item> {
        self.take_any(key).filter(|item| !item.is_null())
    }

    pub fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.take(key).map(|item| item.text()).transpose()
    }

    pub fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        Ok(self.take(key).map(Item::texts).transpose()?.unwrap_or_default())
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.take(key).map(|item| item.flag()).transpose()
    }

    pub fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        self.take(key).map(|item| item.convert("a number that fits here", |text| text.parse().ok())).transpose()
    }

    pub fn size(&mut self, key: &str) -> Result<Option<u64>> {
        self.take(key).map(|item| item.convert("a size (`50M`)", units::size)).transpose()
    }

    pub fn duration(&mut self, key: &str) -> Result<Option<Duration>> {
        self.take(key).map(|item| item.convert("a duration (`1m30s`)", units::duration)).transpose()
    }

    pub fn cpus(&mut self, key: &str) -> Result<Option<u64>> {
        self.take(key).map(|item| item.convert("a number of CPUs (`0.5`)", units::cpus)).transpose()
    }

    pub fn pairs(&mut self, key: &str) -> Result<IndexMap<String, Option<String>>> {
        Ok(self.take(key).map(Item::pairs).transpose()?.unwrap_or_default())
    }

    pub fn labels(&mut self, key: &str) -> Result<IndexMap<String, String>> {
        Ok(self.take(key).map(Item::labels).transpose()?.unwrap_or_default())
    }

    /// Warns about every key that was not taken: `known` ones have no effect here, others are unknown. `x-` keys are
    /// the writer's own.
    pub fn finish(self, warnings: &mut Vec<Warning>, known: &[&str]) {
        for (name, line, item) in self.entries {
            if name.starts_with("x-") {
                continue;
            }
            let what = if known.contains(&name.as_str()) {
                "not supported, it has no effect"
            } else {
                "unknown key, it has no effect"
            };
            warnings.push(Warning { line, path: item.path, what: what.to_owned() });
        }
    }
}
