//! Every way in which the process ends by itself, as its exit code.
//!
//! Help and manual page list them from here, and a test compares the README's table. A report that
//! nobody waits for any more is ended by the signal itself, which a shell counts as 130 too.

use std::process::ExitCode;

use walpost_core::class::Exit;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done, or stopped as it was asked to.
    Done,
    /// A check found an error.
    Found,
    /// The command line can't be understood (sysexits' `EX_USAGE`).
    Usage,
    /// It could not go on.
    Failed(Exit),
    /// Asked to stop in the middle, where a half-done report would mislead.
    Interrupted,
}

impl Status {
    /// Every status, by its code.
    pub(crate) const ALL: [Self; 10] = [
        Self::Done,
        Self::Found,
        Self::Usage,
        Self::Failed(Exit::Undeliverable),
        Self::Failed(Exit::Unavailable),
        Self::Failed(Exit::Internal),
        Self::Failed(Exit::Permission),
        Self::Failed(Exit::Configuration),
        Self::Failed(Exit::Gap),
        Self::Interrupted,
    ];

    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 64,
            Self::Failed(exit) => exit.code(),
            // As a shell counts the signal.
            Self::Interrupted => 130,
        }
    }

    /// The code as a word, for machines that read reports.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Found => "check",
            Self::Usage => "usage",
            Self::Failed(Exit::Undeliverable) => "undeliverable",
            Self::Failed(Exit::Unavailable) => "unavailable",
            Self::Failed(Exit::Internal) => "internal",
            Self::Failed(Exit::Permission) => "permission",
            Self::Failed(Exit::Configuration) => "configuration",
            Self::Failed(Exit::Gap) => "gap",
            Self::Interrupted => "interrupted",
        }
    }

    /// What it means, in a few words.
    const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or stopped as it was asked to",
            Self::Found => "check found an error",
            Self::Usage => "the command line is not understood",
            Self::Failed(Exit::Undeliverable) => "an event can't be delivered; it is named",
            Self::Failed(Exit::Unavailable) => {
                "a server can't be reached (run alone goes on trying)"
            }
            Self::Failed(Exit::Internal) => {
                "a bug that was detected, or output that can't be written"
            }
            Self::Failed(Exit::Permission) => "credentials or a right were refused",
            Self::Failed(Exit::Configuration) => "configuration or set-up is missing or wrong",
            Self::Failed(Exit::Gap) => "starting would lose or repeat events",
            Self::Interrupted => "interrupted (run without --once ends with 0)",
        }
    }

    /// One line for each, as help prints it.
    pub(crate) fn table() -> String {
        let line = |status: Self| format!("  {:<4}{}\n", status.code(), status.meaning());
        Self::ALL.map(line).concat()
    }
}

impl From<Exit> for Status {
    fn from(exit: Exit) -> Self {
        Self::Failed(exit)
    }
}

impl PartialEq<Exit> for Status {
    fn eq(&self, exit: &Exit) -> bool {
        *self == Self::Failed(*exit)
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_are_each_their_own() {
        for pair in Status::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{pair:?}");
        }
        let mut words = Status::ALL.map(Status::word);
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
    }
}
