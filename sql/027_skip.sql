-- Events that can't be delivered and may be passed over: one row for each, with who let it pass, and why. The
-- relay reads it at the start of every session; 'walpost skip' writes it.
create table if not exists :"schema".:"table" (
    slot       text        not null,
    commit_lsn pg_lsn      not null,
    ordinal    bigint      not null,
    id         text        not null,
    reason     text        not null,
    by         text        not null,
    at         timestamptz not null default now(),
    primary key (slot, commit_lsn, ordinal, id)
);
grant select, insert on :"schema".:"table" to :"role";
