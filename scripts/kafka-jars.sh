#!/usr/bin/env bash
# Puts the jars of an Apache Kafka broker into the cache, once. The black-box tests run them.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.3.1
target=${WALPOST_CACHE:-$PWD/.cache}/kafka-$version

if [ -d "$target" ]; then
    echo "kafka-jars: $target is there"
    exit 0
fi
if ! command -v mvn >/dev/null; then
    echo "kafka-jars: mvn is missing; scripts/setup.sh test installs it" >&2
    exit 1
fi
mkdir -p "$(dirname "$target")"
# Renamed when complete, so that an interrupted run leaves nothing that looks finished.
partial=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$partial"' EXIT
mvn -q -B -Dstyle.color=never -f scripts/kafka/pom.xml dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$partial" </dev/null
chmod 755 "$partial"
if ! mv -T "$partial" "$target" 2>/dev/null && [ ! -d "$target" ]; then
    echo "kafka-jars: can't rename $partial to $target" >&2
    exit 1
fi
echo "kafka-jars: $(find "$target" -name '*.jar' | wc -l) jars in $target"
