//! A file system of a few pages, for what happens when it is full.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::stage::{Stage, postgres};

/// Room for the checkpoint's table, and for little more.
const SIZE: &str = "128k";

/// Holds the checkpoint of a stage until it is dropped.
pub(crate) struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Moves the checkpoint onto a new one. None where we may not mount: without root.
    #[track_caller]
    pub(crate) fn mount(stage: &Stage) -> Option<Self> {
        let me = fs::metadata("/proc/self").unwrap().uid();
        if me != 0 {
            return None;
        }
        let data = postgres().data_dir();
        let owner = fs::metadata(&data).unwrap();
        let dir = data.with_file_name(&stage.slot);
        fs::create_dir(&dir).unwrap();
        let options = format!(
            "size={SIZE},uid={},gid={},mode=700",
            owner.uid(),
            owner.gid()
        );
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], &dir);
        let disk = Self { dir };
        let (name, place) = (&stage.slot, disk.dir.display());
        let client = &mut postgres().client();
        let create = format!("create tablespace {name} location '{place}'");
        client.batch_execute(&create).unwrap();
        stage.database.execute(&format!(
            "alter table walpost.checkpoint set tablespace {name}"
        ));
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
    fn drop(&mut self) {
        // The server may still have files of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
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
