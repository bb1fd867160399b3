//! Running the binary under test as its users do.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Consumer, GuardedDir, Held, Process, postgres::tail, process::exit_code, wait_until};

/// A word that every secret of a test has in it: passwords, keys' passphrases, tokens. What a
/// [`Running`] printed and logged is searched for it when the run ends, in every test.
pub const SECRET: &str = "hunter";

/// The number of the signal.
const SIGTERM: u32 = 15;

/// So long a process that was just started may take until it listens to signals.
const LISTENS: Duration = Duration::from_secs(60);

/// What the log says when the stream is closed because Kafka takes nothing.
pub const PARKED: &str = "parked: the stream is closed";

/// What the log says when records arrive again.
pub const UNPARKED: &str = "no longer parked";

/// How many lines of a log say that.
pub fn said(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

/// A configuration file and an environment for the binary.
#[derive(Debug)]
pub struct Walpost {
    dir: Arc<GuardedDir>,
    environment: Vec<(String, String)>,
    program: Option<PathBuf>,
}

impl Walpost {
    /// The binary with this `walpost.yaml`.
    pub fn new(yaml: &str) -> Self {
        let dir = GuardedDir::new("run");
        fs::write(dir.path().join(CONFIG), yaml).expect("write the configuration");
        Self {
            dir: Arc::new(dir),
            environment: Vec::new(),
            program: None,
        }
    }

    /// The binary with the smallest configuration: one database, one cluster, one slot, and a
    /// password that nobody asks for and nobody may print.
    pub fn minimal(postgres_url: &str, brokers: &str, slot: &str) -> Self {
        Self::new(&format!(
            "postgres:\n  url: \"{postgres_url}\"\n  slot: {slot}\n  publication: {slot}\n\
             \x20 password: \"minimal-{SECRET}-41aa\"\n\
             kafka:\n  brokers: \"{brokers}\"\n"
        ))
    }

    /// A further environment variable. Those of the test process are not passed on, except what a
    /// program needs to run.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another program in the place of the binary under test.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Where its files are: the configuration, and whatever a test puts beside it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves its files behind, for people to look at, and says where.
    pub fn keep(&self) -> &Path {
        self.dir.keep();
        self.dir.path()
    }

    /// Replaces the configuration for the next start.
    pub fn configure(&self, yaml: &str) {
        fs::write(self.dir.path().join(CONFIG), yaml).expect("write the configuration");
    }

    /// Starts a subcommand with the configuration: `walpost ARGS[0] -c FILE ARGS[1..]`.
    ///
    /// # Panics
    ///
    /// When the binary is not there.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Running {
        let (subcommand, rest) = args.split_first().expect("a subcommand");
        let config = self.dir.path().join(CONFIG);
        let config = config.to_str().expect("our directories are named in UTF-8");
        self.start_plain(&[&[*subcommand, "-c", config], rest].concat())
    }

    /// Starts the binary with exactly these arguments.
    ///
    /// # Panics
    ///
    /// When the binary is not there.
    #[track_caller]
    pub fn start_plain(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let (process, stdout, stderr) = Process::spawn_captured(&mut command)
            .unwrap_or_else(|error| panic!("start {}: {error}", command.get_program().display()));
        let file = |stream: &str| {
            let path = self
                .dir
                .path()
                .join(format!("{stream}.{}.log", process.pid()));
            File::create(path).expect("create a log file")
        };
        let stdout = Capture::start(stdout, file("stdout"));
        let stderr = Capture::start(stderr, file("stderr"));
        Running {
            process,
            stdout,
            stderr,
            _dir: Arc::clone(&self.dir),
        }
    }

    /// The command that starts the binary with exactly these arguments, both streams piped, for
    /// tests that do with them what nobody should.
    ///
    /// # Panics
    ///
    /// When the binary is not there.
    #[track_caller]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program.clone().unwrap_or_else(program));
        command
            .args(args)
            .env_clear()
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in [
            "PATH",
            "HOME",
            "TMPDIR",
            "RUST_BACKTRACE",
            "LLVM_PROFILE_FILE",
        ] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("PGPASSWORD", format!("variable-{SECRET}-83d1"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a subcommand with the configuration to its end.
    ///
    /// # Panics
    ///
    /// When it has not ended by the deadline.
    #[track_caller]
    pub fn finish(&self, args: &[&str], deadline: Duration) -> Finished {
        self.start(args).finish(deadline)
    }

    /// Stops a relay that has nothing left to send. After such an end nothing is sent again.
    ///
    /// # Panics
    ///
    /// When something is, or when it does not end in order.
    #[track_caller]
    pub fn stop_in_order(&self, running: Running, consumer: &mut Consumer, deadline: Duration) {
        let finished = running.stop(deadline);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let before = consumer.read_to_end(deadline).len();
        let once = self.finish(&["run", "--once"], deadline);
        assert_eq!(once.code, 0, "{}", once.stderr);
        let again = consumer.read_to_end(deadline).len() - before;
        assert_eq!(
            again, 0,
            "records after an orderly end:\n{}",
            finished.stderr
        );
    }

    /// `walpost init --apply`.
    ///
    /// # Panics
    ///
    /// When it does not exit with 0 within 30 s.
    #[track_caller]
    pub fn init(&self) -> Finished {
        let finished = self.finish(&["init", "--apply"], INIT_DEADLINE);
        assert_eq!(
            finished.code, 0,
            "walpost init --apply: {}",
            finished.stderr
        );
        finished
    }
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The exit code, or 128 + n when signal n ended it.
    pub code: i32,
    /// Everything it printed.
    pub stdout: String,
    /// Everything it logged.
    pub stderr: String,
}

/// A run that may go on. Dropping it kills it, and fails the test if it has told a [`SECRET`].
#[derive(Debug)]
pub struct Running {
    process: Process,
    stdout: Capture,
    stderr: Capture,
    // The log files lie there; kept until the last run of it is gone.
    _dir: Arc<GuardedDir>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it runs, frozen or not.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Asks it to stop (SIGTERM). One that has not begun to listen yet would just be gone.
    pub fn terminate(&self) {
        wait_until(LISTENS, "a process that listens to SIGTERM", || {
            let listens = !self.is_running() || self.process.catches(SIGTERM);
            listens.then_some(())
        });
        self.process.signal("TERM");
    }

    /// Interrupts it (SIGINT), as Ctrl-C does.
    pub fn interrupt(&self) {
        self.process.signal("INT");
    }

    /// Freezes it (SIGSTOP): a machine that hangs.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Waits for its end and returns the exit code, or 128 + n when signal n ended it.
    ///
    /// # Panics
    ///
    /// When it has not ended by the deadline, with the end of what it printed and logged.
    #[track_caller]
    pub fn wait_exit(&self, deadline: Duration) -> i32 {
        match self.process.wait_exit(deadline) {
            Some(status) => exit_code(status),
            None => panic!(
                "not within {deadline:?}: its end\n{}\n{}",
                tail(&self.output()),
                tail(&self.log())
            ),
        }
    }

    /// Waits for its end and returns everything.
    ///
    /// # Panics
    ///
    /// When it has not ended by the deadline, with the end of its log.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Finished {
        let code = self.wait_exit(deadline);
        Finished {
            code,
            stdout: self.stdout.end(),
            stderr: self.stderr.end(),
        }
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    ///
    /// When it has not ended by the deadline, with the end of its log.
    #[track_caller]
    pub fn stop(self, deadline: Duration) -> Finished {
        self.terminate();
        self.finish(deadline)
    }

    /// Waits until the log (stderr) holds the text, and returns the first line that does.
    ///
    /// # Panics
    ///
    /// When it does not by the deadline, or the run ended without it: with the end of the log.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, deadline: Duration) -> String {
        self.wait_for(&self.stderr, text, deadline)
    }

    /// As [`Running::wait_for_log`], in what it prints (stdout).
    ///
    /// # Panics
    ///
    /// When it does not by the deadline, or the run ended without it: with the end of the log.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str, deadline: Duration) -> String {
        self.wait_for(&self.stdout, text, deadline)
    }

    /// What it logged (stderr) until now.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// What it printed (stdout) until now.
    pub fn output(&self) -> String {
        self.stdout.text()
    }

    /// CPU time that it used until now, user and system, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// The largest resident set it had until now, in bytes.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn rss_peak_bytes(&self) -> u64 {
        self.rss_peak_if_running().expect("the relay runs")
    }

    /// The same; none when it has ended.
    pub fn rss_peak_if_running(&self) -> Option<u64> {
        self.process.rss_peak_bytes()
    }

    /// How many threads and open file descriptors it has now; none when it has ended.
    pub fn held(&self) -> Option<Held> {
        self.process.held()
    }

    /// The first line of its streams that holds a secret.
    fn told_secret(&self) -> Option<String> {
        [self.stdout.text(), self.stderr.text()]
            .iter()
            .flat_map(|text| text.lines())
            .find(|line| line.contains(SECRET))
            .map(str::to_owned)
    }

    #[track_caller]
    fn wait_for(&self, stream: &Capture, text: &str, deadline: Duration) -> String {
        let found = crate::try_wait_until(deadline, || {
            // Asked before the text is: what it logged last was captured before it ended.
            let ended = !self.process.is_running() && stream.is_finished();
            let found = stream
                .text()
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned);
            found.map(Some).or_else(|| ended.then_some(None))
        });
        match found {
            Some(Some(line)) => line,
            Some(None) => panic!("ended without {text:?}:\n{}", tail(&self.log())),
            None => panic!(
                "not within {deadline:?}: {text:?} in\n{}",
                tail(&self.log())
            ),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails already says more by its own words.
        if !thread::panicking()
            && let Some(line) = self.told_secret()
        {
            panic!("a secret was printed: {line}");
        }
    }
}

/// A stream that is read to its end, into memory and a file.
#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn start(mut stream: impl Read + Send + 'static, mut file: File) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                // The file is a copy for people: a full disk does not fail the test here.
                file.write_all(&buffer[..count]).ok();
                let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    /// What is there now. While more can follow, whole lines only: a line may come in parts.
    fn text(&self) -> String {
        let is_whole = self.is_finished();
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = bytes.iter().rposition(|byte| *byte == b'\n');
        let end = if is_whole {
            bytes.len()
        } else {
            lines.map_or(0, |last| last + 1)
        };
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    fn is_finished(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Everything, after the process has ended. What a grandchild still holds open is not awaited.
    fn end(&mut self) -> String {
        wait_until(CAPTURE_DEADLINE, "the end of a stream", || {
            self.is_finished().then_some(())
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}

/// `WALPOST_TEST_BIN`, or the binary of the profile that this test was built with: a test lies in
/// `target/PROFILE/deps`.
fn program() -> PathBuf {
    if let Some(program) = env::var_os("WALPOST_TEST_BIN") {
        return PathBuf::from(program);
    }
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/PROFILE/deps");
    let program = profile.join("walpost");
    assert!(
        program.is_file(),
        "{} is missing: cargo build -p walpost with the profile of the tests",
        program.display()
    );
    program
}

const CONFIG: &str = "walpost.yaml";
const INIT_DEADLINE: Duration = Duration::from_secs(30);
const CAPTURE_DEADLINE: Duration = Duration::from_secs(10);
