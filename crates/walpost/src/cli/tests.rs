use std::fs;
use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::exit::Status;

/// Writes the golden files anew instead of comparing.
const UPDATE: &str = "WALPOST_UPDATE_DOCS";

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_demos_rate_is_a_number_that_makes_sense() {
    for text in ["0", "0.5", "2", "1000"] {
        assert!(rate(text).is_ok(), "{text}");
    }
    for text in ["-1", "0.001", "1001", "NaN", "inf", "fast", ""] {
        assert!(rate(text).is_err(), "{text}");
    }
}

#[test]
fn an_argument_that_can_be_secret_is_not_shown() {
    for args in [
        &["demo", "--postgres", "postgresql://u:hunter2@h/d"][..],
        &[
            "init",
            "--apply",
            "--admin-url",
            "postgresql://u:hunter2@h/d",
        ],
        &["run", "--set", "postgres.password=hunter2"],
    ] {
        let cli = Cli::try_parse_from([&["walpost"], args].concat()).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}

#[test]
fn global_flags_stand_before_and_after_the_command() {
    for args in [
        ["walpost", "-c", "f", "init"],
        ["walpost", "init", "-c", "f"],
    ] {
        let cli = Cli::try_parse_from(args).unwrap();
        assert_eq!(cli.settings.config, Some("f".into()));
    }
}

/// The heading of the first options that every command has.
const GLOBAL_OPTIONS: &str = "Configuration (flag >";

/// Help of every command, as the repository shows it.
#[test]
fn the_page_of_the_command_line_is_what_the_commands_say() {
    let page = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let different = page
        .lines()
        .zip(written.lines())
        .find(|(is, was)| is != was);
    assert!(
        page == written,
        "docs/cli.md is not what the commands say: {UPDATE}=1 writes it anew; first difference: \
         {different:?}"
    );
}

#[test]
fn every_command_has_a_short_and_a_long_help_that_fit_a_terminal() {
    for (path, mut command) in commands() {
        let short = command.render_help().to_string();
        let long = command.render_long_help().to_string();
        assert!(command.get_about().is_some(), "{path}");
        assert!(short.contains("Usage: walpost"), "{path}");
        assert!(short.lines().count() <= 45, "{path}: {short}");
        for line in long.lines() {
            assert!(line.chars().count() <= 100, "{path}: {line}");
        }
        for line in command.get_after_long_help().into_iter().flat_map(|text| {
            let text = text.to_string();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        }) {
            assert!(line.chars().count() <= 80, "wraps on 80 columns: {line}");
        }
    }
}

#[test]
fn the_long_help_lists_every_exit_code() {
    let help = Cli::command().render_long_help().to_string();
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    let listed: Vec<u8> = codes
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    assert_eq!(listed, Status::ALL.map(Status::code));
}

/// The README's table is for people and has more words: the codes are the same.
#[test]
fn the_readme_lists_every_exit_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let (_, section) = readme.split_once("### Exit codes").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let listed: Vec<u8> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(listed, Status::ALL.map(Status::code));
}

/// `walpost` and everything below it, with the words that one types.
fn commands() -> Vec<(String, clap::Command)> {
    fn add(path: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
        all.push((path.to_owned(), command.clone().term_width(100)));
        for sub in command.get_subcommands() {
            if sub.get_name() != "help" {
                add(&format!("{path} {}", sub.get_name()), sub, all);
            }
        }
    }
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut all = Vec::new();
    add("walpost", &root, &mut all);
    all
}

fn page() -> String {
    let mut page = "\
# The command line

This page is what `--help` prints for each command; `-h` is shorter. The options that every command
takes are listed once, with `walpost` itself. `walpost man` has the same as manual pages,
`walpost completions SHELL` completes commands and options in a shell.

Every command that reports has `--json`: one object on stdout,
`{ok, command, result, error: {code, message, hint}}`, also where the command failed or was not
understood. `error.code` is the exit code as a word. Everything else goes to stderr.
"
    .to_owned();
    for (path, mut command) in commands() {
        let mut help = command.render_long_help().to_string();
        if path != "walpost" {
            let (own, _) = help
                .split_once(GLOBAL_OPTIONS)
                .expect("every command has them");
            let after = command.get_after_long_help();
            help = format!(
                "{own}{}",
                after.map(ToString::to_string).unwrap_or_default()
            );
        }
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        page.push_str(&format!(
            "\n## {path}\n\n```text\n{}\n```\n",
            help.join("\n").trim_end()
        ));
    }
    page
}

#[test]
fn a_choice_of_colours_is_read_before_and_after_the_command() {
    for args in [
        ["walpost", "--color", "never", "init"],
        ["walpost", "init", "--color", "never"],
    ] {
        assert_eq!(
            Cli::try_parse_from(args).unwrap().log.color,
            ColorChoice::Never
        );
    }
    let default = Cli::try_parse_from(["walpost", "init"]).unwrap();
    assert_eq!(default.log.color, ColorChoice::Auto);
}

#[test]
fn every_command_that_reports_takes_json() {
    for (args, json) in [
        (&["init", "--json"][..], true),
        (&["init", "--apply", "--json"], true),
        (&["check", "--json"], true),
        (&["config", "print", "--json"], true),
        (&["version", "--json"], true),
        (&["version"], false),
    ] {
        let args = [&["walpost"], args].concat();
        assert_eq!(
            Cli::try_parse_from(&args).unwrap().output().json,
            json,
            "{args:?}"
        );
    }
    for command in ["run", "demo", "completions", "man"] {
        assert!(Cli::try_parse_from(["walpost", command, "--json"]).is_err());
    }
}
