//! A set-up that is whole until a test breaks it, and the one way to run commands on it.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
};

use walpost_tests::{
    Database, Finished, Kafka, Lsn, Mistake, Postgres, PostgresBuilder, Record, Running, Walpost,
    free_port, read_all,
};

use crate::SOON;

/// Passwords that stand in URLs, files, variables and properties. None of them may be printed.
pub(crate) const URL_SECRET: &str = "url-hunter-2f6c";
pub(crate) const VARIABLE_SECRET: &str = "variable-hunter-83d1";
pub(crate) const FILE_SECRET: &str = "file-hunter-b07e";
pub(crate) const KAFKA_SECRET: &str = "kafka-hunter-55aa";
const SECRETS: [&str; 4] = [URL_SECRET, VARIABLE_SECRET, FILE_SECRET, KAFKA_SECRET];

/// A role that needs its password, and one that lacks REPLICATION.
pub(crate) const LOCKED: &str = "locked";
pub(crate) const PLAIN: &str = "plain";
/// A role that has nothing but REPLICATION, as the relay's should be.
pub(crate) const STREAMER: &str = "streamer";

/// The cluster of this test binary. A new slot waits for every transaction of the cluster that has
/// written: a test that keeps one open for more than a moment is [`Stage::alone`].
pub(crate) fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| server(Postgres::builder()))
}

/// Everybody is let in, except the role with a password.
fn server(builder: PostgresBuilder) -> Postgres {
    let server = builder
        .setting("max_slot_wal_keep_size", "10GB")
        .hba(&format!("host all {LOCKED} 127.0.0.1/32 scram-sha-256"))
        .start();
    server
        .client()
        .batch_execute(&format!(
            "create role {LOCKED} login superuser password '{FILE_SECRET}';
             create role {PLAIN} login; create role {STREAMER} login replication"
        ))
        .expect("create roles");
    server
}

pub(crate) struct Stage {
    pub(crate) database: Database<'static>,
    pub(crate) kafka: &'static Kafka,
    pub(crate) slot: String,
    pub(crate) walpost: Walpost,
}

impl Stage {
    /// An empty database and a configuration for it.
    pub(crate) fn bare(hint: &str) -> Self {
        Self::bare_on(postgres(), hint)
    }

    fn bare_on(server: &'static Postgres, hint: &str) -> Self {
        let (database, kafka) = (server.database(hint), Kafka::shared());
        let slot = database.slot_name();
        let walpost = Walpost::new("").env("PGPASSWORD", VARIABLE_SECRET);
        let stage = Self {
            database,
            kafka,
            slot,
            walpost,
        };
        stage.configure("");
        stage
    }

    /// After `init --apply`, with a table whose payload can be NULL.
    pub(crate) fn ready(hint: &str) -> Self {
        Self::bare(hint).made_ready()
    }

    /// As [`Stage::ready`], on a server that no other test waits for. It ends with this process.
    pub(crate) fn alone(hint: &str) -> Self {
        Self::alone_on(Postgres::builder(), hint)
    }

    /// As [`Stage::alone`], on a server of that kind.
    pub(crate) fn alone_on(builder: PostgresBuilder, hint: &str) -> Self {
        let server = Box::leak(Box::new(server(builder)));
        Self::bare_on(server, hint).made_ready()
    }

    /// As [`Stage::ready`], on the server of another stage.
    pub(crate) fn beside(other: &Self, hint: &str) -> Self {
        Self::bare_on(other.database.postgres(), hint).made_ready()
    }

    fn made_ready(self) -> Self {
        self.init();
        self.database
            .execute("alter table outbox alter payload drop not null");
        self
    }

    /// The whole configuration, with further sections; those for Kafka come first, indented.
    pub(crate) fn yaml(&self, sections: &str) -> String {
        self.yaml_of(&self.url(), &self.kafka.brokers(), sections)
    }

    pub(crate) fn yaml_of(&self, url: &str, brokers: &str, sections: &str) -> String {
        let slot = &self.slot;
        format!(
            "postgres:\n  url: \"{url}\"\n  slot: {slot}\n  publication: {slot}\n\
             kafka:\n  brokers: \"{brokers}\"\n{sections}"
        )
    }

    pub(crate) fn configure(&self, sections: &str) {
        self.walpost.configure(&self.yaml(sections));
    }

    /// The URL of the database with a password in it, which this server does not ask for.
    pub(crate) fn url(&self) -> String {
        self.url_as("postgres", URL_SECRET)
    }

    pub(crate) fn url_as(&self, role: &str, password: &str) -> String {
        let (port, name) = (self.database.postgres().port(), self.database.name());
        format!("postgresql://{role}:{password}@127.0.0.1:{port}/{name}")
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn finish(&self, args: &[&str]) -> Finished {
        guarded(self.walpost.finish(args, SOON))
    }

    /// As [`Stage::finish`] without `-c`.
    #[track_caller]
    pub(crate) fn finish_plain(&self, args: &[&str]) -> Finished {
        guarded(self.walpost.start_plain(args).finish(SOON))
    }

    #[track_caller]
    pub(crate) fn init(&self) -> Finished {
        // A new slot waits for every transaction that is open on the server, other tests' too.
        let finished = guarded(self.walpost.finish(&["init", "--apply"], 3 * SOON));
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        // As the printed SQL does for the relay's role.
        self.database.execute(&format!(
            "do $$ begin
                 if to_regclass('walpost.checkpoint') is not null then
                     grant usage on schema walpost to {PLAIN}, {STREAMER};
                     grant select, insert, update on walpost.checkpoint to {PLAIN}, {STREAMER};
                     grant select, insert on walpost.skip to {PLAIN}, {STREAMER};
                 end if;
             end $$"
        ));
        finished
    }

    /// Drops the slot, and forgets that there was one.
    pub(crate) fn forget_slot(&self) {
        self.database.drop_slot(&self.slot);
        let slot = &self.slot;
        self.database.execute(&format!(
            "delete from walpost.checkpoint where slot = '{slot}'"
        ));
    }

    /// `init` after the slot was dropped: it names the gap, and is told that it is accepted.
    #[track_caller]
    pub(crate) fn init_again(&self, args: &[&str]) -> Finished {
        let args = [&["init", "--apply"], args].concat();
        let refusal = Refusal::of(&self.finish(&args));
        refusal.assert(79, &["WP-SLOT-GONE"]);
        let fix = refusal.fix.expect("it has a fix");
        let (_, gap) = fix.split_once("--accept-gap ").expect("it names the gap");
        let finished = self.finish(&[&args[..], &["--accept-gap", gap]].concat());
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished
    }

    /// Delivers what is committed.
    #[track_caller]
    pub(crate) fn once(&self) -> Finished {
        let finished = self.finish(&["run", "--once"]);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished
    }

    /// `run --once` has to end with this code, in these words, with a fix.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) -> Refusal {
        let refusal = Refusal::of(&self.finish(&["run", "--once"]));
        refusal.assert(code, words);
        refusal
    }

    /// The refusal is on the page of mistakes.
    #[track_caller]
    pub(crate) fn lists(&self, section: &str, title: &str, refusal: &Refusal) {
        self.lists_with(section, title, refusal, &[]);
    }

    /// As [`Stage::lists`], with further names that the test made up.
    #[track_caller]
    pub(crate) fn lists_with(
        &self,
        section: &str,
        title: &str,
        refusal: &Refusal,
        names: &[(&str, &str)],
    ) {
        let postgres = format!("127.0.0.1:{}", self.database.postgres().port());
        let brokers = self.kafka.brokers();
        let mut all = vec![
            (self.slot.as_str(), "walpost"),
            (self.database.name(), "shop"),
            (postgres.as_str(), "127.0.0.1:5432"),
            (brokers.as_str(), "127.0.0.1:9092"),
        ];
        all.extend_from_slice(names);
        Mistake {
            section,
            title,
            code: Some(refusal.code),
            message: &refusal.message,
            fix: refusal.fix.as_deref(),
        }
        .is_listed(&all);
    }

    /// Commits one event.
    #[track_caller]
    pub(crate) fn write(&self, topic: &str, payload: &str) {
        self.database.insert_event(topic, "a", payload);
    }

    #[track_caller]
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        read_all(&self.kafka.brokers(), topic)
    }

    /// Up to where the slot has confirmed.
    #[track_caller]
    pub(crate) fn confirmed(&self) -> Lsn {
        let slot = self.database.slot(&self.slot);
        let confirmed = slot.expect("the slot is there").confirmed;
        confirmed.expect("a logical slot has a position")
    }
}

/// Somebody locks the table of the checkpoint.
pub(crate) struct Lock {
    // The end of the session is the end of the lock.
    _session: postgres::Client,
}

impl Lock {
    /// Against writers. It has no transaction id, so nobody waits for it who makes a slot.
    pub(crate) fn against_writers(stage: &Stage) -> Self {
        Self::take(stage, "exclusive")
    }

    /// Against readers too, on a server of the stage's own: Postgres gives such a lock a
    /// transaction id.
    pub(crate) fn against_readers(stage: &Stage) -> Self {
        let server = stage.database.postgres();
        assert!(!std::ptr::eq(server, postgres()), "others wait for it");
        Self::take(stage, "access exclusive")
    }

    fn take(stage: &Stage, mode: &str) -> Self {
        let mut session = stage.database.client();
        session
            .batch_execute(&format!(
                "begin; lock table walpost.checkpoint in {mode} mode"
            ))
            .expect("lock the checkpoint");
        Self { _session: session }
    }
}

/// Runs statements as a user pastes them.
#[track_caller]
pub(crate) fn psql(url: &str, statements: &str) {
    let program = postgres().binaries().client("psql");
    let mut psql = Command::new(program)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run psql");
    let mut stdin = psql.stdin.take().expect("it was asked for");
    stdin
        .write_all(statements.as_bytes())
        .expect("write to psql");
    drop(stdin);
    let output = psql.wait_with_output().expect("wait for psql");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{statements}");
}

/// Stops a run, and waits for its end.
#[track_caller]
pub(crate) fn ended_by_stop(running: Running) -> Finished {
    guarded(running.stop(SOON))
}

/// Waits for the end of a run.
#[track_caller]
pub(crate) fn ended(running: Running) -> Finished {
    guarded(running.finish(SOON))
}

/// Passes on what a command left, unless it told a secret.
#[track_caller]
pub(crate) fn guarded(finished: Finished) -> Finished {
    for secret in SECRETS {
        for (stream, text) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            assert!(!text.contains(secret), "{secret} in {stream}:\n{text}");
        }
    }
    finished
}

/// How a command ended that did not do its work.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

impl Refusal {
    /// Reads the end of the log: of a service that is one JSON object, of a report two lines.
    #[track_caller]
    pub(crate) fn of(finished: &Finished) -> Self {
        let (code, stderr) = (finished.code, &finished.stderr);
        let last = stderr.lines().last().unwrap_or_default();
        if let Ok(line) = serde_json::from_str::<serde_json::Value>(last) {
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            return Self {
                code,
                message: text("message").expect("a line of the log has a message"),
                fix: text("fix"),
            };
        }
        let (message, fix) = match stderr.split_once("\nfix: ") {
            Some((message, fix)) => (message, Some(fix.trim().to_owned())),
            None => (stderr.trim(), None),
        };
        Self {
            code,
            message: message.to_owned(),
            fix,
        }
    }

    /// The word of the message that follows this text.
    #[track_caller]
    pub(crate) fn after(&self, text: &str) -> &str {
        let (_, rest) = self.message.split_once(text).expect("it is in the message");
        rest.split([' ', ',', ';']).next().unwrap_or_default()
    }

    /// What stands between two texts in the message.
    #[track_caller]
    pub(crate) fn between(&self, before: &str, after: &str) -> &str {
        let (rest, _) = self
            .message
            .split_once(after)
            .expect("it is in the message");
        let (_, between) = rest.rsplit_once(before).expect("it is in the message");
        between
    }

    /// It has this code and these words, in the message or in the fix.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        let text = format!("{}\n{}", self.message, self.fix.as_deref().unwrap_or(""));
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {self:#?}");
        }
    }
}

/// An address of this machine where nobody listens, and nobody will while the test runs.
pub(crate) struct Nowhere(walpost_tests::Port);

impl Nowhere {
    pub(crate) fn new() -> Self {
        Self(free_port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.number()
    }
}
