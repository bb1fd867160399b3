//! Completion scripts and manual pages, in the programs that read them.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use walpost_tests::{GuardedDir, Walpost};

use crate::{SOON, plain};

/// What the shell would offer for the last word.
fn completed(words: &[&str]) -> Vec<String> {
    let dir = GuardedDir::new("completions");
    let path = dir.path().join("walpost.bash");
    fs::write(&path, plain(&["completions", "bash"]).stdout).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(checked.stderr.is_empty(), "{checked:?}");
    let last = words.len() - 1;
    let before = words.len().saturating_sub(2);
    let script = format!(
        ". {path:?}; COMP_WORDS=({}); COMP_CWORD={last};
         _walpost walpost {:?} {:?}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words[last],
        words[before]
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    assert_eq!(completed(&["walpost", "che"]), ["check"]);
    assert_eq!(completed(&["walpost", "config", "pri"]), ["print"]);
    assert_eq!(completed(&["walpost", "run", "--on"]), ["--once"]);
    assert_eq!(completed(&["walpost", "completions", "z"]), ["zsh"]);
    assert_eq!(completed(&["walpost", "--color", "ne"]), ["never"]);
}

#[test]
fn every_shell_has_a_script() {
    for (shell, words) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef walpost"),
        ("fish", "complete -c walpost"),
        ("elvish", "edit:completion:arg-completer[walpost]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let finished = plain(&["completions", shell]);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert!(finished.stdout.contains(words), "{shell}");
    }
}

/// As a terminal shows it. Every warning of the formatter is an error here.
fn formatted(page: &str) -> String {
    let mut groff = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-P-c", "-P-bou"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("groff; scripts/setup.sh test installs it");
    groff
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = groff.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "", "{page}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_page_is_written_and_formatted_without_a_warning() {
    let walpost = Walpost::new("");
    let written = walpost
        .start_plain(&["man", "--out", "new/man1"])
        .finish(SOON);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let mut pages: Vec<_> = fs::read_dir(walpost.dir().join("new/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    assert_eq!(written.stdout.lines().count(), pages.len());
    for path in &pages {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let page = fs::read_to_string(path).unwrap();
        let text = formatted(&page);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("{name} - ")), "{name}: {text}");
        // The same page by the words of the command.
        let words: Vec<_> = name.split('-').skip(1).collect();
        let printed = plain(&[&["man"], &words[..]].concat());
        assert_eq!(printed.stdout, page, "{name}");
    }
    let names: Vec<_> = pages.iter().map(|path| path.file_name().unwrap()).collect();
    for name in [
        "walpost.1",
        "walpost-run.1",
        "walpost-config-print.1",
        "walpost-man.1",
    ] {
        assert!(names.iter().any(|found| *found == name), "{names:?}");
    }
    let main = formatted(&plain(&["man"]).stdout);
    let main = main.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "EXIT STATUS",
        "79 starting would lose",
        "ENVIRONMENT",
        "walpost-run(1)",
    ] {
        assert!(main.contains(words), "{words}: {main}");
    }
}

#[test]
fn a_page_that_there_is_not_is_a_usage_error() {
    let finished = plain(&["man", "chekc"]);
    assert_eq!(finished.code, 64, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("no command 'chekc'"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("fix: name one of: "),
        "{}",
        finished.stderr
    );
    let finished = plain(&["man", "--out", "/dev/null/pages"]);
    assert_eq!(finished.code, 78, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("/dev/null/pages"),
        "{}",
        finished.stderr
    );
}
