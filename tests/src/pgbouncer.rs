//! A PgBouncer in front of a throwaway cluster.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    GuardedDir, Port, Postgres, Process, free_port, lookup::program, postgres::Owner, wait_until,
};

/// A connection pooler from the installed package.
#[derive(Debug)]
pub struct PgBouncer {
    // Before `_dir`: dropped in this order, it ends before its files go.
    process: Process,
    port: Port,
    _dir: GuardedDir,
}

impl PgBouncer {
    /// Starts one for all databases of a cluster, for the role `postgres` without a password.
    /// `mode` is `session` or `transaction`; `settings` are further lines of its configuration.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not listen within 30 s.
    pub fn start(postgres: &Postgres, mode: &str, settings: &str) -> Self {
        let (dir, port) = (GuardedDir::new("pgbouncer"), free_port());
        let place = dir.path().display();
        fs::write(dir.path().join("users.txt"), "\"postgres\" \"\"\n").expect("write the users");
        let file = dir.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {place}/users.txt\nlogfile = {place}/log\n\
             pool_mode = {mode}\n{settings}\n",
            postgres.port(),
            port.number()
        );
        fs::write(&file, text).expect("write the configuration");
        let mut command = Command::new(binary());
        command.arg("-q").arg(&file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(owner) = Owner::choose() {
            chown(dir.path(), Some(owner.uid), Some(owner.gid)).expect("chown as root");
            command.uid(owner.uid).gid(owner.gid);
        }
        let process = Process::spawn(&mut command).expect("start pgbouncer");
        let address = format!("127.0.0.1:{}", port.number());
        wait_until(Duration::from_secs(30), "PgBouncer listens", || {
            assert!(process.is_running(), "PgBouncer ended at its start");
            std::net::TcpStream::connect(&address).ok()
        });
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Debian puts it where a user's PATH does not look.
fn binary() -> PathBuf {
    let installed = PathBuf::from("/usr/sbin/pgbouncer");
    let found = program("pgbouncer").or_else(|| installed.is_file().then_some(installed));
    found.expect("pgbouncer; scripts/setup.sh test installs it")
}
