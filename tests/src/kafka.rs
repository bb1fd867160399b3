//! A throwaway Apache Kafka broker: KRaft, one node, from the jars in the cache.

mod admin;
mod properties;
mod rights;
mod secured;
mod users;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use self::properties::{FIRST_NODE, Further, Listeners, PROXIES};
pub use self::rights::Right;
pub use self::secured::SecuredKafka;
use crate::{
    GuardedDir, Process, Proxy, cache_dir, free_port, lookup::program, postgres::tail,
    try_wait_until, wait_until,
};

/// A broker that can be stopped, killed, frozen and started again in place: ports and storage stay.
///
/// Topics are never created by accident: `auto.create.topics.enable=false`.
#[derive(Debug)]
pub struct Kafka {
    // Before `dir`: dropped in this order, the broker ends before its files go.
    broker: Mutex<Option<Process>>,
    node: i32,
    cluster_id: String,
    listeners: Listeners,
    proxies_given: AtomicUsize,
    scram_users: Vec<(String, String)>,
    java_options: Vec<String>,
    dir: GuardedDir,
}

/// What a broker is made with.
#[derive(Debug, Default)]
pub struct KafkaBuilder {
    properties: Vec<(String, String)>,
    further: Vec<Further>,
    scram_users: Vec<(String, String)>,
    java_options: Vec<String>,
}

impl KafkaBuilder {
    /// A further line of `server.properties`; a later one of the same name wins.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A further listener of that name and security protocol (`SSL`, `SASL_PLAINTEXT`, …). Clients
    /// are told that it is at `advertised`, or where it really is.
    #[must_use]
    pub fn listener(mut self, name: &str, protocol: &str, advertised: Option<String>) -> Self {
        self.further.push(Further {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            port: free_port(),
            advertised,
        });
        self
    }

    /// A user who can log in by SCRAM, with both hashes.
    #[must_use]
    pub fn scram_user(mut self, name: &str, password: &str) -> Self {
        self.scram_users
            .push((name.to_owned(), password.to_owned()));
        self
    }

    /// A further argument of the Java machine.
    #[must_use]
    pub fn java_option(mut self, option: &str) -> Self {
        self.java_options.push(option.to_owned());
        self
    }

    /// Formats the storage and starts the broker.
    ///
    /// # Panics
    ///
    /// When Java or the jars are missing, or the broker does not start.
    pub fn start(self) -> Kafka {
        self.start_as(FIRST_NODE, None)
    }

    /// As [`KafkaBuilder::start`], as a further broker of another one's cluster. Its number has to
    /// be free there: 2 or more.
    ///
    /// # Panics
    ///
    /// The same.
    pub fn join(self, first: &Kafka, node: i32) -> Kafka {
        self.start_as(node, Some(first))
    }

    fn start_as(self, node: i32, first: Option<&Kafka>) -> Kafka {
        let kafka = Kafka {
            broker: Mutex::new(None),
            node,
            cluster_id: first.map_or_else(cluster_id, |first| first.cluster_id.clone()),
            listeners: Listeners::reserve(self.further, first.map(|first| &first.listeners)),
            proxies_given: AtomicUsize::new(0),
            scram_users: self.scram_users,
            java_options: self.java_options,
            dir: GuardedDir::new("kafka"),
        };
        let data_dir = kafka.dir.path().join("data");
        let properties = kafka
            .listeners
            .server_properties(node, &data_dir, &self.properties);
        fs::write(kafka.properties_path(), properties).expect("write server.properties");
        kafka.format();
        kafka.start();
        kafka
    }
}

impl Kafka {
    /// The broker of this test binary, started on first use and never stopped by anybody: for
    /// tests that do nothing to the broker.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// A broker of the test's own, started: about 5 s of CPU time and 400 MB.
    pub fn new() -> Self {
        Self::builder().start()
    }

    /// A broker with settings.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::default()
    }

    /// `host:port` for a client's `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.listeners.client.number())
    }

    /// `host:port` of the further listener of that name.
    ///
    /// # Panics
    ///
    /// When the broker has none.
    #[track_caller]
    pub fn listener(&self, name: &str) -> String {
        let further = self.listeners.further.iter().find(|one| one.name == name);
        let port = &further
            .expect("the broker was made with that listener")
            .port;
        format!("127.0.0.1:{}", port.number())
    }

    /// A proxy in front of the broker, with a listener of its own behind it that advertises the
    /// proxy's address: a client that starts with [`Proxy::address`] never goes past it.
    ///
    /// # Panics
    ///
    /// When all of the broker's proxied listeners have been given out.
    #[track_caller]
    pub fn proxy(&self) -> Proxy {
        let index = self.proxies_given.fetch_add(1, Ordering::Relaxed);
        assert!(index < PROXIES, "a broker has {PROXIES} proxied listeners");
        let listener = &self.listeners.proxied[index];
        let target = format!("127.0.0.1:{}", listener.behind.number());
        Proxy::at(listener.front.number(), &target)
    }

    /// Starts the broker after a stop or kill, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it runs already, or does not answer within 60 s: with the end of its log.
    #[track_caller]
    pub fn start(&self) {
        self.start_process();
        wait_until(START_DEADLINE, "Kafka answers metadata requests", || {
            if !self.is_running() {
                panic!("Kafka ended at its start:\n{}", tail(&self.log()));
            }
            self.is_ready().then_some(())
        });
    }

    /// As [`Kafka::start`] without the wait.
    #[track_caller]
    pub fn start_process(&self) {
        let mut broker = self.broker();
        if let Some(process) = broker.as_ref() {
            assert!(!process.is_running(), "Kafka runs already");
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path());
        let log = log.expect("open the broker log");
        let mut command = self.java();
        command
            .arg("-Xmx400m")
            .args(&self.java_options)
            .arg("kafka.Kafka")
            .arg(self.properties_path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(
                log.try_clone()
                    .expect("duplicate the handle of the broker log"),
            )
            .stderr(log);
        *broker = Some(Process::spawn(&mut command).expect("start java"));
    }

    /// Stops the broker in an orderly way (SIGTERM) and waits for its end.
    ///
    /// # Panics
    ///
    /// When it runs on after 60 s.
    #[track_caller]
    pub fn stop(&self) {
        assert!(
            self.try_stop(STOP_DEADLINE),
            "Kafka is not down:\n{}",
            tail(&self.log())
        );
    }

    /// As [`Kafka::stop`], and whether it ended by the deadline.
    pub fn try_stop(&self, deadline: Duration) -> bool {
        self.signal("TERM");
        try_wait_until(deadline, || (!self.is_running()).then_some(())).is_some()
    }

    /// Whether the broker answers.
    pub fn answers(&self) -> bool {
        self.is_running() && self.is_ready()
    }

    /// Kills the broker (SIGKILL) and waits for its end.
    pub fn kill(&self) {
        if let Some(process) = self.broker().as_ref() {
            process.kill();
        }
    }

    /// Freezes the broker (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a frozen broker go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Leaves its directory behind, for people to look at, and says where.
    pub fn keep(&self) -> &Path {
        self.dir.keep();
        self.dir.path()
    }

    /// Whether the broker runs, frozen or not.
    pub fn is_running(&self) -> bool {
        self.broker().as_ref().is_some_and(Process::is_running)
    }

    /// Everything the broker logged until now.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn format(&self) {
        let mut command = self.java();
        command
            .args([
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                &self.cluster_id,
                "--config",
            ])
            .arg(self.properties_path())
            .stdin(Stdio::null());
        for (name, password) in &self.scram_users {
            for hash in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let user = format!("{hash}=[name={name},password={password},iterations=4096]");
                command.args(["--add-scram", &user]);
            }
        }
        let output = command.output().expect("run java");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "format the storage of Kafka: {}",
            tail(&errors)
        );
    }

    /// `java` with the jars as class path, tuned for a short life: a serial collector and the first
    /// compiler tier alone start faster and leave the second core to the test.
    fn java(&self) -> Command {
        let jars = jar_dir();
        let mut command = Command::new(java_program());
        command
            .args([
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
            ])
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            // It unpacks libraries there, and leaves them when it is killed.
            .arg(format!("-Djava.io.tmpdir={}", self.dir.path().display()))
            .arg("-cp")
            .arg(jars.join("*"))
            .env_remove("JAVA_TOOL_OPTIONS");
        command
    }

    fn properties_path(&self) -> PathBuf {
        self.dir.path().join("server.properties")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    fn signal(&self, name: &str) {
        if let Some(process) = self.broker().as_ref() {
            process.signal(name);
        }
    }

    fn broker(&self) -> MutexGuard<'_, Option<Process>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self::new()
    }
}

fn java_program() -> PathBuf {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.filter(|java| java.is_file())
        .or_else(|| program("java"))
        .expect("java in PATH; scripts/setup.sh test installs it")
}

fn jar_dir() -> PathBuf {
    let dir = cache_dir().join("kafka-4.3.1");
    assert!(
        dir.is_dir(),
        "the jars of Kafka in {}; scripts/kafka-jars.sh",
        dir.display()
    );
    dir
}

/// A random UUID in Kafka's spelling: 16 bytes in the URL alphabet of base 64, without padding.
fn cluster_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The first character is a letter: an id that starts with a dash reads as an option.
    let first = usize::from(fastrand::u8(0..52));
    let middle = (0..20).map(|_| usize::from(fastrand::u8(0..64)));
    // 128 bits are 21 characters of 6 bits and 2 bits more, which are the upper ones of the last.
    let last = usize::from(fastrand::u8(0..4)) << 4;
    [first]
        .into_iter()
        .chain(middle)
        .chain([last])
        .map(|i| char::from(ALPHABET[i]))
        .collect()
}

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
