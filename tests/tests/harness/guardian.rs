//! What a killed test process leaves behind: nothing.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use walpost_tests::{GuardedDir, Postgres, Process, wait_until};

use crate::SOON;

/// The child half: starts servers, says where they are, and waits to be killed.
#[test]
#[ignore = "run by the test beside it, in a process of its own"]
fn child_that_is_killed() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let postgres = Postgres::builder().fsync(false).start();
    let dir = GuardedDir::new("doomed");
    let sleeper = Process::spawn(Command::new("sleep").arg("600")).unwrap();
    postgres.pause();
    println!(
        "READY {} {} {}",
        postgres.postmaster(),
        sleeper.pid(),
        dir.path().display()
    );
    println!("DATA {}", postgres.data_dir().display());
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn servers_and_directories_of_a_killed_test_process_are_gone() {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "guardian::child_that_is_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let ready = lines
        .find(|line| line.contains("READY "))
        .expect("the child is ready");
    let data = lines
        .find(|line| line.starts_with("DATA "))
        .expect("the child is ready");
    let fields: Vec<&str> = ready.split("READY ").nth(1).unwrap().split(' ').collect();
    let processes = [fields[0], fields[1]];
    let dirs = [fields[2], data.strip_prefix("DATA ").unwrap()];
    assert!(processes.iter().all(|pid| !is_gone(pid)));
    assert!(dirs.iter().all(|dir| Path::new(dir).is_dir()));

    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(SOON, "everything of the killed process is gone", || {
        let gone = processes.iter().all(|pid| is_gone(pid));
        (gone && dirs.iter().all(|dir| !Path::new(dir).exists())).then_some(())
    });
}

fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Set in the child process.
const CHILD: &str = "WALPOST_TEST_GUARDED_CHILD";
