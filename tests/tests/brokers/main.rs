//! Every way to connect to Kafka, and what goes wrong on it, with real brokers.
