//! What the columns of the row mean.

use walpost_core::start::{Checkpoint, Identity};

/// The columns `system_identifier`, `timeline`, `lsn`, `kafka_cluster_id` and `config`; none where
/// one of them is not what we write.
pub(crate) fn parse(columns: [Option<&str>; 5]) -> Option<Checkpoint> {
    let [system_identifier, timeline, lsn, kafka_cluster, config] = columns;
    Some(Checkpoint {
        identity: Identity {
            system_identifier: system_identifier?.parse().ok()?,
            timeline: timeline?.parse().ok()?,
        },
        lsn: lsn?.parse().ok()?,
        kafka_cluster: kafka_cluster.map(str::to_owned),
        config: serde_json::from_str(config?).ok()?,
    })
}
