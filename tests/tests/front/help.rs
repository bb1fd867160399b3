//! Help, and what is said to a command line that is not understood.

use crate::plain;

#[test]
fn nothing_at_all_shows_the_help_and_is_a_usage_error() {
    let finished = plain(&[]);
    assert_eq!(finished.code, 64);
    assert_eq!(finished.stdout, "");
    assert!(
        finished.stderr.contains("Usage: walpost"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("First steps:"),
        "{}",
        finished.stderr
    );
}

#[test]
fn help_that_is_asked_for_goes_to_stdout() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["run", "--help"],
        &["help", "run"],
    ] {
        let finished = plain(args);
        assert_eq!(finished.code, 0, "{args:?}");
        assert_eq!(finished.stderr, "", "{args:?}");
        assert!(finished.stdout.contains("Usage: walpost"), "{args:?}");
    }
    let short = plain(&["run", "-h"]).stdout;
    assert!(!short.contains("Signals:"), "{short}");
    assert!(plain(&["run", "--help"]).stdout.contains("Signals:"));
}

#[test]
fn what_is_misspelt_is_answered_with_what_is_similar() {
    for (args, similar) in [
        (&["chekc"][..], "'check'"),
        (&["config", "pritn"], "'print'"),
        (&["check", "--jsno"], "'--json'"),
        (&["run", "--onec"], "'--once'"),
        (&["completions", "bahs"], "'bash'"),
    ] {
        let finished = plain(args);
        assert_eq!(finished.code, 64, "{args:?}");
        assert_eq!(finished.stdout, "", "{args:?}");
        assert!(finished.stderr.contains(similar), "{}", finished.stderr);
    }
}

#[test]
fn the_version_is_the_same_wherever_it_is_asked_for() {
    let version = plain(&["version"]);
    assert_eq!(version.code, 0);
    assert_eq!(version.stdout, plain(&["--version"]).stdout);
    let short = plain(&["-V"]).stdout;
    let short = short.trim();
    assert!(
        version.stdout.starts_with(&format!("{short} (")),
        "{short}: {}",
        version.stdout
    );
    let json = plain(&["version", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let result = &json["result"];
    for name in ["walpost", "librdkafka", "openssl", "os", "architecture"] {
        let value = result[name].as_str().unwrap();
        assert!(
            version.stdout.contains(value),
            "{name} {value}: {}",
            version.stdout
        );
    }
    let features = result["librdkafka_features"].as_array().unwrap();
    for feature in ["ssl", "sasl_scram", "sasl_oauthbearer", "lz4", "zstd"] {
        assert!(
            features.iter().any(|found| found == feature),
            "{feature}: {features:?}"
        );
    }
}
