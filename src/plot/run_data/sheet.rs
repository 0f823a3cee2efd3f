//! Separated text files, read whole.

use std::path::Path;

use crate::store::StoreError;

use super::{RunError, lacks};

/// The largest data file that is read whole.
const DATA_LIMIT: u64 = 1 << 30;

/// The text of a file that may be too large for a configuration.
pub(super) fn read_large(path: &Path) -> Result<String, StoreError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => StoreError::Missing(path.to_owned()),
        _ => StoreError::Read { path: path.to_owned(), source },
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > DATA_LIMIT {
        return Err(StoreError::Content {
            path: path.to_owned(),
            why: format!("larger than {} MiB", DATA_LIMIT >> 20),
        });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| StoreError::Content { path: path.to_owned(), why: "not UTF-8 text".into() })
}

/// A separated text with a header line.
pub(super) struct Sheet<'a> {
    header: Vec<&'a str>,
    body: &'a str,
    separator: char,
}

impl<'a> Sheet<'a> {
    /// Reads the header; `path` is for messages.
    pub(super) fn new(path: &Path, text: &'a str, separator: char) -> Result<Self, RunError> {
        let (header, body) = text.split_once('\n').ok_or_else(|| lacks(path, "no header line"))?;
        Ok(Sheet { header: header.trim_end().split(separator).collect(), body, separator })
    }

    /// The place of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| *column == name)
    }

    /// (line number, cells) of every line that is not blank.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, Vec<&'a str>)> + '_ {
        let lines = self.body.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(index, line)| (index + 2, line.trim_end().split(self.separator).collect()))
    }
}
