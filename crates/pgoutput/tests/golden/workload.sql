-- Every kind of message of protocol version 1, and every kind of cell. capture.sh runs this file
-- between the creation of a slot and a look at what the slot decodes.

SET client_min_messages = warning;

-- Types that are not built in: an enum and a domain.
INSERT INTO typed VALUES (1, 'calm', 'short', 12.50, 'twenty');

-- NULL, an empty string, and characters outside of ASCII in names and values.
INSERT INTO "größe" VALUES (1, NULL, ''), (2, 'naïve 名前 🦀', NULL);

-- A row without columns.
INSERT INTO bare DEFAULT VALUES;

-- A value that is stored out of line, an update that leaves it alone, and one that writes it.
INSERT INTO stored SELECT 1, string_agg(chr(65 + i % 26), '' ORDER BY i), 'a'
    FROM generate_series(1, 3000) AS i;
UPDATE stored SET note = 'b';
UPDATE stored SET body = 'inline';

-- Replica identity default: the old key is sent only where it changes.
UPDATE typed SET label = 'other' WHERE id = 1;
UPDATE typed SET id = 2 WHERE id = 1;
DELETE FROM typed WHERE id = 2;

-- Replica identity full: the old row is always sent.
UPDATE "größe" SET "名前" = 'new' WHERE id = 1;
DELETE FROM "größe" WHERE id = 2;

-- Replica identity by an index of two columns.
INSERT INTO indexed VALUES ('x', 1, 'one');
UPDATE indexed SET part = 2;
DELETE FROM indexed;

-- Types that the relay reads from the binary format.
INSERT INTO printed VALUES (
    true, -2, 2147483647, -9223372036854775808, 'text', 'varchar', 'char', 'name',
    '00112233-4455-6677-8899-aabbccddeeff', '{"a": 1}', '{"b": [null, "ü"]}',
    '2001-02-03 04:05:06.789012+00', '\x00ff0a5c27');

-- Messages: of a transaction, of none, and of none in a transaction that is rolled back.
BEGIN;
SELECT pg_logical_emit_message(true, 'audit', 'in a transaction');
INSERT INTO bare DEFAULT VALUES;
COMMIT;
SELECT pg_logical_emit_message(false, '', '\x00ff'::bytea);
BEGIN;
SELECT pg_logical_emit_message(true, 'audit', 'rolled back');
SELECT pg_logical_emit_message(false, 'audit', 'not undone');
ROLLBACK;

-- A subtransaction that is rolled back inside of a transaction that is not.
BEGIN;
INSERT INTO indexed VALUES ('s', 1, 'kept');
SAVEPOINT inner_one;
INSERT INTO indexed VALUES ('s', 2, 'undone');
ROLLBACK TO SAVEPOINT inner_one;
INSERT INTO indexed VALUES ('s', 3, 'kept');
COMMIT;

-- One table, and several with both options.
TRUNCATE bare;
TRUNCATE typed, indexed, stored RESTART IDENTITY CASCADE;

-- A table that changes between two rows is described again.
ALTER TABLE bare ADD COLUMN added bigint;
INSERT INTO bare VALUES (7);

-- A transaction that came from another server.
SELECT pg_replication_origin_session_setup('elsewhere');
BEGIN;
SELECT pg_replication_origin_xact_setup('AB/CDEF0123', '2001-02-03 04:05:06+00');
INSERT INTO bare VALUES (8);
COMMIT;
SELECT pg_replication_origin_session_reset();
