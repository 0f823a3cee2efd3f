#!/usr/bin/env bash
# The load generator beside its peers on one core each, against a small server of its own on loopback: requests/s and
# CPU when saturated, with random bodies, CPU at constant rates, memory. Every round runs all tools one after the other;
# ratios are taken within a round, and what is printed is their median with minimum and maximum.
#
# usage: benches/peers.sh [PART...]         PART: saturated compose rates connections memory   (all without one)
#        ROUNDS=5 SECONDS_EACH=4            how often, how long
#        MAESTRO=path TOOLS=dir             programs: default target/release/maestro and target/release/examples
#        WRK2=path OHA=path                 peers that Debian does not have; oha is built from crates.io if missing (OHA=no: not)
#        CLIENT="taskset -c 0"              what the tools are started with, and the server; on a machine that is not
#        SERVER="taskset -c 1"              idle e.g. "chrt -f 10 taskset -c 0" (real-time, as root)
set -euo pipefail
cd "$(dirname "$0")/.."
. deps/packages.sh

rounds=${ROUNDS:-5}
length=${SECONDS_EACH:-4}
maestro=${MAESTRO:-target/release/maestro}
tools=${TOOLS:-target/release/examples}
client=${CLIENT:-taskset -c 0}
server=${SERVER:-taskset -c 1}
parts=${*:-saturated compose rates connections memory}

install_packages "wrk hey time jq util-linux" || true
for program in "$maestro" "$tools/tinysrv" "$tools/epoll_max"; do
    [ -x "$program" ] || { echo "no $program: cargo build --release --bins --examples" >&2; exit 3; }
done
oha=${OHA:-$(command -v oha || true)}
if [ "$oha" = no ]; then
    oha=""
    echo "oha left out as asked"
elif [ -z "$oha" ]; then
    if cargo install --quiet --locked oha --root target/peers 2>target/peers.log; then
        oha=target/peers/bin/oha
    else
        echo "oha left out: $(grep -m1 error target/peers.log || echo 'cargo install oha failed')"
    fi
fi
[ -n "${WRK2:-}" ] || echo "wrk2 left out: WRK2=path names a binary"
for tool in wrk hey; do command -v $tool >/dev/null || echo "$tool left out: not installed"; done

# Thousands of connections are thousands of files on either side.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
work=$(mktemp -d)
results=$work/results
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

$server "$tools/tinysrv" >"$work/port" &
until [ -s "$work/port" ]; do sleep 0.05; done
port=$(cat "$work/port")
url=http://127.0.0.1:$port

# The native compose-post, without a deployment: what `wkld` gives to a client host.
native() {
    local rate=$1 seconds=$2
    cat <<JSON
{"format": 1, "workload": {"pieces": [{"duration_ns": ${seconds}000000000, "from": $rate.0, "to": $rate.0}],
 "arrivals": "constant", "seed": 1, "warmup_ns": 0, "connections": 16, "max_connections": 16, "threads": 1,
 "pace": "exact", "timeout_ns": 10000000000, "drain_ns": 0, "client": 0, "clients": 1},
 "requests": {"kind": "endpoint", "app": "socialNetwork", "endpoint": "compose-post", "origin": "$url", "replica": "$url"},
 "trust": "public", "probe": 0.0}
JSON
}

# measure PART TOOL COMMAND...: one line `part tool requests/s cpu_us/request rss_MB p50_us` to the results.
measure() {
    local part=$1 tool=$2 rate cpu
    shift 2
    command -v "$1" >/dev/null || return 0
    if ! $client /usr/bin/time -o "$work/time" -f '%U %S %M %e' "$@" <"${input:-/dev/null}" >"$work/out" 2>"$work/err"; then
        echo "$part $tool failed: $(tail -1 "$work/err")"
        return 0
    fi
    case $tool in
        epoll_max) rate=$(awk '{print $1}' "$work/out") ;;
        native) rate=$(jq '.ok_in_time / .measured_s' "$work/out") ;;
        *) rate=$(awk '/Requests\/sec:/ {print $2}' "$work/out") ;;
    esac
    cpu=$(tail -1 "$work/time" | awk -v n="$rate" -v s="${seconds:-$length}" '{print ($1 + $2) * 1e6 / (n * s)}')
    echo "$part $tool $rate $cpu $(tail -1 "$work/time" | awk '{print $3 / 1024}')" >>"$results"
}

# maestro_at RATE CONNECTIONS SECONDS OPTIONS...: a run against the URL, wrk2's text on stdout.
maestro_at() { echo "$maestro" wkld --url "$url/" -r "$1" -c "$2" -d "$3" -t 1 "${@:4}"; }

# More than any client can send: everybody is saturated.
HOPELESS=400000

saturated() {
    for round in $(seq "$rounds"); do
        measure saturated epoll_max "$tools/epoll_max" "$port" 16 "$length"
        measure saturated maestro $(maestro_at $HOPELESS 16 "$length" --drain 0)
        measure saturated wrk wrk -t1 -c16 -d"${length}s" "$url/"
        [ -z "${WRK2:-}" ] || measure saturated wrk2 "$WRK2" -t1 -c16 -d"${length}s" -R$HOPELESS "$url/"
        [ -z "$oha" ] || TOKIO_WORKER_THREADS=1 measure saturated oha "$oha" --no-tui -c 16 -z "${length}s" "$url/"
        measure saturated hey hey -cpus 1 -c 16 -z "${length}s" "$url/"
    done
    table saturated epoll_max
}

compose() {
    for round in $(seq "$rounds"); do
        native $HOPELESS "$length" >"$work/assignment"
        input=$work/assignment measure compose native "$maestro" worker
        measure compose script $(maestro_at $HOPELESS 16 "$length" --drain 0 -script benches/tools/compose.lua)
        measure compose wrk wrk -t1 -c16 -d"${length}s" -s benches/tools/compose.lua "$url/"
        [ -z "${WRK2:-}" ] ||
            measure compose wrk2 "$WRK2" -t1 -c16 -d"${length}s" -R$HOPELESS -s benches/tools/compose.lua "$url/"
    done
    table compose wrk
}

rates() {
    for rate in 1000 10000; do
        for round in $(seq "$rounds"); do
            for pace in exact coarse; do
                measure "rate-$rate" "maestro-$pace" $(maestro_at $rate 16 "$length" --pace $pace)
            done
            [ -z "${WRK2:-}" ] || measure "rate-$rate" wrk2 "$WRK2" -t1 -c16 -d"${length}s" -R$rate "$url/"
            [ -z "$oha" ] || TOKIO_WORKER_THREADS=1 \
                measure "rate-$rate" oha "$oha" --no-tui -c 16 -z "${length}s" -q $rate --latency-correction "$url/"
            measure "rate-$rate" hey hey -cpus 1 -c 16 -z "${length}s" -q $((rate / 16)) "$url/"
        done
        table "rate-$rate" maestro-exact
    done
}

connections() {
    for round in $(seq "$rounds"); do
        for count in 16 256 2048; do
            measure connections "maestro-$count" $(maestro_at 10000 $count "$length")
            [ -z "${WRK2:-}" ] || measure connections "wrk2-$count" "$WRK2" -t1 -c$count -d"${length}s" -R10000 "$url/"
        done
    done
    table connections maestro-16
}

memory() {
    for seconds in 2 8 20; do
        measure memory "maestro-${seconds}s" $(maestro_at $HOPELESS 16 $seconds --drain 0)
        [ -z "$oha" ] || TOKIO_WORKER_THREADS=1 measure memory "oha-${seconds}s" "$oha" --no-tui -c 16 -z "${seconds}s" "$url/"
        measure memory "hey-${seconds}s" hey -cpus 1 -c 16 -z "${seconds}s" "$url/"
    done
    table memory maestro-2s
}

# table PART BASE: medians with minimum and maximum, and ratios to BASE within each round.
table() {
    awk -v part="$1" -v base="$2" '
        function sort(a, n,    i, j, t) { for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j-1] > a[j]; j--) { t = a[j]; a[j] = a[j-1]; a[j-1] = t } }
        function spread(key, form, n,    a, i) {
            for (i = 1; i <= n; i++) a[i] = value[key, i]
            sort(a, n)
            return sprintf(form " (" form ".." form ")", a[int((n + 1) / 2)], a[1], a[n])
        }
        $1 == part {
            if (!($2 in count)) order[++tools] = $2
            i = ++count[$2]
            value[$2, "rate", i] = $3; value[$2, "cpu", i] = $4; value[$2, "rss", i] = $5
        }
        END {
            printf "\n%-16s %-32s %-22s %-26s %-22s %s\n", part, "requests/s", "ratio", "CPU us/request", "ratio", "RSS MB"
            for (k = 1; k <= tools; k++) {
                tool = order[k]; n = count[tool]
                for (i = 1; i <= n; i++) {
                    b = i <= count[base] ? i : count[base]
                    value[tool, "r", i] = value[tool, "rate", i] / value[base, "rate", b]
                    value[tool, "c", i] = value[tool, "cpu", i] / value[base, "cpu", b]
                }
                printf "%-16s %-32s %-22s %-26s %-22s %s\n", tool, spread(tool SUBSEP "rate", "%.0f", n), spread(tool SUBSEP "r", "%.2f", n), \
                    spread(tool SUBSEP "cpu", "%.2f", n), spread(tool SUBSEP "c", "%.2f", n), spread(tool SUBSEP "rss", "%.1f", n)
            }
        }' "$results"
}

echo "$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) CPUs, Linux $(uname -r), $rounds rounds of $length s"
for part in $parts; do $part; done
