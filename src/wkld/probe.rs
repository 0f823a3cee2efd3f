//! The consistency probe: for some of the writes, when does a reader elsewhere see them?
//!
//! Each probed write goes to a reader of its own, so that no other write disturbs what that reader sees. As soon as the
//! write is answered, a thread of low priority reads with a connection of its own, and again with growing pauses until
//! the write shows or the deadline has passed. The schedule's threads only hand the answered writes over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::client::clock;
use super::response::Capture;
use super::sample::Hist;
use super::source::{Broken, Calls, Draws, Made, Source};

/// First pause between two reads, ns.
const FIRST_PAUSE: u64 = 2_000_000;

/// Longest pause, ns.
const LONGEST_PAUSE: u64 = 200_000_000;

/// What one read showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// The write is there.
    Visible,
    /// It is not listed.
    Absent,
    /// It is listed, but cannot be read.
    Incomplete,
    /// The read itself failed.
    Failed,
}

impl Seen {
    fn as_str(self) -> &'static str {
        match self {
            Seen::Visible => "visible",
            Seen::Absent => "absent",
            Seen::Incomplete => "incomplete",
            Seen::Failed => "failed",
        }
    }
}

/// How to read: given the reader and the write's key, what is seen. Blocks; called from the probe's own thread.
pub type Look = Box<dyn FnMut(u32, &str) -> Seen + Send>;

/// How a write's key is found in its answer.
pub type Key = fn(&[u8]) -> Option<String>;

/// A write that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its reader.
    pub reader: u32,
    /// What names it in a read's answer.
    pub key: String,
    /// When it was answered, ns of the monotonic clock.
    pub answered: u64,
}

/// One probed write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// When the write was answered, us after the first probed one.
    pub written_us: u64,
    /// From there to the first read's being sent, us.
    pub first_read_us: u64,
    /// What the first read showed.
    pub first: Seen,
    /// How many reads there were.
    pub reads: u32,
    /// From the write's answer to the answer of the read that showed it, us; absent when it never showed.
    pub visible_us: Option<u64>,
    /// It cannot have been visible to a reader earlier than this (the last read that missed it was sent then), us.
    pub not_before_us: u64,
}

/// What the probe saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Writes that were probed to an end.
    pub probed: u64,
    /// Writes that were chosen while every reader was taken.
    pub skipped: u64,
    /// First reads that did not show the write.
    pub first_misses: u64,
    /// Of these, reads in which the write was listed but could not be read.
    pub first_incomplete: u64,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Writes that did not show within the deadline.
    pub never: u64,
    /// From the write's answer to the answer of the read that showed it, ns.
    pub visibility: Hist,
    /// Every probed write.
    #[serde(default)]
    pub writes: Vec<Probed>,
}

impl ProbeReport {
    /// Adds what another client's probe saw.
    pub fn merge(&mut self, other: &ProbeReport) {
        self.probed += other.probed;
        self.skipped += other.skipped;
        self.first_misses += other.first_misses;
        self.first_incomplete += other.first_incomplete;
        self.failed_reads += other.failed_reads;
        self.never += other.never;
        self.visibility.add(&other.visibility);
        self.writes.extend_from_slice(&other.writes);
    }

    /// One row per probed write.
    pub fn csv(&self) -> String {
        use std::fmt::Write;
        let mut out = String::from("written_us,first_read_us,first,reads,visible_us,not_before_us\n");
        for w in &self.writes {
            let visible = w.visible_us.map(|us| us.to_string()).unwrap_or_default();
            let (first, reads) = (w.first.as_str(), w.reads);
            // Writing into a string cannot fail.
            writeln!(out, "{},{},{first},{reads},{visible},{}", w.written_us, w.first_read_us, w.not_before_us).ok();
        }
        out
    }
}

/// Readers that are free to take a probed write.
#[derive(Clone, Debug)]
pub struct Readers(Arc<Mutex<Vec<u32>>>);

impl Readers {
    /// The readers 0..n, all free.
    pub fn new(n: u32) -> Self {
        Readers(Arc::new(Mutex::new((0..n).rev().collect())))
    }

    fn take(&self) -> Option<u32> {
        // Never waited for: a reader that cannot be had at once is not had.
        self.0.try_lock().ok()?.pop()
    }

    fn give_back(&self, reader: u32) {
        if let Ok(mut free) = self.0.lock() {
            free.insert(0, reader);
        }
    }
}

/// Makes the body of a probed write for a reader.
pub type FillFor = Arc<dyn Fn(&mut Draws, u32, &mut Vec<u8>) + Send + Sync>;

/// A source that turns a share of the writes into probed ones.
pub struct ProbingSource {
    plain: Calls,
    probed: Calls,
    fraction: f64,
    draws: Draws,
    readers: Readers,
    next_reader: Arc<Mutex<u32>>,
    key: Key,
    found: Sender<Event>,
}

/// What the sending threads tell the probe.
enum Event {
    Written(Written),
    Skipped,
}

/// What every thread's source needs to probe.
#[derive(Clone)]
pub struct Probing {
    /// Share of the writes, 0..1.
    pub fraction: f64,
    /// The readers.
    pub readers: Readers,
    /// How a write's key is found in its answer.
    pub key: Key,
    /// The probed write's body.
    pub fill: FillFor,
    found: Sender<Event>,
}

/// Prepares a probe: what the sources need, and the end at which [`follow`] listens.
pub fn prepare(fraction: f64, readers: u32, key: Key, fill: FillFor) -> (Probing, Listening) {
    let (found, events) = std::sync::mpsc::channel();
    let readers = Readers::new(readers);
    (Probing { fraction, readers: readers.clone(), key, fill, found }, Listening { events, readers })
}

/// The probe's end of the line.
pub struct Listening {
    events: Receiver<Event>,
    readers: Readers,
}

impl ProbingSource {
    /// A source of `plain` writes of which a share is probed. `call` is the write with a body of its own to fill.
    pub fn new(plain: Calls, call: super::source::Call, probing: &Probing, seed: u64) -> Self {
        let next_reader = Arc::new(Mutex::new(0));
        let (slot, fill) = (Arc::clone(&next_reader), Arc::clone(&probing.fill));
        let filled = super::source::Call {
            fill: Arc::new(move |draws, _, out| {
                let reader = slot.lock().map(|reader| *reader).unwrap_or_default();
                fill(draws, reader, out);
                u64::from(reader)
            }),
            ..call
        };
        ProbingSource {
            plain,
            probed: Calls::new(filled, None, !seed),
            fraction: probing.fraction,
            draws: Draws::seed_from_u64(seed.rotate_left(17)),
            readers: probing.readers.clone(),
            next_reader,
            key: probing.key,
            found: probing.found.clone(),
        }
    }
}

impl Source for ProbingSource {
    fn make(&mut self, out: &mut Vec<u8>) -> Result<Made, Broken> {
        if self.draws.random::<f64>() >= self.fraction {
            return self.plain.make(out);
        }
        let Some(reader) = self.readers.take() else {
            // The probe outlives the sources; if it has gone, nobody counts.
            self.found.send(Event::Skipped).ok();
            return self.plain.make(out);
        };
        if let Ok(mut slot) = self.next_reader.lock() {
            *slot = reader;
        }
        let made = self.probed.make(out)?;
        Ok(Made { tag: u64::from(reader) + 1, ..made })
    }

    fn answered(&mut self, status: u16, answer: &Capture, tag: u64, now: u64) -> Result<(), Broken> {
        let Some(reader) = tag.checked_sub(1) else { return Ok(()) };
        let reader = reader as u32;
        match (self.key)(&answer.body).filter(|_| (200..300).contains(&status)) {
            Some(key) => {
                // As above.
                self.found.send(Event::Written(Written { reader, key, answered: now })).ok();
            }
            None => self.readers.give_back(reader),
        }
        Ok(())
    }
}

/// A write whose visibility is not known yet.
struct Pending {
    written: Written,
    next: u64,
    pause: u64,
    first: Option<(Seen, u64)>,
    reads: u32,
    not_before: u64,
}

/// Follows every written key with `look` until it shows or `deadline` (ns after its answer) has passed. Returns when all
/// sources are gone and nothing is pending.
pub fn follow(listening: Listening, mut look: Look, deadline: u64) -> ProbeReport {
    // Best effort: the probe gives way to the schedule's threads.
    rustix::process::nice(10).ok();
    let Listening { events, readers } = listening;
    let mut report = ProbeReport::default();
    let mut pending: Vec<Option<Pending>> = Vec::new();
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut origin = None;
    let mut open = true;
    while open || !due.is_empty() {
        let wait = due.peek().map_or(LONGEST_PAUSE, |Reverse((at, _))| at.saturating_sub(clock()));
        match events.recv_timeout(Duration::from_nanos(wait)) {
            Ok(Event::Written(written)) => {
                origin.get_or_insert(written.answered);
                due.push(Reverse((written.answered, pending.len())));
                let not_before = 0;
                pending.push(Some(Pending { written, next: 0, pause: FIRST_PAUSE, first: None, reads: 0, not_before }));
                continue;
            }
            Ok(Event::Skipped) => {
                report.skipped += 1;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => {
                if open && wait > 0 && !due.is_empty() {
                    std::thread::sleep(Duration::from_nanos(wait));
                }
                open = false;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = clock();
        let Some(&Reverse((at, index))) = due.peek() else { continue };
        if at > now {
            if !open {
                std::thread::sleep(Duration::from_nanos(at - now));
            }
            continue;
        }
        due.pop();
        let Some(Some(one)) = pending.get_mut(index) else { continue };
        match read_once(one, &mut look, deadline, &mut report) {
            Some(next) => due.push(Reverse((next, index))),
            None => {
                if let Some(one) = pending[index].take() {
                    readers.give_back(one.written.reader);
                    conclude(&one, origin.unwrap_or_default(), &mut report);
                }
            }
        }
    }
    report
}

/// One read; when the next one is due, none when it is over.
fn read_once(one: &mut Pending, look: &mut Look, deadline: u64, report: &mut ProbeReport) -> Option<u64> {
    let sent = clock();
    let seen = look(one.written.reader, &one.written.key);
    let answered = clock();
    one.reads += 1;
    one.first.get_or_insert((seen, sent));
    match seen {
        Seen::Visible => {
            one.next = answered;
            return None;
        }
        Seen::Failed => report.failed_reads += 1,
        Seen::Absent | Seen::Incomplete => one.not_before = sent.saturating_sub(one.written.answered),
    }
    if answered >= one.written.answered + deadline {
        return None;
    }
    let next = answered + one.pause;
    one.pause = (one.pause * 3 / 2).min(LONGEST_PAUSE);
    Some(next)
}

fn conclude(one: &Pending, origin: u64, report: &mut ProbeReport) {
    let answered = one.written.answered;
    let visible = (one.next > 0).then(|| one.next.saturating_sub(answered));
    let Some((first, sent)) = one.first else { return };
    report.probed += 1;
    report.first_misses += u64::from(matches!(first, Seen::Absent | Seen::Incomplete));
    report.first_incomplete += u64::from(first == Seen::Incomplete);
    match visible {
        Some(ns) => report.visibility.record(ns),
        None => report.never += 1,
    }
    report.writes.push(Probed {
        written_us: answered.saturating_sub(origin) / 1000,
        first_read_us: sent.saturating_sub(answered) / 1000,
        first,
        reads: one.reads,
        visible_us: visible.map(|ns| ns / 1000),
        not_before_us: one.not_before / 1000,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_write_is_read_until_it_shows() {
        let (probing, listening) = prepare(1.0, 2, |_| None, Arc::new(|_, _, _| {}));
        let reads = AtomicU32::new(0);
        let answers = [Seen::Absent, Seen::Incomplete, Seen::Failed, Seen::Visible];
        let look: Look =
            Box::new(
                move |_, key| {
                    if key == "b" { Seen::Visible } else { answers[reads.fetch_add(1, Ordering::Relaxed) as usize] }
                },
            );
        for (reader, key) in [(0, "a"), (1, "b")] {
            let written = Written { reader, key: key.into(), answered: clock() };
            probing.found.send(Event::Written(written)).unwrap();
        }
        probing.found.send(Event::Skipped).unwrap();
        drop(probing);
        let report = follow(listening, look, 60_000_000_000);
        assert_eq!((report.probed, report.skipped, report.first_misses, report.failed_reads), (2, 1, 1, 1));
        assert_eq!((report.never, report.visibility.count()), (0, 2));
        let a = report.writes.iter().find(|w| w.reads == 4).unwrap();
        assert!(a.visible_us.unwrap() > a.not_before_us && a.first == Seen::Absent);
    }

    #[test]
    fn the_deadline_ends_it() {
        let (probing, listening) = prepare(1.0, 1, |_| None, Arc::new(|_, _, _| {}));
        let written = Written { reader: 0, key: "a".into(), answered: clock() };
        probing.found.send(Event::Written(written)).unwrap();
        drop(probing);
        let report = follow(listening, Box::new(|_, _| Seen::Absent), 10_000_000);
        assert_eq!((report.probed, report.never, report.first_misses), (1, 1, 1));
        assert!(report.csv().lines().nth(1).unwrap().contains(",absent,"));
    }
}
