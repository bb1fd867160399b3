-- The first checkpoint: nothing before the slot's beginning is ours to deliver.
insert into :"schema".:"table" (slot, system_identifier, timeline, lsn, config, schema_version, version)
select s.slot_name, c.system_identifier::text,
       ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int,
       s.confirmed_flush_lsn, :'config', 1, :'version'
from pg_catalog.pg_replication_slots s, pg_control_system() c
where s.slot_name = :'slot'
on conflict (slot) do nothing;
