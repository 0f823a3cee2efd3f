//! A service with a bounded number of workers: the place where requests queue and a knee appears.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::config::ServiceConfig;
use super::dist::Sampler;

/// First come, first served, `workers` at a time. The queue is kept as the instants at which workers become free, so
/// capacity is exactly `workers / mean service time` however coarsely the process sleeps.
#[derive(Debug)]
pub struct Station {
    /// When each worker is free, us since the epoch.
    free: Mutex<BinaryHeap<Reverse<u64>>>,
    service: Sampler,
}

impl Station {
    /// The station of the service `name`.
    pub fn new(config: &ServiceConfig, seed: u64, name: &str) -> Self {
        let free = (0..config.workers).map(|_| Reverse(0)).collect();
        Station { free: Mutex::new(free), service: Sampler::new(config.service_ms, seed, name) }
    }

    /// Takes in a request that arrives at `at_us`, with `extra_us` of work beyond its service time; returns when it
    /// is done (us since the epoch).
    pub fn admit(&self, at_us: u64, extra_us: u64) -> u64 {
        let service = self.service.next_us() + extra_us;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = free.pop().map_or(at_us, |Reverse(us)| us);
        let done = at_us.max(earliest) + service;
        free.push(Reverse(done));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::dist::Distribution;

    #[test]
    fn requests_wait_for_a_worker_and_no_longer() {
        let config = ServiceConfig { workers: 2, service_ms: Distribution::Constant(10.0) };
        let station = Station::new(&config, 1, "s");
        let done: Vec<u64> = [0, 0, 0, 0, 100_000].map(|at| station.admit(at, 0)).to_vec();
        assert_eq!(done, [10_000, 10_000, 20_000, 20_000, 110_000]);
        assert_eq!(station.admit(200_000, 500), 210_500);
    }
}
