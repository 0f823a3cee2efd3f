//! Putting the threads' seconds together while the load runs.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use super::client::tally::{Interval, KINDS};
use super::report::{Second, named};
use super::sample::{Hist, Packed};
use super::schedule::{Dues, SECOND};

/// A second that some threads have handed in.
#[derive(Default)]
struct Open {
    threads: usize,
    sent: u64,
    ok: u64,
    failures: [u64; KINDS],
    latency: Hist,
}

/// Collects the seconds of all threads.
pub(super) struct Collector {
    threads: usize,
    /// Back to each thread go its emptied intervals.
    recycle: Vec<Sender<Box<Interval>>>,
    open: BTreeMap<u64, Open>,
    dues: std::iter::Peekable<Dues>,
    warmup: u64,
    duration: u64,
    /// Latency of the whole run.
    pub latency: Hist,
    /// The finished seconds.
    pub timeline: Vec<Second>,
    /// Answers of each thread in each full second.
    pub thread_rates: Vec<u64>,
}

impl Collector {
    pub(super) fn new(recycle: Vec<Sender<Box<Interval>>>, dues: Dues, warmup: u64, duration: u64) -> Self {
        Collector {
            threads: recycle.len(),
            recycle,
            open: BTreeMap::new(),
            dues: dues.peekable(),
            warmup,
            duration,
            latency: Hist::new(),
            timeline: Vec::new(),
            thread_rates: Vec::new(),
        }
    }

    /// Takes one thread's second; gives the second when every thread has handed it in.
    pub(super) fn take(&mut self, thread: usize, interval: Box<Interval>) -> Option<Second> {
        let full = interval.second * SECOND >= self.warmup && (interval.second + 1) * SECOND <= self.duration;
        if full {
            let failed: u64 = interval.failures.iter().sum();
            self.thread_rates.push(interval.ok + failed);
        }
        self.latency.add(&interval.latency);
        let open = self.open.entry(interval.second).or_default();
        open.threads += 1;
        open.sent += interval.sent;
        open.ok += interval.ok;
        for (count, more) in open.failures.iter_mut().zip(interval.failures) {
            *count += more;
        }
        open.latency.add(&interval.latency);
        let number = interval.second;
        let complete = open.threads == self.threads;
        // A thread that has ended takes nothing back.
        self.recycle[thread].send(interval).ok();
        if !complete {
            return None;
        }
        let open = self.open.remove(&number)?;
        Some(self.close(number, open))
    }

    /// The seconds that not all threads reached.
    pub(super) fn rest(&mut self) -> Vec<Second> {
        let open = std::mem::take(&mut self.open);
        open.into_iter().map(|(number, open)| self.close(number, open)).collect()
    }

    fn close(&mut self, number: u64, open: Open) -> Second {
        let end = ((number + 1) * SECOND).min(self.duration);
        let mut due = 0;
        while let Some(instant) = self.dues.next_if(|&instant| instant < end) {
            due += u64::from(instant >= self.warmup);
        }
        Second {
            second: number,
            due,
            sent: open.sent,
            ok: open.ok,
            errors: named(&open.failures),
            latency: Packed::from(&open.latency),
        }
    }
}
