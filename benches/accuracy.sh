#!/usr/bin/env bash
# What the load generator says against what is known: the schedule as the server sees it, latencies of a server that
# freezes, of a client that was stopped, and of a run that ends inside a freeze; and what the consistency probe costs the
# schedule of the built-in miniature.
#
# usage: benches/accuracy.sh [PART...]      PART: schedule poisson freeze stall end probe   (all without one)
#        ROUNDS=3 SECONDS_EACH=5            of the schedule and poisson parts: how often, how long
#        MAESTRO=path TOOLS=dir             programs: default target/release/maestro and target/release/examples
#        CLIENT="taskset -c 0"              what the generator is started with, and the server; on a machine that is not
#        SERVER="taskset -c 1"              idle e.g. "chrt -f 10 taskset -c 0" (real-time, as root)
set -euo pipefail
cd "$(dirname "$0")/.."
. deps/packages.sh

rounds=${ROUNDS:-3}
length=${SECONDS_EACH:-5}
maestro=${MAESTRO:-target/release/maestro}
tools=${TOOLS:-target/release/examples}
client=${CLIENT:-taskset -c 0}
server=${SERVER:-taskset -c 1}
parts=${*:-schedule poisson freeze stall end probe}

install_packages "jq util-linux" || true
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

# serve OPTIONS...: a fresh server; its address in $url.
serve() {
    rm -f "$work/port" "$work/log"
    $server "$tools/tinysrv" "$@" >"$work/port" &
    serving=$!
    until [ -s "$work/port" ]; do sleep 0.05; done
    url=http://127.0.0.1:$(cat "$work/port")/
}

unserve() {
    kill "$serving"
    wait "$serving" 2>/dev/null || true
}

# load RATE SECONDS OPTIONS...: 16 connections, one thread; the summary in $work/summary.
load() { $client "$maestro" --json wkld --url "$url" -r "$1" -d "$2" -c 16 -t 1 "${@:3}" >"$work/summary"; }

# Deviation from the ideal grid (the median offset removed) and gaps, from the server's arrival stamps.
grid() {
    local ns
    ns=$(awk -v rate="$1" 'BEGIN {printf "%.6f", 1e9 / rate}')
    sort -n "$work/log" | awk -v gap="$ns" 'NR == 1 {first = $1} {printf "%.0f\n", $1 - first - (NR - 1) * gap}' >"$work/offsets"
    local median
    median=$(sort -n "$work/offsets" | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}')
    awk -v m="$median" '{d = $1 - m; print d < 0 ? -d : d}' "$work/offsets" | sort -n |
        awk '{a[NR] = $1} END {printf "deviation p50 %.1f us, p99 %.1f us, ", a[int(NR * 0.5 + 0.5)] / 1e3, a[int(NR * 0.99 + 0.5)] / 1e3}'
    variation
}

# Over the whole, and the median over seconds: one stall of the machine decides the former.
variation() {
    sort -n "$work/log" | awk '
        function close_second() { if (m > 9) print "second", sqrt(t / m - (u / m) * (u / m)) / (u / m); m = t = u = 0 }
        NR == 1 {first = $1}
        NR > 1 {
            g = $1 - last; n++; s += g; q += g * g
            if (int(($1 - first) / 1e9) != second) { close_second(); second = int(($1 - first) / 1e9) }
            m++; u += g; t += g * g
        }
        {last = $1}
        END {close_second(); k = s / n; print "whole", sqrt(q / n - k * k) / k, n}' | sort -k1,1 -k2,2n |
        awk '$1 == "second" {a[++c] = $2} $1 == "whole" {
            printf "coefficient of variation %.3f over %d arrivals, median of the seconds %.3f\n", $2, $3, a[int((c + 1) / 2)]}'
}

schedule() {
    for rate in 1000 10000; do
        for pace in ${PACES:-exact coarse spin}; do
            for round in $(seq "$rounds"); do
                serve --log "$work/log"
                load $rate "$length" --pace "$pace"
                unserve
                printf '%5d/s %-7s ' $rate "$pace"
                grid $rate
            done
        done
    done
}

poisson() {
    for rate in 1000 10000; do
        for round in $(seq "$rounds"); do
            serve --log "$work/log"
            load $rate "$length" --arrivals poisson --seed "$round"
            unserve
            printf '%5d/s poisson ' $rate
            variation
        done
    done
}

# shown NAME TRUTH: percentiles beside what they must be.
shown() {
    jq -r '"p50 \(.latency_us.p50 / 1000) p90 \(.latency_us.p90 / 1000) p99 \(.latency_us.p99 / 1000) p99.9 \(.latency_us.p99_9 / 1000) mean \(.latency_us.mean / 1000) ms; \(.ok) answers, \(.unfinished) unfinished, verdict \(.verdict)"' \
        "$work/summary" | sed "s/^/$1: /"
    echo "    truth: $2"
}

# A fifth of the requests falls into freezes and is slower than all others, so the median of all is the 62.5th percentile
# of those others.
freeze() {
    serve
    load 1000 4 --out "$work/unfrozen"
    unserve
    serve --freeze 5000,1000,0
    load 1000 20
    unserve
    local p50
    p50=$(awk '$2 ~ /^[0-9.]+$/ {
        if ($2 >= 0.625) { print value + ($1 - value) * (0.625 - share) / ($2 - share); exit }
        value = $1; share = $2}' "$work/unfrozen/latency.hgrm")
    shown "frozen 1 s of every 5 s" "p50 $p50 (of a run without freeze), p90 500, p99 950, p99.9 995, mean 100 ms"
}

stall() {
    serve
    $client "$maestro" --json wkld --url "$url" -r 1000 -d 20 -c 16 -t 1 >"$work/summary" &
    local generator=$!
    sleep 10
    kill -STOP $generator
    sleep 1
    kill -CONT $generator
    wait $generator
    unserve
    shown "client stopped for 1 s of 20 s" "p90 service time, p99 800, p99.9 980, mean 25 ms"
}

end() {
    serve --freeze-from 2100
    load 1000 3 --drain 0
    unserve
    shown "frozen from 2.1 s to the end at 3 s" "900 of 3000 without an end, p99 at least 870 ms"
}

# The miniature's compose-post with and without the probe, in turn.
probe() {
    local site=$work/site binary here=$PWD
    binary=$(realpath "$maestro")
    mkdir -p "$site"
    cd "$site"
    $server "$binary" --embedded socialNetwork deploy -config "$here/configs/embedded/socialNetwork/us-eu.yml" -clients 1 >/dev/null
    $server "$binary" --embedded socialNetwork run >/dev/null
    for round in 1 2 3; do
        for fraction in 0 0.1; do
            $client "$binary" --embedded socialNetwork --json wkld -E compose-post -r 150 -d 5 -c 16 --probe $fraction >"$work/run"
            jq -r '"probe '$fraction': woke late p50 \(.lag_woke_late_us.p50) p99 \(.lag_woke_late_us.p99) us, latency p50 \(.latency_us.p50) p99 \(.latency_us.p99) us, probed \(.probe.probed // 0)"' "$work/run"
        done
    done
    "$binary" --embedded socialNetwork clean >/dev/null
    cd "$here"
}

for part in $parts; do $part; done
