use super::*;
use crate::checks::{Area, PG_STANDBY, TABLE_NULL};
use crate::output::Paint;

#[test]
fn a_report_counts_and_names_everything() {
    let findings = [
        Finding::ok(Area::Postgres, "fine"),
        PG_STANDBY.found("s", "bad", "mend that\nand this"),
        TABLE_NULL.found("t", "odd", "mend it"),
    ];
    let report = report(&findings);
    assert_eq!(summary(&report), "1 error, 1 warning, 1 fine");
    let text = text(&report, "end", Paint::plain());
    assert_eq!(
        text,
        "postgres\n  ok       fine\n  error    WP-PG-STANDBY: bad\n           fix: mend that\n\
         \x20               and this\ntable\n  warning  WP-TABLE-NULL: odd\n           fix: mend \
         it\n\
         \nend\n"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][1]["code"], "WP-PG-STANDBY");
    assert_eq!(json["findings"][1]["title"], "The server is a standby");
    assert_eq!(json["findings"][0]["severity"], "ok");
    assert_eq!(json["findings"][2]["area"], "table");
    assert_eq!(json["findings"][2]["object"], "t");
}
