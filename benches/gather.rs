//! How long `maestro gather` takes, and how much memory, for 1k, 10k, 100k and 1M traces (5.9 kB each) from a loopback
//! socket, beside `curl -o /dev/null` on the same body.
//!
//! ```text
//! cargo bench --bench gather                 the table
//! cargo bench --bench gather -- 100000       only that size
//! cargo bench --bench gather -- serve 100000 127.0.0.1:16686     only the trace store, for other tools
//! ```

#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic, reason = "a bench prints and may give up")]
#![allow(missing_docs, reason = "nothing here is used elsewhere")]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "support/trace_maker.rs"]
mod trace_maker;
#[path = "support/trace_source.rs"]
mod trace_source;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs of each size; the table shows minimum, median and maximum.
const REPEATS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if args.first().is_some_and(|arg| arg == "serve") {
        let count = args.get(1).and_then(|arg| arg.parse().ok()).expect("serve COUNT [ADDRESS]");
        let address = trace_source::start(count, args.get(2).map_or("127.0.0.1:16686", String::as_str));
        println!("{count} traces at http://{}", address.expect("bind the address"));
        loop {
            std::thread::park();
        }
    }
    let sizes: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000, 100_000, 1_000_000] } else { sizes };
    println!(
        "{:>9}  {:>8}  {:>26}  {:>26}  {:>9}  {:>8}",
        "traces", "MB", "gather s (min/med/max)", "curl s (min/med/max)", "CPU s", "peak MB"
    );
    for size in sizes {
        row(size);
    }
}

fn row(size: u64) {
    let address = trace_source::start(size, "127.0.0.1:0").expect("bind a port");
    let url = format!("http://{address}");
    let repeats = if size >= 1_000_000 { 3 } else { REPEATS };
    let mut gathered = Vec::new();
    let mut curled = Vec::new();
    let (mut peak, mut cpu) = (0, Duration::ZERO);
    for _ in 0..repeats {
        let (took, memory, used) = gather(&url);
        gathered.push(took);
        peak = peak.max(memory);
        cpu = cpu.max(used);
        curled.extend(curl(&url));
    }
    let body = body_mb(size);
    println!(
        "{size:>9}  {body:>8.1}  {:>26}  {:>26}  {:>9.2}  {:>8.1}",
        spread(&mut gathered),
        spread(&mut curled),
        cpu.as_secs_f64(),
        peak as f64 / 1e6
    );
}

fn body_mb(size: u64) -> f64 {
    let mut text = Vec::new();
    trace_maker::TraceMaker::new().write(&trace_maker::Made::numbered(0, trace_source::BEGIN_US, 10_000), &mut text);
    (text.len() as u64 * size) as f64 / 1e6
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let times: &[Duration] = times;
    match times {
        [] => "-".to_owned(),
        [first, .., last] => {
            let median = times[times.len() / 2].as_secs_f64();
            format!("{:.3} / {median:.3} / {:.3}", first.as_secs_f64(), last.as_secs_f64())
        }
        [one] => format!("{:.3}", one.as_secs_f64()),
    }
}

/// Wall time, peak resident memory (bytes) and CPU time of one gather.
fn gather(url: &str) -> (Duration, u64, Duration) {
    let root = tempfile::tempdir().expect("a directory");
    let run = root.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_maestro"));
    command.args(["--embedded", "socialNetwork", "gather", "--drain-timeout", "0", "--jaeger", url, "--run"]).arg(&run);
    command.arg("--root").arg(root.path()).stdout(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().expect("start maestro");
    let (mut peak, mut cpu) = (0, Duration::ZERO);
    loop {
        if let Some(status) = child.try_wait().expect("wait for maestro") {
            assert!(status.success(), "gather failed");
            return (start.elapsed(), peak, cpu);
        }
        peak = peak.max(resident(child.id()));
        cpu = cpu.max(cpu_time(child.id()));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// `VmHWM`: the most memory a process has had, bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// User and system time of a process, at 10 ms resolution.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

fn curl(url: &str) -> Option<Duration> {
    let start = Instant::now();
    let status = Command::new("curl").args(["-s", "-o", "/dev/null", &format!("{url}/api/traces")]).status().ok()?;
    status.success().then(|| start.elapsed())
}
