//! Saved answers: plain, gzip or zstd, told apart by their first bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::model::Trace;
use super::response::{ResponseError, Tally};
use super::{Shape, read_ahead};
use crate::error::{Exit, Fault};

/// A disk that says nothing for this long is gone.
const IDLE: Duration = Duration::from_secs(60);

/// Why a saved answer was of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("`{path}`: {source}")]
    Answer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ResponseError,
    },
}

impl Fault for FileError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            FileError::Read { .. } => None,
            FileError::Answer { .. } => {
                Some("a saved answer is the body of GET /api/traces, also as .gz or .zst".into())
            }
        }
    }
}

/// Opens `path` for reading, decompressed.
///
/// # Errors
/// [`FileError::Read`].
pub fn open(path: &Path) -> Result<Box<dyn Read + Send>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut magic = Vec::with_capacity(4);
    (&mut file).take(4).read_to_end(&mut magic).map_err(failed)?;
    // What was looked at is put in front again, so that pipes work too.
    let whole = io::Cursor::new(magic.clone()).chain(file);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(128 << 10, whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole).map_err(failed)?),
        _ => Box::new(whole),
    })
}

/// Reads the saved answer in `path` and hands each trace to `sink`.
///
/// # Errors
/// [`FileError`] when nothing at all could be read; a file that breaks off is kept up to there and the tally says so.
pub fn read(path: &Path, shape: &Shape, tally: &mut Tally, sink: &mut dyn FnMut(Trace)) -> Result<(), FileError> {
    let before = tally.parsed;
    match read_ahead(open(path)?, IDLE, shape, tally, sink) {
        Ok(()) => Ok(()),
        Err(error @ ResponseError::Broken(..)) if tally.parsed > before => {
            tally.damage.get_or_insert(format!("`{}`: {}", path.display(), one_line(&error)));
            Ok(())
        }
        Err(source) => Err(FileError::Answer { path: path.to_owned(), source }),
    }
}

/// An error with its cause.
fn one_line(error: &ResponseError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
