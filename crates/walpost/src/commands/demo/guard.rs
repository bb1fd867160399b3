//! The guardian: a shell that starts Postgres, and ends and removes it when we are gone.
//!
//! Nothing of ours runs after SIGKILL. So the throwaway server is not our child but that of a small
//! `sh` that waits at the end of a pipe whose other end only we hold. However we end, the kernel
//! closes the pipe; the shell reads the end of file, shuts Postgres down and removes the directory.
//! Since the shell itself makes the directory and starts everything, there is no moment at which
//! something exists that nobody would clean up.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::binaries::Owner;

/// What the shell says when the data directory is there.
pub(super) const INITIALIZED: &str = "initialized";

/// An immediate shutdown takes 0.1 s. Postgres itself kills its processes after 5 s.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Pause between two looks whether the shell has ended.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// A running guardian. Dropping it ends Postgres and removes the directory.
pub(super) struct Guard {
    shell: Child,
    /// Its closing is the sign. `None` once it was given.
    pipe: Option<ChildStdin>,
    lines: UnboundedReceiver<String>,
}

impl Guard {
    /// Starts the shell, which makes `dir`, a data directory in it, and says [`INITIALIZED`].
    /// `server` are the arguments for `postgres`, which starts with [`Guard::go_on`].
    pub(super) fn start(
        dir: &Path,
        binaries: &Path,
        owner: Option<&Owner>,
        server: &[String],
    ) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "walpost-demo"])
            .args([dir, binaries])
            .args(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            // A process group of its own: Ctrl-C is for us, or Postgres would be gone before the
            // relay has said good-bye.
            .process_group(0);
        clean_environment(&mut command);
        if let Some(owner) = owner {
            owner.own(&mut command);
        }
        let mut shell = command.spawn()?;
        let pipe = shell.stdin.take();
        let stdout = shell.stdout.take().expect("it was asked for as a pipe");
        let (sender, lines) = unbounded_channel();
        // The thread ends with the shell, at the latest: nobody else has the other end.
        thread::Builder::new().name("guard".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { shell, pipe, lines })
    }

    /// Lets the shell start Postgres.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(b"start\n"),
            None => Ok(()),
        }
    }

    /// The next line that the shell says. `None`: it has ended. Can be dropped.
    pub(super) async fn next_line(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// What the shell said when it ended by itself: why, and the end of the server's log.
    pub(super) async fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(END_DEADLINE, self.next_line()).await {
            words.push(line);
        }
        words.join("\n")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let deadline = Instant::now() + END_DEADLINE;
        while let Ok(None) = self.shell.try_wait() {
            if Instant::now() >= deadline {
                // It goes on without us.
                tracing::warn!(shell = self.shell.id(), "Postgres takes long to shut down");
                return;
            }
            thread::sleep(END_INTERVAL);
        }
    }
}

/// Settings of the user's own server (`PGPORT`, `PGOPTIONS`, ...) and language must not leak in.
pub(super) fn clean_environment(command: &mut Command) {
    command.env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C");
}

/// Arguments: the directory to make, the directory of the binaries, then those of `postgres`.
///
/// Signals are ignored, by whatever it starts too until that installs its own handlers: only the end
/// of the pipe counts. The pipe for standard output may be gone by then (SIGPIPE).
const SCRIPT: &str = r#"
trap '' HUP INT TERM PIPE
umask 077
exec 3<&0 </dev/null 2>&1
dir=$1 bin=$2
shift 2
log=$dir/log
finish() {
    [ -z "$1" ] || { echo "$1"; tail -n 12 "$log"; }
    rm -rf -- "$dir"
    exit
}
mkdir "$dir" || exit
"$bin/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync \
    >"$log" 2>&1 || finish "initdb failed"
echo initialized
read -r _ <&3 || finish
"$bin/postgres" -D "$dir/data" -k "$dir" "$@" >"$log" 2>&1 &
server=$!
(
    while read -r _; do :; done
    kill -s QUIT "$server"
) <&3 &
watcher=$!
wait "$server"
status=$?
kill -s KILL "$watcher" 2>/dev/null
wait
finish "postgres ended with status $status"
"#;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// Programs in the place of Postgres's, and a directory that the guardian is to make.
    struct Fake {
        home: tempfile::TempDir,
    }

    impl Fake {
        fn new(initdb: &str, postgres: &str) -> Self {
            let home = tempfile::tempdir().unwrap();
            for (name, script) in [("initdb", initdb), ("postgres", postgres)] {
                let path = home.path().join(name);
                fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self { home }
        }

        fn dir(&self) -> PathBuf {
            self.home.path().join("cluster")
        }

        fn start(&self) -> Guard {
            Guard::start(&self.dir(), self.home.path(), None, &["-x".to_owned()]).unwrap()
        }
    }

    #[tokio::test]
    async fn the_server_is_shut_down_and_the_directory_removed() {
        let fake = Fake::new(
            "mkdir \"$2\"",
            "trap 'echo \"$@\" > \"$2/../../quit\"; exit 2' QUIT\n\
             echo up > \"$2/up\"; while :; do sleep 0.01; done",
        );
        let mut guard = fake.start();
        assert_eq!(guard.next_line().await.as_deref(), Some(INITIALIZED));
        guard.go_on().unwrap();
        while !fake.dir().join("data/up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(guard);
        let arguments = fs::read_to_string(fake.home.path().join("quit")).unwrap();
        assert!(arguments.ends_with(" -x\n"), "{arguments}");
        assert!(!fake.dir().exists());
    }

    #[tokio::test]
    async fn nothing_is_started_when_the_pipe_closes_before() {
        let fake = Fake::new("mkdir \"$2\"", "touch \"$2/../../started\"");
        let mut guard = fake.start();
        assert_eq!(guard.next_line().await.as_deref(), Some(INITIALIZED));
        drop(guard);
        assert!(!fake.dir().exists());
        assert!(!fake.home.path().join("started").exists());
    }

    #[tokio::test]
    async fn a_failed_initdb_is_told_with_its_words() {
        let fake = Fake::new("echo no space left; exit 1", "");
        let mut guard = fake.start();
        assert_eq!(guard.last_words().await, "initdb failed\nno space left");
        drop(guard);
        assert!(!fake.dir().exists());
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_told_with_its_words() {
        let fake = Fake::new("mkdir \"$2\"", "echo FATAL: no; exit 3");
        let mut guard = fake.start();
        assert_eq!(guard.next_line().await.as_deref(), Some(INITIALIZED));
        guard.go_on().unwrap();
        let words = guard.last_words().await;
        assert_eq!(words, "postgres ended with status 3\nFATAL: no");
        drop(guard);
        assert!(!fake.dir().exists());
    }

    #[tokio::test]
    async fn a_directory_that_exists_is_nobodys_to_remove() {
        let fake = Fake::new("mkdir \"$2\"", "");
        fs::create_dir(fake.dir()).unwrap();
        let mut guard = fake.start();
        assert!(guard.last_words().await.contains("exist"), "mkdir says so");
        drop(guard);
        assert!(fake.dir().exists());
    }
}
