//! `docs/kafka.md`: its examples are configurations.

use std::fs;

use walpost_tests::{Walpost, repository_root};

use crate::SOON;

#[test]
fn every_example_of_the_page_is_a_whole_configuration() {
    let page = fs::read_to_string(repository_root().join("docs/kafka.md")).unwrap();
    let examples: Vec<_> = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(examples.len() >= 7, "{} examples", examples.len());
    let walpost = Walpost::new("");
    let dir = walpost.dir().display().to_string();
    for secret in ["client", "client-key", "kafka", "keystore"] {
        fs::write(walpost.dir().join(secret), "file-hunter-22").unwrap();
    }
    for example in examples {
        assert!(example.starts_with("# walpost.yaml\n"), "{example}");
        walpost.configure(&example.replace("/run/secrets", &dir));
        let finished = walpost.finish(&["config", "print"], SOON);
        assert_eq!(finished.code, 0, "{example}\n{}", finished.stderr);
    }
}
