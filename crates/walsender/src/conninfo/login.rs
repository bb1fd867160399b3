//! The operating system's user that this process is.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

/// Name and home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) home: PathBuf,
}

impl Login {
    /// By the effective user's line in `/etc/passwd`. `None` without one, as in containers that
    /// run as a bare number, and for users that only a directory service knows.
    pub(super) fn of_process() -> Option<Self> {
        let uid = fs::metadata("/proc/self").ok()?.uid();
        Self::find(uid, &fs::read_to_string("/etc/passwd").ok()?)
    }

    fn find(uid: u32, passwd: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let found: u32 = fields.nth(1)?.parse().ok()?;
            let home = fields.nth(2)?;
            (found == uid).then(|| Self {
                name: name.to_owned(),
                home: home.into(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbad\n:x:7::/:\nme:x:7:8:,,:/home/me:/bin/sh";
        let found = Login::find(7, passwd).unwrap();
        assert_eq!(
            (found.name.as_str(), found.home.to_str()),
            ("me", Some("/home/me"))
        );
        assert_eq!(Login::find(8, passwd), None);
    }
}
