//! A child process in a process group of its own that ends with the test.

use std::{
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus},
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{guardian, try_wait_until};

/// A running child, registered with the guardian. Dropping it kills its process group.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    child: Mutex<Child>,
}

/// What a process has of what only ends with it, where nobody gives it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its threads.
    pub threads: usize,
    /// Its open file descriptors.
    pub descriptors: usize,
}

impl Process {
    /// Starts the command as the leader of a new process group.
    ///
    /// # Errors
    ///
    /// When the program can't be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let process = Self::spawn_unwatched(command)?;
        guardian().watch_group(process.pid);
        Ok(process)
    }

    /// As [`Process::spawn`], but the guardian shuts it down as a Postgres server.
    pub(crate) fn spawn_postmaster(command: &mut Command) -> io::Result<Self> {
        let process = Self::spawn_unwatched(command)?;
        guardian().watch_postmaster(process.pid);
        Ok(process)
    }

    /// As [`Process::spawn`], for a command with both streams piped.
    pub(crate) fn spawn_captured(
        command: &mut Command,
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let process = Self::spawn(command)?;
        let (stdout, stderr) = {
            let mut child = process.child.lock().unwrap_or_else(PoisonError::into_inner);
            (child.stdout.take(), child.stderr.take())
        };
        let piped = "the caller asked for a pipe";
        Ok((process, stdout.expect(piped), stderr.expect(piped)))
    }

    fn spawn_unwatched(command: &mut Command) -> io::Result<Self> {
        // The guardian has to exist before there is something to guard.
        guardian();
        let_children_be_interrupted();
        let child = command.process_group(0).spawn()?;
        Ok(Self {
            pid: child.id(),
            child: Mutex::new(child),
        })
    }

    /// Its process id, which is the id of its group too.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, or `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.try_wait().expect("wait for a child of ours");
        if status.is_some() {
            guardian().forget(self.pid);
        }
        status
    }

    /// Whether it runs, frozen or not.
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, or `None` when it still runs after `deadline`.
    pub fn wait_exit(&self, deadline: Duration) -> Option<ExitStatus> {
        try_wait_until(deadline, || self.exit_status())
    }

    /// Sends a signal (`"TERM"`, `"KILL"`, …) to the process alone. Nothing happens when it ended.
    pub fn signal(&self, name: &str) {
        // While the lock is held nobody reaps the child, so the number can't be another process's.
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            send_signal(name, &[self.pid.to_string()]);
        }
    }

    /// Whether it handles that signal by itself.
    pub fn catches(&self, signal: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    }

    /// Kills the whole group (SIGKILL) and waits for the end of the process.
    pub fn kill(&self) {
        {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            send_signal("KILL", &[format!("-{}", self.pid)]);
        }
        let ended = self.wait_exit(Duration::from_secs(10));
        assert!(ended.is_some(), "process {} survived SIGKILL", self.pid);
    }

    /// CPU time that the process used until now, user and system, in steps of 10 ms.
    ///
    /// # Panics
    ///
    /// When it has ended and was waited for.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc_file("stat");
        let fields: Vec<&str> = after_name(&stat).split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime is a number")
            + fields[12].parse::<u64>().expect("stime is a number");
        Duration::from_millis(ticks * 10)
    }

    /// The largest resident set it had until now, in bytes. None when it has ended.
    pub fn rss_peak_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        // A zombie has no such line.
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line?.trim().strip_suffix(" kB")?;
        Some(kibibytes.trim().parse::<u64>().ok()? * 1024)
    }

    /// How many threads and open file descriptors it has now. None when it has ended.
    pub fn held(&self) -> Option<Held> {
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{}/{what}", self.pid)).ok()?;
            Some(entries.count()).filter(|count| *count > 0)
        };
        Some(Held {
            threads: count("task")?,
            descriptors: count("fd")?,
        })
    }

    fn proc_file(&self, name: &str) -> String {
        let path = PathBuf::from(format!("/proc/{}/{name}", self.pid));
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("process {} has ended: {error}", self.pid))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Ok(None) = child.try_wait() {
            send_signal("KILL", &[format!("-{}", self.pid)]);
            // SIGKILL can't be refused; an error here would mean that it was reaped already.
            child.wait().ok();
        }
        guardian().forget(self.pid);
    }
}

/// Takes care that a child starts with the default answer to SIGINT, which is to end.
///
/// A script starts what runs in its background with SIGINT ignored, and that is inherited over any
/// number of programs: a test run there would interrupt children that never hear it. What a
/// process catches is not inherited, so this one catches the signal, and as before does nothing.
fn let_children_be_interrupted() {
    static CAUGHT: Once = Once::new();
    CAUGHT.call_once(|| {
        if !ignores_interrupts() {
            return;
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("make a runtime");
        let _context = runtime.enter();
        // Tokio never takes its handler away again.
        drop(signal(SignalKind::interrupt()).expect("catch SIGINT"));
    });
}

fn ignores_interrupts() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("the tests run on Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let interrupt = 1 << (SignalKind::interrupt().as_raw_value() - 1);
    mask.expect("a mask of signals") & interrupt != 0
}

/// The exit code, or 128 + n when signal n ended it, as a shell counts.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Sends a signal to process ids, or to process groups (`-id`). Those that have ended are ignored.
pub(crate) fn send_signal(name: &str, targets: &[String]) {
    if targets.is_empty() {
        return;
    }
    // The shell's own kill: procps is missing in small images, and a system call needs unsafe code.
    let status = Command::new("sh")
        .args([
            "-c",
            r#"name=$1; shift; kill -s "$name" -- "$@" 2>/dev/null"#,
            "sh",
            name,
        ])
        .args(targets)
        .status();
    status.expect("run sh for a signal");
}

/// Ids and command lines of the children of a process.
pub(crate) fn children(parent: u32) -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent))
        .map(|pid| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&title).into_owned())
        })
        .collect()
}

/// Whether a process has ended: gone, or a zombie that nobody reaps.
pub(crate) fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => after_name(&stat).starts_with(['Z', 'X']),
        Err(_) => true,
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    after_name(&stat).split_whitespace().nth(1)?.parse().ok()
}

/// A line of `/proc/PID/stat` from its third field on: the second, the name, may hold anything.
fn after_name(stat: &str) -> &str {
    stat.rsplit_once(") ").map_or("", |(_, rest)| rest)
}
