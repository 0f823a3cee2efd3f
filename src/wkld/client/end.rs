//! Before the first request and after the last: opening connections, and what has no end when the drain is over.

use super::conn::Phase;
use super::{EVENTS, Ended, Engine, SECOND, clock, take_events};

/// How many connections are being opened at the same time.
const OPENING_AT_ONCE: usize = 256;

impl Engine<'_> {
    /// Opens all connections before the load starts, within `limit` ns. Returns how many are open.
    pub(in crate::wkld) fn open_all(&mut self, limit: u64) -> usize {
        let deadline = clock() + limit;
        let mut waiting: Vec<u32> = (0..self.conns.len() as u32).rev().collect();
        for pool in &mut self.pools {
            pool.closed.clear();
        }
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let opening = self.conns.iter().filter(|conn| matches!(conn.phase, Phase::Opening { .. })).count();
            for _ in opening..OPENING_AT_ONCE {
                let Some(id) = waiting.pop() else { break };
                self.open(id, false);
            }
            let opening = self.conns.iter().any(|conn| matches!(conn.phase, Phase::Opening { .. }));
            self.now = clock();
            if !opening && waiting.is_empty() || self.now >= deadline {
                break;
            }
            events.clear();
            take_events(&self.epoll, &mut events, Some((deadline - self.now).min(SECOND / 10)));
            self.now = clock();
            for event in &events {
                self.handle(event.data.u64(), event.flags);
            }
        }
        for id in waiting {
            let pool = self.conns[id as usize].pool;
            self.pools[pool].closed.push(id);
        }
        self.conns.iter().filter(|conn| conn.phase == Phase::Idle).count()
    }

    /// Enters what has no end as lower bounds, and hands everything over.
    pub(super) fn finish(mut self) -> Ended {
        self.now = clock();
        let now = self.now;
        let age = |ready: u64| now.saturating_sub(ready);
        for conn in &self.conns {
            if matches!(conn.phase, Phase::Busy | Phase::Opening { busy: true }) && conn.job.measured {
                self.totals.counts.unanswered += u64::from(conn.job.pending);
                self.totals.hist.unfinished.record_n(age(conn.job.ready), u64::from(conn.job.pending));
            }
        }
        for follow in self.follows.drain(..).filter(|follow| follow.measured) {
            self.totals.counts.unsent += 1;
            self.totals.hist.unfinished.record(age(follow.ready));
        }
        let delayed = std::mem::take(&mut self.delayed);
        let parked = self.parked.drain(..).chain(delayed.into_values()).map(|parked| parked.head.due);
        let head = self.head.filter(|head| !head.aside).map(|head| head.due);
        let rest: Vec<u64> = parked.chain(head).collect();
        let (start, end, warm) = (self.start, self.end, self.warm);
        let never_made = self.share.dues.by_ref().map(|due| start + due);
        let unsent = rest.into_iter().chain(never_made.take_while(|&due| due < end)).filter(|&due| due >= warm);
        let unsent = self.totals.hist.unfinished.record_all(unsent.map(age));
        self.totals.counts.due += unsent;
        self.totals.counts.unsent += unsent;
        self.totals.covered_ns = end.saturating_sub(warm);
        let hist = &mut self.totals.hist;
        for part in [&mut hist.lag_woke_late, &mut hist.lag_no_free_connection] {
            part.record_n(0, hist.lag.count() - part.count());
        }
        while now >= self.interval_end {
            self.turn_interval();
        }
        self.turn_interval();
        Ended { totals: self.totals, broken: self.broken }
    }
}
