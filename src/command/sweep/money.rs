//! What the rented machines of a sweep will cost: each placement's machines for as long as its runs take. An estimate.

use indexmap::IndexMap;

use super::Sweep;
use super::status::human;
use crate::Context;
use crate::cloud::price::Prices;
use crate::cloud::provision;
use crate::command::gcp;
use crate::error::{Plain, Result};
use crate::placement::Placement;

/// Making machines and deploying on them, s.
const DEPLOY_GUESS_S: f64 = 600.0;
/// What a run takes there besides its load (restart, readiness, gather), s.
const RUN_GUESS_S: f64 = 60.0;

/// `estimate: about 12.34 USD ...`.
///
/// # Errors
/// When the site file or a placement cannot be used.
pub(super) fn line(context: &Context, sweep: &Sweep) -> Result<String> {
    let site = gcp::site(context)?;
    let prices = site.prices.clone().unwrap_or_default();
    let (mut usd, mut seconds, mut unknown) = (0.0, 0.0, Vec::new());
    for (config, needed) in times(sweep) {
        let (text, _) = context.store.read_config(&config)?;
        let placement = Placement::parse(sweep.target, sweep.app, &config, &text)?;
        let machines = provision::machines(&placement, &sweep.spec.name, sweep.spec.clients).map_err(Plain::usage)?;
        let estimate = prices.estimate(&machines, site.disk_gb, site.spot);
        usd += estimate.usd_per_hour * needed / 3600.0;
        seconds += needed;
        unknown.extend(estimate.unknown);
    }
    Ok(said(&prices, usd, seconds, &unknown))
}

/// Placement -> how long its machines are needed, s.
fn times(sweep: &Sweep) -> IndexMap<String, f64> {
    let mut times = IndexMap::new();
    for run in sweep.runs() {
        let cell = &sweep.cells[run.cell];
        let config = cell.config_path(sweep.target, sweep.app.name);
        *times.entry(config).or_insert(DEPLOY_GUESS_S) += cell.duration_s + RUN_GUESS_S;
    }
    times
}

fn said(prices: &Prices, usd: f64, seconds: f64, unknown: &[String]) -> String {
    let unknown = match unknown {
        [] => String::new(),
        types => format!("; no price is known for {}", types.join(", ")),
    };
    let (time, as_of) = (human(seconds), &prices.as_of);
    format!("estimate: about {usd:.2} USD for {time} of rented machines (prices of {as_of}, not a promise{unknown})")
}
