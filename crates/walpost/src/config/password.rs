//! Where the password for Postgres comes from. [`crate::connect`] uses it.

use std::fmt;

/// What each connection does for its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    /// Nothing: the connection's parameters have it, or there is none.
    Fixed,
    /// Reads this file.
    File(String),
    /// Runs a command.
    Command(PasswordCommand),
}

/// `postgres.password_command`. Shown without its arguments: they can hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PasswordCommand {
    /// For `sh -c`.
    Shell(String),
    /// A program and its arguments.
    Program(String, Vec<String>),
}

impl PasswordCommand {
    /// The program that runs: all that may be told of the command.
    pub(crate) fn program(&self) -> &str {
        match self {
            Self::Shell(_) => "sh",
            Self::Program(program, _) => program,
        }
    }

    /// Whether a part of it can't be handed to a program.
    pub(super) fn has_nul(&self) -> bool {
        match self {
            Self::Shell(text) => text.contains('\0'),
            Self::Program(program, arguments) => {
                program.contains('\0') || arguments.iter().any(|argument| argument.contains('\0'))
            }
        }
    }
}

impl fmt::Debug for PasswordCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordCommand({})", self.program())
    }
}
