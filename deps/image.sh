#!/usr/bin/env bash
# An image FROM scratch: the static binary of deps/release.sh, the certificate roots of this machine (the cloud's client
# needs some), and nothing else.
#   deps/image.sh [BINARY]    makes maestro:VERSION on the local engine
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
binary=${1:-dist/maestro-$version-$(uname -m)-linux}
roots=/etc/ssl/certs/ca-certificates.crt
[ -x "$binary" ] || { echo "image: no $binary (make it with deps/release.sh)" >&2; exit 3; }
[ -r "$roots" ] || { echo "image: no $roots (apt-get install ca-certificates)" >&2; exit 3; }
! readelf -d "$binary" | grep -q NEEDED || { echo "image: $binary is not static (make it with deps/release.sh)" >&2; exit 4; }

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/etc/ssl/certs" "$tree/work"
mkdir -m 1777 "$tree/tmp"
install -m 755 "$binary" "$tree/maestro"
install -m 644 "$roots" "$tree$roots"
echo 'root:x:0:0:root:/work:/maestro' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"
echo 'hosts: files dns' >"$tree/etc/nsswitch.conf"
tar -C "$tree" --owner 0 --group 0 --numeric-owner --sort name --mtime @0 -c . |
    docker import --change 'ENTRYPOINT ["/maestro"]' --change 'ENV PATH=/' --change 'WORKDIR /work' \
        --change "LABEL org.opencontainers.image.version=$version" - "maestro:$version" >/dev/null
echo "image: maestro:$version"
