#!/usr/bin/env bash
# The same ten steps that do nothing on the same hosts, one step after the other, all hosts at once: over this program's
# SSH module, with ssh and one multiplexed connection per host, and with ansible-core at its defaults (where it is
# installed). Every measurement begins without a connection and ends when everything has ended.
#
# usage: benches/ansible.sh SSH_CONFIG HOST...    (ROUNDS=5; STEPS_BIN=..., ANSIBLE=... choose the programs)
set -eu
cd "$(dirname "$0")/.."
config=$(realpath "$1")
shift
rounds=${ROUNDS:-5}
ansible=${ANSIBLE:-ansible-playbook}
steps=${STEPS_BIN:-$(ls -t target/release/deps/ssh_steps-* 2>/dev/null | grep -v '\.d$' | head -n 1)}
[ -x "$steps" ] || { echo "no ssh_steps: cargo build --release --benches makes it" >&2; exit 2; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

now() { date +%s%N; }

# Median of ROUNDS wall times of a command, ms, into $median.
measure() {
    local name=$1 begun
    shift
    : > "$out/times"
    for _ in $(seq "$rounds"); do
        begun=$(now)
        "$@" > "$out/log" 2>&1 || { cat "$out/log" >&2; echo "$name failed" >&2; exit 1; }
        echo $((($(now) - begun) / 1000000)) >> "$out/times"
    done
    median=$(sort -n "$out/times" | sed -n "$(((rounds + 1) / 2))p")
    printf '%-28s %8s %8s %8s ms\n' "$name" "$(sort -n "$out/times" | head -n 1)" "$median" "$(sort -n "$out/times" | tail -n 1)"
}

# Ten steps with ssh: a master connection per host, then one session per step and host.
with_ssh() {
    local host
    for host in "$@"; do
        ssh -F "$config" -o ControlPath="$out/%n" -o ControlMaster=yes -o ControlPersist=60 -o BatchMode=yes -fN "$host" &
    done
    wait
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        for host in "$@"; do
            ssh -F "$config" -o ControlPath="$out/%n" -o ControlMaster=no "$host" true &
        done
        wait
    done
    for host in "$@"; do
        ssh -F "$config" -o ControlPath="$out/%n" -O exit "$host" &
    done
    wait
}

with_ansible() {
    ANSIBLE_SSH_ARGS="-F $config -C -o ControlMaster=auto -o ControlPersist=60s" \
        ANSIBLE_SSH_CONTROL_PATH_DIR="$out/$RANDOM" ANSIBLE_NOCOWS=1 \
        "$ansible" -i "$out/hosts" "$out/steps.yml"
}

printf '%-28s %8s %8s %8s\n' "$rounds rounds, $# hosts" min median max
measure "this program" "$steps" "$config" "$@"
ours=$median
measure "ssh, multiplexed" with_ssh "$@"
echo "this program takes $(awk "BEGIN { printf \"%.2f\", $ours / $median }") times as long as ssh"
if command -v "$ansible" > /dev/null; then
    printf '%s\n' "$@" > "$out/hosts"
    {
        printf -- '- hosts: all\n  tasks:\n'
        for _ in 1 2 3 4 5 6 7 8 9 10; do printf -- '    - command: "true"\n'; done
    } > "$out/steps.yml"
    measure "ansible-core, defaults" with_ansible
    echo "ansible takes $(awk "BEGIN { printf \"%.1f\", $median / $ours }") times as long as this program"
else
    echo "skipped: ansible-core is not installed"
fi
