//! The cluster and its topics.

use super::checks;

checks! { Kafka, KAFKA_CHECKS;
    KAFKA_SETTINGS = "WP-KAFKA-SETTINGS", Error, "No Kafka client can be made",
    looks_at: "`kafka.properties` as librdkafka reads them.",
    why: "A file of a certificate is missing, or values do not fit together.",
    fix: "correct `kafka.properties`: the error names what is wrong.";

    KAFKA_UNREACHABLE = "WP-KAFKA-UNREACHABLE", Error, "Kafka can't be reached",
    looks_at: "an answer of any broker within 5 s.",
    why: "Nothing listens there, TLS or SASL is expected and not configured, or the brokers \
        advertise addresses that can't be reached from here. `check` ends with 69.",
    fix: "correct `kafka.brokers`, and `security.protocol` under `kafka.properties`.";

    KAFKA_CREDENTIALS = "WP-KAFKA-CREDENTIALS", Error, "Kafka refuses the credentials",
    looks_at: "the answer to SASL authentication.",
    why: "User, password or mechanism are not what the cluster expects. `check` ends with 77.",
    fix: "correct `sasl.username`, `sasl.password` and `sasl.mechanism` under `kafka.properties`.";

    KAFKA_CLUSTER = "WP-KAFKA-CLUSTER", Error, "Kafka is another cluster than before",
    looks_at: "`cluster.id` against the one in the checkpoint row.",
    why: "What was delivered so far is in the other cluster, and is not sent again: consumers of \
        this one would miss it. `run` ends with 79 before the first record.",
    fix: "correct `kafka.brokers`; or, where the events are to go on in this cluster, start once \
        with `walpost run --accept-kafka-cluster ID`.";

    KAFKA_TOPIC = "WP-KAFKA-TOPIC", Error, "The topic does not exist",
    looks_at: "metadata of every topic that the configuration names: a `route.topic` without \
        columns, and the names in `route.allow`.",
    why: "walpost does not make topics by accident. An event for a topic that does not exist stops \
        the line.",
    fix: "create it: `kafka-topics.sh --create --topic NAME --partitions 6`, or correct the name.";

    KAFKA_TOPIC_NAME = "WP-KAFKA-TOPIC-NAME", Error, "Kafka allows no topic of that name",
    looks_at: "every topic that the configuration names: 1 to 249 letters, digits, `.`, `_` and \
        `-`.",
    why: "No event could ever be delivered to it.",
    fix: "correct `route.topic` or `route.allow`.";

    KAFKA_TOPIC_RIGHT = "WP-KAFKA-TOPIC-RIGHT", Error, "A right to the topic is missing",
    looks_at: "the cluster's answer to a question about the topic, and what it says of our rights \
        (DESCRIBE and WRITE). Brokers before Kafka 2.3 do not say that: then only a record shows \
        whether WRITE is granted, and `check` says that it did not look.",
    why: "Without DESCRIBE the topic is as good as missing; without WRITE every record is refused.",
    fix: "`kafka-acls.sh --add --allow-principal User:walpost --operation Describe --operation \
        Write --topic NAME`.";

    KAFKA_TOPIC_CREATE = "WP-KAFKA-TOPIC-CREATE", Error, "The topic can't be created",
    looks_at: "whether the cluster would create the missing topics that the configuration names, \
        with `kafka.topics.create`. It is asked, and nothing is created.",
    why: "There is no right to create it, or the cluster can't carry out the plan: fewer brokers \
        than replicas, a property that it does not know, a policy. `run` stops at the first event \
        for the topic.",
    fix: "correct `kafka.topics.create` as the cluster says, grant CREATE (`kafka-acls.sh --add \
        --allow-principal User:walpost --operation Create --topic NAME`), or create it yourself.";

    KAFKA_TOPIC_UNKNOWN = "WP-KAFKA-TOPIC-UNKNOWN", Warning, "The topic could not be looked at",
    looks_at: "the cluster's answer to a question about the topic.",
    why: "Nobody answered in time, or not yet: the topic may have been made a moment ago, or the \
        cluster has no controller at the moment.",
    fix: "run `walpost check` again. If it stays, look at the brokers.";

    KAFKA_LEADER = "WP-KAFKA-LEADER", Warning, "A partition has no leader",
    looks_at: "the leaders of the topic's partitions.",
    why: "Nobody takes records for it. The first event for it stops the line until there is one.",
    fix: "bring the broker back that is away.";

    KAFKA_REPLICAS = "WP-KAFKA-REPLICAS", Warning, "The topic is not replicated enough",
    looks_at: "replicas of the topic's partitions, in a cluster of several brokers, against its \
        min.insync.replicas.",
    why: "With one replica, events are lost with one disk. With fewer replicas than \
        min.insync.replicas, brokers refuse every record of a producer that waits for all of them, \
        as walpost does (newer ones lower the bar without a word). With fewer in sync than that, \
        the line stands still until they are back.",
    fix: "give the topic three replicas (`kafka-reassign-partitions.sh`) and \
        min.insync.replicas=2; bring the broker back that is away.";

    KAFKA_MIN_ISR = "WP-KAFKA-MIN-ISR", Warning, "One copy is enough for an acknowledgement",
    looks_at: "min.insync.replicas of a topic with several replicas.",
    why: "With min.insync.replicas=1 a record counts as delivered when only the leader has it. If \
        the others lag at that moment and the leader dies, the event is gone, although it was \
        acknowledged.",
    fix: "`kafka-configs.sh --alter --entity-type topics --entity-name NAME --add-config \
        min.insync.replicas=2`.";

    KAFKA_UNCLEAN = "WP-KAFKA-UNCLEAN", Warning, "An outdated replica may become leader",
    looks_at: "unclean.leader.election.enable of the topic.",
    why: "When no replica in sync is left, one that lags takes over, and acknowledged events are \
        gone.",
    fix: "`kafka-configs.sh --alter --entity-type topics --entity-name NAME --add-config \
        unclean.leader.election.enable=false`.";

    KAFKA_MAX_BYTES = "WP-KAFKA-MAX-BYTES", Warning, "Payloads are larger than the topic takes",
    looks_at: "the largest payload among some hundred rows of the table, where this role may read \
        it, against max.message.bytes of the topics.",
    why: "The broker refuses a record that is larger, and the relay stops at it. Compression may \
        save it, or not.",
    fix: "`kafka-configs.sh --alter --entity-type topics --entity-name NAME --add-config \
        max.message.bytes=…`, and replica.fetch.max.bytes of the brokers with it.";

    COMPACT = "WP-COMPACT", Warning, "The topic is compacted, and the key does not fit that",
    looks_at: "cleanup.policy of the topics against `route.key`.",
    why: "Compaction keeps the last record of each key. With the event's id as key nothing is ever \
        removed: without `delete` in the policy the topic grows for ever. With another key (the \
        aggregate) all but its last event are removed, which is right for states and wrong for a \
        history.",
    fix: "`kafka-configs.sh --alter --entity-type topics --entity-name NAME --add-config \
        cleanup.policy=delete`, or choose `route.key` so that the last record is all that matters.";
}
