//! What an error means: go on trying, or stop and with which exit code. The only place that decides
//! it.

/// Exit codes of the process, after sysexits: they tell a supervisor whether a restart can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An event can't be delivered.
    Undeliverable,
    /// A server can't be reached.
    Unavailable,
    /// A bug that was detected.
    Internal,
    /// Credentials or a right were refused.
    Permission,
    /// Configuration, or a set-up that is missing or wrong.
    Configuration,
    /// Starting would lose or repeat events.
    Gap,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Undeliverable => 65,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Permission => 77,
            Self::Configuration => 78,
            Self::Gap => 79,
        }
    }
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reconnect with backoff. `alarm`: an operator should hear of it if it lasts.
    Transient {
        /// Whether it is more than a passing state.
        alarm: bool,
    },
    /// Credentials were refused, or files that hold them can't be used: stops with this code at the
    /// first start, is retried for a while later (rotation).
    Credentials(Exit),
    /// Stop: trying again can't help.
    Definite(Exit),
}

/// The class of an error that Postgres reported, by its SQLSTATE.
///
/// Codes: PostgreSQL manual, appendix "PostgreSQL Error Codes".
pub fn sqlstate(code: &str) -> Class {
    const QUIET: Class = Class::Transient { alarm: false };
    const ALARM: Class = Class::Transient { alarm: true };
    match code {
        // Starting up, too many connections, slot active elsewhere, serialization.
        "57P03" | "53300" | "55006" | "40001" => QUIET,
        "28P01" | "28000" => Class::Credentials(Exit::Permission),
        "42501" => Class::Definite(Exit::Permission),
        // Database, slot or publication missing; a parameter that this server has not got.
        "3D000" | "42704" | "42601" | "22023" => Class::Definite(Exit::Configuration),
        // The slot was invalidated, or its WAL is gone.
        "55000" | "58P01" => Class::Definite(Exit::Gap),
        // Connection exceptions.
        other if other.starts_with("08") => QUIET,
        // Shut down, terminated (or the slot was invalidated: the next start gate looks at it),
        // disk or memory full, a read-only node; and whatever is not known.
        _ => ALARM,
    }
}

/// What a rejected record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaClass {
    /// The event is at fault: the policy for undeliverable events decides.
    Event,
    /// The cluster is at fault: the line stands, retried with backoff.
    Cluster,
    /// The producer's state: a new one, and everything since the confirmed LSN again.
    Rebuild,
    /// Trying again can't help.
    Stop,
}

/// The class of a delivery report's code: negative ones are librdkafka's own
/// (`rd_kafka_resp_err_t`), positive ones Kafka's (protocol guide, "Error Codes"). A code that is
/// not known rebuilds: nothing is ever passed over because of it.
pub fn kafka(code: i32) -> KafkaClass {
    match code {
        // MSG_SIZE_TOO_LARGE, INVALID_TOPIC, RECORD_LIST_TOO_LARGE, POLICY_VIOLATION,
        // INVALID_RECORD.
        10 | 17 | 18 | 44 | 87 => KafkaClass::Event,
        // UNKNOWN_TOPIC_OR_PART, LEADER_NOT_AVAILABLE, NOT_LEADER, REQUEST_TIMED_OUT,
        // NOT_ENOUGH_REPLICAS (also after append), TOPIC and CLUSTER_AUTHORIZATION_FAILED,
        // KAFKA_STORAGE_ERROR. INVALID_TIMESTAMP: the time is this machine's, not the event's.
        3 | 5 | 6 | 7 | 19 | 20 | 29 | 31 | 32 | 56 => KafkaClass::Cluster,
        // librdkafka: unknown topic, unknown partition, all brokers down, authentication.
        -188 | -190 | -187 | -169 => KafkaClass::Cluster,
        // UNSUPPORTED_VERSION, UNSUPPORTED_FOR_MESSAGE_FORMAT.
        35 | 43 => KafkaClass::Stop,
        _ => KafkaClass::Rebuild,
    }
}

/// Whether a record, or its batch, is larger than somebody takes it: MSG_SIZE_TOO_LARGE,
/// RECORD_LIST_TOO_LARGE.
pub fn is_too_large(code: i32) -> bool {
    matches!(code, 10 | 18)
}

/// Whether Kafka contradicted a topic's partition count.
pub fn contradicts_partition_count(code: i32) -> bool {
    matches!(code, 3 | -188 | -190)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_use_and_a_starting_server_are_waited_for_quietly() {
        for code in [
            "55006", "57P03", "53300", "40001", "08000", "08006", "08P01",
        ] {
            assert_eq!(sqlstate(code), Class::Transient { alarm: false }, "{code}");
        }
    }

    #[test]
    fn a_server_that_stops_or_is_full_and_an_unknown_code_are_waited_for_with_an_alarm() {
        for code in [
            "57P01", "57P02", "53100", "53200", "25006", "ZZ999", "", "0", "1",
        ] {
            assert_eq!(sqlstate(code), Class::Transient { alarm: true }, "{code}");
        }
    }

    #[test]
    fn what_trying_again_can_not_help_stops_with_the_code_of_its_cause() {
        for (codes, exit) in [
            (
                &["3D000", "42704", "42601", "22023"][..],
                Exit::Configuration,
            ),
            (&["42501"], Exit::Permission),
            (&["55000", "58P01"], Exit::Gap),
        ] {
            for code in codes {
                assert_eq!(sqlstate(code), Class::Definite(exit), "{code}");
            }
        }
        for code in ["28P01", "28000"] {
            let refused = Class::Credentials(Exit::Permission);
            assert_eq!(sqlstate(code), refused, "{code}");
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let codes = [
            Exit::Undeliverable,
            Exit::Unavailable,
            Exit::Internal,
            Exit::Permission,
            Exit::Configuration,
            Exit::Gap,
        ];
        assert_eq!(codes.map(Exit::code), [65, 69, 70, 77, 78, 79]);
    }

    /// All codes that Kafka or librdkafka could report, of one kind.
    fn codes(is_one: impl Fn(i32) -> bool) -> Vec<i32> {
        (-250..150).filter(|code| is_one(*code)).collect()
    }

    #[test]
    fn a_record_is_given_up_only_by_codes_that_blame_the_record() {
        let blaming = codes(|code| kafka(code) == KafkaClass::Event);
        assert_eq!(blaming, [10, 17, 18, 44, 87]);
    }

    #[test]
    fn only_a_broker_that_is_too_old_stops_the_relay_for_good() {
        assert_eq!(codes(|code| kafka(code) == KafkaClass::Stop), [35, 43]);
    }

    #[test]
    fn a_cluster_at_fault_is_told_from_a_producer_at_fault() {
        let cluster = [-190, -188, -187, -169, 3, 5, 6, 7, 19, 20, 29, 31, 32, 56];
        assert_eq!(codes(|code| kafka(code) == KafkaClass::Cluster), cluster);
        for code in [-152, -150, 45, 46, 47, 9_999] {
            assert_eq!(kafka(code), KafkaClass::Rebuild, "{code}");
        }
    }

    #[test]
    fn a_count_is_doubted_when_a_topic_or_a_partition_is_not_there() {
        assert_eq!(codes(contradicts_partition_count), [-190, -188, 3]);
    }
}
