//! Where the repository, its caches and the tools of the machine are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The root of the repository that this harness was built from.
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests package lies in the repository")
}

/// Where the scripts put what they download: `WALPOST_CACHE`, else `.cache` in the repository.
pub fn cache_dir() -> PathBuf {
    env::var_os("WALPOST_CACHE").map_or_else(|| repository_root().join(".cache"), PathBuf::from)
}

/// The file of a program in `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
