#!/usr/bin/env bash
# Runs one step of a make target: its name before, its wall time after.
#   scripts/step.sh NAME COMMAND [ARGUMENT...]
set -euo pipefail

name=$1
shift
started=$(date +%s)
echo "== $name"
code=0
"$@" || code=$?
if [ "$code" -eq 0 ]; then
    echo "== $name: ok, $(($(date +%s) - started)) s"
else
    echo "== $name: failed with $code, $(($(date +%s) - started)) s" >&2
fi
exit "$code"
