//! Which Kafka cluster takes the records: what is reported is believed only where that is known.

use std::thread;
use std::time::Duration;

use tracing::warn;
use walpost_core::cluster::{Belief, Cluster, OtherCluster, Said};
use walpost_kafka::Delivery;

use super::{Answer, Session, SessionError};

/// How long a broker may take to say what cluster it belongs to.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the next question where the last one failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a report counts, that came from a producer whose connections have been made anew
/// `breaks` times by now. One of a record that was not taken always does.
pub(super) fn judge(cluster: &mut Cluster, delivery: &Delivery, breaks: u64) -> Belief {
    match delivery.result {
        Ok(_) => cluster.judge(&delivery.breaks, breaks),
        Err(_) => Belief::Believed,
    }
}

impl Session<'_> {
    /// Takes the reports that may be believed, in their order. The others stay.
    pub(super) fn take_believed(&mut self) -> Result<Vec<Delivery>, SessionError> {
        let breaks = self.producer.breaks();
        let mut count = 0;
        for delivery in &self.deliveries {
            match judge(&mut self.context.kafka.cluster, delivery, breaks) {
                Belief::Believed => count += 1,
                Belief::Wait => break,
                Belief::Ask => {
                    self.ask_for_cluster();
                    break;
                }
                Belief::Doubt => return Err(SessionError::UnknownCluster),
            }
        }
        let mut believed = std::mem::take(&mut self.deliveries);
        self.deliveries = believed.split_off(count);
        Ok(believed)
    }

    fn ask_for_cluster(&self) {
        let topic = self.relay.a_topic().cloned();
        let metadata = self.producer.metadata();
        let question = self.context.kafka.cluster.question();
        let asker = self.asker.clone();
        self.context.side.spawn_blocking(move || {
            let answer = topic.map(|topic| metadata.cluster_id_now(topic.as_str(), TIMEOUT));
            let said = match answer {
                Some(Ok(Some(id))) => Said::Id(id),
                Some(Ok(None)) => Said::NoId,
                Some(Err(_)) | None => Said::Nothing,
            };
            if said == Said::Nothing {
                thread::sleep(PAUSE);
            }
            // The session may be over: then nobody wants the answer.
            let _ = asker.send(Answer::Cluster { question, said });
        });
    }

    /// The answer of a broker that was asked after a break.
    pub(super) fn take_proof(&mut self, question: u64, said: &Said) -> Result<(), SessionError> {
        let accepted = self.context.accepted.kafka_cluster.as_deref();
        let cluster = &mut self.context.kafka.cluster;
        let before = cluster.answered(question, said, accepted);
        log_other(before, cluster.id())
    }

    /// The cluster has to be the one that has the events before.
    pub(super) fn see_cluster(&mut self, seen: Option<&str>) -> Result<(), SessionError> {
        let Some(id) = seen else { return Ok(()) };
        let accepted = self.context.accepted.kafka_cluster.as_deref();
        let before = self.context.kafka.cluster.see(id, accepted);
        log_other(before, seen)
    }
}

fn log_other(
    before: Result<Option<String>, OtherCluster>,
    seen: Option<&str>,
) -> Result<(), SessionError> {
    if let Some(recorded) = before? {
        warn!(
            recorded,
            seen, "accepted: the events go to another Kafka cluster"
        );
    }
    Ok(())
}
