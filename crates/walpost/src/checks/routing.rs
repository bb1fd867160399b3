//! Topic, key and placement, as the configuration and the table give them.

use super::checks;

checks! { Routing, ROUTING_CHECKS;
    ROUTE_OPEN = "WP-ROUTE-OPEN", Warning, "A row can name any topic",
    looks_at: "`route.topic` and `route.allow`: the topic is a column alone, and no list limits \
        it.",
    why: "Whoever can insert a row can write to every topic that the relay may write to, and a \
        misspelt name stops the line.",
    fix: "list the topics in `route.allow`, by name or as `/regular expression/`; or give \
        `route.topic` a literal beginning, as `events.${destination}`.";

    ROUTE_NULL = "WP-ROUTE-NULL", Warning, "The topic may be NULL",
    looks_at: "`attnotnull` of the columns in `route.topic`.",
    why: "An event whose topic has a NULL in it can't be delivered: the relay stops at it.",
    fix: "`alter table public.outbox alter destination set not null`.";

    KEY_NULL = "WP-KEY-NULL", Warning, "The key or the placement may be NULL",
    looks_at: "`attnotnull` of the columns in `route.key`, and of those in `route.partition_by` \
        where it is configured.",
    why: "A record whose key has a NULL in it has no key at all: a compacted topic refuses it, and \
        consumers that group by key lose it. Without a placement the key places the record, so \
        that some events of one group are elsewhere than the others.",
    fix: "`alter table public.outbox alter aggregate_id set not null`, or use a column that is \
        never NULL.";

    KEY_PLACEMENT = "WP-KEY-PLACEMENT", Warning, "One key can be in several partitions",
    looks_at: "`route.key` and `route.partition_by`: the key is not the event's id, and the \
        placement uses a column that the key does not hold.",
    why: "Records of one key are then not always in one partition. Their order is lost, and \
        compaction works by partition: an old record of the key survives elsewhere.",
    fix: "set `route.partition_by: key`, or use in it only columns that are in the key.";

    KEY_ORDER = "WP-KEY-ORDER", Warning, "Events of one aggregate are spread over all partitions",
    looks_at: "whether the table has the mapped column `aggregate_id`, where the key is the \
        event's id and `route.partition_by` is not configured.",
    why: "Without the column the event's id places the record. Every event has another one, so two \
        events of one aggregate may be read in any order.",
    fix: "map the column that names the aggregate (`outbox.columns.aggregate_id`), or set \
        `route.partition_by`. If order does not matter, `route.partition_by: key` says so.";
}
