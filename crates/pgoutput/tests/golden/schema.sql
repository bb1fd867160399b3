-- What workload.sql writes to. capture.sh runs this file before it creates the slot.

CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE DOMAIN short_text AS text CHECK (length(VALUE) < 10);
CREATE TABLE typed (
    id int PRIMARY KEY, feeling mood, label short_text, amount numeric(10, 2), code varchar(20)
);
CREATE TABLE "größe" (id int, "名前" text, empty text);
ALTER TABLE "größe" REPLICA IDENTITY FULL;
CREATE TABLE bare ();
CREATE TABLE stored (id int PRIMARY KEY, body text, note text);
ALTER TABLE stored ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE indexed (kind text NOT NULL, part int NOT NULL, body text);
CREATE UNIQUE INDEX indexed_key ON indexed (kind, part);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_key;
CREATE TABLE printed (
    c_bool bool, c_int2 int2, c_int4 int4, c_int8 int8, c_text text, c_varchar varchar,
    c_bpchar char(6), c_name name, c_uuid uuid, c_json json, c_jsonb jsonb,
    c_timestamptz timestamptz, c_bytea bytea
);
CREATE PUBLICATION pub FOR ALL TABLES;
SELECT pg_replication_origin_create('elsewhere');
