-- The outbox: one row is one event. An application inserts it in the transaction that makes the change.
-- There is no status column: what was delivered is the replication slot's business, and rows can be
-- deleted at any time after their commit.
create table if not exists :"schema".:"table" (
    :"id"             uuid        primary key default gen_random_uuid(),
    :"destination"    text        not null,
    :"aggregate_type" text,
    :"aggregate_id"   text,
    :"event_type"     text,
    :"payload"        jsonb       not null,
    :"headers"        jsonb,
    :"created_at"     timestamptz not null default now()
);
