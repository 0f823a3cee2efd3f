# Debian packages that building and testing need, and how to get them. Sourced by ./check and ./demo.

# C compiler and make (LuaJIT, zstd), OpenSSL's static library (SSH), git (revision in --version)
BUILD_PACKAGES="build-essential pkg-config libssl-dev git"
# real stores and peers that the tests talk to
TEST_PACKAGES="redis-server rabbitmq-server openssh-server openssh-client iproute2 iptables busybox-static curl"

# Installs those of the named packages that are missing, saying which.
install_packages() {
    local missing=""
    for package in $1; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    echo "== installing:$missing"
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing" >/dev/null || {
        echo "could not install:$missing (install them by hand and try again)" >&2
        return 3
    }
    # The tests start servers of their own, on ports of their own.
    for service in redis-server rabbitmq-server; do
        case "$missing" in *"$service"*) $sudo service "$service" stop >/dev/null 2>&1 || true ;; esac
    done
}
