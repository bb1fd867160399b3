use super::*;

/// A server with a slot and a row, both at 60, and what differs from it in a test.
struct Bench {
    server: ServerState,
    slot: Option<SlotRow>,
    row: Option<Checkpoint>,
    is_off: bool,
    switched_at: Option<Lsn>,
    unrecorded: Option<Unrecorded>,
    config: Fingerprint,
    accepted: Accepted,
}

const IDENTITY: Identity = Identity {
    system_identifier: 7,
    timeline: 1,
};

fn lsn(lsn: u64) -> Lsn {
    Lsn::new(lsn)
}

fn settings(topic: &str) -> Fingerprint {
    Fingerprint::from([("route.topic".to_owned(), topic.to_owned())])
}

fn bench() -> Bench {
    Bench {
        server: ServerState {
            identity: IDENTITY,
            database: "shop".to_owned(),
            wal_level: "logical".to_owned(),
            flush_lsn: lsn(100),
        },
        slot: Some(SlotRow {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            active_pid: None,
            restart_lsn: Some(lsn(50)),
            confirmed_flush_lsn: Some(lsn(60)),
            wal_status: Some("reserved".to_owned()),
            two_phase: false,
        }),
        row: Some(Checkpoint {
            identity: IDENTITY,
            lsn: lsn(60),
            kafka_cluster: Some("k".to_owned()),
            config: settings("a"),
        }),
        is_off: false,
        switched_at: None,
        unrecorded: None,
        config: settings("a"),
        accepted: Accepted::default(),
    }
}

impl Bench {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn slot(self, change: impl FnOnce(&mut SlotRow)) -> Self {
        self.with(|bench| change(bench.slot.as_mut().unwrap()))
    }

    fn slot_at(self, at: u64) -> Self {
        self.slot(|slot| slot.confirmed_flush_lsn = Some(lsn(at)))
    }

    fn row_at(self, at: u64) -> Self {
        self.with(|bench| bench.row.as_mut().unwrap().lsn = lsn(at))
    }

    fn promoted(self, switched_at: u64) -> Self {
        self.with(|bench| {
            bench.server.identity.timeline = 2;
            bench.switched_at = Some(lsn(switched_at));
        })
    }

    fn start(&self) -> Result<Start, Refusal> {
        let recorded = match &self.row {
            _ if self.is_off => Recorded::Off,
            None => Recorded::Nothing,
            Some(row) => Recorded::Row(row),
        };
        start_at(&Evidence {
            server: &self.server,
            slot: self.slot.as_ref(),
            recorded,
            switched_at: self.switched_at,
            unrecorded: self.unrecorded,
            config: &self.config,
            accepted: &self.accepted,
        })
    }

    #[track_caller]
    fn starts_at(&self, at: u64, news: &[News]) {
        let start = Start {
            lsn: lsn(at),
            news: news.to_vec(),
        };
        assert_eq!(self.start(), Ok(start));
    }

    #[track_caller]
    fn is_refused(&self, refusal: &Refusal, exit: Exit) {
        assert_eq!(self.start().as_ref(), Err(refusal));
        assert_eq!(refusal.exit(), exit);
    }
}

fn moved(recorded: u64, confirmed: u64) -> Refusal {
    Refusal::Moved {
        recorded: lsn(recorded),
        confirmed: lsn(confirmed),
    }
}

#[test]
fn a_session_starts_where_slot_and_row_agree() {
    bench().starts_at(60, &[]);
}

#[test]
fn a_slot_that_a_crash_rewound_is_started_at_the_row() {
    let rewound = News::Rewound { slot: lsn(20) };
    bench().slot_at(20).starts_at(60, &[rewound]);
}

#[test]
fn a_slot_ahead_of_the_row_was_moved_by_somebody_else() {
    bench().slot_at(61).is_refused(&moved(60, 61), Exit::Gap);
}

#[test]
fn a_slot_ahead_of_the_row_is_taken_where_the_operator_names_its_position() {
    let accepts = |at| {
        bench()
            .slot_at(61)
            .with(|bench| bench.accepted.slot_position = Some(lsn(at)))
    };
    let text = "the slot stands at 0/3D, and the last position on record is 0/3C";
    accepts(61).starts_at(61, &[News::Accepted(text.to_owned())]);
    accepts(62).is_refused(&moved(60, 61), Exit::Gap);
}

#[test]
fn what_this_process_confirmed_without_the_row_is_its_own() {
    let told = |at, timeline| {
        bench().slot_at(61).with(|bench| {
            bench.unrecorded = Some(Unrecorded {
                identity: Identity {
                    timeline,
                    ..IDENTITY
                },
                lsn: lsn(at),
            });
        })
    };
    told(61, 1).starts_at(61, &[News::Remembered]);
    // The last of several may not have arrived.
    told(70, 1).starts_at(61, &[News::Remembered]);
    told(60, 1).is_refused(&moved(60, 61), Exit::Gap);
    told(61, 2).is_refused(&moved(60, 61), Exit::Gap);
}

#[test]
fn a_slot_without_a_row_is_adopted_where_it_stands() {
    bench()
        .with(|bench| bench.row = None)
        .starts_at(60, &[News::Adopted]);
    bench()
        .with(|bench| bench.is_off = true)
        .slot_at(70)
        .starts_at(70, &[]);
}

#[test]
fn a_row_without_its_slot_is_a_gap_and_no_slot_at_all_a_set_up_to_be_made() {
    let gone = Refusal::SlotGone {
        recorded: lsn(60),
        flush: lsn(100),
    };
    let without = || bench().with(|bench| bench.slot = None);
    without().is_refused(&gone, Exit::Gap);
    without()
        .with(|bench| bench.row = None)
        .is_refused(&Refusal::SlotMissing, Exit::Configuration);
    without()
        .with(|bench| bench.is_off = true)
        .is_refused(&Refusal::SlotMissing, Exit::Configuration);
}

#[test]
fn a_row_of_another_server_is_no_position_here() {
    let other = || bench().with(|bench| bench.server.identity.system_identifier = 8);
    let refusal = Refusal::System {
        recorded: 7,
        server: 8,
    };
    other().is_refused(&refusal, Exit::Gap);
    other()
        .with(|bench| bench.slot = None)
        .is_refused(&refusal, Exit::Gap);
    other()
        .with(|bench| bench.accepted.system_identifier = Some(9))
        .is_refused(&refusal, Exit::Gap);
    // The slot's position counts, also where the row's number is higher.
    let text = "the server's system identifier is 8, and was 7";
    other()
        .row_at(90)
        .with(|bench| bench.accepted.system_identifier = Some(8))
        .starts_at(60, &[News::Accepted(text.to_owned())]);
}

#[test]
fn after_a_promotion_the_higher_of_row_and_slot_counts_up_to_the_switch() {
    let promoted = || {
        [News::Promoted {
            from: 1,
            to: 2,
            switched_at: lsn(80),
        }]
    };
    bench().promoted(80).starts_at(60, &promoted());
    bench().promoted(80).row_at(70).starts_at(70, &promoted());
    bench().promoted(80).slot_at(80).starts_at(80, &promoted());
}

#[test]
fn a_slot_past_the_switch_of_the_timeline_was_made_or_moved_by_somebody_else() {
    bench()
        .promoted(80)
        .slot_at(81)
        .is_refused(&moved(60, 81), Exit::Gap);
    bench()
        .promoted(80)
        .row_at(85)
        .is_refused(&moved(85, 60), Exit::Gap);
}

#[test]
fn a_timeline_that_does_not_come_from_the_rows_is_refused() {
    let refusal = Refusal::Timeline {
        recorded: 1,
        server: 2,
    };
    bench()
        .promoted(80)
        .with(|bench| bench.switched_at = None)
        .is_refused(&refusal, Exit::Gap);
}

#[test]
fn settings_that_would_place_events_elsewhere_are_refused_until_they_are_accepted() {
    let changed = || bench().with(|bench| bench.config = settings("b"));
    let change = Change {
        key: "route.topic".to_owned(),
        old: "a".to_owned(),
        new: "b".to_owned(),
    };
    assert_eq!(change.to_string(), "route.topic: 'a' -> 'b'");
    let accepted = News::Accepted(change.to_string());
    changed().is_refused(&Refusal::Settings(vec![change]), Exit::Configuration);
    changed()
        .with(|bench| bench.accepted.settings.push("route.topic".to_owned()))
        .starts_at(60, &[accepted]);
    // Nothing was sent with the others.
    changed()
        .with(|bench| bench.row.as_mut().unwrap().kafka_cluster = None)
        .starts_at(60, &[]);
    // Another version knows other settings.
    bench()
        .with(|bench| {
            bench.config = Fingerprint::from([("route.key".to_owned(), "b".to_owned())]);
        })
        .starts_at(60, &[]);
}

#[test]
fn a_set_up_that_is_wrong_is_a_configuration_error() {
    let refusals = [
        bench().slot(|slot| slot.plugin = None),
        bench().slot(|slot| slot.plugin = Some("wal2json".to_owned())),
        bench().slot(|slot| slot.database = None),
        bench().slot(|slot| slot.two_phase = true),
        bench().with(|bench| bench.server.wal_level = "replica".to_owned()),
    ];
    for bench in refusals {
        assert_eq!(bench.start().unwrap_err().exit(), Exit::Configuration);
    }
}

#[test]
fn what_would_lose_events_is_a_gap() {
    let refusals = [
        bench().slot(|slot| slot.wal_status = Some("lost".to_owned())),
        bench().slot(|slot| slot.restart_lsn = None),
        bench().slot(|slot| slot.confirmed_flush_lsn = None),
        bench().slot_at(101),
        bench().row_at(101),
    ];
    for bench in refusals {
        assert_eq!(bench.start().unwrap_err().exit(), Exit::Gap);
    }
}

#[test]
fn a_table_more_is_no_other_setting_and_one_less_is() {
    let tables = |tables: &str| Fingerprint::from([(TABLES.to_owned(), tables.to_owned())]);
    let (one, two) = (tables("public.a"), tables("public.a, public.b"));
    assert_eq!(changes(&one, &two), []);
    assert_eq!(changes(&two, &one).len(), 1);
    assert_eq!(changes(&one, &tables("public.ab")).len(), 1);
}

#[test]
fn a_locked_row_is_as_this_process_knows_it_while_it_can_not_be_another_one() {
    let remembered = Remembered {
        row: bench().row.unwrap(),
        server_start: "1764216000.5".to_owned(),
    };
    let row = |identity, start, slot: Option<u64>, told: Option<u64>| {
        let row = remembered.row(identity, start, slot.map(lsn), told.map(lsn));
        row.map(|row| row.lsn)
    };
    let start = "1764216000.5";
    assert_eq!(row(IDENTITY, start, Some(60), None), Some(lsn(60)));
    assert_eq!(row(IDENTITY, start, Some(50), None), Some(lsn(60)));
    // Another relay was here, or nobody knows.
    assert_eq!(row(IDENTITY, start, Some(61), None), None);
    assert_eq!(row(IDENTITY, start, None, None), None);
    // This process moved the slot itself.
    assert_eq!(row(IDENTITY, start, Some(61), Some(61)), Some(lsn(60)));
    let promoted = Identity {
        timeline: 2,
        ..IDENTITY
    };
    assert_eq!(row(promoted, start, Some(60), None), None);
    // Its disk may have been put back meanwhile, and the row with it.
    assert_eq!(row(IDENTITY, "1764216999.5", Some(60), None), None);
}

#[test]
fn a_position_behind_the_end_of_the_wal_is_refused_wherever_it_stands() {
    let ahead = Err(Refusal::Ahead {
        confirmed: lsn(101),
        flush: lsn(100),
    });
    assert_eq!(bench().slot_at(101).start(), ahead);
    assert_eq!(bench().slot_at(101).row_at(101).start(), ahead);
    assert_eq!(bench().row_at(101).start(), ahead);
    assert_eq!(
        bench().slot_at(101).with(|bench| bench.row = None).start(),
        ahead
    );
    bench().slot_at(100).row_at(100).starts_at(100, &[]);
}

#[test]
fn a_position_is_accepted_for_one_start() {
    let mut accepted = Accepted {
        slot_position: Some(lsn(70)),
        system_identifier: Some(9),
        ..Accepted::default()
    };
    accepted.begun();
    // Another server's slot can stand there; its identifier is its own.
    assert_eq!(accepted.slot_position, None);
    assert_eq!(accepted.system_identifier, Some(9));
}
