//! From an event to an answer that is counted.

use std::io::Read;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};
use rustls::ClientConnection;
use rustls_pki_types::ServerName;

use super::conn::{Job, Phase};
use super::tally::Failure;
use super::{Engine, Follow};
use crate::wkld::response::{Capture, Fed, Malformed};

impl Engine<'_> {
    /// Something happened on a socket.
    pub(super) fn handle(&mut self, data: u64, flags: EventFlags) {
        let (id, generation) = (data as u32, (data >> 32) as u32);
        let Some(conn) = self.conns.get(id as usize) else { return };
        if conn.generation != generation || conn.fd.is_none() {
            return;
        }
        if matches!(conn.phase, Phase::Opening { .. }) && conn.tls.is_none() {
            self.connected(id, flags);
        } else {
            if flags.contains(EventFlags::OUT) {
                self.flush(id);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.receive(id);
            }
        }
        // A connection that came free takes the request that has waited longest.
        if self.head.is_some_and(|head| head.due <= self.sends_up_to()) || !self.follows.is_empty() {
            self.send_due();
        }
    }

    /// The TCP connection is there, or is not to be had.
    fn connected(&mut self, id: u32, flags: EventFlags) {
        if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            return;
        }
        let conn = &mut self.conns[id as usize];
        let Some(fd) = &conn.fd else { return };
        let pool = &mut self.pools[conn.pool];
        if !matches!(sockopt::socket_error(fd), Ok(Ok(()))) {
            pool.address += 1;
            return self.fail(id, Failure::Connect);
        }
        let host = self.shared.hosts.get(pool.host).or_else(|| self.share.source.host(pool.host));
        let Some((name, config)) = host.and_then(|host| Some((host.name.clone(), host.tls.clone()?))) else {
            self.flush_interest(id);
            return self.opened(id);
        };
        let session = ServerName::try_from(name).ok().and_then(|name| ClientConnection::new(config, name).ok());
        match session {
            Some(session) => {
                conn.tls = Some(Box::new(session));
                self.flush_tls(id);
                self.flush_interest(id);
            }
            None => self.fail(id, Failure::Tls),
        }
    }

    /// After opening, a writable socket is of interest only while something is left to write.
    fn flush_interest(&mut self, id: u32) {
        if self.conns[id as usize].out.is_empty() {
            self.want_write(id, false);
        }
    }

    /// Reads what has come.
    fn receive(&mut self, id: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let conn = &mut self.conns[id as usize];
            let Some(fd) = &conn.fd else { break };
            match rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n) {
                Ok(0) => {
                    self.closed_by_peer(id);
                    break;
                }
                Ok(n) => {
                    if self.now >= self.warm {
                        self.totals.counts.bytes += n as u64;
                    }
                    if self.conns[id as usize].tls.is_some() {
                        self.decrypt(id, &buffer[..n]);
                    } else {
                        self.consume(id, &buffer[..n]);
                    }
                    if n < buffer.len() {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.fail_unless_idle(id, Failure::Read);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Bytes of a response (or of several).
    fn consume(&mut self, id: u32, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let conn = &mut self.conns[id as usize];
            if conn.phase != Phase::Busy {
                // Nothing was asked: what has come belongs to no request.
                return self.fail_unless_idle(id, Failure::Protocol);
            }
            let capture = if self.listens || conn.job.tag != 0 {
                Some(&mut **conn.capture.get_or_insert_default())
            } else {
                None
            };
            match conn.response.feed(&bytes[at..], capture) {
                Ok(Fed::More) => return,
                Ok(Fed::Done(used)) => {
                    at += used;
                    if at < bytes.len() && conn.job.pending == 1 {
                        // More came than was announced: the answer cannot be trusted.
                        return self.fail(id, Failure::Protocol);
                    }
                    self.complete(id);
                }
                Err(Malformed::Cut) => return self.fail(id, Failure::Read),
                Err(_) => return self.fail(id, Failure::Protocol),
            }
        }
    }

    /// TLS records: plain bytes, or the rest of the handshake.
    fn decrypt(&mut self, id: u32, mut sealed: &[u8]) {
        let mut plain = std::mem::take(&mut self.scratch);
        while !sealed.is_empty() {
            let conn = &mut self.conns[id as usize];
            let Some(tls) = &mut conn.tls else { break };
            let shaking = tls.is_handshaking();
            let processed = match tls.read_tls(&mut sealed) {
                Ok(_) => tls.process_new_packets().is_ok(),
                Err(_) => false,
            };
            if !processed {
                self.fail_unless_idle(id, Failure::Tls);
                break;
            }
            plain.clear();
            // Ends with "would block" once the plain bytes at hand are taken, or with the peer's goodbye.
            tls.reader().read_to_end(&mut plain).ok();
            let ready = shaking && !tls.is_handshaking();
            self.flush_tls(id);
            if ready && matches!(self.conns[id as usize].phase, Phase::Opening { .. }) {
                self.opened(id);
            }
            if !plain.is_empty() {
                self.consume(id, &plain);
            }
        }
        self.scratch = plain;
    }

    /// A response is complete.
    fn complete(&mut self, id: u32) {
        let now = self.now;
        let conn = &mut self.conns[id as usize];
        let (status, keep_alive) = (conn.response.status(), conn.response.keep_alive());
        let job = conn.job;
        conn.job.pending -= 1;
        let last = conn.job.pending == 0;
        if (self.listens || job.tag != 0)
            && let Some(capture) = &conn.capture
            && let Err(broken) = self.share.source.answered(status, capture, job.tag, now)
        {
            self.break_off(broken);
        }
        let conn = &mut self.conns[id as usize];
        conn.response.reset(job.no_body);
        self.count(&job, status, now);
        if !last {
            if !keep_alive {
                self.fail(id, Failure::Read);
            }
            return;
        }
        self.active -= 1;
        // A request that was answered before it was written completely leaves its rest on the connection.
        if keep_alive && self.conns[id as usize].out.is_empty() {
            self.release(id);
        } else {
            self.close(id);
        }
    }

    /// Counts an answer.
    fn count(&mut self, job: &Job, status: u16, now: u64) {
        let good = (200..300).contains(&status);
        if good && let Some(key) = job.then {
            if job.measured {
                self.totals.hist.first.record(now - job.due);
            }
            self.follows.push_back(Follow { due: job.due, ready: now, key, measured: job.measured });
            return;
        }
        if !job.measured {
            return;
        }
        self.totals.counts.responses += 1;
        if !good {
            return self.count_failure(job, Failure::of_status(status), 1);
        }
        self.totals.counts.ok += 1;
        self.totals.counts.ok_in_time += u64::from(now <= self.end);
        self.totals.hist.service.record(now.saturating_sub(job.sent));
        if job.second {
            self.totals.hist.whole.record(now.saturating_sub(job.due));
        }
        self.interval.ok += 1;
        self.interval.latency.record(now.saturating_sub(job.ready));
    }

    pub(super) fn count_failure(&mut self, job: &Job, kind: Failure, requests: u32) {
        if job.measured {
            self.totals.failures[kind as usize] += u64::from(requests);
            self.interval.failures[kind as usize] += u64::from(requests);
            self.totals.hist.failed.record_n(self.now.saturating_sub(job.ready), u64::from(requests));
        }
    }

    /// The server has closed the connection.
    fn closed_by_peer(&mut self, id: u32) {
        let conn = &mut self.conns[id as usize];
        match conn.phase {
            Phase::Busy if conn.response.end().is_ok() => self.complete(id),
            _ => self.fail_unless_idle(id, Failure::Read),
        }
    }

    /// The connection cannot be used further; without a request on it that is no request's failure.
    fn fail_unless_idle(&mut self, id: u32, kind: Failure) {
        let conn = &self.conns[id as usize];
        if conn.phase == Phase::Idle {
            self.totals.counts.idle_closed += 1;
            let pool = conn.pool;
            self.pools[pool].idle.retain(|&other| other != id);
            self.close(id);
        } else {
            self.fail(id, kind);
        }
    }

    /// The request on the connection has failed, and the connection with it.
    pub(super) fn fail(&mut self, id: u32, kind: Failure) {
        let conn = &self.conns[id as usize];
        let job = conn.job;
        match conn.phase {
            Phase::Busy | Phase::Opening { busy: true } => {
                self.active -= 1;
                self.count_failure(&job, kind, job.pending);
                if job.tag != 0
                    && let Err(broken) = self.share.source.answered(0, &Capture::default(), job.tag, self.now)
                {
                    self.break_off(broken);
                }
            }
            Phase::Opening { busy: false } | Phase::Idle | Phase::Closed => {}
        }
        self.close(id);
    }

    fn close(&mut self, id: u32) {
        let conn = &mut self.conns[id as usize];
        if conn.phase == Phase::Closed && conn.fd.is_none() {
            return;
        }
        conn.shut();
        let pool = &mut self.pools[conn.pool];
        if !pool.is_free() {
            pool.free_since = self.now;
        }
        pool.closed.push(id);
    }

    /// Ends requests that have waited longer than the timeout for their answer.
    pub(super) fn expire(&mut self) {
        let limit = self.now.saturating_sub(self.shared.timeout);
        for id in 0..self.conns.len() as u32 {
            let conn = &self.conns[id as usize];
            if matches!(conn.phase, Phase::Busy | Phase::Opening { busy: true }) && conn.job.sent < limit {
                self.fail(id, Failure::Timeout);
            }
        }
    }
}
