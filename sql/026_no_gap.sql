-- A checkpoint without its slot means that the slot was lost: a new one would leave out what was committed
-- since, in silence. Then this stops, and 'walpost init --apply --accept-gap LSN' is the way on.
select set_config('walpost.slot', :'slot', false),
       set_config('walpost.lsn', coalesce((
           select lsn::text from :"schema".:"table" where slot = :'slot'
       ), ''), false);
do $$
begin
    if current_setting('walpost.lsn') <> '' and not exists (
        select from pg_catalog.pg_replication_slots where slot_name = current_setting('walpost.slot')
    ) then
        raise exception 'the slot "%" is gone, and its events were delivered up to % only',
                        current_setting('walpost.slot'), current_setting('walpost.lsn')
            using hint = 'walpost init --apply --accept-gap ' || current_setting('walpost.lsn')
                         || ', after comparing the outbox table with Kafka';
    end if;
end
$$;
