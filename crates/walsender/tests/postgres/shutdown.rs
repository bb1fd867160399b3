//! A stream while its server shuts down: needs a server of its own.

use std::time::Duration;

use tokio::time::timeout;
use walpost_pgoutput::{CopyMessage, Lsn, PgTimestamp, StandbyStatus};
use walpost_walsender::{Connection, Fill, Mode, StartReplication, StreamMessage};

use crate::cluster::{Cluster, options};

#[tokio::test]
async fn server_that_shuts_down_ends_a_confirmed_stream_in_good_order() {
    let cluster = Cluster::own();
    let database = cluster.create_database("shuts_down");
    let slot = database.create_slot("p");
    let options = options(Mode::Replication);
    let connection = Connection::connect(&database.tcp(), &options)
        .await
        .unwrap();
    let start = StartReplication {
        slot,
        start: Lsn::new(0),
        publications: &["p"],
        binary: false,
        messages: false,
    };
    let mut stream = connection.start_replication(&start).await.unwrap();
    cluster.stop_fast();

    let ended = async {
        loop {
            match stream.next().unwrap() {
                Some(StreamMessage::Ended) => return stream,
                Some(StreamMessage::Copy(CopyMessage::Keepalive(keepalive))) => {
                    stream.queue_status(&StandbyStatus {
                        write: keepalive.wal_end,
                        flush: keepalive.wal_end,
                        apply: keepalive.wal_end,
                        client_time: PgTimestamp::new(0),
                        reply_requested: false,
                    });
                    stream.try_flush().unwrap();
                }
                Some(_) => {}
                None => {
                    stream.readable().await.unwrap();
                    stream.try_fill().unwrap();
                }
            }
        }
    };
    let mut stream = timeout(Duration::from_secs(30), ended)
        .await
        .expect("it ends in time");
    let eof = async {
        while stream.try_fill().unwrap() != Fill::Eof {
            assert_eq!(stream.next().unwrap(), None);
            stream.readable().await.unwrap();
        }
    };
    timeout(Duration::from_secs(30), eof)
        .await
        .expect("it closes in time");
    stream.finish(Duration::from_secs(5)).await.unwrap();
}
