//! Facts about this host, from `/proc` and `/sys`.

use crate::store::HostFacts;

/// What is known about the host this process runs on.
pub(crate) fn facts() -> HostFacts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kilobytes: u64 = memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    HostFacts {
        name: read("/proc/sys/kernel/hostname").trim().to_owned(),
        cpu: field(&read("/proc/cpuinfo"), "model name"),
        cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_bytes: kilobytes * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
        clock_synchronised: std::path::Path::new("/run/systemd/timesync/synchronized").exists(),
    }
}
