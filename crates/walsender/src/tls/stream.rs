//! A TLS connection with the interface of a socket.
//!
//! OpenSSL reads and writes through [`Transport`], which asks the kernel only while the runtime
//! believes the socket to be ready, as `TcpStream::try_read` does. It reads the kernel in pieces of
//! 64 KiB: the server sends one record a message, and two system calls for each would cost more
//! than the decryption.
//!
//! One [`TlsStream::try_read`] reads the kernel until it has no more (a short read says so), and
//! returns every record that is complete by then. So the rules of a plain socket hold: after a
//! read that brought something the caller may sleep and read again; only after "would block" it has
//! to wait. What is left in our buffers because the caller had no space for it makes
//! [`TlsStream::has_buffered`] true, for which nobody must wait on the socket.

use std::{
    io::{self, Read, Write},
    mem,
};

use bytes::BufMut;
use openssl::{
    error::ErrorStack,
    ssl::{Error as SslError, ErrorCode, Ssl, SslStream, SslVersion},
    x509::X509,
};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{TlsError, TlsFault, binding, explain};
use crate::error::is_hangup;

/// How much is read from the kernel at once.
const TRANSPORT_BYTES: usize = 64 * 1024;

/// What a record holds at most.
const RECORD_BYTES: usize = 16 * 1024;

/// Whether the server saw our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    /// It did not ask for one.
    NotRequested,
    /// It asked, and we had none.
    NotSent,
    /// It asked, and got it.
    Sent,
}

/// A connection. Dropping it says good-bye to the server (`close_notify`), without waiting.
pub(crate) struct TlsStream {
    stream: SslStream<Transport>,
    /// A record is decrypted here: OpenSSL needs initialized memory.
    record: Box<[u8]>,
    client_certificate: ClientCertificate,
    /// The server has said something since the handshake.
    heard: bool,
    /// How the stream ended, after bytes that had to be returned first.
    end: Option<io::Result<()>>,
}

impl TlsStream {
    pub(super) fn new(ssl: Ssl, socket: TcpStream) -> Result<Self, ErrorStack> {
        Ok(Self {
            stream: SslStream::new(ssl, Transport::new(socket))?,
            record: vec![0; RECORD_BYTES].into(),
            client_certificate: ClientCertificate::NotRequested,
            heard: false,
            end: None,
        })
    }

    pub(super) async fn handshake(
        &mut self,
        explain: &explain::Handshake<'_>,
    ) -> Result<(), TlsError> {
        self.stream.get_mut().sent = Some(Records::default());
        // What reading the files left there would be taken for an error of the handshake.
        drop(ErrorStack::get());
        loop {
            self.stream.get_mut().short = false;
            let Err(error) = self.stream.connect() else {
                break;
            };
            let socket = &self.stream.get_ref().socket;
            let waited = match error.code() {
                ErrorCode::WANT_READ => socket.readable().await,
                ErrorCode::WANT_WRITE => socket.writable().await,
                _ => return Err(explain.failed(error, &self.stream)),
            };
            waited.map_err(|error| explain::broken(&error))?;
        }
        let sent = self.stream.get_mut().sent.take().unwrap_or_default();
        self.client_certificate = sent.certificate(self.stream.ssl().version2());
        Ok(())
    }

    pub(super) fn peer_certificate(&self) -> Result<X509, TlsError> {
        self.stream
            .ssl()
            .peer_certificate()
            .ok_or_else(|| TlsError::new(TlsFault::Untrusted, "the server showed no certificate"))
    }

    /// The application protocol that the server agreed to.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.stream.ssl().selected_alpn_protocol()
    }

    pub(crate) fn client_certificate(&self) -> ClientCertificate {
        self.client_certificate
    }

    /// What an authentication is bound to. The error is a sentence.
    pub(crate) fn end_point(&self) -> Result<Vec<u8>, String> {
        let certificate = self.peer_certificate().map_err(|error| error.to_string())?;
        binding::end_point(&certificate)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().socket
    }

    /// Whether a read can bring something, or the end, without the socket.
    pub(crate) fn has_buffered(&self) -> bool {
        self.end.is_some()
            || self.stream.get_ref().buffered() > 0
            || self.stream.ssl().pending() > 0
    }

    /// Reads what is there into the space of `buffer`, without waiting. 0 is the end of the stream.
    pub(crate) fn try_read(&mut self, buffer: &mut impl BufMut) -> io::Result<usize> {
        if let Some(end) = self.end.take() {
            return end.map(|()| 0);
        }
        let mut total = 0;
        self.stream.get_mut().renew();
        loop {
            let space = buffer.remaining_mut().min(self.record.len());
            if space == 0 {
                return Ok(total);
            }
            match self.stream.ssl_read(&mut self.record[..space]) {
                Ok(bytes) => {
                    self.heard = true;
                    buffer.put_slice(&self.record[..bytes]);
                    total += bytes;
                }
                Err(error) if error.code() == ErrorCode::WANT_READ => {
                    let transport = self.stream.get_mut();
                    if total > 0 {
                        return Ok(total);
                    }
                    if transport.blocked {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    // Only a part of a record has come, or nothing for us.
                    transport.renew();
                }
                Err(error) => {
                    let end = self.ended(error);
                    if total == 0 {
                        return end.map(|()| 0);
                    }
                    self.end = Some(end);
                    return Ok(total);
                }
            }
        }
    }

    /// Writes once, without waiting.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream
            .ssl_write(bytes)
            .map_err(|error| match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => io::ErrorKind::WouldBlock.into(),
                _ => match error.into_io_error() {
                    Ok(error) => error,
                    Err(error) => match self.ended(error) {
                        Ok(()) => io::ErrorKind::BrokenPipe.into(),
                        Err(error) => error,
                    },
                },
            })
    }

    /// Reads what the kernel holds, whatever the runtime believes: for a socket that has failed.
    pub(crate) fn read_past_readiness(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.get_mut().past_readiness = true;
        let mut space = &mut bytes[..];
        let result = self.try_read(&mut space);
        self.stream.get_mut().past_readiness = false;
        result
    }

    /// How the stream ended. A server that closes says so or not: Postgres' own messages tell a
    /// good end from a bad one.
    fn ended(&self, error: SslError) -> io::Result<()> {
        if error.code() == ErrorCode::ZERO_RETURN {
            return Ok(());
        }
        let error = match error.into_io_error() {
            Ok(error) if is_hangup(&error) && self.is_in_doubt() => {
                return Err(io::Error::other(explain::hung_up_in_doubt()));
            }
            Ok(error) => return Err(error),
            Err(error) => error,
        };
        match explain::alert(&error, self.client_certificate) {
            Some(refusal) => Err(io::Error::other(refusal)),
            None if !self.stream.get_ref().eof => {
                Err(io::Error::other(explain::failed_later(&error)))
            }
            None if self.is_in_doubt() => Err(io::Error::other(explain::hung_up_in_doubt())),
            None => Ok(()),
        }
    }

    /// Whether the server may still refuse our certificate, or the lack of one: it says so after
    /// the handshake, and closes, and what it said can get lost with the connection.
    fn is_in_doubt(&self) -> bool {
        !self.heard && self.client_certificate != ClientCertificate::NotRequested
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // Whether it is heard makes no difference: the socket is closed either way.
        let _ = self.stream.shutdown();
    }
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TlsStream")
            .field("socket", self.socket())
            .field("version", &self.stream.ssl().version_str())
            .finish_non_exhaustive()
    }
}

/// The socket as OpenSSL sees it.
pub(super) struct Transport {
    socket: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last read brought less than there was space for: the kernel has no more.
    short: bool,
    /// The kernel said so.
    blocked: bool,
    pub(super) eof: bool,
    past_readiness: bool,
    /// What is sent in the handshake.
    sent: Option<Records>,
}

impl Transport {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            buffer: vec![0; TRANSPORT_BYTES].into(),
            start: 0,
            end: 0,
            short: false,
            blocked: false,
            eof: false,
            past_readiness: false,
            sent: None,
        }
    }

    fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// The kernel may be asked again.
    fn renew(&mut self) {
        self.short = false;
        self.blocked = false;
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.short {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = if self.past_readiness {
            (&*SockRef::from(&self.socket)).read(&mut self.buffer)
        } else {
            self.socket.try_read(&mut self.buffer)
        };
        match result {
            Ok(bytes) => {
                self.start = 0;
                self.end = bytes;
                self.short = bytes < self.buffer.len();
                self.eof = bytes == 0;
                Ok(())
            }
            Err(error) => {
                self.blocked = error.kind() == io::ErrorKind::WouldBlock;
                Err(error)
            }
        }
    }
}

impl Read for Transport {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.buffered() == 0 {
            self.refill()?;
        }
        let bytes = space.len().min(self.buffered());
        space[..bytes].copy_from_slice(&self.buffer[self.start..self.start + bytes]);
        self.start += bytes;
        Ok(bytes)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.try_write(bytes)?;
        if let Some(sent) = &mut self.sent {
            sent.note(&bytes[..written]);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What records the handshake sent. OpenSSL's binding does not tell whether the server asked for a
/// certificate; our answer to it does, which is a record for each message (RFC 8446, 4.4; RFC 5246,
/// 7.4).
#[derive(Default)]
struct Records {
    header: Vec<u8>,
    left: usize,
    /// Encrypted records.
    encrypted: u32,
    changed_cipher: bool,
    certificate: bool,
    certificate_verify: bool,
}

impl Records {
    const HEADER_BYTES: usize = 5;
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const HANDSHAKE: u8 = 22;
    const APPLICATION_DATA: u8 = 23;
    const CERTIFICATE: u8 = 11;
    const CERTIFICATE_VERIFY: u8 = 15;

    fn note(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            bytes = rest;
            self.header.push(first);
            // The header and the message's type.
            if self.header.len() > Self::HEADER_BYTES {
                let header = mem::take(&mut self.header);
                let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
                self.left = length.saturating_sub(1);
                self.count(header[0], header[5]);
            }
        }
    }

    fn count(&mut self, record: u8, message: u8) {
        match record {
            Self::CHANGE_CIPHER_SPEC => self.changed_cipher = true,
            Self::APPLICATION_DATA => self.encrypted += 1,
            Self::HANDSHAKE if !self.changed_cipher => {
                self.certificate |= message == Self::CERTIFICATE;
                self.certificate_verify |= message == Self::CERTIFICATE_VERIFY;
            }
            _ => {}
        }
    }

    fn certificate(&self, version: Option<SslVersion>) -> ClientCertificate {
        let (requested, sent) = if version == Some(SslVersion::TLS1_3) {
            // Finished alone, or Certificate before it, or CertificateVerify in between too.
            (self.encrypted > 1, self.encrypted > 2)
        } else {
            (self.certificate, self.certificate_verify)
        };
        match (requested, sent) {
            (false, _) => ClientCertificate::NotRequested,
            (true, false) => ClientCertificate::NotSent,
            (true, true) => ClientCertificate::Sent,
        }
    }
}
