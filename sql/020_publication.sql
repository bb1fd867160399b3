-- A publication of the outbox: inserts only, and those of partitions under the parent's name. It has to be
-- there before the slot: what was written before the publication was made is never decoded.
select set_config('walpost.publication', :'publication', false),
       set_config('walpost.tables', :'tables', false);
do $$
begin
    if not exists (
        select from pg_catalog.pg_publication
        where pubname = current_setting('walpost.publication')
    ) then
        execute format('create publication %I for table ', current_setting('walpost.publication'))
            || current_setting('walpost.tables')
            || ' with (publish = ''insert'', publish_via_partition_root = true)';
    end if;
end
$$;
