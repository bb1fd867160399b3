//! Both servers, a database, and what is done in a case.

use std::collections::{BTreeMap, BTreeSet};

use walpost_tests::{
    Consumer, Database, Kafka, Ledger, Lsn, Postgres, Proxy, Record, Running, RunningWriter,
    Walpost, Writer, check, read_all, said, wait_until,
};

use crate::{
    SOON,
    case::{Case, Situation, Way, large},
};

/// A process that aborts itself ends by this signal.
const ABORTED: i32 = 128 + 6;

const PARTITIONS: i32 = 4;

/// Records that Kafka refuses.
const REFUSED: usize = 5;

/// A database with an outbox and a slot, and a way to Kafka that can be cut.
pub(crate) struct Rig {
    kafka: &'static Kafka,
    database: Database<'static>,
    slot: String,
    dead_letters: String,
    way: Option<Proxy>,
    yaml: String,
}

/// What a case stands on.
struct Scene<'a> {
    rig: &'a Rig,
    case: &'a Case,
    topic: String,
    consumer: Consumer,
    ledgers: Vec<Ledger>,
    writer: Option<RunningWriter>,
    /// How many streams the relays have opened.
    streams: Streams,
    /// Dead letters of the cases before.
    letters: usize,
}

/// How many streams were opened: each sends an event once.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    /// By the relay that died.
    before: usize,
    /// By the one that went on.
    after: usize,
}

impl Rig {
    /// What cases of that way stand on.
    pub(crate) fn new(way: Way) -> Self {
        let (kafka, hint) = (Kafka::shared(), way.name());
        let database = Postgres::shared().database(hint);
        let slot = database.slot_name();
        let dead_letters = kafka.topic("letters", 1);
        let is_cut = matches!(way, Way::Rebuilding | Way::Parking);
        let is_keyed_by_aggregate = way == Way::Replacing;
        let way = is_cut.then(|| kafka.proxy());
        let brokers = way.as_ref().map_or_else(|| kafka.brokers(), Proxy::address);
        let route = if is_keyed_by_aggregate {
            "route:\n  key: ${aggregate_id}\n"
        } else {
            ""
        };
        let yaml = format!(
            "postgres:\n  url: \"{}\"\n  slot: {slot}\n  publication: {slot}\n\
             kafka:\n  brokers: \"{brokers}\"\n\
             delivery:\n  on_undeliverable: dead_letter\n  dead_letter_topic: {dead_letters}\n\
             {route}",
            database.url()
        );
        Walpost::new(&yaml).init();
        Self {
            kafka,
            database,
            slot,
            dead_letters,
            way,
            yaml,
        }
    }

    /// Lets a relay die, another one go on, and checks what has become of the events.
    pub(crate) fn run(&self, case: &Case) {
        // A compacted topic takes no record without a key.
        let is_refused = case.way == Way::Replacing;
        let policy = [("cleanup.policy", "compact")];
        let properties = if is_refused { &policy[..] } else { &[] };
        let topic = self.kafka.topic_with("crash", PARTITIONS, properties);
        let consumer = Consumer::new(&self.kafka.brokers(), &topic);
        let scene = Scene {
            rig: self,
            case,
            topic,
            consumer,
            ledgers: Vec::new(),
            writer: None,
            streams: Streams::default(),
            letters: self.letters(),
        };
        scene.run();
    }

    /// Starts a relay that is to die.
    fn start_armed(&self, case: &Case) -> Running {
        let Case {
            name, side, nth, ..
        } = case;
        let at = format!("{name}/{}:{nth}", side.name());
        Walpost::new(&self.yaml)
            .env("CRASH_AT", &at)
            .start(&["run"])
    }

    /// Up to where everything is confirmed, by the row or by the slot, once nobody streams.
    fn confirmed(&self) -> u64 {
        let mut client = self.database.client();
        let sql = "select (greatest(lsn, confirmed_flush_lsn) - '0/0')::bigint
                   from pg_replication_slots natural join
                       (select slot as slot_name, lsn from walpost.checkpoint) as row
                   where slot_name = $1 and active_pid is null";
        let lsn: i64 = wait_until(SOON, "nobody streams from the slot", || {
            let row = client.query_opt(sql, &[&self.slot]).ok()??;
            // pg_lsn's difference is numeric; the cast keeps it in range.
            Some(row.get(0))
        });
        u64::try_from(lsn).expect("a position is not negative")
    }

    /// How many events are dead letters by now: one can come again.
    fn letters(&self) -> usize {
        let letters = read_all(&self.kafka.brokers(), &self.dead_letters);
        let ids: BTreeSet<_> = letters.iter().map(Record::event_id).collect();
        ids.len()
    }

    fn end_stream(&self) {
        self.end_stream_behind(Lsn::from(0));
    }

    /// Ends the stream if everything up to there was sent on it.
    fn end_stream_behind(&self, sent: Lsn) {
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_replication_slots
             join pg_stat_replication on pid = active_pid
             where slot_name = '{}' and sent_lsn >= '{sent}'",
            self.slot
        );
        self.database.execute(&sql);
    }
}

impl Scene<'_> {
    fn run(mut self) {
        let is_opening = self.case.way == Way::Opening;
        if is_opening {
            self.load();
        }
        let running = self.rig.start_armed(self.case);
        if !is_opening {
            wait_until(SOON, "the stream, or the end", || {
                let is_open = running.log().contains(STREAMING);
                (is_open || !running.is_running()).then_some(())
            });
            self.load();
        }
        self.bring_there(&running);
        self.streams.before = self.check_death(running);
        let confirmed = self.rig.confirmed();
        self.go_on(confirmed);
    }

    /// Commits what the situation needs.
    fn load(&mut self) {
        let writer = Writer::new(&self.rig.database, &self.topic).aggregates(20);
        match self.case.situation {
            Situation::Idle => self.ledgers.push(writer.bulk(1)),
            Situation::Loaded => {
                let writer = writer.rows_between(1, 5).rollbacks(0.02).rate(100.0);
                self.writer = Some(writer.start());
            }
            Situation::Large => self.ledgers.push(writer.bulk(large())),
        }
    }

    /// Does what has to happen for the relay to come to its point.
    fn bring_there(&mut self, running: &Running) {
        match self.case.way {
            Way::Opening | Way::Reading | Way::Sending | Way::Telling => {}
            Way::Stopping => {
                self.consumer.wait_for_new_events(1, SOON);
                running.terminate();
            }
            Way::Settling => {
                self.consumer.wait_for_new_events(1, SOON);
                self.rig.end_stream();
            }
            Way::DeadLetter => self.rig.database.insert_event("no topic!", "a", "{}"),
            Way::Rebuilding => {
                self.consumer.wait_for_new_events(1, SOON);
                let way = self.rig.way.as_ref().expect("a way that can be cut");
                way.down();
                let writer = Writer::new(&self.rig.database, &self.topic);
                self.ledgers.push(writer.bulk(20));
                // What is in flight at the end of a session costs the producer.
                let end = self.rig.database.current_lsn();
                wait_until(SOON, "another producer is made", || {
                    self.rig.end_stream_behind(end);
                    (!running.is_running()).then_some(())
                });
            }
            Way::Replacing => {
                self.consumer.wait_for_new_events(1, SOON);
                // What is refused together is sent again one by one.
                let topic = &self.topic;
                self.rig.database.execute(&format!(
                    "insert into outbox (destination, payload)
                     select '{topic}', to_jsonb(n) from generate_series(1, {REFUSED}) n"
                ));
            }
            Way::Parking => {
                self.consumer.wait_for_new_events(1, SOON);
                let way = self.rig.way.as_ref().expect("a way that can be cut");
                way.down();
                // Something has to be in flight.
                let writer = Writer::new(&self.rig.database, &self.topic);
                self.ledgers.push(writer.bulk(20));
                if self.case.name != "park" {
                    running.wait_for_log("parked: the stream is closed", SOON);
                    way.resume();
                }
            }
        }
    }

    /// The process is gone, and because of its point. Returns how many streams it opened.
    fn check_death(&self, running: Running) -> usize {
        let case = self.case;
        let last_words = format!("crash point {}/{}", case.name, case.side.name());
        let code = running.wait_exit(SOON);
        let finished = running.finish(SOON);
        assert_eq!(code, ABORTED, "{case:?}: {}", finished.stderr);
        let last = finished.stderr.lines().last();
        assert!(
            finished.stderr.lines().any(|line| line == last_words),
            "{case:?} ended otherwise: {last:?}"
        );
        // One that only tries Kafka is whispered.
        said(&finished.stderr, STREAMING) + usize::from(case.name == "recover")
    }

    /// Another relay delivers what is left.
    fn go_on(mut self, confirmed: u64) {
        if let Some(way) = &self.rig.way {
            way.resume();
        }
        let running = Walpost::new(&self.rig.yaml).start(&["run"]);
        running.wait_for_log(STREAMING, SOON);
        if let Some(writer) = self.writer.take() {
            writer.wait_for(writer.committed() + 20, SOON);
            self.ledgers.push(writer.stop());
        }
        for ledger in &self.ledgers {
            self.consumer.wait_for_events(ledger, SOON);
        }
        if self.case.way == Way::DeadLetter {
            self.check_dead_letters(1);
        } else if self.case.way == Way::Replacing {
            self.check_dead_letters(REFUSED);
        }
        let finished = running.stop(SOON);
        assert_eq!(finished.code, 0, "{:?}: {}", self.case, finished.stderr);
        self.streams.after = said(&finished.stderr, STREAMING);
        self.consumer.read_to_end(SOON);
        self.check(confirmed);
    }

    fn check_dead_letters(&self, count: usize) {
        let expected = self.letters + count;
        wait_until(SOON, "the dead letters arrive", || {
            (self.rig.letters() >= expected).then_some(())
        });
    }

    /// Nothing is lost, altered, or out of order, and what comes again was not confirmed.
    fn check(&self, confirmed: u64) {
        let records = self.consumer.records();
        let ledgers: Vec<&Ledger> = self.ledgers.iter().collect();
        let events: usize = ledgers.iter().map(|ledger| ledger.committed.len()).sum();
        let repeats = check(&ledgers, records).assert_clean();
        check_content(self.case, &ledgers, records);
        let Case {
            name,
            side,
            situation,
            nth,
            ..
        } = self.case;
        let side = side.name();
        println!("{name}/{side}:{nth}, {situation:?}: {events} events, {repeats} came again");
        check_repeats(self.case, records, confirmed, self.streams);
    }
}

/// Each stream sends an event once, and only if neither row nor slot had it when that began.
fn check_repeats(case: &Case, records: &[Record], confirmed: u64, streams: Streams) {
    let mut copies = BTreeMap::new();
    for record in records {
        let position = record.header("walpost-position").expect("a position");
        let (count, _) = copies.entry(record.event_id()).or_insert((0, position));
        *count += 1;
    }
    for (id, (count, position)) in copies {
        let lsn = u64::from_str_radix(&position[..16], 16).expect("sixteen hex digits");
        let most = match lsn < confirmed {
            true => streams.before,
            false => streams.before + streams.after,
        };
        assert!(
            count <= most,
            "{case:?}: {count} times {id:?} at {position}, {streams:?}"
        );
    }
}

/// Each record holds what was written.
fn check_content(case: &Case, ledgers: &[&Ledger], records: &[Record]) {
    let written = ledgers.iter().flat_map(|ledger| &ledger.committed);
    let written: BTreeMap<_, _> = written.map(|event| (event.id, event)).collect();
    for record in records {
        let id = record.event_id().expect("an event");
        let (event, value) = (written[&id], record.json().expect("JSON"));
        let key = if case.way == Way::Replacing {
            event.aggregate.clone()
        } else {
            id.to_string()
        };
        assert_eq!(record.key_text(), Some(&key[..]));
        assert_eq!(value["aggregate"], event.aggregate, "{id}");
        assert_eq!(value["version"], event.version, "{id}");
    }
}

/// What the log says when a stream has begun.
const STREAMING: &str = r#""streaming""#;
