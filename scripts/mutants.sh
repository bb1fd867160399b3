#!/usr/bin/env bash
# The tests are tested: plants one bug after the other and looks whether they find it.
#   scripts/mutants.sh [NAME]...   bugs whose name contains one of these; prints a table
#   scripts/mutants.sh --check     only whether each bug can still be planted, and is in the docs
#
# A bug is a patch in tests/mutants with a sentence, and a line that says what has to find it:
#   Found by: sim                          the simulation, within $SEEDS seeds (20,000)
#   Found by: unit CRATE TEST              a test of a crate
#   Found by: blackbox SUITE TEST          a test of the real binary
# It is planted into a copy of the tree, which has a build directory of its own: nothing that is
# built here is anybody else's.
set -euo pipefail
cd "$(dirname "$0")/.."

patches=tests/mutants
docs=docs/testing.md
seeds=${SEEDS:-20000}
# So long a simulation may take that does not come to an end.
patience=300

# What has to find the bug of that patch.
found_by() {
    sed -n 's/^Found by: //p' "$1" | head -n 1
}

describe() {
    head -n 1 "$1"
}

# Whether the table has that bug, and the same test for it.
is_in_docs() {
    local name how argument test by="| simulation |"
    name=$(basename "$1" .patch)
    read -r how argument test <<<"$(found_by "$1")"
    [ "$how" = sim ] || by="| \`$argument\` | \`$test\` |"
    grep -F "| \`$name\` | $(describe "$1") |" "$docs" | grep -qF "$by"
}

check() {
    local bad=0 patch name
    for patch in "$patches"/*.patch; do
        name=$(basename "$patch" .patch)
        if [ -z "$(found_by "$patch")" ]; then
            echo "$patch: it does not say what has to find it" >&2
            bad=1
        fi
        if ! git apply --check "$patch"; then
            echo "$patch: the code has changed: plant the same bug into it as it is now" >&2
            bad=1
        fi
        if ! is_in_docs "$patch"; then
            echo "$patch: $docs does not name it, or says another thing of it" >&2
            bad=1
        fi
    done
    exit "$bad"
}

# A fresh copy of the tree. Every file is as new as the copy: what was built of a planted bug does
# not pass for what is built of the code as it is.
copy_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
        tar --null --files-from=- -c | tar -x -m -C "$tree"
    [ ! -e .cache ] || [ -e "$tree/.cache" ] || ln -s "$(realpath .cache)" "$tree/.cache"
}

# The copy may lie inside of a repository: its files are no part of that.
plant() {
    GIT_CEILING_DIRECTORIES=$(dirname "$tree") git -C "$tree" apply "$@"
}

build() {
    (cd "$tree" && cargo "$@" --profile tests --locked) >"$log" 2>&1
}

# Each says what it has found, or fails.

by_sim() {
    build test -p walpost-core --test sim --no-run || return 2
    local binary
    binary=$(sed -n 's/.*Executable .*(\(.*\))$/\1/p' "$log")
    (cd "$tree" && WALPOST_SIM_SHRINK=0 WALPOST_SIM_SEEDS=$seeds timeout "$patience" "$binary") >"$log" 2>&1 || true
    local said
    said=$(sed -n 's/^seed \([0-9]*\) breaks an invariant: \(.*\)/\1 \2/p' "$log" | head -n 1)
    # One that only comes to no end has found nothing.
    [ -n "$said" ] || return 1
    # Where a message has a colon, the name of the invariant stands before it.
    local what=${said#* }
    echo "simulation | ${what%%: *} | ${said%% *}"
}

# Whether it was that test that failed, by its name.
has_failed() {
    [ -n "$(sed -n '/^failures:$/,$s/^    //p' "$log" | grep -F "$1")" ]
}

by_unit() {
    build test -p "$1" --lib --no-run || return 2
    (cd "$tree" && cargo test --profile tests --locked -q -p "$1" --lib -- "$2") >"$log" 2>&1 || true
    has_failed "$2" || return 1
    echo "\`$1\` | \`$2\` | "
}

by_blackbox() {
    build build -p walpost || return 2
    build test -p walpost-tests --test "$1" --no-run || return 2
    (cd "$tree" && timeout 600 cargo test --profile tests --locked -q -p walpost-tests \
        --test "$1" -- "$2") >"$log" 2>&1 || true
    has_failed "$2" || return 1
    echo "\`$1\` | \`$2\` | "
}

[ "${1:-}" != --check ] || check

tree=${CARGO_TARGET_DIR:-$PWD/target}/mutants/tree
log=$(dirname "$tree")/log
export CARGO_TARGET_DIR=${tree%/tree}/target CARGO_INCREMENTAL=1
copy_tree

planted=0
missed=0

# Whether that passes on the code as it is: what fails anyway finds nothing.
declare -A sound
is_sound() {
    if [ -z "${sound[$*]:-}" ]; then
        "by_$1" "$2" "$3" >/dev/null || true
        sound[$*]=no
        ! grep -qE '^test result: ok\. [1-9]' "$log" || sound[$*]=yes
    fi
    [ "${sound[$*]}" = yes ]
}

# Plants one bug and prints its row of the table.
try_bug() {
    local patch=$1 name how argument test code=0 found
    name=$(basename "$patch" .patch)
    read -r how argument test <<<"$(found_by "$patch")"
    planted=$((planted + 1))
    if ! is_sound "$how" "${argument:-}" "${test:-}"; then
        missed=$((missed + 1))
        echo "| \`$name\` | $(describe "$patch") | **its test does not pass without it** | | |"
        tail -n 40 "$log" >&2
        return
    fi
    plant "$patch"
    found=$("by_$how" "${argument:-}" "${test:-}") || code=$?
    case $code in
    0) ;;
    1) found="**nothing** | | " ;;
    *) found="**it does not build** | | " ;;
    esac
    [ "$code" -eq 0 ] || missed=$((missed + 1))
    [ "$code" -ne 2 ] || tail -n 40 "$log" >&2
    echo "| \`$name\` | $(describe "$patch") | $found |"
    plant --reverse "$patch"
}

[ $# -gt 0 ] || set -- ""
echo "| bug | | found by | what does not hold | seed |"
echo "|---|---|---|---|---|"
# The quick ones first.
for how in sim unit blackbox; do
    for patch in "$tree/$patches"/*.patch; do
        [[ $(found_by "$patch") == $how* ]] || continue
        for part in "$@"; do
            if [[ $(basename "$patch") == *"$part"* ]]; then
                try_bug "$patch"
                break
            fi
        done
    done
done
echo
echo "$((planted - missed)) of $planted planted bugs were found"
[ "$missed" -eq 0 ]
