//! Servers that do what no real one does, and tell what a real one keeps to itself.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use openssl::ssl::{
    AlpnError, NameType, Ssl, SslAcceptor, SslMethod, SslStream, SslVerifyMode, select_next_proto,
};

use crate::certificates::Certificates;

mod scram;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

/// SQLSTATE of an error where it makes no difference.
const PROTOCOL_VIOLATION: &str = "08P01";

/// A client that falls silent doesn't keep its thread for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server makes of the question for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Has TLS, and takes a handshake at once too.
    Yes,
    /// Has none.
    No,
    /// Closes the connection.
    Close,
    /// Sends an error message and closes.
    Error,
    /// Sends a byte that means nothing.
    Garbage,
    /// Says yes, and sends more in the clear behind it, as someone in between could.
    Injected,
    /// Says yes, and closes at the handshake.
    NoHandshake,
    /// Says yes, and answers the handshake with something else.
    BadHandshake,
    /// Never.
    Silence,
    /// Says yes, and never answers the handshake.
    SilentHandshake,
}

/// How the server lets clients in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Trust,
    /// Never answers.
    Silence,
    /// Refuses with this SQLSTATE.
    Refuse(&'static str),
    /// Asks for a method by its number in the protocol.
    Method(u8),
    /// SCRAM by one of these mechanisms. Queries are answered with the one that the client took.
    Scram(&'static [&'static str]),
    /// The same, with a proof that is wrong.
    FalseProof,
    /// Offers these mechanisms, and then lets the client in without proving to know its password.
    Unproven(&'static [&'static str]),
}

/// The application protocol that a server settles on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    Postgres,
    None,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) answer: Answer,
    pub(crate) admission: Admission,
    pub(crate) alpn: Alpn,
    /// Demands a client certificate of the test authority.
    pub(crate) demands: bool,
}

impl Manner {
    pub(crate) const fn answering(answer: Answer) -> Self {
        Self {
            answer,
            admission: Admission::Trust,
            alpn: Alpn::Postgres,
            demands: false,
        }
    }

    pub(crate) const fn admitting(self, admission: Admission) -> Self {
        Self { admission, ..self }
    }

    pub(crate) const fn alpn(self, alpn: Alpn) -> Self {
        Self { alpn, ..self }
    }

    pub(crate) const fn demanding(self) -> Self {
        let demands = true;
        Self { demands, ..self }
    }
}

/// Starts a server that lives as long as the process, with the certificate for `localhost`. Its
/// answer to a query is the name that it was called by in the handshake; without one, whether
/// there is TLS.
pub(crate) fn start(manner: Manner, certificates: &Certificates) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor(manner, certificates);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let acceptor = acceptor.clone();
            thread::spawn(move || {
                // A client that goes away in the middle is what is tested.
                let _ = serve(stream?, manner, &acceptor);
                Ok::<_, io::Error>(())
            });
        }
    });
    port
}

fn acceptor(manner: Manner, certificates: &Certificates) -> SslAcceptor {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder
        .set_certificate_chain_file(certificates.path("server-right.crt"))
        .unwrap();
    // A copy that this process may read: the server's own file is the server's.
    let key = fs::read(certificates.path("server-right.key")).unwrap();
    let key = openssl::pkey::PKey::private_key_from_pem(&key).unwrap();
    builder.set_private_key(&key).unwrap();
    if manner.demands {
        builder.set_ca_file(certificates.path("root.crt")).unwrap();
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    if manner.alpn == Alpn::Postgres {
        builder.set_alpn_select_callback(|_, client| {
            select_next_proto(b"\x0apostgresql", client).ok_or(AlpnError::ALERT_FATAL)
        });
    }
    builder.build()
}

fn serve(mut stream: TcpStream, manner: Manner, acceptor: &SslAcceptor) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0];
    stream.peek(&mut first)?;
    if first[0] == HANDSHAKE {
        if manner.answer == Answer::SilentHandshake {
            return silence(&mut stream);
        }
        if manner.answer == Answer::Yes {
            return secured(stream, manner, acceptor);
        }
        return Ok(());
    }
    loop {
        let packet = packet(&mut stream)?;
        match code(&packet) {
            GSS_REQUEST => stream.write_all(b"N")?,
            SSL_REQUEST => match manner.answer {
                Answer::Yes => {
                    stream.write_all(b"S")?;
                    return secured(stream, manner, acceptor);
                }
                Answer::No => stream.write_all(b"N")?,
                Answer::Close => return Ok(()),
                Answer::Error => {
                    return stream.write_all(&error(PROTOCOL_VIOLATION, "no TLS for you"));
                }
                Answer::Garbage => stream.write_all(b"?")?,
                Answer::Injected => {
                    stream.write_all(&[b"S", &*authentication(&[0, 0, 0, 0])].concat())?;
                    return secured(stream, manner, acceptor);
                }
                Answer::NoHandshake => {
                    stream.write_all(b"S")?;
                    return stream.peek(&mut first).map(|_| ());
                }
                Answer::Silence => return silence(&mut stream),
                Answer::SilentHandshake => {
                    stream.write_all(b"S")?;
                    return silence(&mut stream);
                }
                Answer::BadHandshake => {
                    stream.write_all(b"S")?;
                    stream.peek(&mut first)?;
                    return stream.write_all(&error(PROTOCOL_VIOLATION, "no handshake for you"));
                }
            },
            _ => return session(&mut stream, manner, "f"),
        }
    }
}

fn secured(stream: TcpStream, manner: Manner, acceptor: &SslAcceptor) -> io::Result<()> {
    let ssl = Ssl::new(acceptor.context())?;
    let mut stream = SslStream::new(ssl, stream)?;
    stream.accept().map_err(io::Error::other)?;
    let name = stream.ssl().servername(NameType::HOST_NAME);
    let name = name.unwrap_or("t").to_owned();
    packet(&mut stream)?;
    session(&mut stream, manner, &name)
}

/// From the startup packet on.
fn session(stream: &mut (impl Read + Write), manner: Manner, answer: &str) -> io::Result<()> {
    let mut answer = answer.to_owned();
    match manner.admission {
        Admission::Trust => {}
        Admission::Silence => return silence(stream),
        Admission::Refuse(code) => return stream.write_all(&error(code, "not you")),
        Admission::Method(method) => {
            stream.write_all(&authentication(&[0, 0, 0, method]))?;
            body(stream)?;
        }
        Admission::Scram(mechanisms) => {
            answer = scram::authenticate(stream, mechanisms, true)?;
        }
        Admission::FalseProof => {
            scram::authenticate(stream, &["SCRAM-SHA-256"], false)?;
        }
        Admission::Unproven(mechanisms) => {
            stream.write_all(&scram::offer(mechanisms))?;
            body(stream)?;
        }
    }
    let ready = frame(b'Z', b"I");
    stream.write_all(&[authentication(&[0; 4]), ready.clone()].concat())?;
    while message(stream)?.0 == b'Q' {
        // One column, of type text.
        let mut description = b"\0\x01answer\0".to_vec();
        description.extend([
            0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0,
        ]);
        let row = [b"\0\x01", &length(answer.len())[..], answer.as_bytes()].concat();
        let all = [
            frame(b'T', &description),
            frame(b'D', &row),
            frame(b'C', b"SELECT 1\0"),
            ready.clone(),
        ];
        stream.write_all(&all.concat())?;
    }
    Ok(())
}

/// Says nothing until the client gives up.
fn silence(stream: &mut impl Read) -> io::Result<()> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

/// Reads a message: its tag, and what is in it.
fn message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut tag = [0];
    stream.read_exact(&mut tag)?;
    Ok((tag[0], packet(stream)?))
}

/// Reads a message for what is in it.
fn body(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    message(stream).map(|(_, body)| body)
}

/// Reads what has a length and no tag.
fn packet(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    let mut body = vec![0; length.saturating_sub(4).min(64 * 1024)];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn code(packet: &[u8]) -> u32 {
    packet
        .first_chunk()
        .map_or(0, |code| u32::from_be_bytes(*code))
}

fn authentication(body: &[u8]) -> Vec<u8> {
    frame(b'R', body)
}

fn error(code: &str, text: &str) -> Vec<u8> {
    frame(
        b'E',
        format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0").as_bytes(),
    )
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &length(body.len() + 4)[..], body].concat()
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("it is short").to_be_bytes()
}
