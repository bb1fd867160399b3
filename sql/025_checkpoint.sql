-- The checkpoint: one row for each slot, with the position up to which everything is delivered. The slot
-- knows it as well, but forgets: after a crash of the server, and before PostgreSQL 17 after any restart, it
-- stands where it stood long ago. The relay's role reads and writes the row, and nothing else.
select set_config('walpost.schema', :'schema', false),
       set_config('walpost.role', :'role', false);
do $$
begin
    -- Without CREATE on the database, "if not exists" fails also where it exists.
    if not exists (
        select from pg_catalog.pg_namespace where nspname = current_setting('walpost.schema')
    ) then
        execute format('create schema %I', current_setting('walpost.schema'));
    end if;
end
$$;
create table if not exists :"schema".:"table" (
    slot              text        primary key,
    system_identifier text        not null,
    timeline          integer     not null,
    lsn               pg_lsn      not null,
    kafka_cluster_id  text,
    config            jsonb       not null,
    schema_version    integer     not null,
    version           text        not null,
    accepted          text,
    updated_at        timestamptz not null default now()
) with (fillfactor = 50);
do $$
begin
    if current_setting('walpost.role') <> current_user then
        execute format('grant usage on schema %I to %I',
                       current_setting('walpost.schema'), current_setting('walpost.role'));
    end if;
end
$$;
grant select, insert, update on :"schema".:"table" to :"role";
