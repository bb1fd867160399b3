//! A writer's connection: runs planned transactions and tells how they ended.

use std::{thread, time::Duration};

use postgres::{Client, Error, NoTls, Statement};
use uuid::Uuid;

use super::{
    Writer,
    plan::{Fate, Piece, Plan, Row, Savepoint},
};

pub(super) struct Session {
    client: Client,
    insert: Statement,
    witness: Option<Statement>,
    count: Option<Count>,
    select: String,
    topic: String,
    headers: Option<String>,
    backend: Backend,
}

/// Locks the aggregates of a transaction, always in the same order, and counts their versions up.
struct Count {
    lock: Statement,
    take: Statement,
}

/// The server process of a session: a process id can come again, with another start time.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pid: i32,
    started: String,
}

/// How a transaction ended.
pub(super) enum Outcome {
    Committed,
    RolledBack,
    /// The answer to the commit did not come. The server may still be working on it.
    Unknown(Backend),
}

impl Session {
    pub(super) fn connect(writer: &Writer) -> Result<Self, Error> {
        let mut config: postgres::Config = writer.url.parse()?;
        config
            .connect_timeout(Duration::from_secs(5))
            .application_name("walpost-tests writer");
        let mut client = config.connect(NoTls)?;
        let own = "select pid, backend_start::text from pg_stat_activity
                   where pid = pg_backend_pid()";
        let row = client.query_one(own, &[])?;
        let backend = Backend {
            pid: row.get(0),
            started: row.get(1),
        };
        let insert = client.prepare(&format!(
            "insert into {} (id, destination, aggregate_type, aggregate_id, event_type, payload,
                             headers)
             select id, $4::text, 'thing', aggregate, 'thing_changed', payload::jsonb,
                    $5::text::jsonb
             from unnest($1::uuid[], $2::text[], $3::text[])
                  with ordinality as row(id, aggregate, payload, place)
             order by place",
            writer.table
        ))?;
        let witness = writer.ledger.as_ref().map(|ledger| {
            client.prepare(&format!(
                "insert into {ledger} (id, aggregate, version)
                 select * from unnest($1::uuid[], $2::text[], $3::bigint[])"
            ))
        });
        let witness = witness.transpose()?;
        let count = writer.shared.as_ref().map(|table| {
            client.batch_execute(PATIENCE)?;
            Count::prepare(&mut client, table)
        });
        let count = count.transpose()?;
        let select = format!("select exists (select from {} where id = $1)", writer.table);
        let (topic, headers) = (writer.topic.clone(), writer.headers.clone());
        Ok(Self {
            client,
            insert,
            witness,
            count,
            select,
            topic,
            headers,
            backend,
        })
    }

    /// Runs a transaction; the session comes back when it can be used again.
    ///
    /// # Panics
    ///
    /// When the server refuses a statement that should work.
    pub(super) fn execute(mut self, plan: &mut Plan) -> (Outcome, Option<Self>) {
        if let Err(error) = self.fill(plan) {
            // Nothing was committed: the commit was not sent.
            let waited_in_vain = is_of_contention(&error);
            if !waited_in_vain {
                self.check_away(&error);
            }
            let usable = waited_in_vain && self.client.batch_execute("rollback").is_ok();
            return (Outcome::RolledBack, usable.then_some(self));
        }
        match plan.fate {
            Fate::Rollback => {
                let usable = self.client.batch_execute("rollback").is_ok();
                (Outcome::RolledBack, usable.then_some(self))
            }
            Fate::Commit => match self.client.batch_execute("commit") {
                Ok(()) => (Outcome::Committed, Some(self)),
                // Whatever the error says: a server that is ending can report one after the
                // commit record was written.
                Err(_) => (Outcome::Unknown(self.backend), None),
            },
        }
    }

    fn fill(&mut self, plan: &mut Plan) -> Result<(), Error> {
        self.client.batch_execute("begin")?;
        if let Some(count) = &self.count {
            let names: Vec<&str> = plan.aggregates().into_iter().collect();
            self.client.execute(&count.lock, &[&names])?;
        }
        for piece in &mut plan.pieces {
            if piece.savepoint != Savepoint::None {
                self.client.batch_execute("savepoint piece")?;
            }
            if let Some(count) = &self.count {
                count.number(&mut self.client, piece)?;
            }
            self.insert(piece)?;
            match piece.savepoint {
                Savepoint::None => {}
                Savepoint::Released => self.client.batch_execute("release savepoint piece")?,
                Savepoint::RolledBack => {
                    self.client.batch_execute("rollback to savepoint piece")?;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, piece: &Piece) -> Result<(), Error> {
        let ids: Vec<Uuid> = piece.rows.iter().map(|row| row.event.id).collect();
        let aggregates: Vec<&str> = piece
            .rows
            .iter()
            .map(|row| row.event.aggregate.as_str())
            .collect();
        let payloads: Vec<String> = piece.rows.iter().map(Row::payload).collect();
        self.client.execute(
            &self.insert,
            &[&ids, &aggregates, &payloads, &self.topic, &self.headers],
        )?;
        if let Some(witness) = &self.witness {
            let versions = piece.rows.iter().map(|row| row.event.version.cast_signed());
            let versions: Vec<i64> = versions.collect();
            self.client
                .execute(witness, &[&ids, &aggregates, &versions])?;
        }
        Ok(())
    }

    /// An error that does not come from a server that ends or a connection that broke is a mistake
    /// of the test.
    fn check_away(&self, error: &Error) {
        let Some(reported) = error.as_db_error() else {
            return;
        };
        let code = reported.code().code();
        // Operator intervention (shutdown, crash, terminated), insufficient resources, and a
        // transaction that stood still.
        let away = code.starts_with("57") || code.starts_with("53") || code == "25P03";
        assert!(away, "the writer's statement failed: {error:?}");
    }

    /// Whether a row of a transaction is there whose commit was not answered, after the end of the
    /// session that sent it.
    pub(super) fn find(mut self, id: Uuid, sender: &Backend) -> Result<bool, Error> {
        // As long as the other process lives it can still commit.
        let alive = "select exists (select from pg_stat_activity
                                    where pid = $1 and backend_start::text = $2)";
        while self
            .client
            .query_one(alive, &[&sender.pid, &sender.started])?
            .get(0)
        {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(self.client.query_one(&self.select, &[&id])?.get(0))
    }
}

impl Count {
    fn prepare(client: &mut Client, table: &str) -> Result<Self, Error> {
        let lock = client.prepare(&format!(
            "select from {table} where name = any($1::text[]) order by name for update"
        ))?;
        let take = client.prepare(&format!(
            "update {table} as aggregate set version = version + counted.events
             from unnest($1::text[], $2::bigint[]) as counted(name, events)
             where aggregate.name = counted.name
             returning aggregate.name, aggregate.version - counted.events"
        ))?;
        Ok(Self { lock, take })
    }

    /// Gives the events of a piece their versions.
    fn number(&self, client: &mut Client, piece: &mut Piece) -> Result<(), Error> {
        let (names, counts): (Vec<&str>, Vec<i64>) = piece.counts().into_iter().unzip();
        let rows = client.query(&self.take, &[&names, &counts])?;
        let before = |row: &postgres::Row| (row.get(0), row.get::<_, i64>(1).cast_unsigned());
        piece.number(rows.iter().map(before).collect());
        Ok(())
    }
}

/// Whether a transaction was ended because others were in its way: deadlock_detected and
/// lock_not_available.
fn is_of_contention(error: &Error) -> bool {
    let code = error.code().map(|code| code.code());
    matches!(code, Some("40P01" | "55P03"))
}

/// Of sessions that wait for each other: a transaction that stands still, because its client is out
/// of reach, must not keep the others from writing.
const PATIENCE: &str = "set lock_timeout = '2s'; set deadlock_timeout = '100ms'; \
                        set idle_in_transaction_session_timeout = '5s'";
