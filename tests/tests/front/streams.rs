//! Where stdout is not what one hopes for.

use std::{fs::OpenOptions, io::Read, process::Stdio};

use walpost_tests::{Process, Walpost};

use crate::{SOON, offline};

const PRINTING: [&[&str]; 10] = [
    &["--help"],
    &["--version"],
    &["version"],
    &["version", "--json"],
    &["config", "print"],
    &["config", "print", "--json"],
    &["init"],
    &["completions", "bash"],
    &["man"],
    &["check", "--jsno", "--json"],
];

/// Exit code and stderr of a command whose stdout is this.
fn with_stdout(walpost: &Walpost, args: &[&str], stdout: impl Into<Stdio>) -> (i32, String) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = walpost.command(args);
    command.stdout(stdout).stderr(writer);
    let process = Process::spawn(&mut command).unwrap();
    drop(command);
    let status = process.wait_exit(SOON).expect("it ends by itself");
    let mut stderr = String::new();
    reader.read_to_string(&mut stderr).unwrap();
    (status.code().expect("it exits"), stderr)
}

#[test]
fn a_reader_that_went_away_ends_a_report_quietly() {
    let walpost = offline();
    for args in PRINTING {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, stderr) = with_stdout(&walpost, args, writer);
        let expected = if args.contains(&"--jsno") { 64 } else { 0 };
        assert_eq!((code, stderr.as_str()), (expected, ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let walpost = offline();
    for args in PRINTING.iter().filter(|args| !args.contains(&"--jsno")) {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, stderr) = with_stdout(&walpost, args, full);
        assert_eq!(code, 70, "{args:?}: {stderr}");
        assert!(
            stderr.contains("error: can't write to stdout: No space left"),
            "{stderr}"
        );
    }
}
