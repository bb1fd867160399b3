#!/bin/sh
# Writes text.hex, binary.hex and stream.hex anew from a throwaway PostgreSQL 15 server.
#
#   PG_BIN=/usr/lib/postgresql/15/bin ./capture.sh
#
# Needs python3 for stream.hex. As root it runs the server as the user postgres. The files differ
# from run to run in positions, transaction ids, object ids and times; the tests do not depend on
# those.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
work=$(mktemp -d /tmp/golden.XXXXXX)
export PGHOST="$work" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres PGTZ=UTC

if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as_server() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
else
    as_server() { "$@"; }
fi

stop() {
    as_server "$bin/pg_ctl" -D "$work/data" -m immediate stop >"$work/stop.log" 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT

cd "$work"
as_server "$bin/initdb" -D "$work/data" -U postgres -E UTF8 --locale=C -A trust >"$work/initdb.log"
# The short timeout makes the server ask for a reply after a second.
as_server "$bin/pg_ctl" -D "$work/data" -w -l "$work/server.log" start -o "-k '$work' -p $PGPORT \
    -c listen_addresses='' -c wal_level=logical -c track_commit_timestamp=on \
    -c wal_sender_timeout=2s -c autovacuum=off" >"$work/start.log"

run() { "$bin/psql" -X -q -v ON_ERROR_STOP=1 "$@"; }

# capture NAME OPTION...: one line per message: position and transaction as the server's function
# tells them, the commit time in microseconds since 1970 (0 without a transaction), the bytes.
capture() {
    file="$here/$1.hex"
    {
        echo "# lsn xid commit_unix_micros bytes"
        run -At -F ' ' -c "
            SELECT lsn, xid,
                   CASE WHEN xid = '0' THEN 0 ELSE coalesce(
                       (extract(epoch FROM pg_xact_commit_timestamp(xid)) * 1000000)::int8, 0)
                   END,
                   encode(data, 'hex')
            FROM pg_logical_slot_peek_binary_changes('capture', NULL, NULL,
                 'proto_version', '1', 'publication_names', 'pub', 'messages', 'true' $2)"
    } >"$file"
}

run -f "$here/schema.sql" >"$work/schema.log"
run -c "SELECT pg_create_logical_replication_slot('capture', 'pgoutput')" >"$work/slot.log"
run -f "$here/workload.sql" >"$work/workload.log"
capture text ""
capture binary ", 'binary', 'true'"
python3 "$here/capture_stream.py" "$work/.s.PGSQL.$PGPORT" "$bin/psql" >"$here/stream.hex"
