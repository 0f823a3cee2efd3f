//! The readers of what load generators write, and of the words a load is described with.

use maestro::app::Graph;
use maestro::compare::Condition;
use maestro::plot::out_file::{merged_ms, merged_spectrum, parse};
use maestro::wkld::export::read_hlog;
use maestro::wkld::sample::Hist;
use maestro::wkld::schedule::parse_ramp;
use maestro::wkld::url::Url;

use super::{line, text, texts};

/// Reads `data` as the output of a client of wrk2's family (also `.hgrm`), alone and merged with itself.
pub fn out(data: &[u8]) {
    let out = parse(&text(data));
    assert!(out.percentiles.iter().all(|(percent, ms)| percent.is_finite() && ms.is_finite()));
    let both = [out.clone(), out];
    for share in [0.0, 0.5, 0.9, 0.99, 1.0] {
        for outs in [&both[..1], &both] {
            assert!(merged_ms(outs, share).is_none_or(f64::is_finite), "{both:?}");
        }
    }
    assert!(merged_spectrum(&both).iter().all(|(share, ms)| share.is_finite() && ms.is_finite()));
    merged_spectrum(&both[..1]);
}

/// Outputs of wrk2.
pub fn out_examples() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../tests/fixtures/wrk2/errors.out"),
        include_str!("../../tests/fixtures/wrk2/fast.out"),
        include_str!("../../tests/fixtures/wrk2/overload_seconds.out"),
        "Value     Percentile TotalCount 1/(1-Percentile)\n0.1 0.0 1 1.0\n0.2 1.0 2 inf\n",
    ])
}

/// Reads `data` as an interval log; every histogram is the same when it is written and read again.
pub fn hlog(data: &[u8]) {
    let mut whole = Hist::new();
    for read in read_hlog(&text(data)) {
        match read {
            Ok((_, hist)) => {
                assert_eq!(Hist::decode(&hist.encode()).as_ref(), Ok(&hist));
                whole.add(&hist);
            }
            Err(why) => line(&maestro::error::Error::from(maestro::error::Plain::usage(why)).line()),
        }
    }
    assert!(whole.quantile(0.5) <= whole.max());
}

/// A log as maestro writes it, and one histogram of another tool's range.
pub fn hlog_examples() -> Vec<Vec<u8>> {
    let mut hist = Hist::new();
    (1..200).for_each(|step| hist.record(step * 100_000));
    let (one, empty) = (hist.encode(), Hist::new().encode());
    vec![
        format!("#[Histogram log format version 1.3]\n\"StartTimestamp\"\n0.000,1.000,1.5,{one}\n1,1,0,{empty}\n")
            .into_bytes(),
        format!("Tag=a,0.5,1.000,1.5,{one}\n").into_bytes(),
    ]
}

/// Reads `data` as a URL, a ramp, a condition and a social graph.
pub fn words(data: &[u8]) {
    let text = text(data);
    let refused = |why: String| line(&maestro::error::Error::from(maestro::error::Plain::usage(why)).line());
    match text.parse::<Url>() {
        // A URL means the same when it is printed and read again.
        Ok(url) => assert_eq!(url.to_string().parse::<Url>().as_ref(), Ok(&url), "{url}"),
        Err(why) => refused(why),
    }
    match parse_ramp(&text) {
        Ok(pieces) => assert!(!pieces.is_empty()),
        Err(why) => refused(why),
    }
    if let Err(error) = Condition::parse(&text) {
        refused(error.to_string());
    }
    if let Err(why) = Graph::parse(&text) {
        refused(why);
    }
}

/// One of each.
pub fn words_examples() -> Vec<Vec<u8>> {
    texts(&[
        "http://127.0.0.1:8080/wrk2-api/post/compose?a=b#c",
        "https://[::1]:65535",
        "http://h",
        "0-10s:100-500,10-60s:500",
        "100@10s,100..200@30s",
        "10s@100,30s@100-500",
        "latency.p90 > 5%",
        "violations<0.1",
        "%%MatrixMarket\n3 3 2\n2 1\n3 2\n",
    ])
}
