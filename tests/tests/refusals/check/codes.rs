//! Every code is reproduced from outside.

use std::{fs, path::Path};

use walpost_tests::repository_root;

/// What can't be: code and reason.
const NOT_REPRODUCED: [(&str, &str); 0] = [];

/// Those of Kafka are told in the suite of the brokers too.
const ELSEWHERE: &str = "WP-KAFKA-";

#[test]
fn every_code_of_a_check_is_reproduced_by_a_test_or_has_a_reason() {
    let page = fs::read_to_string(repository_root().join("docs/checks.md")).expect("the page");
    let codes: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|code| !code.starts_with(ELSEWHERE))
        .collect();
    assert!(codes.len() > 50, "{codes:?}");
    let tests = source(&repository_root().join("tests/tests/refusals"));
    for code in codes {
        let is_named = tests.contains(&format!("\"{code}\""));
        let reason = NOT_REPRODUCED.iter().find(|(known, _)| *known == code);
        assert!(is_named || reason.is_some(), "no test here has \"{code}\"");
        assert!(
            !(is_named && reason.is_some()),
            "a test has \"{code}\": drop it from the list"
        );
    }
}

/// All Rust below a directory, but for this file.
fn source(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            text.push_str(&source(&path));
        } else if !path.ends_with("check/codes.rs") {
            text.push_str(&fs::read_to_string(&path).expect("a file of Rust"));
        }
    }
    text
}
