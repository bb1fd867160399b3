//! `pg_upgrade`: the same databases in a new cluster of other binaries.

use std::process::Stdio;

use super::{Binaries, Postgres};

impl Postgres {
    /// A new cluster with the databases of this one, which has to be stopped. Its server is not
    /// started.
    ///
    /// # Errors
    ///
    /// What `pg_upgrade` of those binaries said when it refused.
    ///
    /// # Panics
    ///
    /// When this cluster's server runs.
    pub fn upgrade(&self, binaries: Binaries) -> Result<Self, String> {
        assert!(!self.is_running(), "a running cluster can't be upgraded");
        // From 18 on they are there unless they are not wanted, and both clusters have to be alike.
        let has_checksums = [self.binaries(), &binaries].map(|binaries| binaries.version() >= 18);
        let mut builder = Self::builder().binaries(binaries);
        if has_checksums == [false, true] {
            builder = builder.initdb("--no-data-checksums");
        }
        let new = builder.initialised();
        let mut command = new.command("pg_upgrade");
        command
            .arg("--old-bindir")
            .arg(self.binaries().dir())
            .arg("--old-datadir")
            .arg(self.data_dir())
            .arg("--new-datadir")
            .arg(new.data_dir())
            .args(["--username", "postgres", "--no-sync"])
            .args(["--old-port", &self.port().to_string()])
            .args(["--new-port", &new.port().to_string()])
            // It writes there, and has its sockets there.
            .current_dir(new.dir.path())
            .stdin(Stdio::null());
        let output = command.output().map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(new)
        } else {
            Err(told + &String::from_utf8_lossy(&output.stderr))
        }
    }
}
