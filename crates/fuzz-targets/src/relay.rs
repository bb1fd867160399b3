//! Configuration and checkpoint, by the relay's own modules: it is a program and no library, so
//! `lib.rs` reads them from where they stand.

use std::cell::OnceCell;
use std::io::{Seek, SeekFrom, Write};

use tempfile::NamedTempFile;

use crate::config::{Config, Sources};
use crate::record;

/// What a reference can bring, and no message may say.
const SECRET: &str = "hunter-70f1c2";

/// A configuration file. No input may panic, and what is wrong with one is told without what its
/// references brought.
pub(crate) fn config(input: &[u8]) {
    thread_local! {
        static FILE: OnceCell<NamedTempFile> = const { OnceCell::new() };
    }
    // Other files are none of ours, and may be of any kind.
    if input
        .windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"file"))
    {
        return;
    }
    FILE.with(|file| {
        let file = file.get_or_init(|| NamedTempFile::new().expect("a temporary file"));
        let mut handle = file.as_file();
        handle.set_len(0).expect("an empty file");
        handle.seek(SeekFrom::Start(0)).expect("its start");
        handle.write_all(input).expect("the input is written");
        let sources = Sources {
            file: Some(file.path().to_owned()),
            variables: vec![("SECRET".to_owned(), SECRET.to_owned())],
            ..Sources::default()
        };
        if let Err(error) = Config::load(&sources) {
            let told = format!("{error} {error:?}");
            assert!(!told.contains(SECRET), "a secret was told: {told}");
        }
    });
}

/// The columns of a checkpoint, a line each. No input may panic; what is read is what was there.
pub(crate) fn checkpoint(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(5, '\n');
    let columns = [(); 5].map(|()| lines.next());
    let Some(checkpoint) = record::parse(columns) else {
        return;
    };
    let system = checkpoint.identity.system_identifier.to_string();
    let timeline = checkpoint.identity.timeline.to_string();
    let lsn = checkpoint.lsn.to_string();
    let config = serde_json::to_string(&checkpoint.config).expect("texts are JSON");
    let cluster = checkpoint.kafka_cluster.as_deref();
    let columns = [
        Some(&system[..]),
        Some(&timeline),
        Some(&lsn),
        cluster,
        Some(&config),
    ];
    assert_eq!(record::parse(columns).as_ref(), Some(&checkpoint));
}
