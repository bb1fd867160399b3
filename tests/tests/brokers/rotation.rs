//! Passwords and certificates that are replaced while events flow.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::Instant,
};

use walpost_tests::{
    Authority, Consumer, Ledger, Postgres, Right, Running, SecuredKafka, Walpost, Writer, check,
    unique, wait_until,
};

use crate::{
    SOON,
    stage::{Stage, USER, guarded},
};

/// What the log says when the connection is made anew, and when it can't be.
const RENEWED: &str = "files of kafka.properties have changed: connecting";
const REFUSED: &str = "what is in them does not work";

/// A stage under load.
pub(crate) struct Loaded {
    pub(crate) stage: Stage,
    pub(crate) topic: String,
}

impl Loaded {
    pub(crate) fn new(hint: &str) -> Self {
        let stage = Stage::new(hint);
        let topic = stage.kafka.topic(hint, 4);
        Self { stage, topic }
    }

    pub(crate) fn writer(&self) -> Writer {
        let writer = Writer::new(&self.stage.database, &self.topic);
        writer.aggregates(20).rows_between(1, 5).rate(100.0)
    }

    pub(crate) fn consumer(&self) -> Consumer {
        Consumer::new(&self.stage.kafka.brokers(), &self.topic)
    }

    /// The connection is made anew, once, and events go on.
    fn renews(&self, running: &Running, consumer: &mut Consumer) {
        running.wait_for_log(RENEWED, SOON);
        let renewed = Instant::now();
        consumer.read_to_end(SOON);
        consumer.wait_for_new_events(1, SOON);
        println!("{}: an event after {:.2?}", self.topic, renewed.elapsed());
        consumer.wait_for_new_events(200, SOON);
        assert_eq!(running.log().matches(RENEWED).count(), 1);
        assert_eq!(running.log().matches(REFUSED).count(), 1);
    }

    /// Everything has arrived in order, and the relay stops in order.
    pub(crate) fn finish(&self, running: Running, ledger: &Ledger) -> usize {
        let mut consumer = self.consumer();
        consumer.wait_for_events(ledger, SOON);
        let finished = guarded(running.stop(SOON));
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        check(&[ledger], consumer.read_to_end(SOON)).assert_clean()
    }
}

/// A file that is there from one moment to the next, as careful tools write it.
fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(&next, path).unwrap();
}

#[test]
fn a_password_that_is_rotated_under_load_is_followed() {
    let loaded = Loaded::new("rotated");
    let (stage, kafka) = (&loaded.stage, loaded.stage.kafka);
    let user = unique("rotated");
    kafka.set_password(&user, "rotated-hunter-1");
    kafka.grant(&user, &[Right::Write(&loaded.topic)]);
    let password = stage.file("password", "rotated-hunter-1\n");
    let properties = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.username", user.as_str()),
        ("sasl.password_file", password.as_str()),
    ];
    stage.configure(&kafka.listener("SASL"), &properties, "");
    let writer = loaded.writer().start();
    let running = stage.walpost.start(&["run"]);
    let mut consumer = loaded.consumer();
    consumer.wait_for_new_events(100, SOON);

    // The file is ahead of the broker: nothing is given up for it.
    replace(password.as_ref(), "rotated-hunter-2\n");
    running.wait_for_log(REFUSED, SOON);
    consumer.wait_for_new_events(200, SOON);
    assert!(!running.log().contains(RENEWED), "{}", running.log());
    kafka.set_password(&user, "rotated-hunter-2");
    loaded.renews(&running, &mut consumer);
    let duplicates = loaded.finish(running, &writer.stop());
    println!("password of Kafka rotated: {duplicates} duplicates");
}

/// As Kubernetes mounts them: every name is a link through a link to a directory.
#[test]
fn certificates_that_are_rotated_under_load_are_followed() {
    let loaded = Loaded::new("renewed");
    let (stage, kafka) = (&loaded.stage, loaded.stage.kafka);
    let path = |name: &str| stage.walpost.dir().join(name);
    let mount = |version: &str, certificate: &str, key: &str| {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("tls.crt"), certificate).unwrap();
        fs::write(path(version).join("tls.key"), key).unwrap();
        symlink(version, path("..next")).unwrap();
        fs::rename(path("..next"), path("..data")).unwrap();
    };
    let mount_identity = |version: &str| {
        let identity = kafka.authority().issue(USER, &[]);
        mount(version, &identity.certificate_pem(), &identity.key_pem());
        identity
    };
    let first = mount_identity("v1");
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), path(name)).unwrap();
    }
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    let properties = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", &kafka.authority_file()),
        ("ssl.certificate.location", certificate.to_str().unwrap()),
        ("ssl.key.location", key.to_str().unwrap()),
    ];
    stage.configure(&kafka.listener("MTLS"), &properties, "");
    let writer = loaded.writer().start();
    let running = stage.walpost.start(&["run"]);
    let mut consumer = loaded.consumer();
    consumer.wait_for_new_events(100, SOON);

    // Half of it is written.
    let whole = first.certificate_pem();
    mount("v2", &whole[..whole.len() / 2], &first.key_pem());
    running.wait_for_log(REFUSED, SOON);
    consumer.wait_for_new_events(200, SOON);
    assert!(!running.log().contains(RENEWED), "{}", running.log());
    mount_identity("v3");
    loaded.renews(&running, &mut consumer);
    let duplicates = loaded.finish(running, &writer.stop());
    println!("certificates of Kafka rotated: {duplicates} duplicates");
}

/// A server that asks for a password and a certificate, all of which are replaced at once.
#[test]
fn passwords_and_certificates_of_postgres_that_are_rotated_are_followed() {
    let first = Authority::new("First");
    let server = secured_postgres(&first);
    let database = server.database("rotated_pg");
    let slot = database.slot_name();
    let kafka = SecuredKafka::shared();
    let topic = kafka.topic("rotated_pg", 4);
    let walpost = Walpost::new("");
    let path = |name: &str| walpost.dir().join(name);
    let url = format!(
        "postgresql://rotated@127.0.0.1:{}/{}?sslmode=verify-full&sslrootcert={}&sslcert={}\
         &sslkey={}",
        server.port(),
        database.name(),
        path("ca.pem").display(),
        path("client.pem").display(),
        path("client.key").display()
    );
    walpost.configure(&format!(
        "postgres:\n  url: \"{url}\"\n  slot: {slot}\n  publication: {slot}\n\
         \x20 password_file: password\nkafka:\n  brokers: \"{}\"\n",
        kafka.brokers()
    ));
    let equip = |authority: &Authority, password: &str| {
        let client = authority.issue("rotated", &[]);
        replace(&path("ca.pem"), &authority.pem());
        replace(&path("client.pem"), &client.certificate_pem());
        replace(&path("client.key"), &client.key_pem());
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path("client.key"), owner_only).unwrap();
        replace(&path("password"), password);
    };
    equip(&first, "first-hunter-61c0");
    walpost.init();
    let writer = Writer::new(&database, &topic)
        .rows_between(1, 5)
        .rate(100.0)
        .start();
    let running = walpost.start(&["run"]);
    let mut consumer = Consumer::new(&kafka.brokers(), &topic);
    consumer.wait_for_new_events(100, SOON);

    // The server first: the relay is not let in any more, and tries again.
    let second = Authority::new("Second");
    certify(&server, &second);
    let rotate = "alter role rotated password 'second-hunter-8e7d'; select pg_reload_conf()";
    database.execute(rotate);
    let terminate = "select pg_terminate_backend(pid) from pg_stat_replication";
    wait_until(SOON, "the relay is not let in", || {
        database.execute(terminate);
        running.log().contains("the session ended").then_some(())
    });
    running.wait_for_log("certificate", SOON);
    equip(&second, "second-hunter-8e7d");
    consumer.read_to_end(SOON);
    consumer.wait_for_new_events(200, SOON);
    let ledger = writer.stop();
    consumer.wait_for_events(&ledger, SOON);
    let finished = guarded(running.stop(SOON));
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    check(&[&ledger], consumer.read_to_end(SOON)).assert_clean();
}

/// It lets the role `rotated` in with TLS, a certificate and a password.
fn secured_postgres(authority: &Authority) -> Postgres {
    let identity = authority.issue("127.0.0.1", &["127.0.0.1"]);
    let server = Postgres::builder()
        .file("server.pem", identity.certificate_pem().as_bytes())
        .file("server.key", identity.key_pem().as_bytes())
        .file("ca.pem", authority.pem().as_bytes())
        .setting("ssl", "on")
        .setting("ssl_cert_file", "server.pem")
        .setting("ssl_key_file", "server.key")
        .setting("ssl_ca_file", "ca.pem")
        .hba("hostssl all rotated 127.0.0.1/32 scram-sha-256 clientcert=verify-full")
        .hba("hostnossl all rotated 127.0.0.1/32 reject")
        .start();
    server
        .client()
        .batch_execute("create role rotated login superuser password 'first-hunter-61c0'")
        .expect("create a role");
    server
}

/// Other certificates for a server, which takes them when it reads its configuration again.
fn certify(server: &Postgres, authority: &Authority) {
    let identity = authority.issue("127.0.0.1", &["127.0.0.1"]);
    let file = |name: &str| server.data_dir().join(name);
    fs::write(file("server.pem"), identity.certificate_pem()).unwrap();
    fs::write(file("server.key"), identity.key_pem()).unwrap();
    fs::write(file("ca.pem"), authority.pem()).unwrap();
}
