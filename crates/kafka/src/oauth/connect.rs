//! TLS for the HTTP client, by the OpenSSL that librdkafka uses as well.

use std::fmt;
use std::io::{self, Read as _, Write as _};

use openssl::error::ErrorStack;
use openssl::ssl::{self, HandshakeError, SslStream};
use openssl::x509::X509VerifyResult;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::certificate::connector;

/// Wraps connections to `https` addresses.
pub(super) struct TlsConnector(ssl::SslConnector);

impl TlsConnector {
    pub(super) fn new(location: Option<&str>, pem: Option<&str>) -> Result<Self, ErrorStack> {
        Ok(Self(connector(location, pem)?.build()))
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else {
            return Err(Error::ConnectionFailed);
        };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut adapter = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        adapter.set_timeout(details.timeout);
        let stream = self
            .0
            .connect(host, adapter)
            .map_err(|error| handshake_error(host, error))?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

/// A connection with TLS on it.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: SslStream<TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(unwrapped)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input).map_err(unwrapped)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

/// The HTTP client's own errors travel through the stream as I/O errors.
fn unwrapped(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Io(error),
    }
}

fn handshake_error(host: &str, error: HandshakeError<TransportAdapter>) -> Error {
    let (error, result) = match error {
        HandshakeError::SetupFailure(error) => return Error::Other(Box::new(error)),
        HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream) => {
            let result = stream.ssl().verify_result();
            (stream.into_error(), result)
        }
    };
    if result != X509VerifyResult::OK {
        let why = result.error_string();
        return Error::Other(format!("its certificate for {host} is not trusted: {why}").into());
    }
    match error.into_io_error() {
        Ok(error) => unwrapped(error),
        Err(error) => Error::Other(format!("the TLS handshake failed: {error}").into()),
    }
}
