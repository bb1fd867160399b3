//! Where nobody can tell whether it is over in a moment: waited for, and explained at the end.

use walpost_tests::free_port;

use crate::stage::{PASSWORD, Stage, USER, assert_refused, ended};

/// All of them at once: each waits for half a minute.
#[test]
fn what_may_pass_is_waited_for_and_explained() {
    let kafka = walpost_tests::SecuredKafka::shared();
    let nowhere = free_port();
    let away = format!("127.0.0.1:{}", nowhere.number());
    let lost = kafka.lost_address();
    let login = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", USER),
        ("sasl.password", PASSWORD),
    ];
    let ca = kafka.authority_file();
    let tls = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", ca.as_str()),
    ];
    let oauth = format!("http://{away}/token");
    let oauth = [
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", ca.as_str()),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", oauth.as_str()),
        ("sasl.oauthbearer.client.id", "app"),
        ("sasl.oauthbearer.client.secret", "app-hunter-1"),
    ];
    let hangs_up = "closes the connection without a word";
    let cases: [(&str, String, &[(&str, &str)], &[&str]); 8] = [
        (
            "away",
            away.clone(),
            &[],
            &["can't be reached", "Connection refused", &away],
        ),
        (
            "no_name",
            "no-such-host.invalid:9092".to_owned(),
            &[],
            &["can't be resolved", "no-such-host.invalid", "kafka.brokers"],
        ),
        (
            "plain_to_tls",
            kafka.listener("TLS"),
            &[],
            &[hangs_up, "may expect TLS"],
        ),
        (
            "plain_to_sasl",
            kafka.listener("SASL"),
            &[],
            &[hangs_up, "a login"],
        ),
        (
            "sasl_to_sasl_tls",
            kafka.listener("SASLTLS"),
            &login,
            &[hangs_up, "sasl_ssl"],
        ),
        (
            "tls_to_sasl_tls",
            kafka.listener("SASLTLS"),
            &tls,
            &[hangs_up, "may expect a login"],
        ),
        (
            "lost",
            kafka.listener("LOST"),
            &[],
            &[
                &lost,
                "Kafka answers at kafka.brokers",
                "advertised.listeners",
            ],
        ),
        (
            "no_tokens",
            kafka.listener("OAUTH"),
            &oauth,
            &["token endpoint", "sasl.oauthbearer.token.endpoint.url"],
        ),
    ];
    let stages = cases.map(|(hint, brokers, properties, words)| {
        let stage = Stage::new(hint);
        stage.configure(&brokers, properties, "");
        let topic = stage.kafka.topic(hint, 1);
        stage.write(&topic, "1");
        (hint, stage, words)
    });
    let runs = stages
        .each_ref()
        .map(|(_, stage, _)| stage.walpost.start(&["run", "--once"]));
    // `check` says the same, sooner.
    for (hint, stage, words) in &stages {
        if ["no_name", "plain_to_tls", "no_tokens"].contains(hint) {
            stage.check_finds(69, "WP-KAFKA-UNREACHABLE", words);
        }
    }
    for ((_, _, words), run) in stages.iter().zip(runs) {
        let all = [&["nothing was delivered for 30 s"][..], words].concat();
        assert_refused(&ended(run), 69, &all);
    }
}

#[test]
fn an_advertised_address_that_is_out_of_reach_is_found_by_check() {
    let stage = Stage::new("advertised");
    stage.configure(&stage.kafka.listener("LOST"), &[], "");
    let lost = stage.kafka.lost_address();
    let words = [lost.as_str(), "advertised.listeners", "Connection refused"];
    stage.check_finds(69, "WP-KAFKA-UNREACHABLE", &words);
}
