//! Managed services, by what their catalogues show: the fixes speak their languages.

use walpost_tests::{Postgres, PostgresBuilder};

use super::{Stage, at, check};
use crate::stage::{PLAIN, Refusal};

/// A server that is made to look like a service's, with a role that lacks REPLICATION.
fn service(builder: PostgresBuilder, roles: &[&str]) -> (Postgres, Stage) {
    let server = builder.setting("wal_level", "replica").start();
    let mut client = server.client();
    for role in roles.iter().chain([&PLAIN]) {
        client
            .batch_execute(&format!("create role {role} login"))
            .unwrap();
    }
    let stage = Stage::bare("managed");
    (server, stage)
}

fn fixes(server: &Postgres, stage: &Stage, name: &str) -> (String, String) {
    let url = server
        .url("postgres")
        .replace("postgres@", &format!("{PLAIN}@"));
    at(stage, &url);
    let found = check(stage);
    assert!(found.fine().contains(&format!("({name})")), "{found:#?}");
    let level = found.the("WP-PG-WAL-LEVEL").fix;
    // `init` says the same.
    let init = Refusal::of(&stage.finish(&["init", "--apply"]));
    init.assert(78, &["WP-PG-WAL-LEVEL", &level]);
    (level, found.the("WP-PG-REPLICATION").fix)
}

#[test]
fn the_services_are_known_and_told_their_own_fixes() {
    let builder = Postgres::builder().setting("rds.logical_replication", "off");
    let (server, stage) = service(builder, &["rds_superuser", "rds_replication", "rdsadmin"]);
    let (level, right) = fixes(&server, &stage, "Amazon RDS");
    assert!(level.contains("set rds.logical_replication = 1"), "{level}");
    assert_eq!(right, "grant rds_replication to \"plain\";");
    drop(server);

    let builder = Postgres::builder().setting("cloudsql.logical_decoding", "off");
    let (server, stage) = service(builder, &["cloudsqlsuperuser"]);
    let (level, right) = fixes(&server, &stage, "Google Cloud SQL");
    assert!(level.contains("cloudsql.logical_decoding = on"), "{level}");
    assert_eq!(right, "alter user \"plain\" with replication;");
    drop(server);

    let builder = Postgres::builder().setting("azure.extensions", "");
    let (server, stage) = service(builder, &["azure_pg_admin"]);
    let (level, right) = fixes(&server, &stage, "Azure Database for PostgreSQL");
    assert!(level.contains("server parameter wal_level"), "{level}");
    assert!(right.contains("azure_pg_admin"), "{right}");
}
