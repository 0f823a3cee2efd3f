#!/usr/bin/env bash
# Everything that a build without network needs: the sources of the locked crates, and cargo's configuration for them.
#   deps/vendor.sh DIR        fills DIR (about 640 MB); then, offline:
#   cargo --config DIR/config.toml install --path . --locked --offline
set -euo pipefail
dir=${1:?usage: deps/vendor.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$(dirname "$0")/.."
cargo vendor --quiet --locked --versioned-dirs "$dir/crates" >/dev/null
cat >"$dir/config.toml" <<CONFIG
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "$dir/crates"
CONFIG
echo "vendor: $dir/config.toml names $(ls "$dir/crates" | wc -l) crates"
