-- The replication slot, as one that is copied to standbys and survives a failover (PostgreSQL 17 and newer;
-- the standbys need sync_replication_slots = on). From here on the server keeps its WAL until the events in it
-- are delivered. So a slot that nobody reads fills the disk: drop it when it is not needed any more, with
-- pg_drop_replication_slot. This statement has to be a transaction of its own, and waits until every
-- transaction that is open now has ended. Where the publication could not be made, it makes none.
select pg_create_logical_replication_slot(:'slot', 'pgoutput', false, false, true)
where not exists (select from pg_catalog.pg_replication_slots where slot_name = :'slot')
  and exists (select from pg_catalog.pg_publication where pubname = :'publication');
