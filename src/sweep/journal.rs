//! The journal of a sweep: one JSON object a line, appended and synced, so that a process killed at any instant
//! loses at most the run it was in.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spent::Spent;
use crate::store::{Status, StoreError, read_text};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A run begins.
    Started {
        /// The cell's id.
        cell: String,
        /// Round, from 0.
        round: u32,
        /// Attempt, from 1.
        attempt: u32,
        /// us since the epoch.
        at_us: i64,
    },
    /// A run ended and its numbers may be used.
    Finished {
        /// The cell's id.
        cell: String,
        /// Round, from 0.
        round: u32,
        /// Its directory, relative to the root.
        dir: String,
        /// Its outcome.
        status: Status,
        /// Where its time went.
        #[serde(flatten)]
        spent: Spent,
        /// us since the epoch.
        at_us: i64,
    },
    /// An attempt failed.
    Failed {
        /// The cell's id.
        cell: String,
        /// Round, from 0.
        round: u32,
        /// Attempt, from 1.
        attempt: u32,
        /// Why.
        reason: String,
        /// us since the epoch.
        at_us: i64,
    },
    /// A run failed too often and is left out.
    Quarantined {
        /// The cell's id.
        cell: String,
        /// Round, from 0.
        round: u32,
        /// The last reason.
        reason: String,
        /// us since the epoch.
        at_us: i64,
    },
    /// The sweep reached its end.
    Ended {
        /// us since the epoch.
        at_us: i64,
    },
}

/// Where one run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// Begun or failed this many times, without a result yet.
    Pending {
        /// Failed attempts.
        failed: u32,
    },
    /// Done; its directory and times.
    Finished {
        /// Relative to the root.
        dir: String,
        /// Its outcome.
        status: Status,
        /// Where its time went.
        spent: Spent,
    },
    /// Given up, and why.
    Quarantined(String),
}

/// What a journal says so far: (cell id, round) -> state.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    runs: HashMap<(String, u32), RunState>,
    begun: Option<Begun>,
    /// Whether the sweep reached its end.
    pub ended: bool,
}

/// The attempt that began last and has not ended, if its process lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Begun {
    /// The cell's id.
    pub cell: String,
    /// Round, from 0.
    pub round: u32,
    /// Attempt, from 1.
    pub attempt: u32,
    /// us since the epoch.
    pub at_us: i64,
}

impl Progress {
    /// The state of one run; pending when the journal does not mention it.
    pub fn state(&self, cell: &str, round: u32) -> RunState {
        self.runs.get(&(cell.to_owned(), round)).cloned().unwrap_or(RunState::Pending { failed: 0 })
    }

    /// The attempt that began last and has not ended.
    pub fn begun(&self) -> Option<&Begun> {
        self.begun.as_ref()
    }

    /// Rounds of a cell that the journal has something to say about.
    pub fn rounds(&self, cell: &str) -> Vec<u32> {
        let mut rounds: Vec<u32> = self.runs.keys().filter(|(of, _)| of == cell).map(|(_, round)| *round).collect();
        rounds.sort_unstable();
        rounds
    }

    /// Takes one more event in.
    pub fn apply(&mut self, event: &Event) {
        self.begun = None;
        match event {
            Event::Started { cell, round, attempt, at_us } => {
                self.begun = Some(Begun { cell: cell.clone(), round: *round, attempt: *attempt, at_us: *at_us });
                self.ended = false;
            }
            Event::Finished { cell, round, dir, status, spent, .. } => {
                let done = RunState::Finished { dir: dir.clone(), status: *status, spent: *spent };
                self.runs.insert((cell.clone(), *round), done);
            }
            Event::Failed { cell, round, attempt, .. } => {
                self.runs.insert((cell.clone(), *round), RunState::Pending { failed: *attempt });
            }
            Event::Quarantined { cell, round, reason, .. } => {
                self.runs.insert((cell.clone(), *round), RunState::Quarantined(reason.clone()));
            }
            Event::Ended { .. } => self.ended = true,
        }
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens `path` for appending and reads what is there. A last line torn by a kill is cut off.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged line in the middle is [`StoreError::Content`] with its number.
    pub fn open(path: &Path) -> Result<(Journal, Progress), StoreError> {
        let (progress, whole) = read(path)?;
        let failed = |source: io::Error| StoreError::Write { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        file.set_len(whole).map_err(failed)?;
        Ok((Journal { path: path.to_owned(), file }, progress))
    }

    /// What the journal at `path` says; empty when there is none.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn progress(path: &Path) -> Result<Progress, StoreError> {
        Ok(read(path)?.0)
    }

    /// Appends `event`; it is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn append(&mut self, event: &Event) -> Result<(), StoreError> {
        let failed = |source: io::Error| StoreError::Write { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(event).map_err(|error| failed(io::Error::other(error)))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}

/// The progress so far and the length of the whole lines, bytes.
fn read(path: &Path) -> Result<(Progress, u64), StoreError> {
    let text = match read_text(path) {
        Err(StoreError::Missing(_)) => return Ok((Progress::default(), 0)),
        other => other?,
    };
    let mut progress = Progress::default();
    let mut whole = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str::<Event>(line) {
            Ok(event) if line.ends_with('\n') => progress.apply(&event),
            _ if !line.ends_with('\n') => break,
            Ok(_) => {}
            Err(error) => {
                let why = format!("line {}: {error}", index + 1);
                return Err(StoreError::Content { path: path.to_owned(), why });
            }
        }
        whole += line.len() as u64;
    }
    Ok((progress, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(round: u32) -> Event {
        Event::Finished {
            cell: "c".into(),
            round,
            dir: "gather/x".into(),
            status: Status::Complete,
            spent: Spent { load_s: 5.0, idle_s: 0.2, ..Spent::default() },
            at_us: 1,
        }
    }

    #[test]
    fn a_torn_last_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&finished(0)).unwrap();
        journal.append(&finished(1)).unwrap();
        drop(journal);
        let text = std::fs::read_to_string(&path).unwrap();
        for cut in 0..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let (mut journal, progress) = Journal::open(&path).unwrap();
            let whole = text[..cut].matches('\n').count();
            for round in 0..2 {
                let done = matches!(progress.state("c", round), RunState::Finished { .. });
                assert_eq!(done, (round as usize) < whole, "cut at {cut}");
            }
            journal.append(&finished(7)).unwrap();
            let again = Journal::progress(&path).unwrap();
            assert!(matches!(again.state("c", 7), RunState::Finished { .. }), "cut at {cut}");
        }
    }

    #[test]
    fn what_runs_now_is_known_and_a_new_start_ends_the_end() {
        let mut progress = Progress::default();
        progress.apply(&Event::Ended { at_us: 1 });
        progress.apply(&Event::Started { cell: "c".into(), round: 3, attempt: 2, at_us: 5 });
        let begun = progress.begun().unwrap();
        assert_eq!((begun.round, begun.attempt, progress.ended), (3, 2, false));
        progress.apply(&finished(3));
        assert_eq!((progress.begun(), progress.rounds("c")), (None, vec![3]));
    }

    #[test]
    fn times_of_an_earlier_version_are_read() {
        let line = "{\"event\":\"finished\",\"cell\":\"c\",\"round\":0,\"dir\":\"d\",\"status\":\"complete\",\
                    \"load_s\":5.0,\"idle_s\":0.5,\"at_us\":1}";
        let Event::Finished { spent, .. } = serde_json::from_str(line).unwrap() else { unreachable!() };
        assert_eq!((spent.load_s, spent.overhead_s()), (5.0, 0.5));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        std::fs::write(&path, "{\"event\":\"ended\",\"at_us\":1}\nnonsense\n{\"event\":\"ended\",\"at_us\":1}\n")
            .unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
