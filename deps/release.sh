#!/usr/bin/env bash
# One fully static binary for this machine's architecture: the same bytes from the same commit, wherever the clone lies.
#   deps/release.sh           leaves dist/maestro-VERSION-ARCH-linux and its SHA-256
#   deps/release.sh --check   builds once more from another directory and compares the two
#   MAESTRO_TARGET_DIR        where cargo builds (default: target)
set -euo pipefail
cd "$(dirname "$0")/.."
. ./deps/packages.sh
install_packages "$BUILD_PACKAGES"

target=$(rustc -vV | sed -n 's/^host: //p')
arch=${target%%-*}
goal=$((30 * 1000 * 1000)) # bytes
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=maestro-$version-$arch-linux
export MAESTRO_REVISION=${MAESTRO_REVISION:-$(git rev-parse --short=12 HEAD)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# Builds the tree in $1 below $2 into the file $3. What would differ between two places: paths, times, the locale.
build() (
    cd "$1"
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    export LC_ALL=C TZ=UTC CARGO_INCREMENTAL=0
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$1=/maestro"
    maps="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$2=/build -ffile-prefix-map=$1=/maestro"
    export CFLAGS="${CFLAGS:-} $maps" CXXFLAGS="${CXXFLAGS:-} $maps"
    # With --target, build scripts and macros keep their dynamic libc.
    cargo build --locked --profile dist --target "$target" --target-dir "$2" --bin maestro
    install -D -m 755 "$2/$target/dist/maestro" "$3"
)

build "$PWD" "${MAESTRO_TARGET_DIR:-$PWD/target}" "$PWD/dist/$name"

if readelf -d "dist/$name" | grep NEEDED >&2; then
    echo "release: dist/$name needs the shared libraries above" >&2
    exit 4
fi
size=$(stat -c %s "dist/$name")
[ "$size" -le "$goal" ] || echo "release: dist/$name has $size bytes, more than the $goal that it is meant to have" >&2
(cd dist && sha256sum "$name" | tee "$name.sha256")
echo "release: dist/$name, $size bytes, static, revision $MAESTRO_REVISION"

if [ "${1:-}" = --check ]; then
    other=$(mktemp -d)
    trap 'rm -rf "$other"' EXIT
    git archive HEAD | tar -x -C "$other"
    build "$other" "$other/build" "$other/maestro"
    cmp "dist/$name" "$other/maestro" || { echo "release: another directory gave another binary" >&2; exit 4; }
    echo "release: the same bytes from $other"
fi
