//! The guardian: a shell that starts Postgres, and ends and removes it when we are gone.
//!
//! Nothing of ours runs after SIGKILL. So the throwaway server is not our child but that of a small
//! `sh` that waits at the end of a pipe whose other end only we hold. However we end, the kernel
//! closes the pipe; the shell reads the end of file, shuts Postgres down and removes the directory.
//! Since the shell itself makes the directory and starts everything, there is no moment at which
//! something exists that nobody would clean up.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::binaries::Owner;

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
    heard: Vec<String>,
}

impl Guard {
    /// Starts the shell, which makes `dir`, makes a data directory in it and starts a server with a
    /// socket there. `server` are further arguments for `postgres`.
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
        thread::Builder::new()
            .name("guard".to_owned())
            .spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            shell,
            pipe,
            lines,
            heard: Vec::new(),
        })
    }

    /// Waits for the end of the shell, which comes by itself only when something went wrong, and
    /// tells what it said: what has ended, and the end of its log. Can be dropped.
    pub(super) async fn ended(&mut self) -> String {
        while let Some(line) = self.lines.recv().await {
            self.heard.push(line);
        }
        self.heard.join("\n")
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
/// At the end of the pipe the whole process group is told to stop, and again until it has: a
/// program that has just been started may not listen yet. SIGINT ends initdb, and is a fast
/// shutdown for Postgres; SIGQUIT is an immediate one. The shell itself takes no notice, nor does
/// what cleans up.
const SCRIPT: &str = r#"
trap '' HUP TERM PIPE
trap : INT QUIT
umask 077
exec 3<&0 </dev/null 2>&1
dir=$1 bin=$2
shift 2
mkdir "$dir" || exit
(
    trap '' INT QUIT
    while read -r _; do :; done
    while :; do
        for signal in INT QUIT; do kill -s "$signal" 0; sleep 0.1; done
    done
) <&3 &
watcher=$!
if "$bin/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --no-locale \
    --no-sync >"$dir/log" 2>&1
then
    "$bin/postgres" -D "$dir/data" -k "$dir" "$@" >"$dir/log" 2>&1
    ended="postgres ended with status $?"
else
    ended="initdb failed"
fi
trap '' INT QUIT
echo "$ended"
tail -n 12 "$dir/log"
rm -rf -- "$dir" || { sleep 1; rm -rf -- "$dir"; }
kill -s KILL "$watcher"
wait
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

    /// Where the tests run in the background of a script, SIGINT is ignored, and a shell can't trap
    /// what was ignored when it began. Postgres and initdb set their handlers all the same; so do
    /// these.
    const PROGRAM: &str = r#"#!/bin/sh
exec perl -e '$SIG{INT} = $SIG{QUIT} = "DEFAULT"; exec @ARGV' /bin/sh "$0.sh" "$@"
"#;

    impl Fake {
        fn new(initdb: &str, postgres: &str) -> Self {
            let home = tempfile::tempdir().unwrap();
            for (name, script) in [("initdb", initdb), ("postgres", postgres)] {
                let path = home.path().join(name);
                fs::write(&path, PROGRAM).unwrap();
                fs::write(home.path().join(format!("{name}.sh")), script).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self { home }
        }

        fn dir(&self) -> PathBuf {
            self.home.path().join("cluster")
        }

        async fn wait_for(&self, name: &str) {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !self.dir().join(name).exists() {
                assert!(Instant::now() < deadline, "{name} did not appear");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }

        fn start(&self) -> Guard {
            Guard::start(&self.dir(), self.home.path(), None, &["-x".to_owned()]).unwrap()
        }
    }

    #[tokio::test]
    async fn the_server_is_shut_down_and_the_directory_removed() {
        let fake = Fake::new(
            "mkdir \"$2\"",
            "trap : INT; trap 'echo \"$@\" > \"$2/../../quit\"; exit 2' QUIT\n\
             echo up > \"$2/up\"; while :; do sleep 0.01; done",
        );
        let guard = fake.start();
        fake.wait_for("data/up").await;
        drop(guard);
        let arguments = fs::read_to_string(fake.home.path().join("quit")).unwrap();
        assert!(arguments.ends_with(" -x\n"), "{arguments}");
        assert!(!fake.dir().exists());
    }

    #[tokio::test]
    async fn nothing_is_started_when_the_pipe_closes_before() {
        let fake = Fake::new(
            "mkdir \"$2\"; touch \"$2/up\"; trap 'exit 1' INT; while :; do sleep 0.01; done",
            "touch \"$2/../../started\"",
        );
        let guard = fake.start();
        fake.wait_for("data/up").await;
        drop(guard);
        assert!(!fake.dir().exists());
        assert!(!fake.home.path().join("started").exists());
    }

    #[tokio::test]
    async fn a_failed_initdb_is_told_with_its_words() {
        let fake = Fake::new("echo no space left; exit 1", "");
        let mut guard = fake.start();
        assert_eq!(guard.ended().await, "initdb failed\nno space left");
        drop(guard);
        assert!(!fake.dir().exists());
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_told_with_its_words() {
        let fake = Fake::new("mkdir \"$2\"", "echo FATAL: no; exit 3");
        let mut guard = fake.start();
        let words = guard.ended().await;
        assert_eq!(words, "postgres ended with status 3\nFATAL: no");
        drop(guard);
        assert!(!fake.dir().exists());
    }

    #[tokio::test]
    async fn a_directory_that_exists_is_nobodys_to_remove() {
        let fake = Fake::new("mkdir \"$2\"", "");
        fs::create_dir(fake.dir()).unwrap();
        let mut guard = fake.start();
        assert!(guard.ended().await.contains("exist"), "mkdir says so");
        drop(guard);
        assert!(fake.dir().exists());
    }
}
