//! `server.properties` of a KRaft node: the first one of a cluster is broker and controller, those
//! that join it are brokers.

use std::{fmt::Write, path::Path};

use crate::{Port, free_port};

/// Listeners with a proxy in front that a broker has. Each costs it one idle thread.
pub(super) const PROXIES: usize = 8;

/// The ports of a broker, fixed for its life.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) client: Port,
    pub(super) proxied: [Proxied; PROXIES],
    pub(super) further: Vec<Further>,
    controller: Controller,
}

/// Where the cluster's controller listens.
#[derive(Debug)]
enum Controller {
    Own(Port),
    Of(u16),
}

/// A listener that a test asked for.
#[derive(Debug)]
pub(super) struct Further {
    pub(super) name: String,
    /// `SSL`, `SASL_SSL`, …
    pub(super) protocol: String,
    pub(super) port: Port,
    /// What clients are told where it is not the truth.
    pub(super) advertised: Option<String>,
}

/// A listener that advertises another port than its own.
#[derive(Debug)]
pub(super) struct Proxied {
    /// What clients are told: the proxy's port.
    pub(super) front: Port,
    /// Where the broker listens.
    pub(super) behind: Port,
}

impl Listeners {
    /// Those of a first node, or of one that joins the cluster of another.
    pub(super) fn reserve(further: Vec<Further>, first: Option<&Self>) -> Self {
        Self {
            further,
            client: free_port(),
            proxied: std::array::from_fn(|_| Proxied {
                front: free_port(),
                behind: free_port(),
            }),
            controller: match first {
                Some(first) => Controller::Of(first.controller()),
                None => Controller::Own(free_port()),
            },
        }
    }

    fn controller(&self) -> u16 {
        match &self.controller {
            Controller::Own(port) => port.number(),
            Controller::Of(number) => *number,
        }
    }

    pub(super) fn server_properties(
        &self,
        node: i32,
        data: &Path,
        more: &[(String, String)],
    ) -> String {
        let client = format!("PLAINTEXT://127.0.0.1:{}", self.client.number());
        let (mut listeners, mut roles) = (client.clone(), "broker");
        if let Controller::Own(port) = &self.controller {
            listeners += &format!(",CONTROLLER://127.0.0.1:{}", port.number());
            roles = "broker,controller";
        }
        let mut advertised = client;
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (index, Proxied { front, behind }) in self.proxied.iter().enumerate() {
            let (front, behind) = (front.number(), behind.number());
            listeners += &format!(",PROXIED{index}://127.0.0.1:{behind}");
            advertised += &format!(",PROXIED{index}://127.0.0.1:{front}");
            protocols += &format!(",PROXIED{index}:PLAINTEXT");
        }
        for further in &self.further {
            let (name, protocol) = (&further.name, &further.protocol);
            let address = format!("127.0.0.1:{}", further.port.number());
            let told = further.advertised.as_ref().unwrap_or(&address);
            listeners += &format!(",{name}://{address}");
            advertised += &format!(",{name}://{told}");
            protocols += &format!(",{name}:{protocol}");
        }
        let own = [
            ("process.roles", roles.to_owned()),
            ("node.id", node.to_string()),
            (
                "controller.quorum.voters",
                format!("{FIRST_NODE}@127.0.0.1:{}", self.controller()),
            ),
            ("listeners", listeners),
            ("advertised.listeners", advertised),
            ("listener.security.protocol.map", protocols),
            ("log.dirs", data.display().to_string()),
        ];
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let more = more
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(FIXED)
            .chain(more)
            .fold(String::new(), |mut text, (name, value)| {
                writeln!(text, "{name}={value}").expect("a String takes everything");
                text
            })
    }
}

/// The node that is the controller.
pub(super) const FIRST_NODE: i32 = 1;

const FIXED: [(&str, &str); 18] = [
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("auto.create.topics.enable", "false"),
    ("num.partitions", "1"),
    ("num.io.threads", "2"),
    ("num.network.threads", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // A broker that was killed is registered until its session ends, and its successor waits for
    // that: not 9 s, as in production.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "400"),
    // Nothing is deleted by age or size while a test looks at it.
    ("log.retention.ms", "-1"),
    // Half a megabyte of index per partition and segment is a lot of files to make and remove.
    ("log.index.size.max.bytes", "65536"),
];
