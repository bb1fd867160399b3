#!/usr/bin/env bash
# Changes the code of the two pure crates in one place after the other, and lists the changes that no
# test of theirs sees. cargo-mutants makes them; .cargo/mutants.toml leaves out those that no test
# should see, with the reasons.
#   scripts/survivors.sh [PART]...   changes whose name or file matches one of these: 'window.rs'
#
# First with the unit tests alone, which are built in seconds and see most. Then what these let pass
# with all tests of the crates, the exhaustive model and the simulation ($SEEDS seeds, 20,000) among
# them.
set -euo pipefail
cd "$(dirname "$0")/.."

version=27.1.0
if ! cargo mutants --version 2>/dev/null | grep -qF "$version"; then
    echo "what makes the changes is missing: cargo install --locked cargo-mutants@$version" >&2
    exit 1
fi

out=$PWD/target/survivors
rm -rf "$out"
mkdir -p "$out"

only=()
for part in "$@"; do only+=(--re "$part"); done

# It copies the tree and builds there. A simulation in a debug build would take ten times as long.
unset CARGO_TARGET_DIR
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
export WALPOST_SIM_SHRINK=0 WALPOST_SIM_SEEDS=${SEEDS:-20000}
# A loop that does not end any more takes memory until its time is up.
ulimit -v 16000000

# Tests each change with these arguments. 2 and 3 say that some were not seen, or took too long: a
# test that comes to no end has seen it.
try_changes() {
    local code=0
    cargo mutants --package walpost-core --package walpost-pgoutput "${only[@]}" \
        --colors never --output "$out" "$@" || code=$?
    case $code in
    0 | 2 | 3) ;;
    *) exit "$code" ;;
    esac
}

# How many changes had this outcome.
count() {
    local files=()
    local outcome
    for outcome in "$@"; do files+=("$out/mutants.out/$outcome.txt"); done
    cat "${files[@]}" | wc -l
}

try_changes --cargo-arg=--lib
unit=$(count caught timeout)
unviable=$(count unviable)
try_changes --iterate -- --tests
echo
echo "$unit changes were seen by unit tests, $(count caught timeout) by other tests," \
    "$unviable did not compile, $(count missed) were not seen:"
cat "$out/mutants.out/missed.txt"
[ "$(count missed)" -eq 0 ]
