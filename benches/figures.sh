#!/usr/bin/env bash
# The window figure of forty run directories, from start to exit: wall time and peak memory of `maestro plot` (SVG, and
# SVG with PNG at 600 dpi) and, where python3 has seaborn, of the same figure made with it.
#
# usage: benches/figures.sh [ROUNDS]      (PYTHON=... and MAESTRO=... choose the programs)
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-10}
maestro=${MAESTRO:-target/release/maestro}
python=${PYTHON:-python3}
root=tests/fixtures/plots
figure=throughput_latency_with_consistency_window
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Runs a command ROUNDS times and prints min, median and max of its wall time (ms) and its peak memory (MB).
measure() {
    local name=$1
    shift
    "$python" - "$name" "$rounds" "$@" <<'PY'
import os, subprocess, sys, time
name, rounds, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
walls, peak = [], 0
for _ in range(rounds):
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    walls.append((time.perf_counter() - start) * 1000)
    peak = max(peak, usage.ru_maxrss / 1024)
    assert status == 0, (command, status)
walls.sort()
print(f"{name:24} {walls[0]:8.0f} {walls[len(walls) // 2]:8.0f} {walls[-1]:8.0f} ms {peak:8.0f} MB")
PY
}

printf '%-24s %8s %8s %8s %12s\n' "$rounds rounds" min median max peak
plot() { measure "$1" "$maestro" --root "$root" plot "$root/plots_all.yml" --plots "$figure" --out "$out" --format "$2"; }
plot "maestro svg" svg
plot "maestro svg and png" svg,png
plot "maestro pdf" pdf
measure "maestro report, 40 runs" "$maestro" --root "$root" report "$root/plots_all.yml" -o "$out/report.html"
if "$python" -c 'import seaborn, pandas, yaml' 2>/dev/null; then
    measure "python, seaborn png" "$python" benches/figures_seaborn.py "$root" "$root/plots_all.yml" "$out/seaborn.png"
else
    echo "python3 has no seaborn: not compared"
fi
