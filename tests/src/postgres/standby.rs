//! A physical standby: a copy of a running server's files that goes on from its WAL.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    sync::Mutex,
};

use super::{Database, Lsn, Postgres, builder::append};
use crate::{GuardedDir, free_port, unique};

/// What a standby is made with.
#[derive(Debug)]
pub struct StandbyBuilder<'a> {
    primary: &'a Postgres,
    name: String,
    port: u16,
    synchronises_slots: bool,
}

impl Postgres {
    /// A standby of this server, which has to run: it replays what this one writes, and takes
    /// sessions that read.
    pub fn standby(&self) -> StandbyBuilder<'_> {
        StandbyBuilder {
            primary: self,
            name: unique("standby"),
            port: self.port(),
            synchronises_slots: false,
        }
    }

    /// A database that is there, by its name: a standby has those of its primary.
    pub fn database_named(&self, name: &str) -> Database<'_> {
        Database::new(self, name.to_owned())
    }

    /// Makes a standby a server of its own, on a timeline of its own, and waits until it is one.
    ///
    /// # Panics
    ///
    /// When it refuses, or is no primary within a minute.
    #[track_caller]
    pub fn promote(&self) {
        let mut client = self.client();
        let promoted = client.query_one("select pg_promote(true, 60)", &[]);
        let promoted = promoted.expect("ask for a promotion");
        assert!(promoted.get::<_, bool>(0), "not promoted within a minute");
    }
}

impl StandbyBuilder<'_> {
    /// The name of its slot on the primary, and of its session there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It reaches the primary through another port: a proxy's.
    #[must_use]
    pub fn through(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// It copies the primary's failover slots (PostgreSQL 17 and later).
    #[must_use]
    pub fn synchronises_slots(mut self) -> Self {
        self.synchronises_slots = true;
        self
    }

    /// Copies the primary and starts the copy.
    ///
    /// # Panics
    ///
    /// When the primary does not run, or the standby does not start.
    #[track_caller]
    pub fn start(self) -> Postgres {
        let owner = self.primary.owner.clone();
        let dir = GuardedDir::new("pg");
        let standby = Postgres {
            server: Mutex::new(None),
            binaries: self.primary.binaries.clone(),
            owner,
            port: free_port(),
            dir,
        };
        fs::create_dir(standby.socket_dir()).expect("make the socket directory");
        self.copy(&standby);
        let configuration = standby.data_dir().join("postgresql.conf");
        append(&configuration, &self.configuration(&standby));
        fs::write(standby.data_dir().join("standby.signal"), "").expect("say that it is one");
        if let Some(owner) = &standby.owner {
            hand_over(standby.dir.path(), owner.uid, owner.gid).expect("chown as root");
        }
        standby.start();
        standby
    }

    /// A base backup by the low-level interface: every version has it, `pg_basebackup` is not
    /// everywhere. The slot keeps the WAL from its beginning on.
    fn copy(&self, standby: &Postgres) {
        let mut client = self.primary.client();
        let reserve = "select pg_create_physical_replication_slot($1::text::name, true)";
        client
            .execute(reserve, &[&self.name])
            .expect("make the standby's slot");
        client
            .execute("select pg_backup_start('standby', true)", &[])
            .expect("begin a backup");
        copy_tree(&self.primary.data_dir(), &standby.data_dir()).expect("copy the files");
        let label = client
            .query_one("select labelfile from pg_backup_stop(false)", &[])
            .expect("end the backup");
        let label: String = label.get(0);
        fs::write(standby.data_dir().join("backup_label"), label).expect("write the label");
    }

    fn configuration(&self, standby: &Postgres) -> String {
        let Self { name, port, .. } = self;
        let socket_dir = standby.socket_dir();
        let on = if self.synchronises_slots {
            "sync_replication_slots = on\nhot_standby_feedback = on\n"
        } else {
            ""
        };
        format!(
            "port = {}\nunix_socket_directories = '{}'\nprimary_slot_name = '{name}'\n\
             primary_conninfo = 'host=127.0.0.1 port={port} user=postgres dbname=postgres \
             application_name={name}'\n\
             wal_retrieve_retry_interval = 200ms\n{on}",
            standby.port(),
            socket_dir.display(),
        )
    }
}

impl Database<'_> {
    /// Whether a slot of the primary has been copied here, to stay (PostgreSQL 17 and later), with
    /// a position of `lsn` or later.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    #[track_caller]
    pub fn is_synchronised(&self, slot: &str, lsn: Lsn) -> bool {
        let sql = "select from pg_replication_slots where slot_name = $1::text::name and synced
                   and not temporary and confirmed_flush_lsn >= $2";
        let row = self.client().query_opt(sql, &[&slot, &lsn]);
        row.expect("read pg_replication_slots").is_some()
    }
}

/// Directories whose content is the running server's own.
const LEFT_OUT: [&str; 8] = [
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

/// Copies a data directory that is written to meanwhile: replay mends what is torn, and a file that
/// went away is not needed.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let target = to.join(&name);
        let copied = match entry.metadata() {
            Ok(found) if !found.is_dir() && name.as_encoded_bytes().starts_with(b"postmaster.") => {
                Ok(())
            }
            Ok(found) if found.is_dir() && LEFT_OUT.iter().any(|left_out| name == *left_out) => {
                fs::create_dir(&target)?;
                fs::set_permissions(&target, found.permissions())
            }
            Ok(found) if found.is_dir() => copy_tree(&entry.path(), &target),
            Ok(_) => fs::copy(entry.path(), &target).map(drop),
            Err(error) => Err(error),
        };
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

fn hand_over(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    chown(path, Some(uid), Some(gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}
