//! The guardian: a shell that outlives the test process by a moment and cleans up after it.
//!
//! Rust runs no destructor of a static, and nothing at all after SIGKILL. So a small `sh` waits at
//! the end of a pipe whose other end only the test process holds. However that process ends, the
//! kernel closes the pipe; the shell reads the end of file, ends the registered processes and
//! removes the registered directories.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The connection to this process's guardian.
#[derive(Debug)]
pub struct Guardian {
    pid: u32,
    pipe: Mutex<ChildStdin>,
}

/// The guardian of this process, started when first asked for.
///
/// # Panics
///
/// When no `sh` can be started.
pub fn guardian() -> &'static Guardian {
    static GUARDIAN: OnceLock<Guardian> = OnceLock::new();
    GUARDIAN.get_or_init(|| Guardian::start().expect("start sh as the guardian"))
}

impl Guardian {
    fn start() -> io::Result<Self> {
        // A process group of its own, or an interrupt from the terminal would end it first.
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().expect("stdin was asked for as a pipe");
        Ok(Self {
            pid: child.id(),
            pipe: Mutex::new(pipe),
        })
    }

    /// The process id of the shell.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Has the process group `group` killed at the end.
    pub fn watch_group(&self, group: u32) {
        self.tell("+group", &group.to_string());
    }

    /// Has the Postgres server `postmaster` shut down (immediate) at the end. Its children lead
    /// sessions of their own, so killing its group would leave them.
    pub fn watch_postmaster(&self, postmaster: u32) {
        self.tell("+postmaster", &postmaster.to_string());
    }

    /// Forgets a process or group that has ended: its number may be given to another one.
    pub fn forget(&self, pid: u32) {
        self.tell("-process", &pid.to_string());
    }

    /// Has the directory removed at the end.
    ///
    /// # Panics
    ///
    /// When the path holds white space, which would make two paths of it.
    pub fn watch_dir(&self, dir: &Path) {
        let path = dir.to_str().expect("a test directory is named in UTF-8");
        assert!(
            !path.contains(char::is_whitespace),
            "white space in the test directory {path}"
        );
        self.tell("+dir", path);
    }

    /// Forgets a directory that has been removed.
    pub fn forget_dir(&self, dir: &Path) {
        self.tell("-dir", &dir.to_string_lossy());
    }

    fn tell(&self, verb: &str, what: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        // One write per line: shorter than PIPE_BUF, so never torn by the death of this process.
        pipe.write_all(format!("{verb} {what}\n").as_bytes())
            .expect("the guardian is alive");
    }
}

/// A directory of a test that is removed when dropped, or by the guardian.
#[derive(Debug)]
pub struct GuardedDir {
    path: PathBuf,
    is_kept: AtomicBool,
}

impl GuardedDir {
    /// A new, empty directory that every user may enter, under a path short enough for sockets.
    ///
    /// # Panics
    ///
    /// When it can't be made.
    pub fn new(hint: &str) -> Self {
        // The path of a Unix socket has 107 bytes at most, and TMPDIR of some build systems is
        // long or private to one user.
        let dir = tempfile::Builder::new()
            .prefix(&format!("walpost-{hint}-"))
            .tempdir_in("/tmp")
            .expect("make a directory in /tmp");
        guardian().watch_dir(dir.path());
        let path = dir.keep();
        open_to_all(&path).expect("change the mode of a directory of ours");
        Self {
            path,
            is_kept: AtomicBool::new(false),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is, for people to look at.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
        guardian().forget_dir(&self.path);
    }
}

impl Drop for GuardedDir {
    fn drop(&mut self) {
        if self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        // What can't be removed now (a dying server still writes) is left to the guardian.
        if std::fs::remove_dir_all(&self.path).is_ok() {
            guardian().forget_dir(&self.path);
        }
    }
}

fn open_to_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// Reads `+verb item` lines; at the end of file it ends and removes what is still listed. A process
/// counts as ended when it is a zombie too: in a container nobody may reap it.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
set -f
without() { kept=; for one in $2; do [ "$one" = "$1" ] || kept="$kept $one"; done; }
alive() {
    read -r stat < "/proc/$1/stat" || return 1
    case ${stat##*) } in Z*|X*) return 1 ;; esac
}
children() { cat "/proc/$1/task/$1/children"; }
groups= postmasters= dirs=
while read -r verb item; do
    case $verb in
        +group) groups="$groups $item" ;;
        +postmaster) postmasters="$postmasters $item" ;;
        +dir) dirs="$dirs $item" ;;
        -process)
            without "$item" "$groups"; groups=$kept
            without "$item" "$postmasters"; postmasters=$kept ;;
        -dir) without "$item" "$dirs"; dirs=$kept ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
for postmaster in $postmasters; do
    kill -s QUIT "$postmaster"
    kill -s CONT "$postmaster" $(children "$postmaster")
done
for one in $groups $postmasters; do
    rounds=0
    while alive "$one" && [ "$rounds" -lt 50 ]; do
        sleep 0.1
        rounds=$((rounds + 1))
    done
    if alive "$one"; then kill -s KILL "$one" $(children "$one"); sleep 0.1; fi
done
for dir in $dirs; do rm -rf -- "$dir" || { sleep 1; rm -rf -- "$dir"; }; done
"#;
