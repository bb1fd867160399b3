//! A real PgBouncer in between.

use walpost_tests::PgBouncer;

use super::{Stage, at, check};
use crate::POSTGRES;
use crate::stage::{Refusal, postgres};

#[test]
fn a_pooler_that_refuses_the_login_is_named_by_every_command() {
    let stage = Stage::ready("pooler");
    let pooler = PgBouncer::start(postgres(), "session", "");
    at(&stage, &stage.database.url_through(pooler.port()));
    let found = check(&stage);
    assert_eq!(
        (found.code, found.errors()),
        (1, vec!["WP-PG-POOLER"]),
        "{found:#?}"
    );
    let finding = found.the("WP-PG-POOLER");
    assert!(
        finding.seen.contains("unsupported startup parameter"),
        "{finding:?}"
    );
    assert_eq!(finding.object, "PgBouncer");
    assert!(finding.fix.contains("[databases]"), "{finding:?}");
    let refusal = stage.refused(78, &["WP-PG-POOLER", "PgBouncer", "postgres.url"]);
    let (port, title) = (pooler.port().to_string(), "A connection pooler in between");
    stage.lists_with(POSTGRES, title, &refusal, &[(&port, "6432")]);
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(78, &["WP-PG-POOLER", "PgBouncer"]);
}

/// Many are set up to pass over startup parameters that they do not know.
#[test]
fn a_pooler_that_lets_sql_through_is_found_in_both_modes() {
    let stage = Stage::ready("lenient");
    for mode in ["session", "transaction"] {
        let lenient = "ignore_startup_parameters = options";
        let pooler = PgBouncer::start(postgres(), mode, lenient);
        at(&stage, &stage.database.url_through(pooler.port()));
        let found = check(&stage);
        let finding = found.the("WP-PG-POOLER");
        assert!(finding.seen.contains("replication"), "{finding:?}");
        // The server's own port, as the pooler reaches it.
        let direct = format!("127.0.0.1:{}", postgres().port());
        assert!(finding.fix.contains(&direct), "{finding:?}");
        if finding.severity == "error" {
            stage.refused(78, &["WP-PG-POOLER"]);
        }
        let init = Refusal::of(&stage.finish(&["init", "--apply"]));
        init.assert(78, &["WP-PG-POOLER", &direct]);

        // Nothing of ours stays in a session that others get next.
        let mut client =
            postgres::Client::connect(&stage.database.url_through(pooler.port()), postgres::NoTls)
                .unwrap();
        let row = client.simple_query("show search_path").unwrap();
        let text = format!("{row:?}");
        assert!(!text.contains("pg_catalog"), "{text}");
    }
}
