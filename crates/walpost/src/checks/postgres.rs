//! Server, role and the way to them.

use super::checks;

checks! { Postgres, POSTGRES_CHECKS;
    PG_UNREACHABLE = "WP-PG-UNREACHABLE", Error, "Postgres can't be reached",
    looks_at: "the connection that `postgres.url` (or PGHOST and its relatives) describes.",
    why: "Nothing listens there, the name has no address, or something on the way drops the \
        packets. Nothing else of Postgres could be looked at, so `check` ends with 69.",
    fix: "start the server, or correct host and port in `postgres.url`; look at listen_addresses, \
        firewalls and the network of the container.";

    PG_CREDENTIALS = "WP-PG-CREDENTIALS", Error, "Postgres does not let this role in",
    looks_at: "the answer to the login: SQLSTATE 28P01 or 28000, or a method that was not agreed \
        on.",
    why: "The password is wrong, the role does not exist or may not log in, or no line of \
        pg_hba.conf is meant for it. `check` ends with 77.",
    fix: "correct `postgres.password` (or password_file), create the role, or add a line to \
        pg_hba.conf such as `hostssl shop walpost 10.0.0.0/8 scram-sha-256`. A logical slot needs \
        the line of its database; lines for the word `replication` are for physical ones.";

    PG_TLS = "WP-PG-TLS", Error, "TLS with Postgres fails",
    looks_at: "the TLS handshake, the certificates of both sides, and the files that \
        `postgres.url` names for it.",
    why: "The server does not speak TLS although sslmode demands it, its certificate is not one to \
        trust (issuer, dates, name), it wants or refuses a client certificate, or a certificate or \
        key of ours can't be used. The finding says which. `check` ends with 77 where one side \
        refuses the other's certificate.",
    fix: "name the CA of the server by sslrootcert, connect by a name that its certificate holds, \
        give sslcert and sslkey (chmod 600), or set ssl=on on the server; sslmode in \
        `postgres.url` says how much of it is demanded.";

    PG_DATABASE = "WP-PG-DATABASE", Error, "The database does not exist",
    looks_at: "the answer to the login: SQLSTATE 3D000.",
    why: "A slot belongs to one database. The name in `postgres.url` is not one of this server.",
    fix: "create the database, or name the right one in `postgres.url`.";

    PG_CONNINFO = "WP-PG-CONNINFO", Warning, "A part of the connection's settings is not used",
    looks_at: "the password file (`~/.pgpass`, `passfile`, PGPASSFILE), where no password is \
        given, and the variables of libpq.",
    why: "As with libpq, a password file that others than its owner can read is not used, nor one \
        that is no plain file. Variables that say how to use GSSAPI have no effect, because it is \
        not spoken here.",
    fix: "`chmod 0600` the password file, or give the password by `postgres.password_file`; unset \
        variables that are of no use.";

    PG_POOLER = "WP-PG-POOLER", Either, "A connection pooler stands in between",
    looks_at: "the way the login is refused (`unsupported startup parameter`), the host's name, \
        and whether the process id that was told at the login is the one that `pg_backend_pid()` \
        knows: a pooler makes one up.",
    why: "PgBouncer before 1.23, pgcat, Odyssey, RDS Proxy and Supavisor do not carry the \
        replication protocol. Poolers in transaction mode also mix sessions up, and settings of \
        one session leak into others. It is an error where the replication connection fails; a \
        warning where it gets through.",
    fix: "connect to Postgres itself: the host and port that the pooler has in its own \
        configuration (for PgBouncer, the line of the database in its section `[databases]`). The \
        relay holds one or two connections; it needs no pool.";

    PG_QUERY = "WP-PG-QUERY", Error, "A question to the catalogue failed",
    looks_at: "every question that `check` asks.",
    why: "The server refused or the connection broke off in the middle; what would have followed \
        was not looked at.",
    fix: "look at the error that is quoted and at the server's log, then run `walpost check` \
        again.";

    PG_VERSION = "WP-PG-VERSION", Warning, "This major version of Postgres is not tested",
    looks_at: "`server_version_num`.",
    why: "walpost is tested with 15 and 18, and by hand with 17; 16 lies between them. 14 is \
        expected to work and is not tested; older ones lack what is needed; newer ones may have \
        changed the protocol of the output plugin.",
    fix: "use a version from 15 to 18, or try it out where it does not matter.";

    PG_STANDBY = "WP-PG-STANDBY", Error, "The server is a standby",
    looks_at: "`pg_is_in_recovery()`.",
    why: "A standby takes no writes, and a slot on it is bound to what the primary keeps for it. \
        Standbys from 16 on can decode, but walpost does not use that: a promotion would leave the \
        position behind. Slots that are synced to a standby can't be read before it is promoted.",
    fix: "connect to the primary: name several hosts with `target_session_attrs=read-write` in \
        `postgres.url`.";

    PG_SYSTEM = "WP-PG-SYSTEM", Error, "The server is another one than before",
    looks_at: "`system_identifier` in the checkpoint row against `pg_control_system()`.",
    why: "The database was restored from a dump, copied, or upgraded: positions of the one server \
        mean nothing on the other. A copy that is not meant to deliver would send every event a \
        second time. `run` ends with 79.",
    fix: "connect to the right server; or, where this one has taken over, start once with `walpost \
        run --accept-system-identifier ID`. Without a slot: `walpost init --apply --accept-gap \
        LSN`.";

    PG_TIMELINE = "WP-PG-TIMELINE", Error, "The server's history is not the one that was delivered",
    looks_at: "the timeline in the checkpoint row against the server's, and its history.",
    why: "Another standby was promoted, or an old primary came back: the two histories have \
        parted, and what was delivered of the one may be missing in the other. `run` ends with 79.",
    fix: "connect to the server that the others follow.";

    PG_WAL_LEVEL = "WP-PG-WAL-LEVEL", Error, "wal_level is not logical",
    looks_at: "the setting `wal_level`.",
    why: "With less, the WAL does not hold what decoding needs, and no logical slot can be made or \
        read.",
    fix: "`alter system set wal_level = 'logical'` and restart the server. Managed services have a \
        parameter: `rds.logical_replication = 1` (Amazon RDS, Aurora), `cloudsql.logical_decoding \
        = on` (Cloud SQL), `alloydb.logical_decoding = on` (AlloyDB), the server parameter \
        wal_level (Azure). Each needs a restart.";

    PG_REPLICATION = "WP-PG-REPLICATION", Error, "The role may not use replication",
    looks_at: "whether a replication connection of this role is accepted.",
    why: "Slots are read over a replication connection, which takes the role attribute \
        REPLICATION, or what a managed service has in its place.",
    fix: "`alter role walpost replication`. On Amazon RDS and Aurora: `grant rds_replication to \
        walpost`. On Cloud SQL and AlloyDB: `alter user walpost with replication`. On Azure: the \
        same, as a member of azure_pg_admin.";

    PG_SESSION = "WP-PG-SESSION", Error, "A replication connection fails",
    looks_at: "whether a replication connection is accepted, where the role has the right.",
    why: "SQL gets through and the replication connection does not: something on the way does not \
        carry it, or the server refuses it for a reason that is quoted.",
    fix: "look at the error that is quoted; connect to Postgres itself, without a proxy in \
        between.";

    PG_SLOTS = "WP-PG-SLOTS", Error, "No replication slot is free",
    looks_at: "`max_replication_slots` and the rows of `pg_replication_slots`, where the relay's \
        slot is still to be made.",
    why: "Every slot that the server may have is taken, so `walpost init` can't make one.",
    fix: "drop a slot that nobody uses (`select pg_drop_replication_slot('NAME')`), or raise \
        `max_replication_slots` and restart the server.";

    PG_SENDERS = "WP-PG-SENDERS", Error, "No WAL sender is free",
    looks_at: "`max_wal_senders` and the sessions that use one.",
    why: "Every stream needs a WAL sender; without one the relay's connection is refused.",
    fix: "end streams that are not needed, or raise `max_wal_senders` and restart the server.";

    PG_SYNC = "WP-PG-SYNC", Error, "The relay counts as a synchronous standby",
    looks_at: "whether `synchronous_standby_names` holds the application name of the relay \
        (`walpost SLOT`), or `*`.",
    why: "Every commit of the database would wait until the relay has confirmed it, that is, until \
        Kafka has it. When Kafka is down, all writes stand still.",
    fix: "list the standbys by name in `synchronous_standby_names` and reload.";

    PG_KEEP_SIZE = "WP-PG-KEEP-SIZE", Warning, "Nothing limits the WAL that a slot keeps",
    looks_at: "`max_slot_wal_keep_size`, which is -1 unless somebody sets it.",
    why: "While the relay is away, the slot keeps all WAL. At -1 that goes on until the disk is \
        full and the database stops. With a limit the slot is given up instead: events then have \
        to be brought back from the table. Which one is right is for you to decide; it should not \
        be decided by chance.",
    fix: "`alter system set max_slot_wal_keep_size = '50GB'` and reload: as much as the disk can \
        spare, and at least the WAL of the longest outage that you expect.";

    PG_IDLE_SLOT = "WP-PG-IDLE-SLOT", Warning, "Idle slots are given up after a while",
    looks_at: "`idle_replication_slot_timeout` (PostgreSQL 18).",
    why: "A relay that is away for longer than this loses its slot at the next checkpoint, and \
        with it the events that were not delivered.",
    fix: "turn it off (`alter system set idle_replication_slot_timeout = 0`), or make it longer \
        than the longest outage that you expect.";

    PG_SENDER_TIMEOUT = "WP-PG-SENDER-TIMEOUT", Warning, "The server never gives up a dead stream",
    looks_at: "`wal_sender_timeout` as the relay's own session has it: 0 although the relay asks \
        for 15 s.",
    why: "A relay that vanished without a word keeps its slot until the kernel notices, which can \
        take hours. The next one waits for as long. Something on the way drops the setting.",
    fix: "connect to Postgres itself, or set it for the role: `alter role walpost set \
        wal_sender_timeout = '15s'`.";

    PG_TIMEOUT = "WP-PG-TIMEOUT", Warning, "The server ends the relay's sessions after a while",
    looks_at: "`statement_timeout`, `idle_session_timeout` and `transaction_timeout` (17) as the \
        relay's own session has them.",
    why: "They are meant for applications. A stream is one endless statement; while it sends a \
        large transaction to a slow Kafka, `transaction_timeout` ends it, and it begins again from \
        the same place.",
    fix: "turn it off for the role: `alter role walpost set transaction_timeout = 0`.";

    PG_CLOCK = "WP-PG-CLOCK", Warning, "The clocks are far apart",
    looks_at: "the server's `clock_timestamp()` and the clock of this machine.",
    why: "Delivery does not depend on clocks. What is shown does: ages of events and the header \
        walpost-commit-time against the time of arrival.",
    fix: "let both machines keep time (chrony, systemd-timesyncd).";

    PG_TRANSACTION = "WP-PG-TRANSACTION", Warning, "A transaction is open for long",
    looks_at: "`pg_stat_activity` and `pg_prepared_xacts`: transactions that have written. Where \
        the slot is still to be made, every one that is older than a second; otherwise those older \
        than five minutes.",
    why: "A slot can only be made when all of them have ended: `walpost init` waits for them. \
        Later they pin the WAL from their begin on, however far the relay has come.",
    fix: "end it: `select pg_terminate_backend(PID)` for a session, `rollback prepared 'ID'` (or \
        commit) for a prepared one.";
}
