//! Estimators against a truth that is known: runs are made up with a known window, a replica whose clock is wrong,
//! lost spans, and notifications still on their way; they pass the parser and the summary as a real answer does, and
//! the reported 95 % intervals must contain the truth. `MAESTRO_TEST_FULL=1` repeats each case 500 times.

use maestro::analysis::{self, Conditions, Estimate, Offset, Pending, SourceFacts, Summary, Use, WindowKind};
use maestro::app::APPS;
use maestro::trace::{Tally, Trace, read_here};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use crate::trace_maker::{Made, TraceMaker};

/// First instant of the made-up runs, us since the epoch.
const BEGIN_US: f64 = 1_700_000_000_000_000.0;
/// From queued to written and from received to read, us.
const QUEUED_AFTER_US: f64 = 3_000.0;
const READ_AFTER_US: f64 = 300.0;

/// A log-normal quantity, us.
#[derive(Clone, Copy)]
struct LogNormal {
    median: f64,
    sigma: f64,
}

impl LogNormal {
    fn draw(self, random: &mut Pcg64Mcg) -> f64 {
        let normal: f64 = StandardNormal.sample(random);
        self.median * (self.sigma * normal).exp()
    }

    /// The share not above `us`.
    fn below(self, us: f64) -> f64 {
        if us <= 0.0 { 0.0 } else { normal_below((us / self.median).ln() / self.sigma) }
    }
}

/// The normal distribution function by Simpson's rule on its density; exact to far more digits than are needed here.
fn normal_below(z: f64) -> f64 {
    let z = z.clamp(-9.0, 9.0);
    let steps = 2000;
    let density = |x: f64| (-x * x / 2.0).exp();
    let width = (z + 9.0) / f64::from(steps);
    let inner: f64 = (1..steps).map(|i| f64::from(2 + 2 * (i % 2)) * density(-9.0 + width * f64::from(i))).sum();
    (density(-9.0) + inner + density(z)) * width / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
}

/// Where `below` reaches `q`, between 0 and 100 s.
fn inverse(q: f64, below: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e8);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if below(middle) < q { low = middle } else { high = middle }
    }
    low
}

/// A kind of run.
struct Case {
    name: &'static str,
    requests: usize,
    /// Between two requests on average, us.
    gap_us: f64,
    lag: LogNormal,
    /// With the barrier: how long until a post is visible. Without it a window ends with the attempt.
    visible: Option<LogNormal>,
    violations: f64,
    /// Share of the traces that miss a span or a tag.
    lost: f64,
    /// The traces are read this long after the last request, us; after everything has ended when absent.
    read_after_us: Option<f64>,
}

const QUICK: LogNormal = LogNormal { median: 25_000.0, sigma: 0.7 };

const CASES: &[Case] = &[
    Case {
        name: "attempts, 600 requests",
        requests: 600,
        gap_us: 10_000.0,
        lag: QUICK,
        visible: None,
        violations: 0.05,
        lost: 0.0,
        read_after_us: None,
    },
    Case {
        name: "attempts, few requests, some lost",
        requests: 60,
        gap_us: 10_000.0,
        lag: QUICK,
        visible: None,
        violations: 0.3,
        lost: 0.05,
        read_after_us: None,
    },
    Case {
        name: "barrier, some lost",
        requests: 400,
        gap_us: 10_000.0,
        lag: QUICK,
        visible: Some(LogNormal { median: 90_000.0, sigma: 0.5 }),
        violations: 0.02,
        lost: 0.03,
        read_after_us: None,
    },
    Case {
        name: "attempts, read too early",
        requests: 500,
        gap_us: 1_000.0,
        lag: LogNormal { median: 60_000.0, sigma: 0.8 },
        visible: None,
        violations: 0.05,
        lost: 0.0,
        read_after_us: Some(40_000.0),
    },
    Case {
        name: "barrier, few requests, read too early, some lost",
        requests: 80,
        gap_us: 5_000.0,
        lag: QUICK,
        visible: Some(LogNormal { median: 90_000.0, sigma: 0.6 }),
        violations: 0.1,
        lost: 0.03,
        read_after_us: Some(60_000.0),
    },
];

impl Case {
    fn window_below(&self, us: f64) -> f64 {
        let attempted = self.lag.below(us - QUEUED_AFTER_US - READ_AFTER_US);
        attempted * self.visible.map_or(1.0, |visible| visible.below(us - READ_AFTER_US))
    }

    /// The mean window, us: the area above its distribution function.
    fn window_mean(&self) -> f64 {
        let step = 250.0;
        (0..8000).map(|i| (1.0 - self.window_below((f64::from(i) + 0.5) * step)) * step).sum()
    }

    /// Names and true values (ms; the share for violations), in the order of [`Case::estimates`].
    fn truths(&self) -> Vec<(&'static str, f64)> {
        let window = |q| inverse(q, |us| self.window_below(us)) / 1000.0;
        let lag = |q| inverse(q, |us| self.lag.below(us)) / 1000.0;
        vec![
            ("window p50", window(0.5)),
            ("window p90", window(0.9)),
            ("window p99", window(0.99)),
            ("window mean", self.window_mean() / 1000.0),
            ("notification lag p50", lag(0.5)),
            ("notification lag p90", lag(0.9)),
            ("notification lag p99", lag(0.99)),
            ("violations", self.violations),
        ]
    }

    fn estimates(summary: &Summary) -> Vec<Estimate> {
        let (window, lag) = (&summary.window, &summary.notification_lag);
        let share = summary.violations.wilson95;
        let violations = Estimate {
            value: summary.violations.share,
            low: share.map(|[low, _]| low),
            high: share.map(|[_, high]| high),
        };
        vec![window.p50, window.p90, window.p99, window.mean, lag.p50, lag.p90, lag.p99, violations]
    }

    fn repeat(&self, seed: u64) -> Summary {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        // The replica's clock is wrong by `skew`; what was measured of that is off by less than `bound`.
        let skew = random.random_range(-30_000.0..30_000.0);
        let bound = random.random_range(100.0..2_000.0);
        let measured = Offset { us: skew + random.random_range(-bound..bound), bound_us: bound };
        let mut run = MadeRun { body: br#"{"data":["#.to_vec(), ..MadeRun::default() };
        let mut last = 0.0;
        let mut starts: Vec<f64> = (0..self.requests).map(|_| random.random_range(0.0..1.0)).collect();
        starts.sort_by(f64::total_cmp);
        for start in &mut starts {
            *start = BEGIN_US + *start * self.gap_us * self.requests as f64;
            last = *start;
        }
        let read_at = self.read_after_us.map(|after| last + after);
        let maker = TraceMaker::new();
        for start in starts {
            self.request(&mut run, &maker, start, skew, read_at.unwrap_or(f64::INFINITY), &mut random);
        }
        run.body.extend_from_slice(br#"],"errors":null}"#);
        let pending = if run.open > 0 { Pending::Exactly(run.open) } else { Pending::None };
        run.summarise(self, measured, pending, read_at)
    }

    /// One request: what happens, and what becomes of its trace.
    fn request(
        &self,
        run: &mut MadeRun,
        maker: &TraceMaker,
        start: f64,
        skew: f64,
        read_at: f64,
        random: &mut Pcg64Mcg,
    ) {
        let written = start + random.random_range(4_000.0..14_000.0);
        let queued = written + QUEUED_AFTER_US;
        let received = queued + self.lag.draw(random);
        let visible = self.visible.map_or(0.0, |visible| written + visible.draw(random));
        let read = received.max(visible) + READ_AFTER_US;
        let ms = |us: f64| (us / 1000.0).floor() as i64;
        let made = Made {
            id: random.random::<u64>() | 1 << 63,
            post: 1 << 61,
            start_us: start as i64,
            written_ms: ms(written),
            queued_ms: ms(queued),
            received_ms: ms(received + skew),
            read_ms: ms(read + skew),
            found: random.random_range(0.0..1.0) >= self.violations,
            ends: read <= read_at,
        };
        let mut text = Vec::new();
        maker.write(&made, &mut text);
        let lost = random.random_range(0.0..1.0) < self.lost;
        if lost {
            let damage = [
                ("\"StorePost\"", "\"Unknown\""),
                ("\"wht_start_queue_ts\"", "\"unknown\""),
                ("\"FanoutHomeTimelines\"", "\"Unknown\""),
            ];
            let (from, to) = damage[random.random_range(0..damage.len())];
            text = String::from_utf8(text).unwrap().replace(from, to).into_bytes();
        }
        run.open += u64::from(!made.ends);
        run.lost += u64::from(lost && made.ends);
        run.ended += u64::from(!lost && made.ends);
        if run.body.last() == Some(&b'}') {
            run.body.push(b',');
        }
        run.body.extend(text);
    }
}

/// A run on its way into an answer, and what is in it.
#[derive(Default)]
struct MadeRun {
    body: Vec<u8>,
    ended: u64,
    open: u64,
    lost: u64,
}

impl MadeRun {
    fn summarise(self, case: &Case, clock: Offset, pending: Pending, read_at: Option<f64>) -> Summary {
        let shape = &APPS[0].replication.unwrap().shape;
        let (mut traces, mut tally) = (Vec::<Trace>::new(), Tally::default());
        let body = std::io::Cursor::new(self.body);
        read_here(body, 1 << 20, shape, &mut tally, &mut |trace| traces.push(trace)).unwrap();
        let conditions = Conditions {
            shape,
            run_us: None,
            slack_us: 0,
            warmup_us: 0,
            kind: if case.visible.is_some() { WindowKind::Visibility } else { WindowKind::Attempt },
            window_clock: Some(clock),
            lag_clock: Some(clock),
            pending,
            read_at_us: read_at.map(|at| at as i64),
            load: None,
            notified: None,
        };
        let sorted = analysis::sort(&traces, &conditions);
        // Every trace is counted once, under what happened to it.
        let open = sorted.uses.iter().filter(|used| **used == Use::Open).count() as u64;
        let summary = analysis::summarise(&sorted, &conditions, &tally, SourceFacts::default());
        assert_eq!((tally.parsed, summary.ledger.traced), (case.requests as u64, case.requests as u64));
        assert_eq!(summary.ledger.complete, self.ended, "{}", case.name);
        assert!(open <= self.open && summary.window.censored == open, "{}: {open} of {}", case.name, self.open);
        assert_eq!(summary.ledger.lost.values().sum::<u64>(), self.open + self.lost, "{}", case.name);
        summary
    }
}

#[test]
fn intervals_contain_the_truth() {
    let full = std::env::var_os("MAESTRO_TEST_FULL").is_some();
    let repeats: u64 = if full { 500 } else { 40 };
    // 93 % of 500; of few repeats, what three standard deviations leave of 95 %.
    let spread = 3.0 * (0.05 * 0.95 * repeats as f64).sqrt();
    let may_miss = if full { 0.07 * repeats as f64 } else { 0.05 * repeats as f64 + spread };
    let mut wrong = Vec::new();
    for case in CASES {
        let truths = case.truths();
        let mut missed = vec![0_u64; truths.len()];
        let mut bounded = vec![0_u64; truths.len()];
        for seed in 0..repeats {
            for (i, estimate) in Case::estimates(&case.repeat(seed)).iter().enumerate() {
                let (low, high) = (estimate.low.unwrap_or(f64::MIN), estimate.high.unwrap_or(f64::MAX));
                missed[i] += u64::from(!(low..=high).contains(&truths[i].1));
                bounded[i] += u64::from(estimate.low.is_some() && estimate.high.is_some());
            }
        }
        for (i, (name, truth)) in truths.iter().enumerate() {
            let share = |count: u64| 100.0 * count as f64 / repeats as f64;
            let line = format!(
                "{}: {name} = {truth:.2}: in {:.1} % of the intervals, {:.0} % of which have both ends",
                case.name,
                share(repeats - missed[i]),
                share(bounded[i])
            );
            eprintln!("{line}");
            if missed[i] as f64 > may_miss {
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
