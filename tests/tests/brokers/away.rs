//! Where nobody can tell whether it is over in a moment: waited for, and explained at the end.
//!
//! The name sorts first, so that its half minute passes while the other tests run.

use walpost_tests::{SecuredKafka, free_port};

use crate::stage::{PASSWORD, Stage, USER, assert_refused, ended};

/// One mistake.
struct Case {
    title: &'static str,
    brokers: String,
    properties: Vec<(&'static str, String)>,
    words: Vec<String>,
    /// `check` is asked too: it says the same, sooner.
    is_checked: bool,
}

fn case(title: &'static str, brokers: &str, words: &[&str]) -> Case {
    Case {
        title,
        brokers: brokers.to_owned(),
        properties: Vec::new(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        is_checked: false,
    }
}

impl Case {
    fn with(mut self, properties: &[(&'static str, &str)]) -> Self {
        let owned = properties
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        self.properties.extend(owned);
        self
    }

    fn checked(mut self) -> Self {
        self.is_checked = true;
        self
    }
}

const HANGS_UP: &str = "closes the connection without a word";

/// Nobody is where the configuration, or the cluster, says.
fn absent(kafka: &SecuredKafka, away: &str) -> Vec<Case> {
    let lost = kafka.lost_address();
    let oauth = format!("http://{away}/token");
    let oauth = [
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", &kafka.authority_file()),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", oauth.as_str()),
        ("sasl.oauthbearer.client.id", "app"),
        ("sasl.oauthbearer.client.secret", "app-hunter-1"),
    ];
    let words = ["can't be resolved", "no-such-host.invalid", "kafka.brokers"];
    let title = "A broker's name that has no address";
    let unnamed = case(title, "no-such-host.invalid:9092", &words).checked();
    let words = [
        &lost,
        "Kafka answers at kafka.brokers",
        "advertised.listeners",
    ];
    let title = "An advertised address that is out of reach";
    let lost = case(title, &kafka.listener("LOST"), &words);
    let words = ["token endpoint", "sasl.oauthbearer.token.endpoint.url"];
    let title = "No token endpoint at that address";
    let tokens = case(title, &kafka.listener("OAUTH"), &words)
        .with(&oauth)
        .checked();
    vec![unnamed, lost, tokens]
}

/// Somebody is there, and expects another protocol.
fn mismatched(kafka: &SecuredKafka) -> Vec<Case> {
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
    let (secure, asking) = (kafka.listener("TLS"), kafka.listener("SASL"));
    let both = kafka.listener("SASLTLS");
    let words = [HANGS_UP, "may expect TLS"];
    let to_tls = case("Plain text to a TLS port", &secure, &words).checked();
    let title = "Plain text to a port that asks for a login";
    let to_login = case(title, &asking, &[HANGS_UP, "a login"]);
    let title = "A login in plain text to a TLS port";
    let login_to_tls = case(title, &both, &[HANGS_UP, "sasl_ssl"]).with(&login);
    let words = [HANGS_UP, "may expect a login"];
    let title = "TLS without a login to a port that asks for one";
    let tls_to_login = case(title, &both, &words).with(&tls);
    vec![to_tls, to_login, login_to_tls, tls_to_login]
}

/// All of them at once: each waits for half a minute.
#[test]
fn what_may_pass_is_waited_for_and_explained() {
    let kafka = SecuredKafka::shared();
    let nowhere = free_port();
    let away = format!("127.0.0.1:{}", nowhere.number());
    let cases = absent(kafka, &away).into_iter().chain(mismatched(kafka));
    let runs: Vec<_> = cases
        .map(|case| {
            let stage = Stage::new("unreachable");
            let properties = case.properties.iter();
            let properties: Vec<_> = properties
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            stage.configure(&case.brokers, &properties, "");
            let topic = kafka.topic("unreachable", 1);
            stage.write(&topic, "1");
            let run = stage.walpost.start(&["run", "--once"]);
            (case, stage, run)
        })
        .collect();
    for (case, stage, _) in runs.iter().filter(|(case, ..)| case.is_checked) {
        let words: Vec<_> = case.words.iter().map(String::as_str).collect();
        stage.check_finds(69, "WP-KAFKA-UNREACHABLE", &words);
    }
    let lost = kafka.lost_address();
    for (case, _, run) in runs {
        let mut words = vec!["nothing was delivered for 30 s"];
        words.extend(case.words.iter().map(String::as_str));
        let names = [
            (case.brokers.as_str(), "127.0.0.1:9093"),
            (&lost, "kafka.internal:9092"),
            (&away, "127.0.0.1:8080"),
        ];
        // The name that has no address is on the page as it is.
        let names = &names[usize::from(case.brokers.starts_with("no-such"))..];
        assert_refused(&ended(run), 69, &words).is_listed(case.title, names);
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
