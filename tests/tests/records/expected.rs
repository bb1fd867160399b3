//! What is expected of records, and the comparison.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;
use walpost_tests::Record;
use walpost_witness::partition;

/// What a row has to become.
pub(crate) struct Expected {
    pub(crate) id: Uuid,
    pub(crate) key: Option<Vec<u8>>,
    /// The bytes that choose the partition.
    pub(crate) placed_by: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    /// Without walpost's own two.
    pub(crate) headers: Vec<(String, String)>,
}

/// The records of a topic by event, each of which arrived once.
pub(crate) struct Arrived<'a> {
    by_event: HashMap<Uuid, &'a Record>,
    partitions: u32,
}

impl<'a> Arrived<'a> {
    #[track_caller]
    pub(crate) fn new(records: &'a [Record], partitions: u32) -> Self {
        let mut by_event = HashMap::new();
        for record in records {
            let id = record.event_id().expect("every record names its event");
            assert!(by_event.insert(id, record).is_none(), "{id} arrived twice");
        }
        Self {
            by_event,
            partitions,
        }
    }

    /// Compares with what one session committed, in the order of its commits, and takes it out.
    #[track_caller]
    pub(crate) fn take_all(&mut self, expected: impl IntoIterator<Item = Expected>) -> usize {
        let mut count = 0;
        let mut last_offsets: BTreeMap<i32, i64> = BTreeMap::new();
        for row in expected {
            let record = self.take(&row);
            let last = last_offsets.insert(record.partition, record.offset);
            assert!(
                last.is_none_or(|last| last < record.offset),
                "{} overtook what was committed before it",
                row.id
            );
            count += 1;
        }
        count
    }

    #[track_caller]
    fn take(&mut self, row: &Expected) -> &'a Record {
        let id = row.id;
        let record = self.by_event.remove(&id);
        let record = record.unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(record.key, row.key, "key of {id}");
        let (is, should) = (&record.value, &row.value);
        let length = |value: &Option<Vec<u8>>| value.as_ref().map(Vec::len);
        // Not with assert_eq: a payload has up to 900 kB.
        assert!(
            is == should,
            "value of {id}: {:?} bytes instead of {:?}",
            length(is),
            length(should)
        );
        let place = partition(&row.placed_by, self.partitions);
        assert_eq!(record.partition, place, "partition of {id}");
        let (own, stamps) = record
            .headers
            .split_at(record.headers.len().saturating_sub(2));
        let names: Vec<_> = stamps.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["walpost-position", "walpost-commit-time"],
            "last headers of {id}"
        );
        let should: Vec<_> = row
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), Some(value.clone().into_bytes())))
            .collect();
        assert_eq!(own, should, "headers of {id}");
        record
    }

    /// Nothing arrived that was not expected.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        let left: Vec<_> = self.by_event.keys().take(5).collect();
        assert!(
            left.is_empty(),
            "{} records too many: {left:?}",
            self.by_event.len()
        );
    }
}

/// Positions and commit times have their form, positions grow along each partition, and those of
/// one transaction number its events from 0 without a gap. The records are all of a slot.
#[track_caller]
pub(crate) fn assert_stamps(records: &[Record]) {
    let mut ordinals: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let mut commit_times: BTreeMap<&str, &str> = BTreeMap::new();
    let mut last: BTreeMap<i32, (i64, &str)> = BTreeMap::new();
    for record in records {
        let text = record
            .header("walpost-position")
            .expect("every record has a position");
        let (lsn, ordinal) = text.split_once('/').expect("a slash in the position");
        for (digits, count) in [(lsn, 16), (ordinal, 8)] {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
            assert!(
                digits.len() == count && digits.bytes().all(is_digit),
                "{text}"
            );
        }
        let ordinal = u32::from_str_radix(ordinal, 16).expect("eight hex digits");
        ordinals.entry(lsn).or_default().push(ordinal);

        let before = last.insert(record.partition, (record.offset, text));
        if let Some((offset, before)) = before {
            assert!(offset < record.offset, "records are read in order");
            assert!(before < text, "{before} is followed by {text}");
        }
        let time = record
            .header("walpost-commit-time")
            .expect("every record has a time");
        assert!(is_rfc3339_with_microseconds(time), "{time}");
        let same = commit_times.entry(lsn).or_insert(time);
        assert_eq!(*same, time, "one transaction commits once");
    }
    for (lsn, mut ordinals) in ordinals {
        ordinals.sort_unstable();
        let expected: Vec<u32> = (0..).take(ordinals.len()).collect();
        assert_eq!(ordinals, expected, "ordinals of the transaction at {lsn}");
    }
}

/// `2026-01-31T23:59:59.000001Z`
pub(crate) fn is_rfc3339_with_microseconds(text: &str) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
    text.len() == form.len()
        && text.bytes().zip(form).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}
