//! Every compression that librdkafka knows, on a real broker.

use crate::stage::{Stage, each};

#[test]
fn records_arrive_under_every_compression() {
    let payload = "7".repeat(4_000);
    each(&["none", "gzip", "snappy", "lz4", "zstd"], |codec| {
        let stage = Stage::new(codec);
        stage.configure(&stage.kafka.brokers(), &[("compression.type", codec)], "");
        // The broker keeps batches as they come: another codec there would hide ours.
        let kept = [("compression.type", "producer")];
        let topic = stage.kafka.topic_with(codec, 1, &kept);
        stage.write(&topic, &payload);
        let finished = stage.run_once();
        assert_eq!(finished.code, 0, "{codec}: {}", finished.stderr);
        let records = stage.read(&topic);
        assert_eq!(records.len(), 1, "{codec}");
        assert_eq!(
            records[0].value.as_deref(),
            Some(payload.as_bytes()),
            "{codec}"
        );
    });
}
