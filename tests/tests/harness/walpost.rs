//! Running a program: a shell in the place of the relay.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use walpost_tests::{Running, SECRET, Walpost, try_wait_until};

use crate::SOON;

#[test]
fn a_run_is_captured_with_its_exit_code() {
    let finished = shell("echo printed; echo logged >&2; exit 65").finish(SOON);
    assert_eq!((finished.code, finished.stdout.as_str()), (65, "printed\n"));
    assert_eq!(finished.stderr, "logged\n");
}

#[test]
fn a_line_of_the_log_is_waited_for_and_signals_arrive() {
    let running = shell("trap 'echo stopping >&2; exit 7' TERM; echo up >&2; read -r _ < fifo");
    assert_eq!(running.wait_for_log("up", SOON), "up");
    running.terminate();
    assert_eq!(running.wait_for_log("stopping", SOON), "stopping");
    assert_eq!(running.wait_exit(SOON), 7);
}

#[test]
fn a_line_that_comes_in_parts_is_seen_when_it_is_whole() {
    let (running, fifo) =
        shell_and_fifo("printf 'one '; read -r _ < fifo; echo two; read -r _ < fifo");
    let part = try_wait_until(Duration::from_millis(300), || {
        running.output().contains("one").then_some(())
    });
    assert_eq!(part, None, "a part of a line was seen");
    fs::write(fifo, "\n").unwrap();
    assert_eq!(running.wait_for_output("one", SOON), "one two");
}

#[test]
fn the_end_of_a_stream_is_seen_without_a_line_break() {
    let finished = shell("printf 'no end'").finish(SOON);
    assert_eq!(finished.stdout, "no end");
}

#[test]
#[should_panic(expected = "a secret was printed")]
fn a_run_that_tells_a_secret_fails_its_test() {
    drop(shell(&format!("echo 'password: the-{SECRET}-1'")).finish(SOON));
}

#[test]
fn a_killed_run_counts_as_its_signal() {
    let running = shell("echo up >&2; exec sleep 600");
    running.wait_for_log("up", SOON);
    assert!(running.is_running());
    running.kill();
    assert_eq!(running.wait_exit(SOON), 128 + 9);
}

#[test]
fn cpu_and_memory_of_a_run_are_measured() {
    let running =
        shell("i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done; echo up >&2; read -r _ < fifo");
    running.wait_for_log("up", SOON);
    let used = running.cpu_time();
    assert!(
        used >= Duration::from_millis(20),
        "{used:?} for 300,000 rounds"
    );
    assert!((100_000..1_000_000_000).contains(&running.rss_peak_bytes()));
    thread::sleep(Duration::from_millis(100));
    assert!(
        running.cpu_time() <= used + Duration::from_millis(20),
        "it waits"
    );
}

#[test]
fn the_configuration_and_only_the_given_environment_reach_the_program() {
    let walpost = Walpost::new("a: 1\n")
        .program(Path::new("/bin/sh"))
        .env("GIVEN", "yes");
    let finished = walpost
        .start_plain(&["-c", "cat walpost.yaml; echo $GIVEN $CARGO_MANIFEST_DIR"])
        .finish(SOON);
    assert_eq!(finished.stdout, "a: 1\nyes\n");
}

/// A shell in the place of the binary; reading `fifo` waits for ever.
fn shell(script: &str) -> Running {
    shell_and_fifo(script).0
}

/// As [`shell`]; whoever writes a line to the file ends the wait.
fn shell_and_fifo(script: &str) -> (Running, PathBuf) {
    let walpost = Walpost::new("").program(Path::new("/bin/sh"));
    let fifo = walpost.dir().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    (walpost.start_plain(&["-c", script]), fifo)
}
