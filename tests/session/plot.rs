//! `maestro plot` on the forty run directories that the Python tool was run on, and on what it could not draw.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Done, Session};

const WINDOW: &str = "throughput_latency_with_consistency_window";

/// The fixtures: `gather/`, `plots_all.yml` and one JSON per golden figure.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plots")
}

/// A root whose `gather` is the fixtures'.
pub fn root() -> Session {
    let session = Session::new();
    std::os::unix::fs::symlink(fixtures().join("gather"), session.path("gather")).unwrap();
    session
}

/// The golden JSON of a figure.
fn golden(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixtures().join(format!("{name}.json"))).unwrap()).unwrap()
}

/// The runs that the golden figure was made from.
fn golden_dirs(name: &str) -> Vec<String> {
    golden(name)["dirs"].as_array().unwrap().iter().map(|dir| dir.as_str().unwrap().to_owned()).collect()
}

/// A plot config of one figure.
fn config(session: &Session, name: &str, dirs: &[String]) {
    let list: String = dirs.iter().map(|dir| format!("  - {dir}\n")).collect();
    session.write("plot.yml", format!("{name}:\n{list}"));
}

/// Draws as SVG with the data file and returns that figure's data.
fn data(session: &Session, name: &str, dirs: &[String]) -> Value {
    config(session, name, dirs);
    session.ok("plot plot.yml --format svg --data data.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(session.path("data.json")).unwrap()).unwrap();
    assert_eq!(all["format"], 1);
    all[name].clone()
}

/// The one file with this ending below `plots/`.
fn drawn(session: &Session, ending: &str) -> PathBuf {
    let files = fs::read_dir(session.path("plots")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// `expected`'s columns of `frame`, compared cell by cell: text equal, numbers within 1e-9.
fn assert_frame(frame: &Value, expected: &Value) {
    let columns = |frame: &Value| -> Vec<String> {
        frame["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect()
    };
    let (ours, theirs) = (columns(frame), columns(expected));
    let (rows, expected_rows) = (frame["rows"].as_array().unwrap(), expected["rows"].as_array().unwrap());
    assert_eq!(rows.len(), expected_rows.len());
    for (row, expected_row) in rows.iter().zip(expected_rows) {
        for (c, column) in theirs.iter().enumerate() {
            let place = ours.iter().position(|name| name == column).unwrap_or_else(|| panic!("no column {column}"));
            assert_value(&row[place], &expected_row[c], column);
        }
    }
}

fn assert_value(value: &Value, expected: &Value, what: &str) {
    match (value.as_f64(), expected.as_f64()) {
        (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{what}: {a} instead of {b}"),
        _ => assert_eq!(value, expected, "{what}"),
    }
}

/// The drawing in an SVG file, without the embedded fonts.
fn drawing(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches("@font-face").count(), text.matches("data:font/woff2").count());
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("<style>")).collect();
    lines.join("\n") + "\n"
}

/// Compares with the stored drawing; `BLESS=1` replaces it.
fn assert_drawing(session: &Session, stored: &str) {
    let path = fixtures().join("expected").join(stored);
    let text = drawing(&drawn(session, "svg"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    let differing = text.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(text == expected, "{stored}: the drawing changed (BLESS=1 accepts it); first difference: {differing:?}");
}

fn one_line(done: &Done) -> &str {
    done.stderr.lines().next().unwrap_or_default()
}

/// A deterministic disorder: every seventh, wrapping around.
fn disordered(dirs: &[String]) -> Vec<String> {
    (0..dirs.len()).map(|i| dirs[(i * 7 + 3) % dirs.len()].clone()).collect()
}

#[test]
fn the_window_figure_has_the_golden_numbers() {
    let session = root();
    let expected = golden(WINDOW);
    let data = data(&session, WINDOW, &golden_dirs(WINDOW));
    assert_frame(&data["df"], &expected["df"]);
    let parsed = expected["parsed_data"].as_array().unwrap();
    let rows = data["parsed_data"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), parsed.len());
    for (row, run) in rows.iter().zip(parsed) {
        for (c, key) in
            ["rps", "zone_pair", "type", "latency_90", "consistency_window_90", "throughput"].iter().enumerate()
        {
            assert_value(&row[c], &run[key], key);
        }
    }
    for pair in ["US->EU", "US->SG"] {
        let name = format!("bars__{pair}");
        assert_frame(
            &data[&name],
            &serde_json::json!({"columns": ["Original", "Antipode"], "rows": expected[&name]["rows"]}),
        );
    }
    for fact in ["peak_rps", "cw_ylim", "tl_xlim_right"] {
        assert_value(&data[fact], &expected[fact], fact);
    }
    assert_drawing(&session, "window.svg");
}

#[test]
fn the_order_of_a_config_changes_nothing() {
    let (sorted, unsorted) = (root(), root());
    let dirs = golden_dirs(WINDOW);
    let a = data(&sorted, WINDOW, &dirs);
    let b = data(&unsorted, WINDOW, &disordered(&dirs));
    assert_eq!(a["df"], b["df"]);
    assert_eq!(drawing(&drawn(&sorted, "svg")), drawing(&drawn(&unsorted, "svg")));
}

#[test]
fn one_pair_or_one_variant_alone_is_drawn() {
    let dirs = golden_dirs(WINDOW);
    type Keep = fn(&String) -> bool;
    let selections: [(&str, Keep); 3] = [
        ("window_one_pair.svg", |dir| dir.contains("/us-sg-")),
        ("window_baseline.svg", |dir| !dir.contains("antipode")),
        ("window_antipode.svg", |dir| dir.contains("antipode")),
    ];
    for (stored, keep) in selections {
        let session = root();
        let kept: Vec<String> = dirs.iter().filter(|dir| keep(dir)).cloned().collect();
        data(&session, WINDOW, &kept);
        assert_drawing(&session, stored);
    }
}

#[test]
fn a_png_has_600_dots_per_inch_and_the_size_of_its_svg() {
    let session = root();
    config(&session, WINDOW, &golden_dirs(WINDOW));
    let done = session.ok("plot plot.yml");
    let png = fs::read(drawn(&session, "png")).unwrap();
    let word = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    let (width, height) = (word(16), word(20));
    let svg = drawing(&drawn(&session, "svg"));
    assert!(svg.contains(&format!("viewBox=\"0 0 {width} {height}\"")), "{width} x {height}: {}", &svg[..200]);
    let phys = png.windows(4).position(|four| four == b"pHYs").expect("a pHYs chunk");
    assert_eq!((word(phys + 4), word(phys + 8), png[phys + 12]), (23_622, 23_622, 1));
    assert_eq!(done.stdout.lines().count(), 2, "{}", done.stdout);
}

#[test]
fn a_directory_stands_for_all_runs_below_it() {
    let session = root();
    let done = session.ok("plot gather --plots per_inconsistencies storage_overhead --dry-run");
    let lines: Vec<&str> = done.stdout.lines().filter(|line| line.contains("from 40 runs")).collect();
    assert!(lines.len() >= 2 && lines.len() == done.stdout.lines().count(), "{}", done.stdout);
    session.ok("plot gather/gcp/socialNetwork/compose-post/us-eu-50 --plots per_inconsistencies --format svg");
    assert!(drawn(&session, "svg").is_file());
    let empty = session.run("plot plots --plots per_inconsistencies");
    assert!(empty.code == 2 && empty.stderr.contains("no run in"), "{}", empty.stderr);
}

#[test]
fn old_runs_are_found_and_mistyped_paths_answered_with_what_is_there() {
    let session = root();
    let info = session.ok("--gcp info").stdout;
    assert!(info.contains("40 older runs without a record: `maestro report gather/gcp` reads them"), "{info}");
    let done = session.run("report gather/gcp/socialNetwork/compose-posts");
    let hint = "`gather/gcp/socialNetwork` holds compose-post";
    assert!(done.code == 2 && done.stderr.contains("no such file") && done.stderr.contains(hint), "{}", done.stderr);
}

#[test]
fn unknown_plots_and_empty_sets_are_errors() {
    let session = root();
    config(&session, WINDOW, &golden_dirs(WINDOW));
    let cases = [
        ("plot plot.yml --plots nonsense", "maestro: unknown plot `nonsense`"),
        ("plot missing.yml", "maestro: no such file `missing.yml`"),
    ];
    for (line, message) in cases {
        let done = session.run(line);
        assert_eq!((done.code, one_line(&done)), (2, message), "{line}");
    }
    for (text, message) in [
        ("nonsense:\n  - a\n", "unknown plot `nonsense`"),
        ("throughput_latency_with_consistency_window: []\n", "no runs for"),
        ("throughput_latency_with_consistency_window:\n", "no runs for"),
        ("{}\n", "names no figure"),
        ("", "the file is empty"),
        ("- a\n- b\n", "plot.yml"),
        ("throughput_latency_with_consistency_window:\n  - a: 1\n", "plot.yml"),
    ] {
        session.write("plot.yml", text);
        let done = session.run("plot plot.yml");
        assert_eq!(done.code, 2, "{text}: {}", done.stderr);
        assert!(one_line(&done).contains(message), "{text}: {}", done.stderr);
        assert!(done.stderr.lines().count() <= 2, "{}", done.stderr);
    }
    assert!(!session.path("plots").exists());
}

#[test]
fn a_bad_run_is_named_and_the_others_are_drawn() {
    let session = Session::new();
    let dirs = golden_dirs(WINDOW);
    for dir in &dirs[..4] {
        for file in ["info.yml", "client00.out", "traces.csv"] {
            session.write(&format!("{dir}/{file}"), fs::read(fixtures().join(dir).join(file)).unwrap());
        }
    }
    session.write(&format!("{}/client00.out", dirs[1]), "Running 5m test\n");
    session.write(&format!("{}/traces.csv", dirs[2]), "ts;consistency_bool;post_notification_diff_ms\nx;perhaps;1\n");
    let mut named = dirs[..4].to_vec();
    named.push("gather/nowhere".into());
    config(&session, WINDOW, &named);
    let done = session.ok("plot plot.yml --format svg");
    let warnings: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(warnings.len(), 3, "{}", done.stderr);
    assert!(warnings[0].contains(&dirs[1]) && warnings[0].contains("`Requests/sec:`"), "{}", warnings[0]);
    assert!(warnings[1].contains("line 2: neither True nor False"), "{}", warnings[1]);
    assert!(warnings[2].contains("no such file") && warnings[2].contains("gather/nowhere"), "{}", warnings[2]);
    assert!(drawing(&drawn(&session, "svg")).contains("3 of 5 runs left out."));

    config(&session, WINDOW, &["gather/nowhere".to_owned()]);
    let done = session.run("plot plot.yml");
    assert_eq!(done.code, 2);
    assert!(one_line(&done).contains("none of its runs can be used"), "{}", done.stderr);
}

#[test]
fn all_clients_of_a_run_are_merged() {
    let session = Session::new();
    let dir = &golden_dirs(WINDOW)[0];
    for file in ["info.yml", "client00.out", "traces.csv"] {
        session.write(&format!("{dir}/{file}"), fs::read(fixtures().join(dir).join(file)).unwrap());
    }
    session.write(&format!("{dir}/client01.out"), fs::read(fixtures().join(dir).join("client00.out")).unwrap());
    let data = data(&session, WINDOW, std::slice::from_ref(dir));
    let throughput = data["df"]["rows"][0][5].as_f64().unwrap();
    assert!((throughput - 2.0 * 49.89).abs() < 1e-9, "{throughput}");
    let latency = data["df"]["rows"][0][6].as_f64().unwrap();
    assert!((latency - 62.5).abs() < 0.7, "{latency}");
}

#[test]
fn a_dry_run_draws_nothing() {
    let session = root();
    config(&session, WINDOW, &golden_dirs(WINDOW));
    let done = session.ok("plot plot.yml --dry-run");
    assert!(done.stdout.starts_with(&format!("draw {WINDOW} from 40 runs: ")), "{}", done.stdout);
    assert!(!session.path("plots").exists());
}

/// The runs of the golden window figure with one extra file each that only maestro's own runs have.
fn own_runs() -> Session {
    let session = Session::new();
    for dir in golden_dirs(WINDOW) {
        for file in ["info.yml", "client00.out", "traces.csv", "traces.info"] {
            session.write(&format!("{dir}/{file}"), fs::read(fixtures().join(&dir).join(file)).unwrap());
        }
        let mut timeline = "second,due,sent,ok,errors,p50_us,p90_us,p99_us\n".to_owned();
        for second in 0..30 {
            timeline += &format!(
                "{second},160,160,{},0,{},70000,{}\n",
                148 + second % 5,
                60_000 + second * 100,
                90_000 + second * 3000
            );
        }
        session.write(&format!("{dir}/timeline.csv"), timeline);
    }
    session
}

#[test]
fn per_inconsistencies_has_the_golden_boxes() {
    let session = root();
    let name = "per_inconsistencies";
    let expected = golden(name);
    let data = data(&session, name, &golden_dirs(name));
    let rows = data["df"]["rows"].as_array().unwrap();
    for (row, run) in rows.iter().zip(expected["data"].as_array().unwrap()) {
        let (pair, percent) = run.as_object().unwrap().iter().next().unwrap();
        assert_eq!(row[0].as_str().unwrap().replace("->", "$\\rightarrow$"), *pair);
        assert_value(&row[3], percent, "percent");
    }
    for (pair, theirs) in expected["boxplot_stats"].as_object().unwrap() {
        let ours = &data["boxplot_stats"][pair.replace("$\\rightarrow$", "->")];
        for (key, value) in theirs.as_object().unwrap() {
            assert_value(&ours[key], value, key);
        }
    }
    assert_drawing(&session, "per_inconsistencies.svg");
}

#[test]
fn the_visibility_overhead_has_the_golden_medians_at_every_rate() {
    let name = "visibility_latency_overhead";
    let expected = golden(name);
    for dirs in [golden_dirs(name), disordered(&golden_dirs(name))] {
        let session = root();
        let data = data(&session, name, &dirs);
        assert_frame(&data["df"], &expected["df"]);
        // The Python tool drew the first rate only: it is the first row of each pair here.
        let rows = data["bars"]["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 10);
        for (pair, bars) in expected["bars"]["rows"].as_array().unwrap().iter().enumerate() {
            assert_value(&rows[pair * 5][2], &bars[0], "Original");
            assert_value(&rows[pair * 5][3], &bars[1], "Antipode");
        }
        assert_drawing(&session, "visibility_latency_overhead.svg");
    }
}

#[test]
fn an_overhead_below_zero_stays_below_zero() {
    let session = Session::new();
    for (dir, kind, windows) in [("a", "baseline", "90\n"), ("b", "antipode", "81\n")] {
        session.write(&format!("{dir}/info.yml"), format!("rps: 50\ntype: {kind}\nzone_pair: US->EU\n"));
        session.write(&format!("{dir}/client00.out"), " 90.000%   12.00ms\nRequests/sec:     49.89\n");
        session
            .write(&format!("{dir}/traces.csv"), format!("consistency_bool;post_notification_diff_ms\nTrue;{windows}"));
    }
    let dirs = ["a".to_owned(), "b".to_owned()];
    let overhead = data(&session, "visibility_latency_overhead", &dirs);
    assert_eq!(overhead["bars"]["rows"][0][3], -9.0);
    assert!(drawing(&drawn(&session, "svg")).contains(">\u{2212} 9</text>"));
    fs::remove_dir_all(session.path("plots")).unwrap();
    let window = data(&session, WINDOW, &dirs);
    assert_eq!(window["bars__US->EU"]["rows"][0][2], -9.0);
    assert_drawing(&session, "window_negative.svg");
}

#[test]
fn throughput_latency_shows_the_middle_round_whatever_the_order() {
    let name = "throughput_latency";
    let dirs = golden_dirs(WINDOW);
    let session = root();
    let a = data(&session, name, &dirs);
    // US->EU, baseline, 150 req/s: rounds (147.31, 402) and (147.20, 407); sorted, index 2 / 2 is the first of them.
    let row = a["df"]["rows"].as_array().unwrap().iter().find(|row| row[0] == 150 && row[1] == "US->EU").unwrap();
    assert_eq!((&row[2], &row[3], &row[4]), (&"Original".into(), &402.0.into(), &147.31.into()));
    assert_drawing(&session, "throughput_latency.svg");
    assert_eq!(data(&root(), name, &disordered(&dirs))["df"], a["df"]);
}

#[test]
fn visibility_over_throughput_has_the_golden_medians() {
    let session = root();
    let data = data(&session, "throughput_visibility_latency", &golden_dirs(WINDOW));
    assert_frame(&data["df"], &golden("visibility_latency_overhead")["df"]);
    assert_drawing(&session, "throughput_visibility_latency.svg");
}

#[test]
fn storage_overhead_is_a_figure_and_a_table() {
    let session = root();
    config(&session, "storage_overhead", &golden_dirs(WINDOW));
    let done = session.ok("plot plot.yml --format svg");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines[0].starts_with("storage ") && lines[1].starts_with("mongo ") && lines[2].starts_with("rabbitmq "));
    assert!(lines[3].ends_with(".svg"), "{}", done.stdout);
    assert_drawing(&session, "storage_overhead.svg");
}

#[test]
fn the_figures_of_maestros_own_runs_are_drawn() {
    for name in ["window_cdf", "violation_rate", "latency_spectrum", "timeline"] {
        let session = own_runs();
        let data = data(&session, name, &golden_dirs(WINDOW));
        assert!(!data["df"]["rows"].as_array().unwrap().is_empty());
        assert_drawing(&session, &format!("{name}.svg"));
    }
    let session = root();
    config(&session, "timeline", &golden_dirs(WINDOW));
    let done = session.run("plot plot.yml");
    assert_eq!(done.code, 2);
    assert!(one_line(&done).contains("timeline.csv"), "{}", done.stderr);
}

#[test]
fn every_format_is_written_and_nothing_is_overwritten() {
    let session = root();
    config(&session, WINDOW, &golden_dirs(WINDOW));
    for _ in 0..2 {
        session.ok("plot plot.yml --format svg,pdf,csv,pgf --out figures");
    }
    let mut names: Vec<String> = fs::read_dir(session.path("figures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 14, "{names:?}");
    let first = |ending: &str| {
        names.iter().find(|name| name.ends_with(ending)).map(|name| session.path("figures").join(name)).unwrap()
    };
    assert!(fs::read(first(".pdf")).unwrap().starts_with(b"%PDF-"));
    let tex = fs::read_to_string(first(".pgf")).unwrap();
    assert_eq!(tex.matches("\\nextgroupplot").count(), 4);
    assert!(tex.contains("(49.835,62.905)"), "{tex}");
    let csv = fs::read_to_string(
        names
            .iter()
            .map(|name| session.path("figures").join(name))
            .find(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.ends_with(".csv") && name.matches('.').count() == 1
            })
            .unwrap(),
    )
    .unwrap();
    assert!(csv.starts_with("zone_pair,type,rps,latency_90,"), "{csv}");
    assert_eq!(csv.lines().count(), 21);
}

#[test]
fn void_runs_are_left_out_unless_there_is_nothing_else() {
    let session = Session::new();
    let record = |status: &str| {
        format!(
            "format: 1\nmaestro: 0.1.0\nrevision: abc\napp: socialNetwork\ntarget: embedded\ndeployment: d\ntag: t\n\
             placement:\n  path: configs/x.yml\n  sha256: '00'\n  zone_pair: US->EU\nvariant: baseline\n\
             endpoint: compose-post\nworkload:\n  rate: 50\n  arrivals: constant\n  connections: 4\n  threads: 2\n  \
             clients: 1\n  duration_s: 10\n  warmup_s: 1\n  seed: 7\n  pace: exact\n  timeout_s: 2\n\
             started_us: 1760000000000000\noutcome:\n  status: {status}\n  reasons: [the client was late]\n"
        )
    };
    for (dir, status) in [("good", "flagged"), ("void", "void")] {
        session.write(&format!("{dir}/run.yml"), record(status));
        session.write(&format!("{dir}/client00.out"), " 90.000%   12.00ms\nRequests/sec:     49.89\n");
    }
    config(&session, "throughput_latency", &["good".into(), "void".into()]);
    let done = session.ok("plot plot.yml --format svg");
    assert_eq!(done.stderr, "warning: throughput_latency: left out `void`: void: the client was late\n");
    let svg = drawing(&drawn(&session, "svg"));
    assert!(
        svg.contains("Flagged or incomplete: 1 of 1 run (the client was late).") && !svg.contains("NOT TO BE USED")
    );
    fs::remove_dir_all(session.path("plots")).unwrap();
    config(&session, "throughput_latency", &["void".into()]);
    let done = session.ok("plot plot.yml --format svg");
    let alarm = "NOT TO BE USED: this run is void (the client was late)";
    assert_eq!(done.stderr, format!("warning: throughput_latency: {alarm}\n"));
    assert!(drawing(&drawn(&session, "svg")).contains(alarm));
}

#[test]
fn one_bad_figure_does_not_hide_the_others() {
    let session = root();
    let dirs = golden_dirs("per_inconsistencies");
    let list: String = dirs.iter().map(|dir| format!("  - {dir}\n")).collect();
    session.write("plot.yml", format!("timeline:\n{list}per_inconsistencies:\n{list}"));
    let done = session.run("plot plot.yml --format svg");
    assert_eq!(done.code, 2);
    assert!(drawn(&session, "svg").ends_with(done.stdout.trim().rsplit('/').next().unwrap()));
    assert!(
        done.stderr.lines().any(|line| line.starts_with("maestro: `timeline`: none of its runs")),
        "{}",
        done.stderr
    );
    let only = session.ok("plot plot.yml --plots per_inconsistencies --format svg");
    assert_eq!(only.stdout.lines().count(), 1);
}
