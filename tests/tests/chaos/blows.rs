//! Dealing the faults out.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use postgres::Client;
use walpost_tests::{Finished, Ledger, Running, Stop, try_wait_until, wait_until};

use crate::{
    SOON,
    arena::Arena,
    plan::{Blow, Fault, PREPARED_ROWS, Target, Trouble, Way},
};

/// All faults of the plan, each at its time: one after the other where they hit the same target,
/// side by side where not. Returns what large transactions committed.
pub(crate) fn deal(arena: &Arena<'_>) -> Vec<Ledger> {
    let began = Instant::now();
    let mut targets: BTreeMap<Target, Vec<&Blow>> = BTreeMap::new();
    for blow in &arena.plan.blows {
        targets.entry(blow.fault.target()).or_default().push(blow);
    }
    let ledgers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for blows in targets.into_values() {
            let ledgers = &ledgers;
            scope.spawn(move || {
                for blow in blows {
                    thread::sleep(blow.at.saturating_sub(began.elapsed()));
                    let ledger = arena.dealt(blow.fault, || strike(arena, blow));
                    ledgers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(ledger);
                }
            });
        }
    });
    ledgers.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn strike(arena: &Arena<'_>, blow: &Blow) -> Option<Ledger> {
    let rest = || thread::sleep(blow.lasts);
    match blow.fault {
        Fault::RelayKilled => {
            arena.end_relay(killed);
            rest();
            arena.start_relay();
        }
        Fault::RelayStopped => {
            let code = arena.end_relay(|running| running.stop(SOON));
            assert_eq!(code, 0, "a relay that was asked to stop");
            rest();
            arena.start_relay();
        }
        Fault::RelayFrozen => {
            arena.with_relay(Running::pause);
            rest();
            arena.with_relay(Running::resume);
        }
        Fault::SecondRelay => {
            let standby = arena.walpost.start(&["run"]);
            rest();
            arena.end_standby(standby);
        }
        Fault::WalsenderKilled => {
            arena.postgres.signal_walsenders("KILL");
            // Its recovery is the server's own: nothing else is done to it meanwhile.
            arena.wait_for_postgres();
        }
        Fault::WalsenderEnded => arena.postgres.signal_walsenders("TERM"),
        Fault::WalsenderFrozen => {
            arena.postgres.signal_walsenders("STOP");
            rest();
            arena.postgres.resume();
        }
        Fault::PostgresKilled => arena.restart_postgres(None, blow.lasts),
        Fault::PostgresStoppedFast => arena.restart_postgres(Some(Stop::Fast), blow.lasts),
        Fault::PostgresStoppedAtOnce => arena.restart_postgres(Some(Stop::Immediate), blow.lasts),
        Fault::PostgresFrozen => {
            arena.postgres.pause_all();
            rest();
            arena.postgres.resume();
        }
        Fault::BrokerKilled(one) => {
            arena.brokers[one].kill();
            rest();
            arena.start_broker(&arena.brokers[one]);
        }
        Fault::BrokerStopped(one) => {
            // One that waits for its controller hears nothing.
            if !arena.brokers[one].try_stop(BROKER_STOP) {
                arena.brokers[one].kill();
            }
            rest();
            arena.start_broker(&arena.brokers[one]);
        }
        Fault::BrokerFrozen(one) => {
            arena.brokers[one].pause();
            rest();
            arena.brokers[one].resume();
        }
        Fault::Way(way, trouble) => disturb(arena, way, trouble, blow.lasts),
        Fault::TopicGrown => grow(arena),
        Fault::ColumnAdded
        | Fault::PublicationRemade
        | Fault::LongTransaction
        | Fault::CheckpointLocked => disturb_database(arena, blow),
        Fault::PreparedTransaction => prepare(arena, blow),
        Fault::LargeTransaction(rows) => return Some(write_many(arena, rows)),
    }
    None
}

fn killed(running: Running) -> Finished {
    running.kill();
    running.finish(SOON)
}

fn disturb(arena: &Arena<'_>, way: Way, trouble: Trouble, lasts: Duration) {
    let proxy = arena.way(way);
    match trouble {
        Trouble::Cut => return proxy.cut(),
        Trouble::Reset => return proxy.reset(),
        Trouble::Refused => proxy.refuse(),
        Trouble::Down => proxy.down(),
        Trouble::Stalled => proxy.stall(),
        Trouble::BlackHole(direction) => proxy.black_hole(direction),
        Trouble::Delayed(delay) => proxy.delay(delay),
        Trouble::Trickling(rate) => proxy.trickle(rate),
        Trouble::Split(bytes) => proxy.split(bytes),
    }
    thread::sleep(lasts);
    proxy.resume();
}

/// One partition more, if the cluster does it: without a controller it does not.
fn grow(arena: &Arena<'_>) {
    let count = arena.partitions.load(Ordering::Relaxed) + 1;
    let partitions = usize::try_from(count).expect("few partitions");
    let grown = arena
        .brokers
        .iter()
        .any(|broker| broker.is_running() && broker.try_grow_topic(&arena.topic, partitions));
    // Also what was not answered may have been done.
    arena.partitions.store(count, Ordering::Relaxed);
    if !grown {
        arena.missed("the topic could not be grown");
    }
}

/// Events of a transaction that is prepared, and committed later, whatever happens in between.
fn prepare(arena: &Arena<'_>, blow: &Blow) {
    let name = format!("prepared-{}", blow.at.as_millis());
    let is_prepared = |session: &mut Client| {
        let asked = "select exists (select from pg_prepared_xacts where gid = $1)";
        Some(session.query_one(asked, &[&name]).ok()?.get::<_, bool>(0))
    };
    let begin = format!(
        "begin;
         with event as (
             insert into public.outbox (destination, aggregate_id, payload)
             select '{}', '{name}', jsonb_build_object('version', version)
             from generate_series(1, {PREPARED_ROWS}) version
             returning id, aggregate_id, (payload ->> 'version')::bigint)
         insert into public.ledger select * from event;
         prepare transaction '{name}'",
        arena.topic
    );
    let prepared = try_wait_until(SOON, || {
        let mut session = arena.session()?;
        // The answer may have been lost.
        if !is_prepared(&mut session)? {
            session.batch_execute(&begin).ok()?;
        }
        Some(())
    });
    if prepared.is_none() {
        return arena.missed("nothing was prepared");
    }
    thread::sleep(blow.lasts);
    wait_until(SOON, "the end of a prepared transaction", || {
        let mut session = arena.session()?;
        if is_prepared(&mut session)? {
            let commit = format!("commit prepared '{name}'");
            session.batch_execute(&commit).ok()?;
        }
        Some(())
    });
}

fn write_many(arena: &Arena<'_>, rows: usize) -> Ledger {
    let ledger = arena.large_transaction(rows).run(SOON);
    if ledger.committed.is_empty() {
        arena.missed("the large transaction was not committed");
    }
    ledger
}

fn disturb_database(arena: &Arena<'_>, blow: &Blow) {
    let attempt = || {
        let mut session = arena.session()?;
        let done = alter(&mut session, arena, blow);
        // The server may go away at any time.
        done.map_err(|error| arena.timeline.note("chaos", format!("again: {error}")))
            .ok()
    };
    if try_wait_until(SOON, attempt).is_none() {
        arena.missed("the database did not take it");
    }
}

/// For a broker to hand its partitions over.
const BROKER_STOP: Duration = Duration::from_secs(20);

fn alter(session: &mut Client, arena: &Arena<'_>, blow: &Blow) -> Result<(), postgres::Error> {
    let name = &arena.slot;
    let target = blow.fault.target();
    let (begin, end) = if target == Target::Table {
        (
            "alter table public.outbox add column if not exists note text default 'x''y';
             alter table public.outbox add column if not exists gone int;"
                .to_owned(),
            "alter table public.outbox drop column if exists gone".to_owned(),
        )
    } else if target == Target::Publication {
        (
            format!("drop publication if exists \"{name}\""),
            format!(
                "create publication \"{name}\" for table public.outbox
                 with (publish = 'insert', publish_via_partition_root = true)"
            ),
        )
    } else if target == Target::LongTransaction {
        (
            "begin; insert into public.unrelated values (1)".to_owned(),
            "commit".to_owned(),
        )
    } else {
        (
            "begin; lock table walpost.checkpoint in exclusive mode".to_owned(),
            "rollback".to_owned(),
        )
    };
    session.batch_execute(&begin)?;
    thread::sleep(blow.lasts);
    session.batch_execute(&end)
}
