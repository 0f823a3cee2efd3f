//! The only module that prints. Results go to stdout, everything about the work itself to stderr.
//!
//! `-q` silences notes and progress, `-v` adds detail; warnings and errors always appear. A closed pipe
//! (`maestro info | head`) ends the output without a message.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicI8, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;

static LEVEL: AtomicI8 = AtomicI8::new(0);

/// Sets how much is said: -1 quiet, 0 normal, 1 and more verbose.
pub fn set_level(level: i8) {
    LEVEL.store(level, Ordering::Relaxed);
}

fn level() -> i8 {
    LEVEL.load(Ordering::Relaxed)
}

/// Silences notes until dropped, for commands that are steps of a longer story. `-v` keeps them.
pub fn hush() -> Hush {
    let before = level();
    if before == 0 {
        set_level(-1);
    }
    Hush { before }
}

/// Restores the level that [`hush`] found.
pub struct Hush {
    before: i8,
}

impl Drop for Hush {
    fn drop(&mut self) {
        set_level(self.before);
    }
}

/// A result: one line on stdout.
pub fn out(line: impl Display) {
    write_line(&mut io::stdout().lock(), &line);
}

/// A result that already has its line ends, on stdout.
pub fn out_raw(text: impl AsRef<[u8]>) {
    let mut stdout = io::stdout().lock();
    if stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()).is_err() {
        // The reader has gone: there is nobody left to tell.
    }
}

/// What maestro is doing: one line on stderr, silent with `-q`.
pub fn note(line: impl Display) {
    if level() >= 0 {
        write_line(&mut io::stderr().lock(), &line);
    }
}

/// Detail for `-v`.
pub fn detail(line: impl Display) {
    if level() >= 1 {
        write_line(&mut io::stderr().lock(), &line);
    }
}

/// Something the person should know although the command goes on.
pub fn warn(line: impl Display) {
    write_line(&mut io::stderr().lock(), &format_args!("warning: {line}"));
}

/// The one line a failed command ends with, and its hint below.
pub fn error(error: &Error) {
    let mut stderr = io::stderr().lock();
    write_line(&mut stderr, &format_args!("maestro: {}", error.line()));
    if let Some(hint) = error.hint() {
        write_line(&mut stderr, &format_args!("  {hint}"));
    }
}

fn write_line(to: &mut dyn Write, line: &dyn Display) {
    if writeln!(to, "{line}").is_err() {
        // As in `out_raw`.
    }
}

/// A line of a service's log, or of a host's output, on stdout; on a terminal each service (told apart by `number`) has
/// a colour of its own.
pub fn service_line(number: usize, service: &str, text: &str) {
    out(format_args!("{} {text}", prefix(number, service, io::stdout().is_terminal())));
}

/// The same on stderr.
pub fn service_aside(number: usize, service: &str, text: &str) {
    let prefix = prefix(number, service, io::stderr().is_terminal());
    write_line(&mut io::stderr().lock(), &format_args!("{prefix} {text}"));
}

fn prefix(number: usize, service: &str, coloured: bool) -> String {
    const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
    if coloured {
        format!("\x1b[{}m{service} |\x1b[0m", COLOURS[number % COLOURS.len()])
    } else {
        format!("{service} |")
    }
}

/// Asks `question` on the terminal; false without a terminal to ask on.
pub fn confirm(question: &str) -> bool {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    let mut stderr = io::stderr().lock();
    if write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Progress of something with a known length: a bar on a terminal, a plain line now and then elsewhere.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    last: std::sync::Mutex<Option<std::time::Instant>>,
}

/// How often progress is written where stderr is not a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// A bar of `length` units with `what` in front of it.
    pub fn new(what: &str, length: u64) -> Self {
        let terminal = io::stderr().is_terminal() && level() >= 0;
        let bar = ProgressBar::with_draw_target(
            Some(length),
            if terminal { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() },
        );
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Progress { bar, plain: !terminal && level() >= 0, last: std::sync::Mutex::new(None) }
    }

    /// Shows `position` (same unit as the length) and a short `message`.
    pub fn set(&self, position: u64, message: &str) {
        self.bar.set_position(position);
        self.bar.set_message(message.to_owned());
        if self.plain && self.plain_due() {
            note(format_args!("{} {}/{}  {}", self.bar.prefix(), position, self.bar.length().unwrap_or(0), message));
        }
    }

    /// As [`Progress::set`], where only the way shows how long it is.
    pub fn of(&self, position: u64, length: u64, message: &str) {
        self.bar.set_length(length);
        self.set(position, message);
    }

    fn plain_due(&self) -> bool {
        let Ok(mut last) = self.last.lock() else { return false };
        let now = std::time::Instant::now();
        let due = last.is_none_or(|then| now.duration_since(then) >= PLAIN_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// "1 host", "2 hosts": so that no message says "1 hosts".
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A table with aligned columns; the first row is the header. Numbers (cells that parse as such) align right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric = |c: usize| {
        rows.len() > 1
            && rows
                .iter()
                .skip(1)
                .filter_map(|r| r.get(c))
                .all(|s| s.is_empty() || s.starts_with(|ch: char| ch.is_ascii_digit() || ch == '-' || ch == '+'))
    };
    let right: Vec<bool> = (0..columns).map(numeric).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            let gap = if c == 0 { "" } else { "  " };
            line.push_str(gap);
            line.push_str(&if right[c] { format!("{pad}{cell}") } else { format!("{cell}{pad}") });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_numbers_right_and_words_left() {
        let rows = vec![
            vec!["pair".to_owned(), "rate".to_owned()],
            vec!["us-eu".to_owned(), "50".to_owned()],
            vec!["us-singapore".to_owned(), "160".to_owned()],
        ];
        assert_eq!(table(&rows), "pair          rate\nus-eu           50\nus-singapore   160\n");
    }

    #[test]
    fn nouns_agree_with_their_number() {
        assert_eq!(count(1, "host"), "1 host");
        assert_eq!(count(3, "host"), "3 hosts");
    }
}
