//! What the crate makes of a cell.

use std::{error::Error as _, process::Command};

use tokio::runtime::Runtime;
use walpost_walsender::{ConnectOptions, Connection, Conninfo, Error, Mode};

use crate::cell::{Cell, QUERY, Verdict};

/// Variables that carry a cell to a process of its own.
const CELL: &str = "WALPOST_TLS_CELL";

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn connect(runtime: &Runtime, cell: &Cell) -> Verdict {
    if cell.needs_own_process() {
        return connect_in_own_process(cell);
    }
    let env = |name: &str| {
        let home = ("HOME", cell.home.clone());
        let variables = cell.variables.iter().chain(Some(&home));
        variables
            .filter(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
            .next()
    };
    runtime.block_on(attempt(&cell.text(), &env))
}

async fn attempt(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Verdict {
    let conninfo = match Conninfo::parse(text, env) {
        Ok(conninfo) => conninfo,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    match ask(&conninfo).await {
        Ok(answer) => Verdict::Connected(answer),
        Err(error) => Verdict::Refused(whole_text(&error)),
    }
}

pub(crate) async fn ask(conninfo: &Conninfo) -> Result<String, Error> {
    let options = ConnectOptions {
        mode: Mode::Sql,
        ..ConnectOptions::default()
    };
    let mut connection = Connection::connect(conninfo, &options).await?;
    let rows = connection.query(QUERY).await?;
    connection.close().await;
    Ok(rows[0].get(0).unwrap_or_default().to_owned())
}

/// An error with all of its causes and what to do about it, as it is printed.
pub(crate) fn whole_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let Some(advice) = error.advice() {
        text.push_str(&format!("; {advice}"));
    }
    text
}

fn connect_in_own_process(cell: &Cell) -> Verdict {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "ours::cell_of_another_process", "--nocapture"])
        .args(["--ignored", "--test-threads=1"])
        .env("HOME", &cell.home)
        .env(CELL, cell.text());
    for (name, value) in &cell.variables {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    let answer = |mark: &str| {
        let mut lines = output.lines();
        lines.find_map(|line| Some(line.split_once(mark)?.1.to_owned()))
    };
    if let Some(answer) = answer("connected=") {
        return Verdict::Connected(answer);
    }
    let error = answer("refused=");
    Verdict::Refused(error.unwrap_or_else(|| panic!("no answer of the process: {output}")))
}

#[test]
#[ignore = "a part of the comparison with psql, which runs it in other environments"]
fn cell_of_another_process() {
    let Ok(text) = std::env::var(CELL) else {
        return;
    };
    let env = |name: &str| std::env::var(name).ok();
    match runtime().block_on(attempt(&text, &env)) {
        Verdict::Connected(answer) => println!("connected={answer}"),
        Verdict::Refused(error) => println!("refused={}", error.replace('\n', " ")),
    }
}
