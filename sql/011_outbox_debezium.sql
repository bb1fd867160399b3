-- The outbox in the shape that Debezium's event router reads. One row is one event: an application
-- inserts it in the transaction that makes the change. Rows can be deleted at any time after their commit.
create table if not exists :"schema".:"table" (
    :"id"             uuid         primary key default gen_random_uuid(),
    :"aggregate_type" varchar(255) not null,
    :"aggregate_id"   varchar(255) not null,
    :"event_type"     varchar(255) not null,
    :"payload"        jsonb
);
