//! What machines cost: an estimate from a dated table, never a promise.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::fleet::Machine;
use super::region;

/// A dated price table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When it was read, `YYYY-MM-DD`.
    pub as_of: String,
    /// On-demand price in the reference region, USD per hour, by machine type.
    pub machine_usd_per_hour: IndexMap<String, f64>,
    /// Factor of other regions; 1 when absent.
    #[serde(default)]
    pub region_factor: IndexMap<String, f64>,
    /// Boot disk, USD per GB and month.
    pub disk_usd_per_gb_month: f64,
    /// Share of the on-demand price that a spot machine costs.
    pub spot_factor: f64,
}

/// An estimate with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// USD per hour for everything.
    pub usd_per_hour: f64,
    /// Machine types that the table does not have; they count as 0.
    pub unknown: Vec<String>,
    /// Date of the table.
    pub as_of: String,
}

/// Hours in a month, as Google bills (730).
const HOURS_PER_MONTH: f64 = 730.0;

impl Default for Prices {
    /// Approximate list prices of the E2 family in us-central1; check them against the vendor's price list.
    fn default() -> Self {
        let machine = [
            ("e2-micro", 0.008),
            ("e2-small", 0.017),
            ("e2-medium", 0.034),
            ("e2-standard-2", 0.067),
            ("e2-standard-4", 0.134),
            ("e2-standard-8", 0.268),
            ("e2-standard-16", 0.536),
        ];
        let factor = [("europe-west3", 1.29), ("asia-southeast1", 1.23), ("southamerica-east1", 1.59)];
        Prices {
            as_of: "2024-06-01".into(),
            machine_usd_per_hour: machine.map(|(name, usd)| (name.to_owned(), usd)).into_iter().collect(),
            region_factor: factor.map(|(name, factor)| (name.to_owned(), factor)).into_iter().collect(),
            disk_usd_per_gb_month: 0.04,
            spot_factor: 0.4,
        }
    }
}

impl Prices {
    /// What `machines` with boot disks of `disk_gb` cost.
    pub fn estimate(&self, machines: &[Machine], disk_gb: u32, spot: bool) -> Estimate {
        let mut unknown = Vec::new();
        let mut usd_per_hour = 0.0;
        for machine in machines {
            match self.of_one(&machine.zone, &machine.machine_type, disk_gb, spot) {
                Some(usd) => usd_per_hour += usd,
                None if unknown.contains(&machine.machine_type) => {}
                None => unknown.push(machine.machine_type.clone()),
            }
        }
        Estimate { usd_per_hour, unknown, as_of: self.as_of.clone() }
    }

    /// What one machine with its disk costs, USD per hour; `None` for a type that the table does not have.
    pub fn of_one(&self, zone: &str, machine_type: &str, disk_gb: u32, spot: bool) -> Option<f64> {
        let disk = f64::from(disk_gb) * self.disk_usd_per_gb_month / HOURS_PER_MONTH;
        let factor = self.region_factor.get(region(zone)).copied().unwrap_or(1.0);
        let share = if spot { self.spot_factor } else { 1.0 };
        self.machine_usd_per_hour.get(machine_type).map(|usd| (usd * share + disk) * factor)
    }
}
