//! The way to the configured database: every connection to it is made here.
//!
//! A password that a file holds, be it `~/.pgpass`, or that a command prints can change while the
//! process lives: tokens expire after minutes, and passwords are rotated. So they are asked anew
//! for each connection.

use std::process::Stdio;
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use walpost_core::class::Exit;
use walpost_walsender::{ConnectOptions, Connection, Conninfo, Endpoint};

use crate::config::{PasswordCommand, PasswordSource, Postgres, secret_from_file};
use crate::error::Error;

/// How long a command may take: services that hand out tokens answer within a second or two.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// No password and no token is that long; what prints more prints something else.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

/// Exit codes of a shell that could not run what it was given.
const SHELL_NOT_EXECUTABLE: i32 = 126;
const SHELL_NOT_FOUND: i32 = 127;

/// Connects to the configured database.
pub(crate) async fn connect(
    postgres: &Postgres,
    options: &ConnectOptions,
) -> Result<Connection, ConnectError> {
    let conninfo = conninfo(postgres).await?;
    Ok(Connection::connect(&conninfo, options).await?)
}

/// Connects to the very server that another connection of the configured database has reached.
pub(crate) async fn connect_again(
    postgres: &Postgres,
    options: &ConnectOptions,
    endpoint: &Endpoint,
) -> Result<Connection, ConnectError> {
    let conninfo = conninfo(postgres).await?.pinned_to(endpoint);
    Ok(Connection::connect(&conninfo, options).await?)
}

/// The connection parameters with the password of this moment.
pub(crate) async fn conninfo(postgres: &Postgres) -> Result<Conninfo, PasswordError> {
    let conninfo = postgres.conninfo.clone();
    Ok(match &postgres.password {
        PasswordSource::Fixed => conninfo.refreshed(),
        PasswordSource::File(path) => {
            let password = secret_from_file(path).map_err(PasswordError::File)?;
            conninfo.with_password(password.into())
        }
        PasswordSource::Command(command) => {
            conninfo.with_password(run(command, COMMAND_TIMEOUT).await?)
        }
    })
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Postgres(#[from] walpost_walsender::Error),
}

impl ConnectError {
    /// Whether a server answered, and would not let us in.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Password(_) => true,
            Self::Postgres(error) => error.sqlstate().is_some() || error.tls().is_some(),
        }
    }
}

/// There is no password. Never holds what a command printed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("postgres.password_file: {0}")]
    File(String),
    #[error("postgres.password_command: '{program}' {problem}")]
    Command { program: String, problem: String },
}

impl PasswordError {
    /// What an operator can do.
    pub(crate) fn fix(&self) -> String {
        match self {
            Self::File(_) => "make the file readable for the relay's user".to_owned(),
            Self::Command { .. } => "run the command by hand, as the relay's user and with its \
                                     environment, to see its output: it is not logged, because it \
                                     can hold the password"
                .to_owned(),
        }
    }
}

impl From<PasswordError> for Error {
    /// Of a command that tries once.
    fn from(error: PasswordError) -> Self {
        Self::new(Exit::Permission, error.to_string()).with_fix(error.fix())
    }
}

/// Runs a command, and takes the first line that it prints.
async fn run(command: &PasswordCommand, limit: Duration) -> Result<SecretString, PasswordError> {
    let failed = |problem: String| PasswordError::Command {
        program: command.program().to_owned(),
        problem,
    };
    let mut child = start(command).map_err(|error| failed(format!("can't be run: {error}")))?;
    match tokio::time::timeout(limit, output(&mut child)).await {
        Ok(Ok(output)) => password(output).map_err(failed),
        Ok(Err(problem)) => Err(failed(problem)),
        Err(_) => Err(failed(format!("was not done within {limit:?}"))),
    }
}

fn start(command: &PasswordCommand) -> std::io::Result<Child> {
    let mut process = Command::new(command.program());
    match command {
        PasswordCommand::Shell(text) => process.args(["-c", text]),
        PasswordCommand::Program(_, arguments) => process.args(arguments),
    };
    process
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It can hold the secret as well, and our own is the log.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// What the child printed, once it has ended well.
async fn output(child: &mut Child) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = stdout.take(OUTPUT_BYTES_MAX + 1);
        let read = stdout.read_to_end(&mut output).await;
        read.map_err(|error| format!("can't be read from: {error}"))?;
        if stdout.limit() == 0 {
            return Err("printed more than 64 KiB, which no password has".to_owned());
        }
    }
    let ended = child.wait().await;
    let status = ended.map_err(|error| format!("can't be waited for: {error}"))?;
    match status.code() {
        Some(0) => Ok(output),
        Some(code @ SHELL_NOT_FOUND) => Err(format!(
            "ended with exit code {code}: a program that it names was not found"
        )),
        Some(code @ SHELL_NOT_EXECUTABLE) => Err(format!(
            "ended with exit code {code}: a program that it names can't be executed"
        )),
        Some(code) => Err(format!("ended with exit code {code}")),
        None => Err(format!("was ended by a {status}")),
    }
}

fn password(output: Vec<u8>) -> Result<SecretString, String> {
    let text = String::from_utf8(output).map_err(|_| "printed text that is not UTF-8")?;
    let line = text.split('\n').next().unwrap_or_default();
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err("printed an empty first line: the password stands there".to_owned()),
        line if line.contains('\0') => Err("printed a NUL byte".to_owned()),
        line => Ok(line.into()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn shell(text: &str) -> PasswordCommand {
        PasswordCommand::Shell(text.to_owned())
    }

    async fn printed(command: &PasswordCommand) -> Result<String, String> {
        let password = run(command, COMMAND_TIMEOUT)
            .await
            .map_err(|error| error.to_string())?;
        Ok(password.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn the_first_line_is_the_password() {
        for (text, password) in [
            ("echo hunter2", "hunter2"),
            ("printf 'a b\\r\\nsecond'", "a b"),
            ("printf x; echo told >&2", "x"),
            ("cat; echo y", "y"),
        ] {
            assert_eq!(
                printed(&shell(text)).await.as_deref(),
                Ok(password),
                "{text}"
            );
        }
        let arguments = vec!["%s".to_owned(), "$HOME; echo x".to_owned()];
        let program = PasswordCommand::Program("printf".to_owned(), arguments);
        assert_eq!(printed(&program).await.as_deref(), Ok("$HOME; echo x"));
    }

    #[tokio::test]
    async fn a_failure_names_the_program_and_never_what_it_printed() {
        for (text, problem) in [
            (
                "echo hunter2; echo hunter2 >&2; exit 3",
                "'sh' ended with exit code 3",
            ),
            (
                "exec no-such-hunter2",
                "exit code 127: a program that it names was not found",
            ),
            ("true", "'sh' printed an empty first line"),
            ("echo; echo hunter2", "'sh' printed an empty first line"),
            ("printf '\\377hunter2'", "not UTF-8"),
            ("echo hunter2; kill -9 $$", "was ended by a signal: 9"),
            ("yes hunter2", "more than 64 KiB"),
        ] {
            let error = printed(&shell(text)).await.unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        let program = PasswordCommand::Program("/no/such".to_owned(), vec!["hunter2".to_owned()]);
        let error = run(&program, COMMAND_TIMEOUT).await.unwrap_err();
        assert!(
            error.to_string().contains("'/no/such' can't be run: "),
            "{error}"
        );
        assert!(error.fix().contains("by hand"));
        let shown = format!("{program:?} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_given_up() {
        let hanging = shell("exec sleep 1000");
        let error = run(&hanging, Duration::from_millis(50)).await.unwrap_err();
        assert!(
            error.to_string().contains("'sh' was not done within 50ms"),
            "{error}"
        );
    }
}
