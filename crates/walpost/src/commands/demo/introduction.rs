//! What the demo says first: what runs where, and how to reach it from outside.

use std::path::Path;

use walpost_walsender::{Conninfo, Host, HostEntry};

use super::cluster::Cluster;
use super::kafka::Broker;
use super::stage::Stage;
use crate::error::place;

/// Everything that the introduction names.
pub(super) struct Introduction<'a> {
    pub stage: &'a Stage,
    pub broker: &'a Broker,
    pub cluster: Option<&'a Cluster>,
    pub conninfo: &'a Conninfo,
    pub partitions: usize,
    pub rate: f64,
}

impl Introduction<'_> {
    /// Several lines; headings end with a colon.
    pub(super) fn text(&self) -> String {
        let Self {
            stage,
            broker,
            partitions,
            ..
        } = self;
        let (topic, brokers) = (broker.topic(), broker.bootstrap());
        let kafka = match broker {
            Broker::Mock(_) => format!("{brokers}, a mock cluster inside this process"),
            Broker::Given(_) => format!("{brokers}, a cluster of yours"),
        };
        let end = match self.cluster {
            Some(_) => "Ctrl-C ends it and leaves nothing behind.".to_owned(),
            None => format!(
                "Ctrl-C ends it and removes the schema, the slot and the publications named {}. \
                 After a SIGKILL the next demo does that; by hand:\n  {}",
                stage.slot(),
                stage.by_hand()
            ),
        };
        format!(
            "What runs where:\n  \
             Postgres  {postgres}\n  \
             Kafka     {kafka}: topic {topic}, {partitions} partitions\n  \
             relay     in this process: table {outbox}, publication and slot {slot}\n  \
             writer    {writer}\n  \
             viewer    a consumer of the topic; latency is its clock minus the commit's time\n\
             Insert a row of your own:\n  {psql}\n\
             Read the topic from outside:\n  {kcat}\n\
             {end}\n\n",
            postgres = self.postgres(),
            outbox = stage.outbox(),
            slot = stage.slot(),
            writer = self.writer(),
            psql = self.psql(),
            kcat = kcat(&brokers, topic),
        )
    }

    fn postgres(&self) -> String {
        match self.cluster {
            Some(cluster) => format!(
                "{}, thrown away at the end: socket in {}",
                cluster.version(),
                cluster.dir().display()
            ),
            None => format!(
                "{}, database {}, a server of yours",
                place(self.conninfo),
                self.conninfo.database
            ),
        }
    }

    fn writer(&self) -> String {
        if self.rate > 0.0 {
            format!(
                "{} events/s: orders, and their events in the same transaction",
                self.rate
            )
        } else {
            "none: insert rows of your own".to_owned()
        }
    }

    fn psql(&self) -> String {
        let Conninfo {
            hosts,
            user,
            database,
            ..
        } = self.conninfo;
        let host = |entry: &HostEntry| match (&entry.host, entry.hostaddr) {
            (_, Some(address)) => address.to_string(),
            (Host::Tcp(host), None) => host.clone(),
            (Host::Unix(directory), None) => directory.display().to_string(),
        };
        let host = list(hosts.iter().map(host));
        let port = list(hosts.iter().map(|entry| entry.port.to_string()));
        let program = self
            .cluster
            .map_or_else(|| Path::new("psql").to_owned(), Cluster::psql);
        let sql = format!(
            "insert into {} (destination, aggregate_type, aggregate_id, event_type, payload) \
             values ('{}', 'order', 'order-1', 'OrderPlaced', jsonb_build_object('total', 42))",
            self.stage.outbox(),
            self.broker.topic(),
        );
        format!(
            "{} -h {} -p {port} -U {} -d {} -c \"{sql}\"",
            quoted(&program.display().to_string()),
            quoted(&host),
            quoted(user),
            quoted(database),
        )
    }
}

/// As libpq takes several.
fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

fn kcat(brokers: &str, topic: &str) -> String {
    let brokers = quoted(brokers);
    format!("kcat -b {brokers} -C -t {topic} -f '%t[%p]@%o key=%k headers=%h\\n%s\\n\\n'")
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-:,@%+=".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_where_they_need_it() {
        assert_eq!(
            quoted("/usr/lib/postgresql/15/bin/psql"),
            "/usr/lib/postgresql/15/bin/psql"
        );
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
    }

    #[test]
    fn the_commands_for_a_server_of_the_users_hold_no_password() {
        let url = "postgresql://me:hunter2@db.example:5433/shop";
        let conninfo = Conninfo::parse(url, &|_| None).unwrap();
        let introduction = Introduction {
            stage: &Stage::kept(),
            broker: &Broker::Given("k1:9092,k2:9092".to_owned()),
            cluster: None,
            conninfo: &conninfo,
            partitions: 3,
            rate: 2.0,
        };
        let text = introduction.text();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains("psql -h db.example -p 5433 -U me -d shop -c \"insert"),
            "{text}"
        );
        assert!(
            text.contains("kcat -b k1:9092,k2:9092 -C -t walpost-demo -f"),
            "{text}"
        );
        assert!(text.contains("drop schema if exists"), "{text}");
    }
}
