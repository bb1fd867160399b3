//! The publication, and its spare.

use super::checks;

checks! { Publication, PUBLICATION_CHECKS;
    PUB_MISSING = "WP-PUB-MISSING", Error, "The publication does not exist",
    looks_at: "`pg_publication` for the name in `postgres.publication`.",
    why: "The server sends only rows of tables that are in a publication. Rows that were committed \
        while there was none are not in the stream: before 18 the stream stops there, from 18 on \
        they are skipped.",
    fix: "`walpost init --apply` makes it. If the slot is older, compare the outbox table with \
        Kafka.";

    PUB_INSERT = "WP-PUB-INSERT", Error, "The publication does not publish inserts",
    looks_at: "`pubinsert` in `pg_publication`.",
    why: "An event is an insert. None would arrive, and the slot would be confirmed past them.",
    fix: "`alter publication walpost set (publish = 'insert')`.";

    PUB_MORE = "WP-PUB-MORE", Warning, "The publication publishes more than inserts",
    looks_at: "`pubupdate`, `pubdelete` and `pubtruncate` in `pg_publication`.",
    why: "Updates and deletes of the outbox are no events: the server decodes and sends them for \
        nothing, and a job that deletes old rows doubles the traffic.",
    fix: "`alter publication walpost set (publish = 'insert')`.";

    PUB_ROOT = "WP-PUB-ROOT", Either, "Partitions come under their own names",
    looks_at: "`pubviaroot` in `pg_publication`.",
    why: "With publish_via_partition_root off, rows of a partitioned outbox come under the names \
        of its partitions, which are not in `outbox.table`: an error. Where the outbox is not \
        partitioned it is a warning: it will be one day.",
    fix: "`alter publication walpost set (publish_via_partition_root = true)`.";

    PUB_TABLE = "WP-PUB-TABLE", Error, "The publication does not carry the outbox",
    looks_at: "`pg_publication_tables` for every table of `outbox.table`.",
    why: "Rows of a table that is not in the publication are never sent. A table that was dropped \
        and made again is not in it either, nor is a partitioned one of which only a partition \
        was put in.",
    fix: "`alter publication walpost add table public.outbox`. Rows that were committed before \
        that are only in the table.";

    PUB_FOREIGN = "WP-PUB-FOREIGN", Error, "The publication carries other tables",
    looks_at: "`pg_publication_tables` for tables that are not in `outbox.table`; `puballtables`.",
    why: "Their rows are no events. walpost does not guess: a row of a table that it does not know \
        stops it.",
    fix: "`alter publication walpost drop table …`, or list the table in `outbox.table`. For a \
        publication FOR ALL TABLES: name another one in `postgres.publication` and run `walpost \
        init --apply`.";

    PUB_FILTER = "WP-PUB-FILTER", Error, "The publication has a row filter",
    looks_at: "`rowfilter` in `pg_publication_tables`.",
    why: "Rows that the filter leaves out are not delivered, and nobody would notice.",
    fix: "take the table out of the publication and add it again without the filter, in one \
        transaction.";

    PUB_COLUMN = "WP-PUB-COLUMN", Error, "The publication leaves out a column that is needed",
    looks_at: "`attnames` in `pg_publication_tables` against the columns that the configuration \
        names.",
    why: "The column never arrives, and the event can't be built.",
    fix: "take the table out of the publication and add it again without a column list, in one \
        transaction.";

    PUB_YOUNGER = "WP-PUB-YOUNGER", Warning, "The publication is younger than the slot",
    looks_at: "the transaction that last wrote the publication's rows in the catalogue, against \
        the oldest one that the slot still needs (`xmin` and `catalog_xmin`). Beside a slot that \
        is further behind nothing can be said.",
    why: "Decoding looks at the catalogue as it was at each commit. What was committed between the \
        making of the slot and that of the publication is not in the stream.",
    fix: "if the slot is new, drop it and run `walpost init --apply` again; otherwise compare the \
        outbox table with Kafka.";

    PUB_SPARE = "WP-PUB-SPARE", Warning, "The spare publication is missing or different",
    looks_at: "the publication `<publication>_spare`.",
    why: "Once the first publication is dropped, no new one can bring the rows before it back. The \
        spare exists at every position since it was made, so that it can take the first one's \
        place.",
    fix: "`walpost init --apply` makes it; one that differs is altered with the statements that \
        are shown.";
}
