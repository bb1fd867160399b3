//! The outbox tables.

use super::checks;

checks! { Table, TABLE_CHECKS;
    TABLE_MISSING = "WP-TABLE-MISSING", Error, "The outbox table does not exist",
    looks_at: "`pg_class` for every table of `outbox.table`.",
    why: "Names are exact: `Outbox` in quotes is another table than outbox, and a table without a \
        schema is looked for in public.",
    fix: "`walpost init --apply` makes it, or correct `outbox.table`: a table of a similar name is \
        named.";

    TABLE_KIND = "WP-TABLE-KIND", Error, "The outbox is not a table",
    looks_at: "`relkind` in `pg_class`.",
    why: "Views, foreign tables, sequences and materialized views have no rows in the WAL: an \
        insert into a view ends in the table behind it.",
    fix: "name the table in `outbox.table`.";

    TABLE_PERSISTENCE = "WP-TABLE-PERSISTENCE", Error, "The table is not in the WAL",
    looks_at: "`relpersistence` in `pg_class`.",
    why: "Rows of unlogged and temporary tables are not in the WAL, so no replication can see \
        them. Postgres takes them out of publications without a word.",
    fix: "`alter table public.outbox set logged`; a temporary table has to be made anew, and \
        before 18 a partitioned one that was made UNLOGGED too.";

    TABLE_COLUMN = "WP-TABLE-COLUMN", Error, "A column that is needed does not exist",
    looks_at: "`pg_attribute` against `outbox.columns` and the templates of `route`.",
    why: "The event can't be built without it.",
    fix: "map the column that is meant in `outbox.columns`, correct the template, or add the \
        column.";

    TABLE_TYPE = "WP-TABLE-TYPE", Error, "A column has a type that can't be used",
    looks_at: "types of the mapped columns. Where one of the tables has a bytea payload, the \
        stream is binary for all of them: uuid, text, varchar, char, name, json, jsonb, boolean, \
        smallint, integer, bigint, timestamptz \
        and bytea are read then.",
    why: "A value of another type would have to be guessed from its bytes. Row headers have to be \
        a JSON object in every case.",
    fix: "change the type, mostly to text or jsonb: `alter table public.outbox alter price type \
        text`.";

    TABLE_GENERATED = "WP-TABLE-GENERATED", Error, "A column that is needed is generated",
    looks_at: "`attgenerated` in `pg_attribute`, and `publish_generated_columns` of the \
        publication (18).",
    why: "Generated columns are not sent before PostgreSQL 18; from 18 on stored ones are, where \
        the publication asks for them. Virtual ones never are.",
    fix: "`alter publication walpost set (publish_generated_columns = stored)` on 18; otherwise \
        `alter table public.outbox alter topic drop expression` and let the application fill it.";

    TABLE_PARTITION = "WP-TABLE-PARTITION", Error, "The outbox is a partition of another table",
    looks_at: "`pg_inherits` for every table of `outbox.table`.",
    why: "The publication sends its rows under the name of the partitioned table, which is not in \
        `outbox.table`.",
    fix: "name the partitioned table in `outbox.table`, and add it to the publication.";

    TABLE_LEAF = "WP-TABLE-LEAF", Error, "A partition is not in the WAL",
    looks_at: "kind and persistence of every partition below the outbox.",
    why: "Rows that go to an unlogged or foreign partition are never sent, although the others \
        are.",
    fix: "`alter table … set logged` for an unlogged one; detach a foreign one.";

    TABLE_DEFAULT = "WP-TABLE-DEFAULT", Warning, "The default partition holds rows",
    looks_at: "whether the default partition of the outbox has a row, where this role may read it.",
    why: "Rows end there when no other partition is meant for them. They are delivered. But a \
        partition that would hold them can't be added any more, and dropping old partitions leaves \
        them behind.",
    fix: "move the rows: detach the default partition, make the one that is missing, insert \
        nothing again (that would send the events twice), and attach an empty default.";

    TABLE_FUTURE = "WP-TABLE-FUTURE", Warning, "No partition for tomorrow",
    looks_at: "bounds of the partitions of an outbox that is partitioned by range of a date or \
        time, without a default partition.",
    why: "From then on every insert fails, and with it the transaction of the application.",
    fix: "make the partition now (the statement is shown), and let a job make them ahead of time.";

    TABLE_ANEW = "WP-TABLE-ANEW", Error, "The table was dropped and made anew",
    looks_at: "the table's oid, while `run` streams, every five seconds.",
    why: "A publication carries the table that was added to it, not its name: rows of the new one \
        are sent only from the moment on that it is added too.",
    fix: "add the new table to both publications, and compare it with Kafka for the time in \
        between, which the log tells.";

    TABLE_DETACHED = "WP-TABLE-DETACHED", Warning, "A partition was detached",
    looks_at: "the partitions of the outbox, while `run` streams, every five seconds.",
    why: "Rows that are written to a detached partition are rows of another table, and are not \
        sent. One that is dropped right after it was detached is not told of.",
    fix: "drop it when nobody writes to it, or attach it again.";

    TABLE_IDENTITY = "WP-TABLE-IDENTITY", Warning, "Deletes of the application would fail",
    looks_at: "`relreplident` and the primary key, where the publication publishes updates or \
        deletes.",
    why: "Without a replica identity, Postgres refuses an UPDATE or DELETE of a table whose \
        publication wants them. A job that cleans the outbox fails.",
    fix: "`alter publication walpost set (publish = 'insert')`.";

    TABLE_NULL = "WP-TABLE-NULL", Warning, "The payload may be NULL",
    looks_at: "`attnotnull` of the payload column, where `outbox.null_payload` is refuse and the \
        layout is walpost's own.",
    why: "A row without a payload can't be delivered: the relay stops at it.",
    fix: "`alter table public.outbox alter payload set not null`, or `outbox.null_payload: \
        tombstone` where NULL is meant to delete.";
}
