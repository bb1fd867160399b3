//! A record as a consumer sees it.

use postgres::types::PgLsn;
use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};
use uuid::Uuid;

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, by the producer or the broker as the topic is set.
    pub timestamp: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in the order of the record; names can repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The value of the first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The key as text.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The outbox event that it carries: the header `id`, else the key.
    pub fn event_id(&self) -> Option<Uuid> {
        self.header("id").or_else(|| self.key_text())?.parse().ok()
    }

    /// The LSN of its event's commit record: the first half of the header `walpost-position`.
    ///
    /// # Panics
    ///
    /// When it has no such header: every record of the relay has one.
    #[track_caller]
    pub fn commit_lsn(&self) -> PgLsn {
        let position = self.header("walpost-position").expect("a position");
        let (lsn, _) = position.split_once('/').expect("an LSN and an ordinal");
        let lsn = u64::from_str_radix(lsn, 16).expect("sixteen hex digits");
        lsn.into()
    }

    /// The value as JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.value.as_deref()?).ok()
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        format!("{}-{} offset {}", self.topic, self.partition, self.offset)
    }
}

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            let owned = |value: &[u8]| value.to_owned();
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(owned)))
                .collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_owned),
            value: message.payload().map(<[u8]>::to_owned),
            headers: headers.unwrap_or_default(),
        }
    }
}
