//! What `done` is given: the summary, and the distributions of latency and of requests per second.

use hdrhistogram::Histogram;
use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};

use crate::wkld::report::Report;

/// The three arguments of `done`.
pub(super) fn of(lua: &Lua, report: &Report) -> mlua::Result<(Table, Stats, Stats)> {
    let count = |kinds: &[&str]| kinds.iter().filter_map(|kind| report.errors.get(*kind)).sum::<u64>();
    let errors = lua.create_table()?;
    errors.set("connect", count(&["connect", "dns", "tls", "open_files"]))?;
    errors.set("read", count(&["read", "protocol"]))?;
    errors.set("write", count(&["write"]))?;
    errors.set("status", count(&["status_4xx", "status_5xx"]))?;
    errors.set("timeout", count(&["timeout"]))?;
    let summary = lua.create_table()?;
    summary.set("duration", report.measured_s * 1e6)?;
    summary.set("requests", report.counts.responses)?;
    summary.set("bytes", report.counts.bytes)?;
    summary.set("errors", errors)?;
    let latency = report.latency_with_bounds();
    let us = latency.inner().iter_recorded().map(|step| (step.value_iterated_to() / 1000, step.count_at_value()));
    let rates = report.thread_rates.iter().map(|&rate| (rate, 1));
    Ok((summary, Stats::of(us), Stats::of(rates)))
}

/// A distribution, in us or in requests/s.
pub(super) struct Stats(Histogram<u64>);

impl Stats {
    #[allow(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
    fn of(values: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut histogram = Histogram::new_with_bounds(1, 86_400_000_000, 3).expect("constant bounds");
        for (value, count) in values {
            histogram.saturating_record_n(value, count);
        }
        Stats(histogram)
    }

    fn at_rank(&self, rank: u64) -> u64 {
        self.0.value_at_quantile(rank as f64 / self.0.len().max(1) as f64)
    }
}

impl UserData for Stats {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("min", |_, this| Ok(this.0.min()));
        fields.add_field_method_get("max", |_, this| Ok(if this.0.is_empty() { 0 } else { this.0.max() }));
        fields.add_field_method_get("mean", |_, this| Ok(this.0.mean()));
        fields.add_field_method_get("stdev", |_, this| Ok(this.0.stdev()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("percentile", |_, this, p: f64| {
            Ok(if this.0.is_empty() { 0 } else { this.0.value_at_percentile(p.clamp(0.0, 100.0)) })
        });
        // wrk2: latency[i] is the value at rank i, #latency the number of samples.
        methods.add_meta_method(MetaMethod::Index, |_, this, key: Value| {
            Ok(key.as_f64().filter(|rank| *rank >= 1.0).map(|rank| this.at_rank(rank as u64)))
        });
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.0.len()));
        // wrk 4: latency(i) is the i-th value with its count.
        methods.add_meta_method(MetaMethod::Call, |_, this, index: usize| {
            let nth = this.0.iter_recorded().nth(index.saturating_sub(1));
            Ok(nth.map_or((None, None), |step| (Some(step.value_iterated_to()), Some(step.count_at_value()))))
        });
    }
}
