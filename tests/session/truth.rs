//! What gather measures against what happened: the miniature's ground-truth log.

use std::collections::HashMap;

use crate::harness::Session;

/// A CSV file with `;` between cells as rows of column -> cell.
fn rows(text: &str) -> Vec<HashMap<&str, &str>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
    lines.map(|line| header.iter().copied().zip(line.split(';')).collect()).collect()
}

fn number(row: &HashMap<&str, &str>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column}: `{}`", row[column]))
}

/// Runs a workload, gathers it, and compares every window with the truth.
fn compare(placement: &str, variant: &str) -> (usize, usize) {
    let session = Session::new();
    session
        .ok(&format!("--embedded socialNetwork deploy -tag t -config configs/embedded/socialNetwork/{placement}.yml"));
    session.ok(&format!("--embedded socialNetwork run --ports auto {variant}"));
    session.ok("--embedded socialNetwork wkld -E compose-post -r 60 -d 2 -c 8");
    session.ok("--embedded socialNetwork gather");
    let state = maestro::store::State::read(&session.path("deploy/embedded/.last.yml")).unwrap();
    let file = session.path(&state.local_gather_path.unwrap()).join("windows.csv");
    let windows = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let log = session.path("deploy/embedded/socialNetwork/t/truth.csv");
    let truth = std::fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    session.ok("--embedded socialNetwork clean");
    let truth: HashMap<&str, HashMap<&str, &str>> = rows(&truth).into_iter().map(|row| (row["post_id"], row)).collect();
    let measured = rows(&windows);
    let mut violations = 0;
    for row in &measured {
        let happened = &truth[row["post_id"]];
        let found = |row: &HashMap<&str, &str>| row["found"].eq_ignore_ascii_case("true") || row["found"] == "1";
        assert_eq!(found(row), found(happened), "{row:?} {happened:?}");
        violations += usize::from(!found(row));
        let window_ms = (number(happened, "read_us") - number(happened, "written_us")) / 1000.0;
        assert!((number(row, "window_ms") - window_ms).abs() <= 1.0, "{row:?} {happened:?}");
    }
    (measured.len(), violations)
}

#[test]
fn windows_and_violations_equal_the_ground_truth() {
    let (observed, violations) = compare("us-sg", "");
    assert_eq!(observed, 120);
    assert!(violations > 0, "the far pair shows violations without the barrier");
    assert_eq!(compare("us-sg", "-antipode"), (120, 0));
}
