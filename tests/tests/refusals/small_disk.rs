//! A file system of a few pages, for what happens when it is full.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

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
    /// Moves the checkpoint onto a new one. None where we may not mount: without root.
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
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], &dir);
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
        let emptied = self.database.batch_execute(&format!(
            "alter table walpost.checkpoint set tablespace pg_default; drop tablespace {}",
            self.name
        ));
        if emptied.is_ok() {
            let _ = Command::new("umount").arg(&self.dir).status();
        }
    }
}

#[track_caller]
fn run(program: &str, args: &[&str], path: &Path) {
    let status = Command::new(program).args(args).arg(path).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program} {}",
        path.display()
    );
}
