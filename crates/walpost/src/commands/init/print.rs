//! The SQL, for psql.

use serde::Serialize;
use walpost_walsender::quote_identifier;

use crate::cli::InitArgs;
use crate::config::Config;
use crate::error::Error;
use crate::finding::one_line;
use crate::output::Output;
use crate::sql;

#[derive(Serialize)]
struct Printed<'a> {
    sql: &'a str,
}

/// Prints what `apply` would do.
pub(in crate::commands) fn print(
    config: &Config,
    args: &InitArgs,
    output: Output,
) -> Result<(), Error> {
    let text = text(config, args.failover);
    output.report(&Printed { sql: &text }, None, |_| text.clone())
}

fn text(config: &Config, failover: bool) -> String {
    let (postgres, tables) = (&config.postgres, config.mapping.tables());
    let mut text = head(config);
    for table in tables {
        step(
            &mut text,
            &sql::outbox(table, config.mapping_spec.layout, &config.mapping),
        );
    }
    step(&mut text, &sql::publication(&postgres.publication, tables));
    text.push_str(
        "\n-- The spare: it can take the first one's place if that is dropped by mistake.\n",
    );
    let spare = postgres.spare_publication();
    text.push_str(&without_comments(&sql::publication(&spare, tables)));
    let slot = sql::slot(&postgres.slot, &postgres.publication, failover);
    let Some(checkpoint) = &postgres.checkpoint else {
        step(&mut text, &slot);
        return text;
    };
    let (table, name) = (&checkpoint.table, &postgres.slot);
    let role = &postgres.conninfo.user;
    step(&mut text, &sql::checkpoint(table, role));
    step(&mut text, &sql::no_gap(table, name));
    step(&mut text, &sql::skip(&checkpoint.skip_table(), role));
    step(&mut text, &slot);
    let fingerprint = serde_json::to_string(&config.fingerprint()).unwrap_or_default();
    step(&mut text, &sql::first_checkpoint(table, name, &fingerprint));
    text
}

fn head(config: &Config) -> String {
    let conninfo = &config.postgres.conninfo;
    let name = |name: &str| one_line(&quote_identifier(name));
    let (database, role) = (&conninfo.database, &conninfo.user);
    let (quoted_database, quoted_role) = (name(database), name(role));
    format!(
        "-- Sets walpost up in the database '{}'. It can be run again: what is there stays.\n\
         -- psql -v ON_ERROR_STOP=1 -f FILE, and not in one transaction (--single-transaction).\n\
         -- The server needs wal_level = logical.\n\
         --\n\
         -- Whoever runs it owns the outbox tables, may create publications (CREATE on the\n\
         -- database) and may use replication slots. The relay itself needs no right to the \
         outbox, only\n\
         -- to the checkpoint below:\n\
         --   create role {quoted_role} login replication password '...';\n\
         --   grant connect on database {quoted_database} to {quoted_role};\n\
         -- and a line in pg_hba.conf, with its own network:\n\
         --   hostssl {quoted_database} {quoted_role} 10.0.0.0/8 scram-sha-256\n\
         -- Managed servers give REPLICATION their own way:\n\
         --   grant rds_replication to {quoted_role};           (Amazon RDS, Aurora)\n\
         --   alter user {quoted_role} with replication;        (Cloud SQL, AlloyDB, Azure)\n",
        one_line(database)
    )
}

fn step(text: &mut String, sql: &str) {
    text.push('\n');
    text.push_str(sql);
}

fn without_comments(sql: &str) -> String {
    sql.split_inclusive('\n')
        .skip_while(|line| line.starts_with("--"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn only_the_leading_comment_is_left_out() {
        assert_eq!(
            without_comments("-- a\n-- b\nselect 1;\n-- c\n"),
            "select 1;\n-- c\n"
        );
    }

    #[test]
    fn hostile_names_stay_in_their_comment() {
        let set = [
            "postgres.url=host=db user='a\nb' dbname='c\ndrop table x;'",
            "kafka.brokers=k:9092",
        ];
        let config = Config::load(&Sources {
            set: set.map(str::to_owned).to_vec(),
            ..Sources::default()
        })
        .unwrap();
        let head = head(&config);
        assert!(head.lines().all(|line| line.starts_with("--")), "{head}");
    }
}
