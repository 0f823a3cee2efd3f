//! Where the time of one run went.

use serde::{Deserialize, Serialize};

/// The time of one run by what it was spent on, s. Journals of earlier versions have only the first two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Loading, as asked.
    pub load_s: f64,
    /// Everything else.
    pub idle_s: f64,
    /// Of that: taking down what was there and deploying.
    #[serde(default)]
    pub deploy_s: f64,
    /// The application's own start or restart until it is ready, and its delay until it is proven.
    #[serde(default)]
    pub start_s: f64,
    /// What the generator took beyond its load: getting ready, clocks, last answers, results.
    #[serde(default)]
    pub client_s: f64,
    /// Draining, fetching and analysing the traces.
    #[serde(default)]
    pub gather_s: f64,
}

impl Spent {
    /// Of `wkld_s` of the generator, `load_s` were load; the rest of the parts as they were measured.
    pub fn new(deploy_s: f64, start_s: f64, (load_s, wkld_s): (f64, f64), gather_s: f64) -> Spent {
        let client_s = (wkld_s - load_s).max(0.0);
        Spent { load_s, idle_s: deploy_s + start_s + client_s + gather_s, deploy_s, start_s, client_s, gather_s }
    }

    /// Orchestration: everything but the load and the application's own start.
    pub fn overhead_s(&self) -> f64 {
        (self.idle_s - self.start_s).max(0.0)
    }

    /// Two runs together.
    pub fn plus(self, other: Spent) -> Spent {
        Spent {
            load_s: self.load_s + other.load_s,
            idle_s: self.idle_s + other.idle_s,
            deploy_s: self.deploy_s + other.deploy_s,
            start_s: self.start_s + other.start_s,
            client_s: self.client_s + other.client_s,
            gather_s: self.gather_s + other.gather_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_all_but_load_and_start() {
        let spent = Spent::new(0.5, 2.0, (10.0, 10.25), 1.0);
        assert_eq!((spent.client_s, spent.idle_s, spent.overhead_s()), (0.25, 3.75, 1.75));
        assert_eq!(spent.plus(spent).overhead_s(), 3.5);
        let short = Spent::new(0.0, 0.0, (10.0, 4.0), 0.0);
        assert_eq!(short.idle_s, 0.0, "a load that ended early is no negative time");
    }
}
