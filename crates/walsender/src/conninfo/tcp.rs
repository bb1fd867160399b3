//! What a connection string says of the TCP socket.

use std::time::Duration;

/// When a peer that vanished is noticed. `None` leaves it to the operating system.
///
/// The defaults are not libpq's, which are the system's: hours without data and a quarter of an
/// hour with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpSettings {
    /// `keepalives`: ask a silent peer whether it is there.
    pub keepalives: bool,
    /// `keepalives_idle`: silence before the first question.
    pub keepalives_idle: Option<Duration>,
    /// `keepalives_interval`: between two questions.
    pub keepalives_interval: Option<Duration>,
    /// `keepalives_count`: questions without an answer that end the connection.
    pub keepalives_count: Option<u32>,
    /// `tcp_user_timeout`: how long something that was sent may go without an acknowledgement.
    /// Linux only.
    pub user_timeout: Option<Duration>,
}

impl Default for TcpSettings {
    /// A peer that vanished is noticed after 10 + 3 * 3 s of silence, and 15 s after something was
    /// sent to it.
    fn default() -> Self {
        Self {
            keepalives: true,
            keepalives_idle: Some(Duration::from_secs(10)),
            keepalives_interval: Some(Duration::from_secs(3)),
            keepalives_count: Some(3),
            user_timeout: Some(Duration::from_secs(15)),
        }
    }
}
