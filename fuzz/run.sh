#!/usr/bin/env bash
# Fuzzes the readers of everything that comes from outside, each for so long, one after the other.
#   fuzz/run.sh SECONDS [TARGET...]   all targets when none is named
#   fuzz/run.sh nightly               60 s each
# Needs nothing but the stable toolchain and a C++ compiler. One line per target goes to standard output:
#   DATE TARGET SECONDS s EXECUTIONS executions COVERAGE edges RSS MB ok|FOUND
# Inputs that lead somewhere new stay in fuzz/corpus/TARGET, findings in fuzz/artifacts/TARGET. Ends with 1 after a finding.
# MAESTRO_FUZZ_BIN names a program that is built already.
set -euo pipefail
cd "$(dirname "$0")"

seconds="${1:?fuzz/run.sh SECONDS|nightly [TARGET...]}"
shift
[ "$seconds" = nightly ] && seconds=60

bin="${MAESTRO_FUZZ_BIN:-}"
if [ -z "$bin" ]; then
    # The same versions of everything as the package.
    [ -f Cargo.lock ] || cp ../Cargo.lock Cargo.lock
    RUSTC_WRAPPER="$PWD/rustc.sh" OPENSSL_STATIC=1 cargo build --quiet --target-dir target >&2
    bin=target/debug/any
fi

# Without a name the program ends with the list of them.
known="$(MAESTRO_FUZZ='' "$bin" 2>&1 | sed -n 's/^MAESTRO_FUZZ names no target; there are: //p' || true)"
found=0
for target in ${*:-$known}; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log="artifacts/$target/log"
    result=ok
    # What is read with 512 MB and in 20 s for 64 kB of input is not bounded.
    MAESTRO_FUZZ="$target" MAESTRO_FUZZ_EXAMPLES="corpus/$target" nice -n 19 "$bin" "corpus/$target" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=512 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$log" 2>&1 &
    pid=$!
    wait "$pid" || result=FOUND
    # The folder that readers of files were given; others may be at work beside this one.
    rm -rf "/dev/shm/maestro-fuzz-$pid-"*
    [ "$result" = ok ] || found=1
    awk -v date="$(date -u +%F)" -v target="$target" -v seconds="$seconds" -v result="$result" '
        { if (match($0, / cov: [0-9]+/)) edges = substr($0, RSTART + 6, RLENGTH - 6) }
        /^stat::number_of_executed_units:/ { runs = $2 }
        /^stat::peak_rss_mb:/ { rss = $2 }
        /^Done [0-9]+ runs in [0-9]+ second/ { seconds = $5 }
        END { printf "%s %-14s %5d s %10d executions %6d edges %4d MB %s\n", date, target, seconds, runs, edges, rss, result }
    ' "$log"
done
exit "$found"
