//! Dealing the faults out.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use postgres::{Client, NoTls};
use walpost_tests::{Finished, Ledger, Running, Stop, try_wait_until};

use crate::{
    SOON,
    arena::Arena,
    plan::{Blow, Fault, Target, Trouble, Way},
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
            arena.brokers[one].start();
        }
        Fault::BrokerStopped(one) => {
            arena.brokers[one].stop();
            rest();
            arena.brokers[one].start();
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
        Fault::LargeTransaction(rows) => {
            return Some(arena.large_transaction(rows).run(SOON));
        }
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
        arena.timeline.note("chaos", "the topic could not be grown");
    }
}

fn disturb_database(arena: &Arena<'_>, blow: &Blow) {
    let attempt = || {
        let mut session = Client::connect(&arena.database.url(), NoTls).ok()?;
        let done = alter(&mut session, arena, blow);
        // The server may go away at any time.
        done.map_err(|error| arena.timeline.note("chaos", format!("again: {error:?}")))
            .ok()
    };
    let attempt = || {
        attempt().or_else(|| {
            thread::sleep(PAUSE);
            None
        })
    };
    if try_wait_until(SOON, attempt).is_none() {
        arena.timeline.note("chaos", "the database did not take it");
    }
}

/// Between two attempts: a server that is about to stop must not be kept busy with refusals.
const PAUSE: Duration = Duration::from_millis(200);

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
