//! From a due request to bytes on a connection.

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::conn::{Conn, Job, Phase, open};
use super::tally::Failure;
use super::{Engine, Follow, Head, Parked, clock};

/// At most this many requests wait outside the schedule because their host is busy while another's may be free.
const PARKED_LIMIT: usize = 1024;

/// What writing led to.
enum Written {
    All,
    Some(usize),
    Broken,
}

impl Engine<'_> {
    /// Sends what is due as far as connections are free.
    pub(super) fn send_due(&mut self) {
        while let Some(&follow) = self.follows.front() {
            if !self.send_follow(follow) {
                break;
            }
            self.follows.pop_front();
        }
        if !self.parked.is_empty() {
            self.send_parked();
        }
        if !self.delayed.is_empty() {
            self.send_delayed();
        }
        while let Some(head) = self.head
            && head.due <= self.sends_up_to()
        {
            let pool = head.made.host;
            if head.aside {
                // Its request waits in `delayed`.
            } else if head.made.depth == 0 {
                self.nothing_to_send(head);
            } else if let Some(id) = self.take(pool) {
                let bytes = std::mem::take(&mut self.prepared);
                self.send(id, head, &bytes);
                self.prepared = bytes;
            } else if self.pools.len() > 1 && self.parked.len() < PARKED_LIMIT {
                self.parked.push_back(Parked { head, bytes: self.prepared.clone() });
            } else {
                return;
            }
            self.make_next();
        }
    }

    /// The script had no request for this instant.
    fn nothing_to_send(&mut self, head: Head) {
        let measured = head.due >= self.warm;
        let job = Job { due: head.due, ready: head.due, pending: 1, measured, ..Job::default() };
        self.totals.counts.due += u64::from(measured);
        self.count_failure(&job, Failure::Script, 1);
    }

    /// Sends what a script held back and is due now.
    fn send_delayed(&mut self) {
        let up_to = self.sends_up_to();
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > up_to {
                return;
            }
            let parked = entry.remove();
            match self.take(parked.head.made.host) {
                Some(id) => self.send(id, parked.head, &parked.bytes),
                None => self.parked.push_back(parked),
            }
        }
    }

    /// Whether a request to the host could be sent at once.
    pub(super) fn can_send(&self, pool: usize) -> bool {
        let full = self.pools[pool].places >= self.share.max_connections;
        self.pools[pool].is_free() || !full || (self.pools.len() > 1 && self.parked.len() < PARKED_LIMIT)
    }

    /// A free connection to the host, or a place for a new one.
    fn take(&mut self, pool: usize) -> Option<u32> {
        if let Some(id) = self.pools[pool].take() {
            return Some(id);
        }
        if self.pools[pool].places >= self.share.max_connections {
            return None;
        }
        self.pools[pool].places += 1;
        self.conns.push(Conn::new(pool));
        Some(self.conns.len() as u32 - 1)
    }

    /// Makes the next request of the schedule ahead of its time.
    pub(super) fn make_next(&mut self) {
        let due = self.share.dues.next().map(|due| self.start + due).filter(|&due| due < self.end);
        let Some(due) = due else {
            self.head = None;
            return;
        };
        if self.fixed
            && let Some(head) = &mut self.head
        {
            head.due = due;
            return;
        }
        self.prepared.clear();
        match self.share.source.make(&mut self.prepared) {
            Ok(made) => {
                while made.host >= self.pools.len() {
                    self.add_pool(self.pools.len());
                }
                let head = Head { due: due + made.delay_ns, made, aside: false };
                if made.delay_ns == 0 || made.depth == 0 {
                    self.head = Some(head);
                    return;
                }
                // It is due later than the requests after it may be, so it waits aside; an empty head at its scheduled
                // instant makes the next one then.
                let parked = Parked { head, bytes: self.prepared.clone() };
                self.delayed.insert((head.due, self.delayed_count), parked);
                self.delayed_count += 1;
                self.head = Some(Head { due, made, aside: true });
            }
            Err(broken) => self.break_off(broken),
        }
    }

    /// The script failed: nothing more is sent, what was measured is kept.
    pub(super) fn break_off(&mut self, broken: super::Broken) {
        self.head = None;
        self.end = self.end.min(self.now);
        self.broken.get_or_insert(broken.0);
    }

    fn send_parked(&mut self) {
        for _ in 0..self.parked.len() {
            let Some(parked) = self.parked.pop_front() else { return };
            match self.take(parked.head.made.host) {
                Some(id) => self.send(id, parked.head, &parked.bytes),
                None => self.parked.push_back(parked),
            }
        }
    }

    fn send_follow(&mut self, follow: Follow) -> bool {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let sent = match self.share.source.follow(follow.key, &mut bytes) {
            Ok(made) => match self.take(made.host) {
                Some(id) => {
                    let Follow { due, ready, measured, .. } = follow;
                    let job = Job { due, ready, measured, second: true, pending: 1, ..Job::default() };
                    self.begin(id, job, &bytes);
                    true
                }
                None => false,
            },
            Err(broken) => {
                self.break_off(broken);
                true
            }
        };
        self.scratch = bytes;
        sent
    }

    /// Puts a request of the schedule on connection `id`.
    fn send(&mut self, id: u32, head: Head, bytes: &[u8]) {
        let job = Job {
            due: head.due,
            ready: head.due,
            sent: 0,
            pending: head.made.depth,
            measured: head.due >= self.warm,
            second: false,
            no_body: head.made.no_body,
            then: head.made.then,
            tag: head.made.tag,
        };
        self.begin(id, job, bytes);
    }

    fn begin(&mut self, id: u32, mut job: Job, bytes: &[u8]) {
        let sent = clock();
        self.now = sent;
        job.sent = sent;
        if !job.second {
            self.note_lag(&job, self.conns[id as usize].pool);
        }
        self.active += 1;
        let conn = &mut self.conns[id as usize];
        conn.job = job;
        conn.response.reset(job.no_body);
        if conn.phase == Phase::Closed {
            conn.queued.extend_from_slice(bytes);
            self.open(id, true);
        } else {
            self.put(id, bytes);
        }
    }

    /// Splits a request's lateness into the wait for a connection and the client's own.
    fn note_lag(&mut self, job: &Job, pool: usize) {
        if !job.measured {
            self.totals.counts.warmup_requests += u64::from(job.pending);
            return;
        }
        let lag = job.sent.saturating_sub(job.due);
        let busy = self.pools[pool].free_since.min(job.sent).saturating_sub(job.due);
        // While the client was stalled it could not have used a connection that came free.
        let stalled = self.stall.1.min(job.sent).saturating_sub(self.stall.0.max(job.due));
        let late = (lag - busy).max(stalled);
        let totals = &mut self.totals;
        totals.counts.due += u64::from(job.pending);
        totals.hist.lag.record(lag);
        // Mostly one of the two parts is 0; the zeros are entered together at the end.
        if late > 0 {
            totals.hist.lag_woke_late.record(late);
        }
        if lag > late {
            totals.hist.lag_no_free_connection.record(lag - late);
        }
        totals.counts.waited += u64::from(busy > 0);
    }

    /// Writes a request on an open connection.
    fn put(&mut self, id: u32, bytes: &[u8]) {
        let conn = &mut self.conns[id as usize];
        conn.phase = Phase::Busy;
        if conn.job.measured {
            self.totals.counts.sent += u64::from(conn.job.pending);
            self.interval.sent += u64::from(conn.job.pending);
        }
        if let Some(tls) = &mut conn.tls {
            use std::io::Write;
            // The plain side of a TLS connection is memory; what is left over is a protocol's end.
            if tls.writer().write_all(bytes).is_err() {
                return self.fail(id, Failure::Write);
            }
            return self.flush_tls(id);
        }
        match write(conn, bytes) {
            Written::All => {}
            Written::Some(n) => {
                conn.out.extend_from_slice(&bytes[n..]);
                self.want_write(id, true);
            }
            Written::Broken => self.fail(id, Failure::Write),
        }
    }

    /// Moves what TLS has to say to the socket.
    pub(super) fn flush_tls(&mut self, id: u32) {
        let conn = &mut self.conns[id as usize];
        let Some(tls) = &mut conn.tls else { return };
        while tls.wants_write() {
            if tls.write_tls(&mut conn.out).is_err() {
                return self.fail(id, Failure::Tls);
            }
        }
        self.flush(id);
    }

    /// Writes what is left over.
    pub(super) fn flush(&mut self, id: u32) {
        let conn = &mut self.conns[id as usize];
        if conn.out.is_empty() {
            return;
        }
        let out = std::mem::take(&mut conn.out);
        let written = write(conn, &out[conn.out_at..]);
        conn.out = out;
        match written {
            Written::All => {
                conn.out.clear();
                conn.out_at = 0;
                self.want_write(id, false);
            }
            Written::Some(n) => {
                conn.out_at += n;
                self.want_write(id, true);
            }
            Written::Broken => self.fail(id, Failure::Write),
        }
    }

    pub(super) fn want_write(&mut self, id: u32, wanted: bool) {
        let conn = &mut self.conns[id as usize];
        if conn.wants_write == wanted {
            return;
        }
        conn.wants_write = wanted;
        let data = event_data(id, conn.generation);
        if let Some(fd) = &conn.fd
            && epoll::modify(&self.epoll, fd, data, interest(wanted)).is_err()
        {
            self.fail(id, Failure::Write);
        }
    }

    /// Begins to open connection `id`; `busy` when a request waits for it.
    pub(super) fn open(&mut self, id: u32, busy: bool) {
        let conn = &mut self.conns[id as usize];
        conn.phase = Phase::Opening { busy };
        conn.opened_at = clock();
        conn.generation = conn.generation.wrapping_add(1);
        let pool = &mut self.pools[conn.pool];
        let found = self.shared.hosts.get(pool.host).or_else(|| self.share.source.host(pool.host));
        let own = self.share.source.address().filter(|_| pool.host == 0);
        let looked_up = found.and_then(|host| host.addresses.get(pool.address % host.addresses.len().max(1)).copied());
        let Some(address) = own.or(looked_up) else { return self.fail(id, Failure::Dns) };
        let opened = open(&address).and_then(|fd| {
            let data = event_data(id, conn.generation);
            epoll::add(&self.epoll, &fd, data, interest(true)).map_err(|_| Failure::Connect)?;
            conn.wants_write = true;
            Ok(fd)
        });
        match opened {
            Ok(fd) => conn.fd = Some(fd),
            Err(kind) => {
                pool.address += 1;
                self.fail(id, kind);
            }
        }
    }

    /// A connection is open (and has shaken hands): it takes the request that waits for it, or is free.
    pub(super) fn opened(&mut self, id: u32) {
        let now = self.now;
        let conn = &mut self.conns[id as usize];
        self.totals.hist.connect.record(now.saturating_sub(conn.opened_at));
        if conn.phase == (Phase::Opening { busy: true }) {
            let bytes = std::mem::take(&mut conn.queued);
            self.totals.counts.reopened += 1;
            self.put(id, &bytes);
            let conn = &mut self.conns[id as usize];
            conn.queued = bytes;
            conn.queued.clear();
        } else {
            self.release(id);
        }
    }

    /// The connection is free for another request.
    pub(super) fn release(&mut self, id: u32) {
        let conn = &mut self.conns[id as usize];
        conn.phase = Phase::Idle;
        let pool = &mut self.pools[conn.pool];
        if !pool.is_free() {
            pool.free_since = self.now;
        }
        pool.idle.push(id);
    }
}

/// What an event carries: the connection's index and its socket's generation.
fn event_data(id: u32, generation: u32) -> epoll::EventData {
    epoll::EventData::new_u64((u64::from(generation) << 32) | u64::from(id))
}

fn interest(write: bool) -> epoll::EventFlags {
    if write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}

fn write(conn: &Conn, bytes: &[u8]) -> Written {
    let Some(fd) = &conn.fd else { return Written::Broken };
    let mut at = 0;
    loop {
        match rustix::net::send(fd, &bytes[at..], SendFlags::NOSIGNAL) {
            Ok(n) if at + n == bytes.len() => return Written::All,
            Ok(n) => at += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Written::Some(at),
            Err(_) => return Written::Broken,
        }
    }
}
