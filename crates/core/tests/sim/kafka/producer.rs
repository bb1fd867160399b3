//! The producer of one session: what it has in flight, what a broker makes of it, and what it
//! reports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use fastrand::Rng;
use walpost_core::judge::Sizes;
use walpost_core::{Delivery, Record, Rejection, Ticket};

use super::{
    ANOTHER_IS_INVALID, Cluster, INVALID, Late, TOO_LARGE, UNKNOWN_PARTITION, UNKNOWN_TOPIC, number,
};
use crate::history::{History, Sender, content};
use crate::plan::{BULKY_BYTES, Plan, RECORD_BYTES, pick};

/// Faults of the cluster or of the producer: leader not available, request timed out, not enough
/// replicas, authorization failed, all brokers down, fatal, something nobody knows.
const NOT_THE_EVENT: [i32; 7] = [5, 7, 19, 29, -187, -150, 9_999];
const PURGED: i32 = -152;
/// Records of this producer are missing before the batch.
const OUT_OF_SEQUENCE: i32 = 45;

type Place = (usize, i32);

/// One idempotent producer without gaps: a record that fails takes everything behind it along.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    session: u64,
    process: u64,
    /// Its limits for records and batches.
    pub(crate) sizes: Sizes,
    /// How often connections to the cluster had broken when it was made.
    made_at: u64,
    queues: BTreeMap<Place, VecDeque<Flight>>,
    reports: BTreeMap<Place, VecDeque<Report>>,
    /// What another cluster took, and the partitions of this one that have records of it.
    strayed: BTreeMap<Place, Vec<Record>>,
    begun: BTreeSet<Place>,
    /// Records that have arrived and have no report yet.
    arrived: BTreeMap<Place, VecDeque<Flight>>,
    epoch: u32,
    /// Partitions with a gap: nothing more is appended to them.
    broken: BTreeSet<Place>,
    /// Records that have no report yet.
    pub(crate) unreported: usize,
    pub(crate) unreported_bytes: usize,
    unreported_sizes: BTreeMap<Ticket, usize>,
}

/// What a producer says of a record.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) delivery: Delivery,
    /// How often its connections had broken when the broker said it.
    breaks: u64,
    /// The same when the owner heard of it: a break overtakes the reports before it.
    heard: u64,
}

impl Report {
    fn new(delivery: Delivery, breaks: u64) -> Self {
        Self {
            delivery,
            breaks,
            heard: breaks,
        }
    }

    /// How often connections had broken, as far as the owner knows.
    pub(crate) fn breaks(&self) -> RangeInclusive<u64> {
        self.breaks..=self.heard
    }
}

#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) record: Record,
    /// The count that it was placed by.
    pub(super) count: u32,
    /// What it counts for where sizes are compared.
    bytes: usize,
}

/// What these records are together.
pub(super) fn bytes(batch: &[Flight]) -> usize {
    batch.iter().map(|flight| flight.bytes).sum()
}

/// What a record counts for where sizes are compared.
pub(crate) fn record_bytes(record: &Record, history: &History) -> usize {
    if content::cause(record).is_none() && history.find(record).is_bulky {
        BULKY_BYTES
    } else {
        RECORD_BYTES
    }
}

impl Producer {
    /// The producer of a session of a process.
    pub(crate) fn new(session: u64, process: u64, sizes: Sizes, cluster: &Cluster) -> Self {
        Self {
            session,
            process,
            sizes,
            made_at: cluster.breaks,
            queues: BTreeMap::new(),
            reports: BTreeMap::new(),
            strayed: BTreeMap::new(),
            begun: BTreeSet::new(),
            arrived: BTreeMap::new(),
            epoch: 0,
            broken: BTreeSet::new(),
            unreported: 0,
            unreported_bytes: 0,
            unreported_sizes: BTreeMap::new(),
        }
    }

    /// The same producer in the next session: its connections stay.
    pub(crate) fn keep(&mut self, before: &Self) {
        self.made_at = before.made_at;
    }

    /// Whether nothing was refused and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.unreported == 0 && self.broken.is_empty()
    }

    /// How often its connections have broken.
    pub(crate) fn breaks(&self, cluster: &Cluster) -> u64 {
        cluster.breaks - self.made_at
    }

    /// Whether it takes another record now.
    pub(crate) fn has_room(&self, plan: &Plan) -> bool {
        self.unreported < plan.queue
    }

    pub(crate) fn send(&mut self, record: Record, count: u32, bytes: usize, cluster: &Cluster) {
        assert!(bytes <= self.sizes.record, "the producer refuses it");
        let size = size(&record);
        self.unreported += 1;
        self.unreported_bytes += size;
        self.unreported_sizes.insert(record.ticket, size);
        let place = (number(record.topic()), record.partition);
        let flight = Flight {
            record,
            count,
            bytes,
        };
        if self.broken.contains(&place) {
            let breaks = self.breaks(cluster);
            self.reject(place, VecDeque::from([flight]), &[], breaks);
        } else {
            self.queues.entry(place).or_default().push_back(flight);
        }
    }

    pub(crate) fn can_append(&self, cluster: &Cluster) -> bool {
        cluster.up && !self.queues.is_empty()
    }

    pub(crate) fn can_report(&self, cluster: &Cluster) -> bool {
        cluster.up && !self.reports.is_empty()
    }

    /// A broker takes a batch of one partition. Says what happened to it.
    pub(crate) fn append(
        &mut self,
        cluster: &mut Cluster,
        history: &mut History,
        rng: &mut Rng,
        now: u64,
    ) -> Option<&'static str> {
        let places: Vec<Place> = self.queues.keys().copied().collect();
        let place = pick(rng, &places);
        let mut queue = self.queues.remove(&place)?;
        let size = rng.usize(1..=self.largest_batch(&queue));
        let breaks = self.breaks(cluster);
        if cluster.is_elsewhere() {
            self.append_elsewhere(place, queue, size, breaks);
            return Some("another cluster took records");
        }
        if self.is_out_of_sequence(place, history) {
            self.reject(place, queue, &vec![OUT_OF_SEQUENCE; size], breaks);
            return Some("a batch is rejected: out of sequence");
        }
        let batch = &queue.make_contiguous()[..size];
        let objections = cluster.objections(batch, history, now);
        let refusal = cluster.refusal(&queue[0], now);
        let codes = if objections.is_some() {
            objections
        } else if std::mem::take(&mut cluster.rejects) {
            Some(vec![pick(rng, &NOT_THE_EVENT); size])
        } else {
            refusal.map(|code| vec![code; size])
        };
        if let Some(codes) = codes {
            self.reject(place, queue, &codes, breaks);
            return Some(match codes[0] {
                TOO_LARGE => "a batch is rejected for its size",
                INVALID | ANOTHER_IS_INVALID => "a batch is rejected for a record in it",
                UNKNOWN_TOPIC => "a batch is rejected: no such topic",
                UNKNOWN_PARTITION => "a batch is rejected: no such partition",
                _ => "a batch is rejected",
            });
        }
        let batch: Vec<Flight> = queue.drain(..size).collect();
        if !queue.is_empty() {
            self.queues.insert(place, queue);
        }
        self.begun.insert(place);
        for flight in batch {
            cluster.append(&flight, self.sender(), history);
            let report = taken(&flight, breaks);
            self.reports.entry(place).or_default().push_back(report);
            self.arrived.entry(place).or_default().push_back(flight);
        }
        None
    }

    /// A broker of another cluster takes a batch.
    fn append_elsewhere(
        &mut self,
        place: Place,
        mut queue: VecDeque<Flight>,
        size: usize,
        breaks: u64,
    ) {
        for flight in queue.drain(..size) {
            let strayed = self.strayed.entry(place).or_default();
            strayed.push(flight.record.clone());
            let report = taken(&flight, breaks);
            self.reports.entry(place).or_default().push_back(report);
            self.arrived.entry(place).or_default().push_back(flight);
        }
        if !queue.is_empty() {
            self.queues.insert(place, queue);
        }
    }

    /// Whether a broker finds that the records before are missing. It can't, and takes what comes,
    /// where it has never had one: what is missing comes behind that.
    fn is_out_of_sequence(&mut self, place: Place, history: &mut History) -> bool {
        if self.begun.contains(&place) {
            return self.strayed.contains_key(&place);
        }
        for record in self.strayed.remove(&place).into_iter().flatten() {
            history.stray(&record);
        }
        false
    }

    /// The producer's state was lost with an error: a new epoch begins, in which all is sent again
    /// that has no report. Says whether something of it has arrived before.
    pub(crate) fn bump_epoch(&mut self) -> bool {
        self.epoch += 1;
        let arrived = std::mem::take(&mut self.arrived);
        let is_any = !arrived.is_empty();
        for (place, mut flights) in arrived {
            if self.broken.contains(&place) {
                self.arrived.insert(place, flights);
                continue;
            }
            self.reports.remove(&place);
            flights.extend(self.queues.remove(&place).unwrap_or_default());
            self.queues.insert(place, flights);
        }
        is_any
    }

    /// How many of these fit into one batch. The first one always does.
    fn largest_batch(&self, queue: &VecDeque<Flight>) -> usize {
        let mut bytes = 0;
        let fits = |flight: &&Flight| {
            bytes += flight.bytes;
            bytes <= self.sizes.batch
        };
        queue.iter().take_while(fits).count().max(1)
    }

    fn sender(&self) -> Sender {
        Sender {
            session: self.session,
            process: self.process,
            epoch: self.epoch,
            is_late: false,
            may_shorten: false,
        }
    }

    /// What stands behind the records that these codes are for is taken along.
    fn reject(&mut self, place: Place, queue: VecDeque<Flight>, codes: &[i32], breaks: u64) {
        self.broken.insert(place);
        let reports = self.reports.entry(place).or_default();
        for (index, flight) in queue.into_iter().enumerate() {
            let code = codes.get(index).copied().unwrap_or(PURGED);
            let delivery = Delivery {
                ticket: flight.record.ticket,
                result: Err(rejection(code)),
            };
            reports.push_back(Report::new(delivery, breaks));
        }
    }

    /// The oldest reports of some partition reach the relay. What came before connections broke is
    /// there before what came after it.
    pub(crate) fn report(&mut self, rng: &mut Rng, cluster: &Cluster) -> Vec<Report> {
        let heard = self.breaks(cluster);
        let oldest = |queue: &VecDeque<Report>| queue.front().map(|report| report.breaks);
        let first = self.reports.values().filter_map(oldest).min();
        let reports = self.reports.iter();
        let places = reports.filter(|(_, queue)| oldest(queue) == first);
        let places: Vec<Place> = places.map(|(place, _)| *place).collect();
        let place = pick(rng, &places);
        let queue = self.reports.get_mut(&place).expect("it was listed");
        let is_first = |report: &&Report| Some(report.breaks) == first;
        let count = queue.iter().take_while(is_first).count();
        let count = rng.usize(1..=count);
        let mut reports: Vec<Report> = queue.drain(..count).collect();
        if queue.is_empty() {
            self.reports.remove(&place);
        }
        let arrived = self.arrived.entry(place).or_default();
        arrived.drain(..count.min(arrived.len()));
        if arrived.is_empty() {
            self.arrived.remove(&place);
        }
        for report in &mut reports {
            report.heard = heard;
            let size = self.unreported_sizes.remove(&report.delivery.ticket);
            let size = size.expect("one report each");
            self.unreported -= 1;
            self.unreported_bytes -= size;
        }
        reports
    }

    /// The producer ends. Requests that had left may have been carried out: of each partition some
    /// first part of what was in flight. More of them may be carried out later, if so. Returns the
    /// last reports: what is in Kafka without one counts as not taken, like all the rest.
    pub(crate) fn purge(
        &mut self,
        cluster: &mut Cluster,
        history: &mut History,
        rng: &mut Rng,
        now: u64,
        may_be_late: bool,
    ) -> Vec<Report> {
        let breaks = self.breaks(cluster);
        let is_reached = cluster.up && !cluster.is_elsewhere();
        for (place, queue) in std::mem::take(&mut self.queues) {
            let mut late = Late::new(self.sender(), now, rng);
            let is_reached = is_reached && !self.is_out_of_sequence(place, history);
            if may_be_late && is_reached {
                let count = rng.usize(0..=queue.len());
                late.flights = queue.iter().take(count).cloned().collect();
            }
            let count = if is_reached {
                rng.usize(0..=queue.len())
            } else {
                0
            };
            for flight in queue.iter().take(count) {
                if !cluster.takes(flight, history, now) {
                    late.flights.clear();
                    break;
                }
                cluster.append(flight, self.sender(), history);
                late.flights.pop_front();
            }
            if !late.flights.is_empty() {
                cluster.late.push(late);
            }
            self.reject(place, queue, &[], breaks);
        }
        self.unreported = 0;
        self.unreported_bytes = 0;
        let reports = std::mem::take(&mut self.reports).into_values().flatten();
        reports
            .map(|report| Report {
                heard: breaks,
                ..report
            })
            .collect()
    }
}

fn taken(flight: &Flight, breaks: u64) -> Report {
    let delivery = Delivery {
        ticket: flight.record.ticket,
        result: Ok(()),
    };
    Report::new(delivery, breaks)
}

/// What a report says of a record that was not taken.
pub(crate) fn rejection(code: i32) -> Rejection {
    Rejection {
        code,
        name: "REJECTED".to_owned(),
        detail: String::new(),
    }
}

fn size(record: &Record) -> usize {
    let length = |bytes: Option<&bytes::Bytes>| bytes.map_or(0, bytes::Bytes::len);
    let headers = record.headers().iter();
    let headers: usize = headers
        .map(|header| header.name.len() + length(header.value.as_ref()))
        .sum();
    length(record.key()) + length(record.value()) + headers
}
