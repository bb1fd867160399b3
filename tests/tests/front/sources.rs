//! Where the configuration comes from: files that are none, and standard input.

use std::{
    fs::{self, File},
    process::Stdio,
};

use walpost_tests::{Finished, Process, Walpost};

use crate::{SOON, offline};

/// `walpost config print -c -` with this on standard input.
fn printed_from(stdin: Stdio) -> (i32, String, String) {
    let walpost = Walpost::new("");
    let mut command = walpost.command(&["config", "print", "-c", "-"]);
    let out = walpost.dir().join("out");
    let err = walpost.dir().join("err");
    command
        .stdin(stdin)
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap());
    let process = Process::spawn(&mut command).unwrap();
    let status = process.wait_exit(SOON).expect("it ends by itself");
    let text = |path| fs::read_to_string(path).unwrap();
    (status.code().expect("it exits"), text(out), text(err))
}

#[test]
fn a_dash_is_standard_input() {
    let walpost = offline();
    let file = walpost.dir().join("walpost.yaml");
    let (code, stdout, stderr) = printed_from(File::open(&file).unwrap().into());
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, walpost.finish(&["config", "print"], SOON).stdout);

    fs::write(&file, "postgres: {slto: x}\n").unwrap();
    let (code, stdout, stderr) = printed_from(File::open(&file).unwrap().into());
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("<stdin>:1:12: postgres.slto: "), "{stderr}");

    let (code, _, stderr) = printed_from(Stdio::null());
    assert_eq!(code, 78);
    assert!(stderr.contains("postgres.url: is missing"), "{stderr}");
}

#[test]
fn what_is_no_file_is_named() {
    let walpost = Walpost::new("");
    fs::create_dir(walpost.dir().join("directory")).unwrap();
    for (file, words) in [
        ("missing.yaml", "No such file"),
        ("directory", "Is a directory"),
        ("walpost.yaml/below", "Not a directory"),
        ("/dev/zero", "larger than 1 MiB"),
    ] {
        let running = walpost.start_plain(&["check", "-c", file]);
        let Finished { code, stderr, .. } = running.finish(SOON);
        assert_eq!(code, 78, "{stderr}");
        let expected = format!("  {file}: can't read the file: ");
        assert!(stderr.contains(&expected), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}
