//! A file system of a few pages, for what happens when it is full.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command};

use postgres::Client;

use crate::stage::{self, Stage};

/// Room for the checkpoint's table, and for little more.
const SIZE: &str = "128k";

/// Holds the checkpoint of a stage until it is dropped.
pub(crate) struct SmallDisk {
    dir: PathBuf,
    /// The tablespace.
    name: String,
    database: Client,
}

impl SmallDisk {
    /// Moves the checkpoint onto a new one. None where we may not mount: without root, or in a
    /// container that does not let root do it.
    #[track_caller]
    pub(crate) fn mount(stage: &Stage) -> Option<Self> {
        let me = fs::metadata("/proc/self").unwrap().uid();
        if me != 0 {
            return None;
        }
        let data = stage::postgres().data_dir();
        let owner = fs::metadata(&data).unwrap();
        let dir = data.with_file_name(&stage.slot);
        fs::create_dir(&dir).unwrap();
        let options = format!(
            "size={SIZE},uid={},gid={},mode=700",
            owner.uid(),
            owner.gid()
        );
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        let mounted = mount.arg(&dir).status();
        if !mounted.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut disk = Self {
            dir,
            name: stage.slot.clone(),
            database: stage.database.client(),
        };
        let (name, place) = (&disk.name, disk.dir.display());
        for statement in [
            format!("create tablespace {name} location '{place}'"),
            format!("alter table walpost.checkpoint set tablespace {name}"),
        ] {
            disk.database.batch_execute(&statement).unwrap();
        }
        Some(disk)
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        // It ends with an error: the disk is full.
        assert!(fs::write(self.filler(), vec![0; 1 << 20]).is_err());
    }

    /// Makes room again.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }
}

impl Drop for SmallDisk {
    /// The server keeps what it knows of a tablespace: it has to be empty and gone first. Where
    /// that fails, as in a test that fails, the file system stays until the machine ends.
    fn drop(&mut self) {
        // Each in a transaction of its own: the server takes the second in no other.
        let statements = [
            "alter table walpost.checkpoint set tablespace pg_default".to_owned(),
            format!("drop tablespace {}", self.name),
        ];
        let mut done = statements
            .iter()
            .map(|sql| self.database.batch_execute(sql));
        let emptied = done.try_for_each(|done| done);
        if emptied.is_ok() {
            let _ = Command::new("umount").arg(&self.dir).status();
        }
    }
}
