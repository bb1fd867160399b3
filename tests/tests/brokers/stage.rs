//! A database with an outbox, the broker, and the one way to run commands on them.

use std::{fs, sync::OnceLock, thread};

use serde_json::Value;
use walpost_tests::{
    Database, Finished, Mistake, Postgres, Record, Running, SecuredKafka, Walpost, read_all,
};

use crate::SOON;

pub(crate) const USER: &str = SecuredKafka::USER;
pub(crate) const PASSWORD: &str = SecuredKafka::PASSWORD;

/// The login of [`SecuredKafka::LIMITED`], for the listener `SASL`.
pub(crate) const LIMITED_LOGIN: [(&str, &str); 4] = [
    ("security.protocol", "sasl_plaintext"),
    ("sasl.mechanism", "PLAIN"),
    ("sasl.username", SecuredKafka::LIMITED),
    ("sasl.password", SecuredKafka::LIMITED_PASSWORD),
];

/// Properties by name.
pub(crate) type Properties<'a> = &'a [(&'a str, &'a str)];

pub(crate) struct Stage {
    pub(crate) database: Database<'static>,
    pub(crate) kafka: &'static SecuredKafka,
    pub(crate) slot: String,
    pub(crate) walpost: Walpost,
}

impl Stage {
    /// After `init --apply`.
    pub(crate) fn new(hint: &str) -> Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        let database = SERVER.get_or_init(Postgres::new).database(hint);
        let slot = database.slot_name();
        let stage = Self {
            database,
            kafka: SecuredKafka::shared(),
            slot,
            walpost: Walpost::new(""),
        };
        stage.configure(&stage.kafka.brokers(), &[], "");
        stage.walpost.init();
        stage
    }

    /// Replaces the configuration; `sections` follow the one of Kafka, whose keys come first if
    /// they are indented.
    pub(crate) fn configure(&self, brokers: &str, properties: Properties<'_>, sections: &str) {
        let (url, slot) = (self.database.url(), &self.slot);
        let mut yaml = format!(
            "postgres:\n  url: \"{url}\"\n  slot: {slot}\n  publication: {slot}\n\
             kafka:\n  brokers: \"{brokers}\"\n"
        );
        if !properties.is_empty() {
            yaml += "  properties:\n";
        }
        for (name, value) in properties {
            let value = Value::from(*value);
            yaml += &format!("    {name}: {value}\n");
        }
        self.walpost.configure(&(yaml + sections));
    }

    /// A file beside the configuration; returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.walpost.dir().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    #[track_caller]
    pub(crate) fn write(&self, topic: &str, payload: &str) {
        self.database.insert_event(topic, "a", payload);
    }

    #[track_caller]
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        read_all(&self.kafka.brokers(), topic)
    }

    #[track_caller]
    pub(crate) fn run_once(&self) -> Finished {
        guarded(self.walpost.finish(&["run", "--once"], SOON))
    }

    /// An event goes through a listener with these properties.
    #[track_caller]
    pub(crate) fn delivers(&self, listener: &str, properties: Properties<'_>) {
        self.configure(&self.kafka.listener(listener), properties, "");
        let topic = self.kafka.topic("way", 2);
        self.write(&topic, "1");
        let finished = self.run_once();
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let records = self.read(&topic);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].value.as_deref(), Some(&b"1"[..]));
    }

    /// `run --once` with an event to deliver ends with this code, in these words.
    #[track_caller]
    pub(crate) fn refuses(&self, code: i32, words: &[&str]) -> Refused {
        assert_refused(&self.run_once(), code, words)
    }

    /// The exit code of `check`, and what it says of Kafka.
    #[track_caller]
    pub(crate) fn check(&self) -> (i32, Vec<Value>) {
        let finished = guarded(self.walpost.finish(&["check", "--json"], SOON));
        let json: Value = serde_json::from_str(&finished.stdout).unwrap();
        let findings = json["result"]["findings"].as_array().unwrap().iter();
        let of_kafka = findings.filter(|finding| finding["area"] == "kafka");
        (finished.code, of_kafka.cloned().collect())
    }

    /// `check` ends with this code and finds this problem, in these words.
    #[track_caller]
    pub(crate) fn check_finds(&self, exit: i32, code: &str, words: &[&str]) {
        let (found_exit, findings) = self.check();
        let found = findings.iter().find(|finding| finding["code"] == code);
        let found = found.unwrap_or_else(|| panic!("no {code} in {findings:#?}"));
        let found = found.to_string();
        assert_eq!(found_exit, exit, "{found}");
        for word in words {
            assert!(found.contains(word), "{word:?} is not in {found}");
        }
    }
}

/// Does the same with each of several things at once: most of a test is waiting.
pub(crate) fn each<T: Sync>(items: &[T], test: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        let test = &test;
        let start = |item| scope.spawn(move || test(item));
        let running: Vec<_> = items.iter().map(start).collect();
        for test in running {
            if let Err(panic) = test.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// An event goes through a listener with each of these sets of properties.
#[track_caller]
pub(crate) fn all_deliver(listener: &str, ways: &[Vec<(&str, &str)>]) {
    each(ways, |way| Stage::new("way").delivers(listener, way));
}

/// How a run ended that did not do its work.
#[must_use]
pub(crate) struct Refused {
    code: i32,
    pub(crate) message: String,
    fix: String,
}

impl Refused {
    /// `docs/mistakes.md` has it under this title, with other names in place of the test's.
    #[track_caller]
    pub(crate) fn is_listed(&self, title: &str, names: &[(&str, &str)]) {
        Mistake {
            section: "Connecting to Kafka",
            title,
            code: Some(self.code),
            message: &self.message,
            fix: Some(&self.fix),
        }
        .is_listed(names);
    }
}

/// A run that ended by itself did so with this code, and its last line has these words.
#[track_caller]
pub(crate) fn assert_refused(finished: &Finished, code: i32, words: &[&str]) -> Refused {
    let last = finished.stderr.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(last).unwrap_or_default();
    let part = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let (message, fix) = (part("message"), part("fix"));
    let text = format!("{message}\nfix: {fix}");
    assert_eq!(finished.code, code, "{text}\n{}", finished.stderr);
    assert!(!fix.is_empty(), "no fix in {}", finished.stderr);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    Refused {
        code,
        message: message.trim_start_matches("error: ").to_owned(),
        fix,
    }
}

#[track_caller]
pub(crate) fn ended(running: Running) -> Finished {
    guarded(running.finish(SOON))
}

/// Passes on what a command left, unless there is a token in it. Other secrets are looked for by
/// the harness.
#[track_caller]
pub(crate) fn guarded(finished: Finished) -> Finished {
    for text in [&finished.stdout, &finished.stderr] {
        // Every JSON Web Token begins so.
        assert!(!text.contains("eyJ"), "a token in {text}");
    }
    finished
}
