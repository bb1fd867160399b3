//! Somebody who reads what the relay refuses, and puts it right sooner or later.

use uuid::Uuid;
use walpost_core::start::{Accepted, Refusal};
use walpost_core::{EventId, Position, Undeliverable};
use walpost_pgoutput::Lsn;

use crate::env::Env;
use crate::plan::Fault;

/// The relay refused to start. It has a reason that is true. `told`: what the same process told the
/// server before.
pub(crate) fn hears(env: &mut Env, refusal: Refusal, told: Option<Lsn>) {
    env.say(|| format!("relay: refuses to start: {refusal:?}"));
    match &refusal {
        Refusal::Moved { confirmed, .. } => check_moved(env, *confirmed, told),
        Refusal::SlotGone { .. } | Refusal::SlotMissing => {
            assert!(env.pg.slot.is_none(), "start: the slot is there");
            env.cover("a slot that is gone is refused");
        }
        Refusal::WalLevel(_)
        | Refusal::Plugin(_)
        | Refusal::Database(_)
        | Refusal::TwoPhase
        | Refusal::WalLost
        | Refusal::Ahead { .. }
        | Refusal::System { .. }
        | Refusal::Timeline { .. }
        | Refusal::Settings(_) => panic!("start: {refusal:?}"),
    }
    env.refusal = Some(refusal);
}

/// Nobody told the slot so much, or the row that would say so was not written, or is not on this
/// server.
fn check_moved(env: &mut Env, confirmed: Lsn, told: Option<Lsn>) {
    if env.pg.moved_from.is_some() {
        env.cover("a slot that was moved is refused");
    } else if env.pg.remade {
        env.cover("a slot that was made anew is refused");
        if env.pg.told_without_row.is_some() {
            env.cover("one that was made where another server was told without the row");
        }
    } else if env.pg.is_past_its_row() {
        env.cover("a slot that two promotions have parted from its row is refused");
    } else {
        assert!(
            env.pg.told_without_row >= Some(confirmed),
            "start: the slot stands at {confirmed}, which nobody told it"
        );
        assert!(
            told < Some(confirmed),
            "start: the process has forgotten that it told the slot {confirmed}"
        );
        env.cover("a position of a process that is gone is refused");
    }
}

/// An event was in the way. Somebody mends what it was refused for, or has it passed over, or means
/// to; or does nothing.
pub(crate) fn looks_at(env: &mut Env, event: &Undeliverable) {
    let (position, EventId::Uuid(id)) = (event.position, &event.id) else {
        panic!("halt: {} is no id of ours", event.id);
    };
    if env
        .wrong_skips
        .iter()
        .any(|(at, wrong)| *at == position || wrong == id)
    {
        env.cover("a wrong skip lets nothing pass");
    }
    match env.rng.u32(0..8) {
        0 | 1 => {
            env.cover("somebody mends what events were refused for");
            env.mend();
        }
        2 | 3 if skip(env, position, *id) => env.history.skip(position, *id),
        4 => skip_wrongly(env, position, *id),
        _ => {}
    }
}

/// Without a checkpoint there is no table for it either: the next process is told the id.
fn skip(env: &mut Env, position: Position, id: Uuid) -> bool {
    env.say(|| format!("operator: {id} at {position} is to be passed over"));
    if env.plan.grace.is_none() {
        env.skipped_ids.push(id);
        return true;
    }
    let now = env.ms();
    let (rng, history) = (&mut env.rng, &mut env.history);
    env.pg.skip((position, id), rng, history, now)
}

/// A slip of the pen: another id, or another place.
fn skip_wrongly(env: &mut Env, mut position: Position, mut id: Uuid) {
    if env.plan.grace.is_none() {
        id = Uuid::from_u128(id.as_u128() ^ 1 << 64);
    } else if env.rng.bool() {
        id = Uuid::from_u128(id.as_u128() ^ 1);
    } else {
        position.ordinal ^= 1;
    }
    if skip(env, position, id) {
        env.wrong_skips.push((position, id));
    }
}

/// What the process is started with.
pub(crate) fn accepts(env: &mut Env) -> Accepted {
    let mut accepted = Accepted::default();
    if !env.healing && env.rng.bool() {
        return accepted;
    }
    match env.refusal.take() {
        Some(Refusal::Moved { confirmed, .. }) if env.pg.confirmed() == Some(confirmed) => {
            if let Some(before) = env.pg.moved_from.take() {
                env.pg.put_slot_back(before);
                return accepted;
            }
            if std::mem::take(&mut env.pg.remade) {
                give_up_before(env, confirmed);
            }
            accepted.slot_position = Some(confirmed);
        }
        Some(Refusal::SlotGone { .. } | Refusal::SlotMissing) if env.pg.slot.is_none() => {
            accept_gap(env);
        }
        _ => {}
    }
    accepted
}

/// `init --accept-gap`, if it is not somebody who makes the slot and thinks that this is all.
fn accept_gap(env: &mut Env) {
    let now = env.ms();
    if !env.pg.is_writable(now) {
        return;
    }
    let is_careless = env.plan.has(Fault::SlotRemade) && !env.healing && env.rng.bool();
    if is_careless && env.pg.can_be_remade() {
        env.cover("somebody made the slot anew");
        env.pg.make_slot();
        env.pg.remade = true;
        return;
    }
    let begins = env.pg.make_slot();
    if env.plan.grace.is_some() {
        let (rng, history) = (&mut env.rng, &mut env.history);
        env.pg.store(begins, None, rng, history, now);
    }
    give_up_before(env, begins);
}

fn give_up_before(env: &mut Env, lsn: Lsn) {
    env.pg.trust_slot();
    let missing = env.history.give_up_before(lsn, env.sessions);
    env.say(|| format!("operator: accepts that {missing} events before {lsn} are missing"));
    env.cover(if missing > 0 {
        "a gap was accepted"
    } else {
        "a gap without an event was accepted"
    });
}
