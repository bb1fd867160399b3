//! Each problem is planted alone in a whole set-up: `check` tells it, `run` refuses it where it is
//! an error, and where the fix is SQL, it is run as printed.

use super::{Stage, any_topic, check, fixed_route};
use crate::stage::{postgres, psql};

/// What is planted: SQL in which `@` is the name of slot and publication, in statements of their
/// own after `;;`; what tells of it; and whether the fix is SQL that mends it.
struct Plant {
    sql: &'static str,
    code: &'static str,
    severity: &'static str,
    seen: &'static str,
    fix: &'static str,
    mends: bool,
    /// Sections of the configuration; the route to a topic that is there if empty.
    sections: &'static str,
    /// The major versions that know the SQL and are told this fix.
    since: u32,
    until: u32,
}

const ERROR: &str = "error";
const WARNING: &str = "warning";

const fn plant(
    sql: &'static str,
    code: &'static str,
    severity: &'static str,
    seen: &'static str,
    fix: &'static str,
    mends: bool,
) -> Plant {
    Plant {
        sql,
        code,
        severity,
        seen,
        fix,
        mends,
        sections: "",
        since: 14,
        until: 18,
    }
}

impl Plant {
    const fn with(self, sections: &'static str) -> Self {
        Self { sections, ..self }
    }

    const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    const fn until(self, until: u32) -> Self {
        Self { until, ..self }
    }
}

const PUBLICATIONS: &[Plant] = &[
    plant(
        "drop publication @, @_spare",
        "WP-PUB-MISSING",
        ERROR,
        "the publication '@' does not exist",
        "walpost init --apply",
        false,
    ),
    plant(
        "alter publication @ set (publish = 'delete')",
        "WP-PUB-INSERT",
        ERROR,
        "'@' does not publish inserts",
        "alter publication \"@\" set (publish = 'insert');",
        true,
    ),
    plant(
        "alter publication @ set (publish = 'insert, update, truncate')",
        "WP-PUB-MORE",
        WARNING,
        "publishes update, truncate too",
        "set (publish = 'insert');",
        true,
    ),
    plant(
        "alter publication @ set (publish_via_partition_root = false)",
        "WP-PUB-ROOT",
        WARNING,
        "'@' has publish_via_partition_root off",
        "set (publish_via_partition_root = true);",
        true,
    ),
    plant(
        "drop table outbox;; create table outbox (id int, destination text, payload text not null,
             aggregate_id text) partition by list (id);;
         create table p1 partition of outbox default;;
         alter publication @ add table outbox;; alter publication @_spare add table outbox;;
         alter publication @ set (publish_via_partition_root = false)",
        "WP-PUB-ROOT",
        ERROR,
        "under the names of its partitions",
        "set (publish_via_partition_root = true);",
        true,
    ),
    plant(
        "alter publication @ drop table outbox",
        "WP-PUB-TABLE",
        ERROR,
        "'@' does not carry the table public.outbox",
        "add table \"public\".\"outbox\";",
        true,
    ),
    plant(
        "create table audit (id int);; create table \"Log\" (id int);;
         alter publication @ add table audit, \"Log\"",
        "WP-PUB-FOREIGN",
        ERROR,
        "not in outbox.table: public.Log, public.audit",
        "drop table \"public\".\"",
        true,
    ),
    plant(
        "create table audit (id int);; alter publication @ set tables in schema public",
        "WP-PUB-FOREIGN",
        ERROR,
        "not in outbox.table: public.audit",
        "drop tables in schema \"public\"; alter publication \"@\" add table",
        true,
    )
    .since(15),
    plant(
        "create table parts (id int) partition by list (id);;
         create table part_1 partition of parts default;;
         alter publication @ add table part_1",
        "WP-PUB-FOREIGN",
        ERROR,
        "not in outbox.table: public.parts",
        "drop table \"public\".\"part_1\";",
        true,
    ),
    plant(
        "drop publication @;; create publication @ for all tables with (publish = 'insert')",
        "WP-PUB-FOREIGN",
        ERROR,
        "carries all tables",
        "postgres.publication",
        false,
    ),
    plant(
        "alter publication @ set table outbox where (event_type = 'x')",
        "WP-PUB-FILTER",
        ERROR,
        "a row filter on public.outbox: the rows that (event_type = 'x'::text) leaves out",
        "begin; alter publication",
        true,
    )
    .since(15),
    plant(
        "alter publication @ set table outbox (id, destination)",
        "WP-PUB-COLUMN",
        ERROR,
        "does not carry the column 'payload' of public.outbox, which outbox.columns.payload needs",
        "begin; alter publication",
        true,
    )
    .since(15),
    plant(
        "drop publication @_spare",
        "WP-PUB-SPARE",
        WARNING,
        "the spare publication '@_spare' does not exist",
        "walpost init --apply",
        false,
    ),
    plant(
        "alter publication @_spare drop table outbox;;
         alter publication @_spare set (publish = 'update')",
        "WP-PUB-SPARE",
        WARNING,
        "the spare could not take the first one's place if that is dropped: the publication \
         '@_spare' does not publish inserts",
        "alter publication \"@_spare\" add table",
        true,
    ),
];

const TABLES: &[Plant] = &[
    plant(
        "drop table outbox;; create view outbox as select 1 as id",
        "WP-TABLE-KIND",
        ERROR,
        "public.outbox is a view",
        "outbox.table",
        false,
    ),
    plant(
        "drop publication @, @_spare;; alter table outbox set unlogged",
        "WP-TABLE-PERSISTENCE",
        ERROR,
        "public.outbox is unlogged",
        "alter table \"public\".\"outbox\" set logged;",
        true,
    ),
    plant(
        "alter table outbox drop payload",
        "WP-TABLE-COLUMN",
        ERROR,
        "public.outbox has no column 'payload', which outbox.columns.payload needs",
        "alter table \"public\".\"outbox\" add column \"payload\" jsonb;",
        true,
    ),
    plant(
        "alter table outbox rename payload to \"Payload\"",
        "WP-TABLE-COLUMN",
        ERROR,
        "has no column 'payload', which outbox.columns.payload needs; there is 'Payload'",
        "outbox.columns.payload: Payload",
        false,
    ),
    plant(
        "alter table outbox rename to \"Outbox\"",
        "WP-TABLE-MISSING",
        ERROR,
        "public.outbox does not exist; there is",
        "outbox.table: '\"public\".\"Outbox\"'",
        false,
    ),
    plant(
        "create schema shop;; alter table outbox set schema shop",
        "WP-TABLE-MISSING",
        ERROR,
        "public.outbox does not exist; there is shop.outbox",
        "outbox.table: shop.outbox",
        false,
    ),
    plant(
        "alter table outbox alter payload type bytea using convert_to(payload::text, 'UTF8');;
         alter table outbox alter aggregate_id type numeric using null",
        "WP-TABLE-TYPE",
        ERROR,
        "'aggregate_id' of public.outbox, which outbox.columns.aggregate_id needs, is of type \
         numeric",
        "alter column \"aggregate_id\" type text;",
        true,
    ),
    plant(
        "alter table outbox alter headers type text[] using null",
        "WP-TABLE-TYPE",
        ERROR,
        "is of type text[], and row headers have to be a JSON object",
        "type jsonb using to_jsonb(\"headers\");",
        true,
    ),
    plant(
        "alter table outbox add topic text generated always as (lower(destination)) stored",
        "WP-TABLE-GENERATED",
        ERROR,
        "the column 'topic' of public.outbox, which route.topic needs, is generated",
        "alter column \"topic\" drop expression;",
        true,
    )
    .with("route:\n  topic: \"x-${topic}\"\n")
    .until(17),
    plant(
        "alter table outbox alter payload drop not null",
        "WP-TABLE-NULL",
        WARNING,
        "the payload 'payload' of public.outbox may be NULL",
        "alter column \"payload\" set not null;",
        true,
    ),
    plant(
        "alter table outbox replica identity nothing;;
         alter publication @ set (publish = 'insert, delete')",
        "WP-TABLE-IDENTITY",
        WARNING,
        "public.outbox has REPLICA IDENTITY NOTHING",
        "set (publish = 'insert');",
        true,
    ),
    plant(
        "alter table outbox drop constraint outbox_pkey;;
         alter publication @ set (publish = 'insert, update')",
        "WP-TABLE-IDENTITY",
        WARNING,
        "neither a primary key nor a replica identity",
        "set (publish = 'insert');",
        true,
    ),
    plant(
        "alter table outbox drop aggregate_id",
        "WP-KEY-ORDER",
        WARNING,
        "public.outbox has no column 'aggregate_id'",
        "route.partition_by: key",
        false,
    ),
    plant(
        "",
        "WP-ROUTE-NULL",
        WARNING,
        "route.topic uses the column 'event_type' of public.outbox, which may be NULL",
        "alter column \"event_type\" set not null;",
        true,
    )
    .with("route:\n  topic: \"x-${event_type}\"\n"),
    plant(
        "",
        "WP-KEY-NULL",
        WARNING,
        "route.key uses the column 'aggregate_id' of public.outbox, which may be NULL",
        "alter column \"aggregate_id\" set not null;",
        true,
    )
    .with("route:\n  topic: \"x-${id}\"\n  key: \"${aggregate_id}\"\n"),
    plant(
        "",
        "WP-KEY-PLACEMENT",
        WARNING,
        "route.partition_by uses event_type, which route.key does not hold",
        "route.partition_by: key",
        false,
    )
    .with(
        "route:\n  topic: \"x-${id}\"\n  key: \"${aggregate_id}\"\n  \
         partition_by: \"${event_type}\"\n",
    ),
];

/// Postgres takes a partitioned outbox in pieces.
const PARTITIONS: &[Plant] = &[
    plant(
        "create unlogged table p2 partition of outbox for values from ('2001-01-01') to
             ('2001-02-01')",
        "WP-TABLE-LEAF",
        ERROR,
        "the partition public.p2 of public.outbox is unlogged",
        "alter table \"public\".\"p2\" set logged;",
        true,
    ),
    plant(
        "create foreign data wrapper nothing;; create server nowhere foreign data wrapper \
         nothing;;
         create foreign table p2 partition of outbox for values from ('2001-01-01') to
             ('2001-02-01') server nowhere",
        "WP-TABLE-LEAF",
        ERROR,
        "the partition public.p2 of public.outbox is a foreign table",
        "detach partition \"public\".\"p2\";",
        true,
    ),
    plant(
        "drop table p1;; create table p2 partition of outbox for values from ('2001-01-01') to
             ('2001-02-01')",
        "WP-TABLE-FUTURE",
        WARNING,
        "partitioned by 'created_at', has no default partition, and none for tomorrow (the last \
         one ends at 2001-02-01 00:00:00+00)",
        "partition of \"public\".\"outbox\" for values from ('2001-02-01 00:00:00+00') to (",
        true,
    ),
    plant(
        "drop table p1;; create table rest partition of outbox default;;
         insert into outbox (destination, payload) values ('x', '1')",
        "WP-TABLE-DEFAULT",
        WARNING,
        "the default partition public.rest of public.outbox holds rows",
        "detach partition \"public\".\"rest\";",
        true,
    ),
    plant(
        "alter publication @ drop table outbox;; alter publication @ add table p1",
        "WP-PUB-TABLE",
        ERROR,
        "'@' does not carry the table public.outbox",
        "add table \"public\".\"outbox\";",
        true,
    ),
    plant(
        "alter publication @ add table p1;; alter table outbox detach partition p1",
        "WP-PUB-FOREIGN",
        ERROR,
        "'@' carries what is not in outbox.table: public.p1",
        "drop table \"public\".\"p1\";",
        true,
    ),
    plant(
        "alter table outbox detach partition p1",
        "WP-PUB-TABLE",
        ERROR,
        "'@' does not carry the table public.p1",
        "add table \"public\".\"p1\";",
        true,
    )
    .with("outbox:\n  table: p1\n"),
    plant(
        "",
        "WP-TABLE-PARTITION",
        ERROR,
        "public.p1 is a partition of public.outbox, and the publication '@' sends its rows under",
        "outbox.table: public.outbox",
        false,
    )
    .with("outbox:\n  table: p1\n"),
];

const SLOTS: &[Plant] = &[
    plant(
        "select pg_drop_replication_slot('@');; delete from walpost.checkpoint where slot = '@'",
        "WP-SLOT-MISSING",
        ERROR,
        "there is no replication slot '@'",
        "walpost init --apply",
        false,
    ),
    plant(
        "select pg_drop_replication_slot('@');;
         select pg_create_logical_replication_slot('@', 'test_decoding')",
        "WP-SLOT-PLUGIN",
        ERROR,
        "'@' has the output plugin 'test_decoding'",
        "postgres.slot",
        false,
    ),
    plant(
        "select pg_drop_replication_slot('@');; select pg_create_physical_replication_slot('@')",
        "WP-SLOT-PLUGIN",
        ERROR,
        "'@' has the output plugin 'none'",
        "postgres.slot",
        false,
    ),
    plant(
        "select pg_drop_replication_slot('@');;
         select pg_create_logical_replication_slot('@', 'pgoutput', false, true)",
        "WP-SLOT-TWO-PHASE",
        ERROR,
        "two_phase",
        "postgres.slot",
        false,
    ),
];

#[test]
fn every_problem_of_a_publication_has_its_code_and_a_fix_that_mends_it() {
    verify(PUBLICATIONS, |_| {});
}

#[test]
fn every_problem_of_a_table_has_its_code_and_a_fix_that_mends_it() {
    verify(TABLES, |_| {});
}

#[test]
fn every_problem_of_a_slot_has_its_code() {
    verify(SLOTS, |_| {});
}

#[test]
fn every_problem_of_partitions_has_its_code_and_a_fix_that_mends_it() {
    verify(PARTITIONS, |stage| {
        stage.database.execute(&format!(
            "drop table outbox;
             create table outbox (id uuid not null default gen_random_uuid(), destination text,
                 aggregate_id text, payload jsonb not null, created_at timestamptz default now())
                 partition by range (created_at);
             create table p1 partition of outbox for values from ('2020-01-01') to (maxvalue);
             alter publication {0} add table outbox; alter publication {0}_spare add table outbox",
            stage.slot
        ));
    });
}

/// A publication takes none of them: the advice to add it would fail.
#[test]
fn what_can_not_be_published_is_not_said_to_be_missing_in_the_publication() {
    for (sql, code) in [
        ("create view outbox as select 1 as id", "WP-TABLE-KIND"),
        (
            "create unlogged table outbox (id int primary key, destination text not null,
                 aggregate_id text, event_type text, headers jsonb, payload text not null)",
            "WP-TABLE-PERSISTENCE",
        ),
    ] {
        let stage = Stage::bare("unpublishable");
        stage.init();
        fixed_route(&stage);
        stage.database.execute(&format!("drop table outbox; {sql}"));
        assert_eq!(check(&stage).errors(), [code]);
        stage.refused(78, &[code]);
    }
}

/// All of them come in one stream: one payload of bytes makes it binary for all.
#[test]
fn a_type_is_judged_by_the_stream_that_several_tables_share() {
    let stage = Stage::bare("shared");
    let sections = format!(
        "outbox:\n  table: [outbox, bytes]\n\
         route:\n  topic: {}\n  headers:\n    price: \"${{price}}\"\n",
        any_topic()
    );
    stage.configure(&sections);
    stage.database.execute(
        "create table outbox (id uuid primary key default gen_random_uuid(), destination text,
             aggregate_id text, payload jsonb not null, price numeric);
         create table bytes (id uuid primary key default gen_random_uuid(), destination text,
             aggregate_id text, payload text not null, price text)",
    );
    stage.init();
    assert_eq!(check(&stage).codes(), [""; 0]);
    stage
        .database
        .execute("alter table bytes alter payload type bytea using ''");
    let found = check(&stage);
    assert_eq!(found.codes(), ["WP-TABLE-TYPE"], "{found:#?}");
    let price = found.the("WP-TABLE-TYPE");
    assert_eq!(price.object, "public.outbox.price");
    for command in [&["run", "--once"][..], &["init", "--apply"]] {
        let refused = stage.finish(command);
        assert_eq!(refused.code, 78, "{}", refused.stderr);
        let text = refused.stdout + &refused.stderr;
        assert!(
            text.contains("WP-TABLE-TYPE: the column 'price' of public.outbox"),
            "{text}"
        );
    }
    psql(&stage.url(), &price.fix);
    assert_eq!(check(&stage).codes(), [""; 0]);
    stage.once();
}

#[test]
fn a_column_whose_domain_refuses_null_is_not_said_to_hold_one() {
    let stage = Stage::bare("domain");
    stage.init();
    let nullable = "create domain kind as text; create domain some_kind as kind;
                    alter table outbox alter event_type type some_kind";
    stage.database.execute(nullable);
    stage.configure("route:\n  topic: \"x-${event_type}\"\n");
    check(&stage).the("WP-ROUTE-NULL");
    for (refusing, taking) in [("kind", "some_kind"), ("some_kind", "kind")] {
        stage.database.execute(&format!(
            "alter domain {taking} drop not null; alter domain {refusing} set not null"
        ));
        check(&stage).assert_not("WP-ROUTE-NULL");
    }
}

fn verify(plants: &[Plant], prepare: impl Fn(&Stage)) {
    let version = postgres().binaries().version();
    let is_known = |plant: &&Plant| (plant.since..=plant.until).contains(&version);
    for plant in plants.iter().filter(is_known) {
        let stage = Stage::bare("planted");
        stage.init();
        fixed_route(&stage);
        prepare(&stage);
        let before = check(&stage);
        before.assert_not(plant.code);
        if !plant.sections.is_empty() {
            stage.configure(plant.sections);
            if !plant.sections.contains("route:") {
                let topic = any_topic();
                stage.configure(&format!("{}route:\n  topic: {topic}\n", plant.sections));
            }
        }
        let name = |text: &str| text.replace('@', &stage.slot);
        for statement in name(plant.sql)
            .split(";;")
            .map(str::trim)
            .filter(|sql| !sql.is_empty())
        {
            stage.database.execute(statement);
        }
        let found = check(&stage);
        let finding = found.the(plant.code);
        let context = format!("{}: {finding:#?}", plant.sql);
        assert_eq!(finding.severity, plant.severity, "{context}");
        assert!(finding.seen.contains(&name(plant.seen)), "{context}");
        assert!(finding.fix.contains(&name(plant.fix)), "{context}");
        assert!(!finding.object.is_empty(), "{context}");
        if plant.severity == ERROR {
            assert_eq!(found.code, 1, "{context}");
            // The relay refuses by the same judgement.
            stage.refused(78, &[plant.code]);
        }
        if plant.mends {
            psql(&stage.url(), &finding.fix);
            check(&stage).assert_not(plant.code);
        }
        // A server has not got slots without number.
        if stage.database.slot(&stage.slot).is_some() {
            stage.database.drop_slot(&stage.slot);
        }
    }
}
