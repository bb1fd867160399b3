//! The replication slot.

use super::checks;

checks! { Slot, SLOT_CHECKS;
    SLOT_MISSING = "WP-SLOT-MISSING", Error, "The replication slot does not exist",
    looks_at: "`pg_replication_slots` for the name in `postgres.slot`.",
    why: "The slot is the relay's place in the WAL. `run` never makes one: a new slot starts at \
        the present, and if there was one before, everything since its last confirmed position \
        would be left out in silence.",
    fix: "`walpost init --apply` makes it. If there was one, find out first who dropped it and \
        when: events committed since then are only in the outbox table.";

    SLOT_GONE = "WP-SLOT-GONE", Error, "The replication slot is gone",
    looks_at: "the checkpoint row against `pg_replication_slots`.",
    why: "There was a slot, up to the position in the row: somebody dropped it, or a failover or a \
        restore left it behind. What was committed since is in no slot. `run` and `init` end with \
        79.",
    fix: "compare the outbox table with Kafka from that position on and deliver what is missing, \
        then `walpost init --apply --accept-gap LSN` makes a new slot.";

    SLOT_MOVED = "WP-SLOT-MOVED", Error, "Somebody else moved the slot, or made it anew",
    looks_at: "the checkpoint row against `confirmed_flush_lsn` in `pg_replication_slots`.",
    why: "The row is written before the slot is told, so a slot that stands ahead of it was read \
        or advanced by somebody else, or dropped and made again. What lies between was perhaps \
        never sent. `run` ends with 79. The one other cause: the row could not be written for \
        longer than `postgres.checkpoint_grace`, and the relay was restarted then; its log has \
        the position.",
    fix: "compare the outbox table with Kafka between the two positions, deliver what is missing, \
        then start once with `walpost run --accept-slot-position LSN`.";

    CHECKPOINT_TABLE = "WP-CHECKPOINT-TABLE", Error, "There is no table for the checkpoint",
    looks_at: "the table that `postgres.checkpoint` names, and its columns.",
    why: "`confirmed_flush_lsn` goes back when the server crashes, and moves when anybody reads \
        from the slot. The row tells both from what the relay did itself.",
    fix: "`walpost init --apply` makes it. `postgres.checkpoint: none` does without one.";

    CHECKPOINT_RIGHT = "WP-CHECKPOINT-RIGHT", Error, "The role may not write the checkpoint",
    looks_at: "`has_table_privilege` for select, insert and update.",
    why: "The row is written before a position is confirmed. Where that is not possible, nothing \
        is confirmed for `postgres.checkpoint_grace`.",
    fix: "`grant usage on schema walpost to ROLE; grant select, insert, update on \
        walpost.checkpoint to ROLE;` or `walpost init --apply`.";

    SKIP_TABLE = "WP-SKIP-TABLE", Warning, "An event can't be let pass",
    looks_at: "the table `skip` beside the checkpoint, and the role's right to read it.",
    why: "`walpost skip` records there which event that can't be delivered may be passed over. \
        Without it the relay does not see it.",
    fix: "`walpost init --apply` makes it, and grants the right.";

    CHECKPOINT_VERSION = "WP-CHECKPOINT-VERSION", Error, "The checkpoint can't be read",
    looks_at: "the row's `schema_version` and values.",
    why: "A newer version of walpost wrote it, or somebody changed it by hand.",
    fix: "run the newer version, or put right what was changed.";

    CHECKPOINT_CONFIG = "WP-CHECKPOINT-CONFIG", Error, "The events would become other ones",
    looks_at: "`outbox.table`, `outbox.columns.id`, `route.topic`, `route.key` and \
        `route.partition_by` against those in the checkpoint row.",
    why: "With another topic, key or partition an aggregate's next event is elsewhere than its \
        last, and what comes again after a restart does so as another record. `run` ends with 78.",
    fix: "set them as they were; or, where the change is meant, start once with `walpost run \
        --accept-config-change KEY,KEY`.";

    CHECKPOINT_NONE = "WP-CHECKPOINT-NONE", Warning, "There is no checkpoint",
    looks_at: "`postgres.checkpoint: none`.",
    why: "A slot that was moved, made anew or rewound can't be told from one that was not: events \
        can be skipped in silence, and come again after a crash of the server.",
    fix: "leave `postgres.checkpoint` out, and run `walpost init --apply`.";

    SLOT_PLUGIN = "WP-SLOT-PLUGIN", Error, "The slot is of another kind",
    looks_at: "`plugin` and `slot_type` in `pg_replication_slots`.",
    why: "The slot is physical, or belongs to another output plugin than pgoutput: it is somebody \
        else's.",
    fix: "name another slot in `postgres.slot`, then `walpost init --apply`.";

    SLOT_DATABASE = "WP-SLOT-DATABASE", Error, "The slot belongs to another database",
    looks_at: "`database` in `pg_replication_slots`.",
    why: "Slot names are shared by all databases of a server. This one decodes another database.",
    fix: "connect to that database, or name another slot in `postgres.slot`.";

    SLOT_TEMPORARY = "WP-SLOT-TEMPORARY", Error, "The slot is temporary",
    looks_at: "`temporary` in `pg_replication_slots`.",
    why: "It vanishes with the session that made it, and no other session can read it.",
    fix: "name another slot in `postgres.slot`, then `walpost init --apply`.";

    SLOT_TWO_PHASE = "WP-SLOT-TWO-PHASE", Error, "The slot sends prepared transactions early",
    looks_at: "`two_phase` in `pg_replication_slots`.",
    why: "Events would arrive at PREPARE TRANSACTION, before it is known whether they are ever \
        committed.",
    fix: "name another slot in `postgres.slot`, then `walpost init --apply`; or drop this one and \
        make it anew once nothing is left to deliver.";

    SLOT_LOST = "WP-SLOT-LOST", Error, "The slot was invalidated",
    looks_at: "`wal_status` = lost, `invalidation_reason` (17), `conflicting` (16) in \
        `pg_replication_slots`.",
    why: "The server has removed WAL that was not confirmed, mostly because \
        `max_slot_wal_keep_size` was reached while the relay was away. The slot can't be read any \
        more. The events in between are still in the outbox table, if nobody deleted them.",
    fix: "compare the outbox table with Kafka from the slot's `confirmed_flush_lsn` on, deliver \
        what is missing, then drop the slot and run `walpost init --apply`. It names the gap, and \
        makes the slot with `--accept-gap LSN`. Raise `max_slot_wal_keep_size`.";

    SLOT_AHEAD = "WP-SLOT-AHEAD", Error, "The slot stands behind the end of the WAL",
    looks_at: "`confirmed_flush_lsn` against the end of the server's WAL.",
    why: "The server was restored from a backup, or a standby was promoted that had less: until \
        the WAL has grown past the slot's position, everything that is committed would be skipped \
        in silence.",
    fix: "compare the outbox table with Kafka, then drop the slot and run `walpost init --apply`. \
        It names the gap, and makes the slot with `--accept-gap LSN`.";

    SLOT_UNRESERVED = "WP-SLOT-UNRESERVED", Error, "The server is about to remove WAL that the \
        slot needs",
    looks_at: "`wal_status` = unreserved in `pg_replication_slots`.",
    why: "The slot keeps more WAL than `max_slot_wal_keep_size` allows. The next checkpoint can \
        invalidate it.",
    fix: "start the relay at once, or raise `max_slot_wal_keep_size` and reload.";

    SLOT_SAFE_SIZE = "WP-SLOT-SAFE-SIZE", Warning, "The slot has used up most of its room",
    looks_at: "`safe_wal_size` in `pg_replication_slots`: less than a fifth of \
        `max_slot_wal_keep_size` is left.",
    why: "When it reaches zero, the slot is lost at the next checkpoint.",
    fix: "find out why the relay does not confirm (is it running, is Kafka up?), or raise \
        `max_slot_wal_keep_size` and reload.";

    SLOT_LAG = "WP-SLOT-LAG", Warning, "The slot keeps much WAL",
    looks_at: "the end of the WAL against `confirmed_flush_lsn` and `restart_lsn`: more than 1 \
        GiB.",
    why: "Either the relay does not keep up (confirmed is far behind), or a long or prepared \
        transaction pins the beginning (only restart is far behind). It is disk space, and work \
        after each reconnect.",
    fix: "start the relay, or look for old transactions: `select pid, xact_start from \
        pg_stat_activity where backend_xid is not null order by 2`, and `pg_prepared_xacts`.";

    SLOT_IN_USE = "WP-SLOT-IN-USE", Warning, "Somebody else streams from the slot",
    looks_at: "`active_pid` in `pg_replication_slots`, and the name of that session.",
    why: "A slot has one reader. One that is not called `walpost SLOT` confirms events that the \
        relay has never seen; `walpost run` waits until the slot is free.",
    fix: "stop the other reader, or name another slot in `postgres.slot`.";

    SLOT_FAILOVER = "WP-SLOT-FAILOVER", Warning, "The slot does not survive a failover",
    looks_at: "`failover` in `pg_replication_slots` (17), where standbys are attached.",
    why: "The slot exists on this server only. After a promotion there is none, and what was \
        committed and not yet delivered has to be found by hand.",
    fix: "`ALTER_REPLICATION_SLOT walpost (FAILOVER true)` on a replication connection while the \
        slot is idle; `sync_replication_slots = on` on the standby. `walpost init --failover` \
        makes new slots so.";

    SLOT_STANDBYS = "WP-SLOT-STANDBYS", Warning, "The relay may be ahead of the standbys",
    looks_at: "`synchronized_standby_slots` (17), where standbys are attached and the slot is a \
        failover slot.",
    why: "Without it the relay can deliver a commit that the standby has not got. After a failover \
        Kafka holds events of transactions that no longer exist, and the slot on the standby may \
        be behind.",
    fix: "list the physical slots of the standbys that may be promoted in \
        `synchronized_standby_slots` and reload.";
}
