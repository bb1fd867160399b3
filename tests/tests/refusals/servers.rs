//! Servers that are not there, or do not let us in.

use std::time::{Duration, Instant};

use crate::{
    KAFKA, POSTGRES, SERVER, SOON,
    scripted::{ScriptedServer, fatal},
    stage::{
        FILE_SECRET, LOCKED, Nowhere, PLAIN, Refusal, Stage, URL_SECRET, ended, ended_by_stop,
        postgres,
    },
};

/// All of them at once: each waits for half a minute.
#[test]
fn a_single_run_gives_a_server_that_is_away_half_a_minute() {
    let nowhere = Nowhere::new();
    let away = format!("127.0.0.1:{}", nowhere.port());
    let stages = ["pg_away", "standby_away", "kafka_away", "kafka_needless"].map(Stage::ready);
    let [no_postgres, no_standby, no_kafka, needless] = &stages;
    let url = format!("postgresql://postgres:{URL_SECRET}@{away}/shop");
    let yaml = no_postgres.yaml_of(&url, &no_postgres.kafka.brokers(), "");
    no_postgres.walpost.configure(&yaml);
    let url = no_standby.url() + "?target_session_attrs=standby";
    let yaml = no_standby.yaml_of(&url, &no_standby.kafka.brokers(), "");
    no_standby.walpost.configure(&yaml);
    for stage in [no_kafka, needless] {
        let yaml = stage.yaml_of(&stage.url(), &away, "");
        stage.walpost.configure(&yaml);
    }
    let topic = no_kafka.kafka.topic("away", 1);
    no_kafka.write(&topic, "1");
    let end = no_kafka.database.current_lsn();

    let begun = Instant::now();
    let runs =
        [no_postgres, no_standby, no_kafka].map(|stage| stage.walpost.start(&["run", "--once"]));
    // Where nothing is to be delivered, nobody is needed to take it: it ends while they wait.
    needless.once();
    assert!(runs.iter().all(|run| run.is_running()));
    let [postgres, standby, kafka] = runs.map(ended);
    let waited = begun.elapsed();
    println!("servers away, run once: ended after {waited:.1?}");
    assert!(waited >= Duration::from_secs(28), "{waited:?}");
    let words = ["is Postgres running at", away.as_str(), "postgres.url"];
    let postgres = Refusal::of(&postgres);
    postgres.assert(69, &words);
    let names = [(away.as_str(), "127.0.0.1:5432")];
    no_postgres.lists_with(POSTGRES, "No server at that address", &postgres, &names);
    assert!(
        standby
            .stderr
            .contains("\"level\":\"ERROR\",\"message\":\"the session ended\""),
        "{}",
        standby.stderr
    );
    let standby = Refusal::of(&standby);
    let words = ["not in hot standby mode", "target_session_attrs=read-write"];
    standby.assert(69, &words);
    let title = "target_session_attrs that asks for a standby";
    no_standby.lists(POSTGRES, title, &standby);
    let kafka = Refusal::of(&kafka);
    kafka.assert(69, &["nothing was delivered for 30 s", "Kafka"]);
    let names = [(away.as_str(), "127.0.0.1:9092")];
    no_kafka.lists_with(KAFKA, "No broker at that address", &kafka, &names);
    // What stands before the event may be confirmed; it is not, so it comes again.
    assert!(no_kafka.confirmed() < end, "nothing was delivered");
    no_kafka.configure("");
    no_kafka.once();
    assert_eq!(no_kafka.read(&topic).len(), 1);
}

#[test]
fn a_stream_goes_on_trying_until_it_is_stopped() {
    let stage = Stage::bare("trying");
    let nowhere = Nowhere::new();
    let url = format!("postgresql://127.0.0.1:{}/shop?user=u", nowhere.port());
    stage
        .walpost
        .configure(&stage.yaml_of(&url, &stage.kafka.brokers(), ""));
    let running = stage.walpost.start(&["run"]);
    let line = running.wait_for_log("the session ended", SOON);
    assert!(line.contains("\"level\":\"WARN\""), "{line}");
    assert!(running.is_running());
    assert_eq!(ended_by_stop(running).code, 0);
}

#[test]
fn a_wrong_password_is_refused_at_once() {
    let stage = Stage::ready("password");
    let configure = |password: &str| {
        let url = stage.url_as(LOCKED, password);
        let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
        stage.walpost.configure(&yaml);
    };
    configure(URL_SECRET);
    let words = [
        "password authentication failed",
        LOCKED,
        "postgres.password",
    ];
    let refusal = stage.refused(77, &words);
    stage.lists(POSTGRES, "A wrong password", &refusal);
    let running = stage.walpost.start(&["run"]);
    Refusal::of(&ended(running)).assert(77, &words);
    configure(FILE_SECRET);
    stage.once();
}

#[test]
fn a_role_that_does_not_exist_is_refused() {
    let stage = Stage::ready("role");
    let url = stage.url_as("nobody_here", URL_SECRET);
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let refusal = stage.refused(77, &["nobody_here", "pg_hba.conf"]);
    stage.lists(POSTGRES, "A role that does not exist", &refusal);
}

#[test]
fn a_role_without_replication_is_refused() {
    let stage = Stage::ready("replication");
    let topic = stage.kafka.topic("replication", 1);
    stage.write(&topic, "1");
    let url = stage.url_as(PLAIN, URL_SECRET);
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let refusal = stage.refused(77, &["replication", PLAIN]);
    stage.lists(SERVER, "A role without REPLICATION", &refusal);
    assert_eq!(stage.read(&topic), []);
}

#[test]
fn a_database_that_does_not_exist_is_refused() {
    let stage = Stage::ready("database");
    let url = stage.url().replace(stage.database.name(), "no_such_shop");
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    let refusal = stage.refused(78, &["no_such_shop", "postgres.url"]);
    stage.lists(POSTGRES, "A database that does not exist", &refusal);
}

/// The first of two servers is starting when the stream is opened, and no more a moment later.
#[test]
fn a_session_asks_everything_of_the_server_that_it_streams_from() {
    let stage = Stage::ready("two_servers");
    let other = ScriptedServer::new(&[
        fatal("57P03", "the database system is starting up"),
        fatal("28000", "this is another server"),
    ]);
    let topic = stage.kafka.topic("two_servers", 1);
    stage.write(&topic, "1");
    let ours = postgres().port();
    let (ports, name) = (format!("{},{ours}", other.port()), stage.database.name());
    let url = format!(
        "host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname={name} sslmode=disable"
    );
    let yaml = stage.yaml_of(&url, &stage.kafka.brokers(), "");
    stage.walpost.configure(&yaml);
    stage.once();
    assert_eq!(stage.read(&topic).len(), 1);
    assert_eq!(other.connections(), 1);
}
