#!/usr/bin/env bash
# Builds every fuzz target of the repository, so that they don't rot. That needs a nightly toolchain
# and cargo-fuzz; without them the targets are type-checked only.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t manifests < <(git ls-files --cached --others --exclude-standard -- \
    fuzz/Cargo.toml '*/fuzz/Cargo.toml')
if [ ${#manifests[@]} -eq 0 ]; then
    echo "fuzz-build: skipped: no fuzz targets"
    exit 0
fi
built=built
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    built="checked, not built: no nightly toolchain with cargo-fuzz"
fi
for manifest in "${manifests[@]}"; do
    if [ "$built" = built ]; then
        cargo +nightly fuzz build --features relay --fuzz-dir "$(dirname "$manifest")"
    else
        cargo check -q --locked --features relay --target-dir target/fuzz \
            --manifest-path "$manifest"
    fi
    echo "fuzz-build: $(dirname "$manifest"): $built"
done
