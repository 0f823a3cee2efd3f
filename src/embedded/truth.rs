//! The ground truth: what happened to each post, on one monotonic clock, to hold a measurement against.
//!
//! ```text
//! post_id;trace_id;written_us;visible_us;queued_us;delivered_us;read_us;found
//! ```
//! Instants are us since the epoch. A row is written once all of it is known: `written` durable at the origin,
//! `visible` applied at the replica, `queued` after the publish, `delivered` to a consumer, `read` just before the
//! replica was asked, `found` what it answered.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first line of the log.
pub const HEADER: &str = "post_id;trace_id;written_us;visible_us;queued_us;delivered_us;read_us;found";

/// The log's name inside the deployment directory.
pub const FILE: &str = "truth.csv";

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    trace_id: u64,
    written_us: u64,
    visible_us: Option<u64>,
    queued_us: Option<u64>,
    handled: Option<Handled>,
}

/// What a consumer saw of a notification.
#[derive(Clone, Copy, Debug)]
pub struct Handled {
    /// Given to the consumer, us since the epoch.
    pub delivered_us: u64,
    /// Just before the replica was asked.
    pub read_us: u64,
    /// Whether it had the post.
    pub found: bool,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<i64, Row>,
    out: Option<File>,
    rows: u64,
    failed: Option<String>,
}

/// The log and the rows that are not complete yet.
#[derive(Debug, Default)]
pub struct Truth {
    state: Mutex<State>,
}

impl Truth {
    /// A log in the file `path`, which is made anew.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut out = File::create(path)?;
        writeln!(out, "{HEADER}")?;
        Ok(Truth { state: Mutex::new(State { out: Some(out), ..State::default() }) })
    }

    /// A log that is only counted.
    pub fn nowhere() -> Self {
        Truth::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a post's row before it is written, so that nothing that follows can come too early.
    pub fn begin(&self, post_id: i64, trace_id: u64) {
        self.state().pending.insert(post_id, Row { trace_id, ..Row::default() });
    }

    /// The post is durable at the origin.
    pub fn written(&self, post_id: i64, us: u64) {
        self.update(post_id, |row| row.written_us = us);
    }

    /// The post is visible at the replica.
    pub fn visible(&self, post_id: i64, us: u64) {
        self.update(post_id, |row| row.visible_us = Some(us));
    }

    /// Its notification is published.
    pub fn queued(&self, post_id: i64, us: u64) {
        self.update(post_id, |row| row.queued_us = Some(us));
    }

    /// Its notification is handled.
    pub fn handled(&self, post_id: i64, handled: Handled) {
        self.update(post_id, |row| row.handled = Some(handled));
    }

    /// Its notification got lost, or the post was never stored: there will be no row.
    pub fn forget(&self, post_id: i64) {
        self.state().pending.remove(&post_id);
    }

    /// Rows written, and why writing stopped if it did.
    pub fn status(&self) -> (u64, Option<String>) {
        let state = self.state();
        (state.rows, state.failed.clone())
    }

    fn update(&self, post_id: i64, change: impl FnOnce(&mut Row)) {
        let mut state = self.state();
        let Some(row) = state.pending.get_mut(&post_id) else { return };
        change(row);
        if let Row { trace_id, written_us, visible_us: Some(visible), queued_us: Some(queued), handled: Some(h) } = *row
        {
            state.pending.remove(&post_id);
            let Handled { delivered_us, read_us, found } = h;
            let line =
                format!("{post_id};{trace_id:016x};{written_us};{visible};{queued};{delivered_us};{read_us};{found}\n");
            state.write(&line);
        }
    }
}

impl State {
    fn write(&mut self, line: &str) {
        let Some(out) = &mut self.out else {
            self.rows += 1;
            return;
        };
        match out.write_all(line.as_bytes()) {
            Ok(()) => self.rows += 1,
            // A full disk must not stop the service; `status` tells.
            Err(error) => {
                self.failed = Some(error.to_string());
                self.out = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_when_all_of_it_is_known_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let truth = Truth::create(&path).unwrap();
        truth.begin(1, 0xab);
        truth.written(1, 10);
        truth.handled(1, Handled { delivered_us: 30, read_us: 31, found: false });
        truth.queued(1, 12);
        assert_eq!(truth.status().0, 0);
        truth.visible(1, 50);
        truth.visible(2, 50);
        truth.begin(3, 1);
        truth.forget(3);
        truth.visible(3, 4);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, format!("{HEADER}\n1;00000000000000ab;10;50;12;30;31;false\n"));
    }
}
