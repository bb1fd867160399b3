#!/usr/bin/env bash
# Installs what the machine lacks, and nothing that it has.
#   scripts/setup.sh demo    compiler, OpenSSL and zlib headers, PostgreSQL server binaries
#   scripts/setup.sh test    the same, Java with Maven for the Kafka broker of the tests, groff, psql,
#                            PgBouncer and the openssl program
set -euo pipefail

what=${1:-test}
case $what in
    demo | test) ;;
    *) echo "usage: scripts/setup.sh [demo|test]" >&2; exit 64 ;;
esac

has() { command -v "$1" >/dev/null 2>&1; }

# The headers are asked from the compiler: distributions put them in different places.
has_header() { echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1; }

has_postgres() {
    [ -x "${WALPOST_TEST_PG_BIN:-/nonexistent}/initdb" ] && return
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && return
    has postgres && has initdb
}

has_java_17() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/java}
    has "${java:-java}" || return
    local version
    version=$("${java:-java}" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p;T;q')
    [ "${version:-0}" -ge 17 ]
}

packages=()
has cc && has c++ && has make || packages+=(build-essential)
has pkg-config || packages+=(pkg-config)
has_header openssl/ssl.h || packages+=(libssl-dev)
has_header zlib.h || packages+=(zlib1g-dev)
has_postgres || packages+=(postgresql)
if [ "$what" = test ]; then
    has_java_17 || packages+=(default-jre-headless)
    # Manual pages are formatted, and every warning about them fails a test.
    has groff || packages+=(groff-base)
    # The tests compare with psql, and one of their certificates only this program can sign.
    has psql || packages+=(postgresql-client)
    has openssl || packages+=(openssl)
    has pgbouncer || [ -x /usr/sbin/pgbouncer ] || packages+=(pgbouncer)
    # Maven is only for fetching the jars.
    [ -d "${WALPOST_CACHE:-$(dirname "$0")/../.cache}/kafka-4.3.1" ] || has mvn || packages+=(maven)
fi
# Distributions carry older compilers, and a toolchain is the user's own choice.
cargo_missing=0
has cargo || {
    cargo_missing=1
    echo "setup: missing: cargo (install Rust 1.95 or newer)" >&2
}
if [ ${#packages[@]} -eq 0 ]; then
    [ "$cargo_missing" -ne 0 ] || echo "setup: everything for $what is there"
    exit "$cargo_missing"
fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    has sudo && sudo=(sudo)
fi
if ! has apt-get || { [ "$(id -u)" -ne 0 ] && [ ${#sudo[@]} -eq 0 ]; }; then
    echo "setup: missing, and not installed for want of apt-get or rights:" >&2
    printf '  %s\n' "${packages[@]}" >&2
    echo "  (names of Debian and Ubuntu; another system's packages of the same content will do)" >&2
    exit 1
fi

install() {
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get "$@" </dev/null >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Only the binaries are wanted: Debian's package would make a cluster and start it at each boot.
# A machine that has the package keeps the settings that it has.
settings=/etc/postgresql-common/createcluster.conf
if [[ " ${packages[*]} " == *" postgresql "* ]] && [ ! -e "$settings" ]; then
    "${sudo[@]}" mkdir -p "$(dirname "$settings")"
    echo 'create_main_cluster = false' | "${sudo[@]}" tee "$settings" >/dev/null
fi
# `--force-confold`: the settings file above is older than the package that owns it.
if ! install update -q || ! install install -y -q --no-install-recommends \
    -o Dpkg::Options::=--force-confold "${packages[@]}"; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get could not install: ${packages[*]}" >&2
    exit 1
fi
# Only the binary is wanted here too.
if [[ " ${packages[*]} " == *" pgbouncer "* ]] && has systemctl; then
    "${sudo[@]}" systemctl disable --now pgbouncer >/dev/null 2>&1 || true
fi
echo "setup: installed ${packages[*]}"
exit "$cargo_missing"
