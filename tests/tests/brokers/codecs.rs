//! Every compression that librdkafka knows, on a real broker.

use crate::stage::Stage;

#[test]
fn records_arrive_under_every_compression() {
    let stage = Stage::new("codecs");
    let payload = "7".repeat(4_000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        stage.configure(&stage.kafka.brokers(), &[("compression.type", codec)], "");
        // The broker keeps batches as they come: another codec there would hide ours.
        let topic = stage
            .kafka
            .topic_with(codec, 1, &[("compression.type", "producer")]);
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
    }
}
