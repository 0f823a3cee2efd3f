//! `wkld --find-max`: the highest rate that meets an objective, and the curve on the way there.

use super::sender::{Sender, Sent};
use super::worker::Assignment;
use crate::Context;
use crate::error::{Exit, Plain, Result};
use crate::store::{RunDir, write_atomic};
use crate::ui;
use crate::wkld::schedule::{Piece, Rate};
use crate::wkld::search::{GOODPUT, Objective, Point, Search};

/// Where the search begins when no rate is given, requests/s.
const START: f64 = 10.0;

/// Searches; `keep` files every step's run. The last directory it gave gets the curve.
pub(super) async fn run(
    context: &Context,
    (assignment, sender): (&Assignment, &Sender),
    rate: Option<f64>,
    objective: &str,
    mut keep: impl FnMut(&Assignment, &Sent) -> Result<Option<RunDir>>,
) -> Result<()> {
    let objective: Objective = objective.parse().map_err(Plain::usage)?;
    let mut search = Search::new(rate.unwrap_or(START));
    let mut last = None;
    while let Some(rate) = search.next() {
        let step = at_rate(assignment, rate);
        let sent = sender.send(&step).await?;
        last = keep(&step, &sent)?.or(last);
        if let Some(why) = sent.lost.first() {
            return Err(Plain::new(Exit::RunVoid, why.clone()).into());
        }
        let report = sent.report;
        if report.interrupted {
            return Err(Plain::new(Exit::Interrupted, "interrupted during the search").into());
        }
        let point = Point::of(rate, &report, &objective);
        ui::note(line(&point));
        search.add(point);
    }
    if let Some(dir) = &last {
        write_atomic(&dir.file("curve.csv"), csv(&search).as_bytes())?;
    }
    show(context, &search, &objective);
    match search.best() {
        Some(_) => Ok(()),
        None => Err(Plain::new(Exit::StepFailed, format!("no rate meets {objective}")).into()),
    }
}

/// The assignment with one constant rate.
pub(super) fn at_rate(assignment: &Assignment, rate: f64) -> Assignment {
    let mut step = assignment.clone();
    let duration_ns = step.workload.schedule().duration_ns();
    let rate = Rate::new(rate);
    step.workload.pieces = vec![Piece { duration_ns, from: rate, to: rate }];
    step
}

fn line(point: &Point) -> String {
    let verdict = match (point.met, point.sound) {
        (true, _) => "met",
        (false, true) => "missed",
        (false, false) => "missed, but the client was late",
    };
    format!(
        "{} requests/s: {:.1} ok/s, goodput {:.2} %, {:.3} ms: {verdict}",
        point.rate,
        point.throughput,
        100.0 * point.goodput,
        point.latency_ns as f64 / 1e6
    )
}

fn sorted(search: &Search) -> Vec<&Point> {
    let mut points: Vec<&Point> = search.points().iter().collect();
    points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    points
}

fn csv(search: &Search) -> String {
    let mut out = String::from("rate,throughput,goodput,latency_us,met,client_sound\n");
    for p in sorted(search) {
        let us = p.latency_ns as f64 / 1000.0;
        out.push_str(&format!("{},{:.3},{:.6},{us:.1},{},{}\n", p.rate, p.throughput, p.goodput, p.met, p.sound));
    }
    out
}

fn show(context: &Context, search: &Search, objective: &Objective) {
    if context.json {
        let points: Vec<_> = sorted(search)
            .into_iter()
            .map(|p| {
                serde_json::json!({ "rate": p.rate, "throughput": p.throughput, "goodput": p.goodput,
                "latency_us": p.latency_ns as f64 / 1000.0, "met": p.met, "client_sound": p.sound })
            })
            .collect();
        let value = serde_json::json!({ "objective": objective.to_string(), "goodput": GOODPUT,
            "max_rate": search.best().map(|p| p.rate), "curve": points });
        ui::out(serde_json::to_string_pretty(&value).unwrap_or_default());
        return;
    }
    let mut rows = vec![["rate", "ok/s", "goodput %", "latency ms", "verdict"].map(String::from).to_vec()];
    for p in sorted(search) {
        let ms = p.latency_ns as f64 / 1e6;
        let verdict = if p.met { "met" } else { "missed" }.to_owned();
        let goodput = format!("{:.2}", 100.0 * p.goodput);
        rows.push(vec![p.rate.to_string(), format!("{:.1}", p.throughput), goodput, format!("{ms:.3}"), verdict]);
    }
    ui::out_raw(ui::table(&rows));
    if let Some(best) = search.best() {
        ui::out(format!("highest rate that meets {objective} with goodput >= 99 %: {} requests/s", best.rate));
    }
}
