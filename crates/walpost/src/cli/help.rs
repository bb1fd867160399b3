//! What stands below the options: examples, environment, files, exit codes.
//!
//! A paragraph is a title with a colon and indented lines. The manual page makes a section of each.

use crate::exit::Status;

/// Below `walpost -h`.
pub(super) const SHORT: &str = "\
First steps:
  walpost demo                 all of it at work, on throwaway servers
  walpost init | psql shop     set a database up, by SQL that you have read
  walpost check                what is missing or wrong, each with its fix
  walpost run                  stream until stopped

--help tells more: examples, environment, files and exit codes.";

/// Below `walpost --help`.
pub(super) fn long() -> String {
    format!("{MAIN}\n\nExit codes:\n{}", Status::table())
}

const MAIN: &str = "\
Examples:
  walpost demo                 all of it at work, on throwaway servers
  walpost init | psql shop     set a database up, by SQL that you have read
  walpost init --apply         the same, at once
  walpost check                what is missing or wrong, each with its fix
  walpost run                  stream until stopped
  walpost config print --set postgres.slot=orders

Environment:
  WALPOST_<KEY>    a key of the configuration, '__' between its levels:
                   WALPOST_KAFKA__BROKERS=kafka:9092
  PG...            what psql reads: PGHOST, PGUSER, PGPASSWORD, PGPASSFILE, ...
  NO_COLOR         no colours
  CLICOLOR_FORCE   colours also where the output is no terminal

Files:
  walpost.yaml     in the working directory, unless -c names another file
  ~/.pgpass        passwords, as psql reads them";

pub(super) const RUN: &str = "\
Examples:
  walpost run
  walpost run -c /etc/walpost.yaml --log-format json
  walpost run --once && echo everything is delivered

Signals:
  SIGTERM, Ctrl-C  wait for what is in flight (shutdown.drain), then exit 0,
                   or with --once, before everything is delivered, 130
  a second one     exit at once; what was in flight comes again next time";

pub(super) const SKIP: &str = "\
Examples:
  walpost skip 00000000016B3748/0000000C 0199c1e2-5f0b-7d5e-a0a1-1b8f6c1d2e3f \\
      --reason 'payload of 80 MB, sent by hand'
  walpost skip --list";

pub(super) const INIT: &str = "\
Examples:
  walpost init | less
  walpost init | psql -v ON_ERROR_STOP=1 shop
  walpost init --apply
  walpost init --apply --admin-url postgresql://owner@localhost/shop";

pub(super) const CHECK: &str = "\
Examples:
  walpost check
  walpost check --strict
  walpost check --json | jq .result.checks
  walpost check --explain WP-PUB-ROOT";

pub(super) const DEMO: &str = "\
Examples:
  walpost demo
  walpost demo --events 100 --rate 50
  walpost demo --kafka localhost:9092 --postgres postgresql://me@localhost/shop

Notes:
  A demo reads a configuration file only where -c names it, and no WALPOST_
  variables. Ctrl-C ends it. What it made is gone then, and after a SIGKILL too,
  except on a server of yours.";

pub(super) const CONFIG: &str = "\
Examples:
  walpost config print
  walpost config print --origins
  walpost config print --set kafka.brokers=kafka:9092 --json
  walpost config schema > walpost.schema.json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  walpost completions bash > ~/.local/share/bash-completion/completions/walpost
  walpost completions zsh  > ~/.zfunc/_walpost      (fpath+=~/.zfunc in .zshrc)
  walpost completions fish > ~/.config/fish/completions/walpost.fish
  walpost completions powershell >> $PROFILE";

pub(super) const MAN: &str = "\
Examples:
  walpost man | man -l -
  walpost man config print | man -l -
  walpost man --out /usr/local/share/man/man1";
