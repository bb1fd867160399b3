//! Colours: stdout and stderr apart, and as flag and environment say.

use std::{fs, process::Command};

use walpost_tests::Walpost;

use crate::{SOON, offline};

const ESCAPE: &str = "\u{1b}[";

/// Standard output and error of a shell's command line on a terminal, where `$walpost` is the
/// binary. What is not redirected comes out of the terminal.
fn on_terminal(walpost: &Walpost, line: &str, environment: &[(&str, &str)]) -> String {
    let binary = walpost.command(&[]);
    let script = line.replace("$walpost", &format!("{:?}", binary.get_program()));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &script, "/dev/null"])
        .current_dir(walpost.dir())
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("CLICOLOR")
        .env("TERM", "xterm")
        // A variable that libraries take for a terminal that can show colours.
        .env("CI", "true")
        .envs(environment.iter().copied())
        .output()
        .expect("script, of bsdutils");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn redirected(walpost: &Walpost, name: &str) -> String {
    fs::read_to_string(walpost.dir().join(name)).unwrap()
}

#[test]
fn each_stream_is_coloured_where_it_is_a_terminal() {
    let walpost = offline();
    // A report goes to stdout, an error to stderr.
    let shown = on_terminal(
        &walpost,
        "$walpost check; $walpost config print -c missing",
        &[],
    );
    assert!(shown.contains(&format!("{ESCAPE}31merror")), "{shown}");
    assert!(shown.contains(&format!("{ESCAPE}31merror:")), "{shown}");
    let shown = on_terminal(
        &walpost,
        "$walpost check >out; $walpost init -c missing",
        &[],
    );
    assert!(!redirected(&walpost, "out").contains(ESCAPE));
    assert!(shown.contains(ESCAPE), "{shown}");
    on_terminal(&walpost, "$walpost init -c missing 2>err", &[]);
    let stderr = redirected(&walpost, "err");
    assert!(
        stderr.starts_with("error: ") && !stderr.contains(ESCAPE),
        "{stderr}"
    );
}

#[test]
fn environment_and_flag_turn_colours_off_and_on() {
    let walpost = offline();
    let line = "$walpost check; $walpost init -c missing; $walpost chekc; $walpost --help";
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_terminal(&walpost, line, &[environment]);
        assert!(!shown.contains(ESCAPE), "{environment:?}: {shown}");
    }
    let never = line.replace("$walpost", "$walpost --color never");
    let shown = on_terminal(&walpost, &never, &[]);
    assert!(!shown.contains(ESCAPE), "{shown}");
    for args in [
        &["check", "--color", "always"][..],
        &["init", "--color=always", "-c", "missing"],
        &["--color", "always", "chekc"],
    ] {
        let finished = walpost.start_plain(args).finish(SOON);
        let text = finished.stdout + &finished.stderr;
        assert!(text.contains(ESCAPE), "{args:?}: {text}");
    }
    let forced = offline().env("CLICOLOR_FORCE", "1");
    let finished = forced.finish(&["check"], SOON);
    assert!(finished.stdout.contains(ESCAPE), "{}", finished.stdout);
}
