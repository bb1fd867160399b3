//! What libpq makes of a cell, by `psql`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cell::{Cell, LIBPQ_16, LIBPQ_17, QUERY, Verdict};

/// A `psql` with its libpq.
#[derive(Debug)]
pub(crate) struct Reference {
    program: PathBuf,
    /// Where another libpq lies than the one that the program was installed with.
    libraries: Option<PathBuf>,
    /// At least this version, as far as it makes a difference here.
    pub(crate) libpq: u32,
}

impl Reference {
    /// The installed one first, then one of a newer libpq where the cache has it, for the same
    /// program. The last one knows the most.
    pub(crate) fn all() -> Vec<Self> {
        let installed = Self::new(None);
        let libraries = cached_postgres().join("lib");
        let mut all = vec![installed];
        if all[0].libpq < LIBPQ_17 && libraries.join("libpq.so.5").exists() {
            all.push(Self::new(Some(libraries)));
        }
        all
    }

    fn new(libraries: Option<PathBuf>) -> Self {
        let mut reference = Self {
            program: program(),
            libraries,
            libpq: 0,
        };
        for (key, version) in [("require_auth", LIBPQ_16), ("sslnegotiation", LIBPQ_17)] {
            // An unknown key is an error before anything is tried.
            let text = format!("host=/nonexistent {key}=nonsense");
            let output = reference.command(&text, "/nonexistent").output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            if !error.contains("invalid connection option") {
                assert!(error.contains("nonsense"), "{error}");
                reference.libpq = version;
            }
        }
        reference
    }

    pub(crate) fn knows(&self, cell: &Cell) -> bool {
        self.libpq >= cell.needs
    }

    pub(crate) fn connect(&self, cell: &Cell) -> Verdict {
        let mut command = self.command(&cell.text(), &cell.home);
        for (name, value) in &cell.variables {
            command.env(name, value);
        }
        let output = command.output().expect("setsid and psql are installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Verdict::Connected(text(&output.stdout))
        } else {
            Verdict::Refused(text(&output.stderr))
        }
    }

    /// In a session of its own: without a terminal, nothing can be asked there.
    fn command(&self, text: &str, home: &str) -> Command {
        let mut command = Command::new("setsid");
        command
            .arg("--wait")
            .arg(&self.program)
            .args([text, "-XAtwq", "-c", QUERY])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", home)
            .env("LC_ALL", "C")
            .env("PGGSSENCMODE", "disable")
            .env("PGCONNECT_TIMEOUT", "30")
            .stdin(Stdio::null());
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// The program itself, where it can be found: Debian's `/usr/bin/psql` is a script around it.
fn program() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let major: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let program = path.join("bin/psql");
            program.exists().then_some((major, program))
        })
        .max();
    newest.map_or_else(|| "psql".into(), |(_, program)| program)
}

/// Where `scripts/postgres-major.sh` puts a second version.
pub(crate) fn cached_postgres() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("WALPOST_CACHE");
    let cache = cache.map_or_else(|| repository.join(".cache"), PathBuf::from);
    cache.join("postgres-18")
}
