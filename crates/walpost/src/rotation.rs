//! Certificates, keys and passwords of the connection to Kafka that change while it stands.
//!
//! librdkafka reads them when a client is made, and keeps them for its life. So the files are
//! looked at every few seconds. What is new in them has to work before anything is given up for it:
//! a file can be half written, or be ahead of the broker, while the connection of old goes on.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};
use walpost_kafka::Settings;

use crate::config::{Kafka, KafkaFiles};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The same for what does not work yet, at most.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// How long Kafka may take to answer to what is new in them.
const PROOF: Duration = Duration::from_secs(10);

/// No file of keys or certificates is larger.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The settings that are to replace those in use.
#[derive(Debug)]
pub(crate) struct Rotation {
    proven: Receiver<Settings>,
    /// The channel stays open also where nothing is looked at.
    _sender: Sender<Settings>,
    heard: Option<Settings>,
}

impl Rotation {
    /// Begins to look, where there are files.
    pub(crate) fn watch(side: &Handle, kafka: &Kafka) -> Self {
        let (sender, proven) = channel(1);
        let paths = kafka.files.paths(&kafka.settings);
        if !paths.is_empty() {
            side.spawn(watch(kafka.files.clone(), paths, sender.clone()));
        }
        Self {
            proven,
            _sender: sender,
            heard: None,
        }
    }

    /// Whether there are other settings, which work.
    pub(crate) fn is_due(&mut self) -> bool {
        // The newest count.
        while let Ok(settings) = self.proven.try_recv() {
            self.heard = Some(settings);
        }
        self.heard.is_some()
    }

    /// Waits until there are. Can be dropped.
    pub(crate) async fn due(&mut self) {
        if self.heard.is_none() {
            self.heard = self.proven.recv().await;
        }
    }

    /// They are in use from now on.
    pub(crate) fn take(&mut self) -> Option<Settings> {
        self.is_due();
        self.heard.take()
    }
}

async fn watch(files: KafkaFiles, paths: Vec<PathBuf>, proven: Sender<Settings>) {
    let paths: std::sync::Arc<[PathBuf]> = paths.into();
    let Some(mut used) = look(&paths, Look::default()).await else {
        return;
    };
    let mut refused = None;
    let mut pause = LOOK_INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let Some(seen) = look(&paths, used.clone()).await else {
            return;
        };
        if seen.contents == used.contents {
            (used, refused, pause) = (seen, None, LOOK_INTERVAL);
            continue;
        }
        let files = files.clone();
        let Ok(proof) = spawn_blocking(move || prove(&files)).await else {
            return;
        };
        match proof {
            Ok(settings) => {
                used = seen;
                (refused, pause) = (None, LOOK_INTERVAL);
                if proven.send(*settings).await.is_err() {
                    return;
                }
            }
            Err(why) if refused == Some(seen.contents) => {
                debug!(why, "what is new in the files still does not work");
                // Somebody may count logins that fail, and lock the one that works.
                pause = (pause * 2).min(LOOK_INTERVAL_MAX);
            }
            Err(why) => {
                warn!(
                    why,
                    "files of kafka.properties have changed, and what is in them does not work: \
                     going on with what was in them before, and looking again"
                );
                (refused, pause) = (Some(seen.contents), LOOK_INTERVAL);
            }
        }
    }
}

fn prove(files: &KafkaFiles) -> Result<Box<Settings>, String> {
    let settings = files.read()?;
    match walpost_kafka::prove(&settings, PROOF) {
        Ok(()) => Ok(Box::new(settings)),
        Err(trouble) => Err(format!("{}; {}", trouble.message, trouble.fix)),
    }
}

/// What is in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    stamps: Vec<Stamp>,
    /// A hash of all.
    contents: u64,
}

/// By what a file that was written, or replaced, is told without reading it. Through links, so that
/// one that leads elsewhere now is seen.
type Stamp = Option<[i64; 6]>;

async fn look(paths: &std::sync::Arc<[PathBuf]>, before: Look) -> Option<Look> {
    let paths = std::sync::Arc::clone(paths);
    spawn_blocking(move || look_at(&paths, before)).await.ok()
}

fn look_at(paths: &[PathBuf], before: Look) -> Look {
    let files: Vec<_> = paths.iter().flat_map(|path| files_of(path)).collect();
    let stamps: Vec<_> = files.iter().map(|file| stamp(file)).collect();
    if stamps == before.stamps {
        return before;
    }
    let mut hasher = DefaultHasher::new();
    for file in &files {
        file.hash(&mut hasher);
        content(file).ok().hash(&mut hasher);
    }
    Look {
        stamps,
        contents: hasher.finish(),
    }
}

/// A file, or what lies in a directory of certificates.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    let numbers = [found.dev(), found.ino(), found.size()].map(u64::cast_signed);
    let [device, node, size] = numbers;
    let changed = found.ctime() ^ found.ctime_nsec().rotate_left(32);
    Some([
        device,
        node,
        size,
        found.mtime(),
        found.mtime_nsec(),
        changed,
    ])
}

fn content(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_other_contents_are_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let paths = [file.clone()];
        let see = |before: &Look| look_at(&paths, before.clone());
        let missing = see(&Look::default());
        fs::write(&file, "one").unwrap();
        let first = see(&missing);
        assert_ne!(first.contents, missing.contents);
        assert_eq!(see(&first), first);
        fs::remove_file(&file).unwrap();
        fs::write(&file, "one").unwrap();
        let again = see(&first);
        assert_eq!(again.contents, first.contents, "the same, written again");
        fs::write(&file, "two").unwrap();
        let second = see(&again);
        assert_ne!(second.contents, first.contents, "of the same size");
    }

    /// As Kubernetes mounts a secret: the name is a link through a link to a directory, and the
    /// second one is replaced.
    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("tls.crt"), text).unwrap();
        }
        symlink("v1", path("..data")).unwrap();
        symlink("..data/tls.crt", path("tls.crt")).unwrap();
        let paths = [path("tls.crt")];
        let first = look_at(&paths, Look::default());
        symlink("v2", path("..next")).unwrap();
        fs::rename(path("..next"), path("..data")).unwrap();
        let second = look_at(&paths, first.clone());
        assert_ne!(second.contents, first.contents);
    }

    #[test]
    fn a_directory_changes_with_what_lies_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let paths = [directory.path().to_owned()];
        let empty = look_at(&paths, Look::default());
        fs::write(directory.path().join("a.pem"), "a").unwrap();
        let one = look_at(&paths, empty.clone());
        fs::write(directory.path().join("a.pem"), "b").unwrap();
        let other = look_at(&paths, one.clone());
        let contents = [&empty, &one, &other].map(|look| look.contents);
        assert_eq!(
            contents
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            3
        );
    }
}
