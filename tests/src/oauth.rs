//! An issuer of tokens, and the endpoint where clients fetch them.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use openssl::{
    base64,
    bn::{BigNum, BigNumContext},
    ecdsa::EcdsaSig,
    pkey::{PKey, Private},
    sha::sha256,
    ssl::{SslAcceptor, SslMethod},
};

use crate::{Identity, pki::new_key};

/// Signs tokens (ES256).
#[derive(Clone, Debug)]
pub struct Issuer {
    key: PKey<Private>,
    audience: String,
}

impl Issuer {
    /// An issuer with a new key, whose tokens are for that audience.
    pub fn new(audience: &str) -> Self {
        Self {
            key: new_key(),
            audience: audience.to_owned(),
        }
    }

    /// The same issuer, with tokens for others.
    #[must_use]
    pub fn for_audience(&self, audience: &str) -> Self {
        Self {
            key: self.key.clone(),
            audience: audience.to_owned(),
        }
    }

    /// The public key as a JSON Web Key Set.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not tell the key's coordinates.
    pub fn key_set(&self) -> String {
        let key = self.key.ec_key().expect(SIGNS);
        let number = || BigNum::new().expect(SIGNS);
        let (mut x, mut y) = (number(), number());
        let mut context = BigNumContext::new().expect(SIGNS);
        key.public_key()
            .affine_coordinates(key.group(), &mut x, &mut y, &mut context)
            .expect(SIGNS);
        let part = |number: &BigNum| url_text(&number.to_vec_padded(32).expect(SIGNS));
        let key = serde_json::json!({
            "kty": "EC", "crv": "P-256", "kid": KEY_ID, "use": "sig", "alg": "ES256",
            "x": part(&x), "y": part(&y),
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }

    /// A token for a subject that lasts so long from now on.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not sign.
    pub fn token(&self, subject: &str, lifetime: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("it is later than 1970").as_secs();
        let header = serde_json::json!({ "alg": "ES256", "kid": KEY_ID, "typ": "JWT" });
        let claims = serde_json::json!({
            "sub": subject, "iss": "the tests", "aud": self.audience, "scope": "kafka",
            "iat": now, "exp": now + lifetime.as_secs(),
        });
        let part = |json: serde_json::Value| url_text(json.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let key = self.key.ec_key().expect(SIGNS);
        let signature = EcdsaSig::sign(&sha256(signed.as_bytes()), &key).expect(SIGNS);
        let mut raw = signature.r().to_vec_padded(32).expect(SIGNS);
        raw.extend(signature.s().to_vec_padded(32).expect(SIGNS));
        format!("{signed}.{}", url_text(&raw))
    }
}

/// How the endpoint answers from now on.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With a token for the subject that lasts so long.
    Token {
        /// Who it is for.
        subject: String,
        /// How long it lasts.
        lifetime: Duration,
    },
    /// With this status line's rest (`503 Service Unavailable`) and body.
    Other {
        /// Code and reason.
        status: String,
        /// The body.
        body: String,
    },
    /// Not at all: the connection stays open.
    Silence,
}

/// One request that came.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// Method and path.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The form.
    pub body: String,
}

impl TokenRequest {
    /// The header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }
}

/// A token endpoint on 127.0.0.1. It keeps every request and closes each connection.
pub struct TokenEndpoint {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    url: String,
}

struct Shared {
    issuer: Issuer,
    answer: Mutex<Answer>,
    requests: Mutex<Vec<TokenRequest>>,
    tls: Option<SslAcceptor>,
    is_over: AtomicBool,
}

impl TokenEndpoint {
    /// An endpoint without encryption that gives out the issuer's tokens.
    pub fn plain(issuer: &Issuer, answer: Answer) -> Self {
        Self::start(issuer, answer, None)
    }

    /// An endpoint that shows this certificate.
    ///
    /// # Panics
    ///
    /// When OpenSSL does not take the certificate.
    pub fn tls(issuer: &Issuer, answer: Answer, identity: &Identity) -> Self {
        let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect(SIGNS);
        let (certificate, key) = identity.native();
        tls.set_certificate(certificate).expect(SIGNS);
        tls.set_private_key(key).expect(SIGNS);
        Self::start(issuer, answer, Some(tls.build()))
    }

    fn start(issuer: &Issuer, answer: Answer, tls: Option<SslAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            issuer: issuer.clone(),
            answer: Mutex::new(answer),
            requests: Mutex::default(),
            tls,
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        Self {
            acceptor: Some(thread::spawn(move || serve(&listener, &serving))),
            shared,
            url: format!("{scheme}://127.0.0.1:{port}/oauth/token"),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answer: Answer) {
        *locked(&self.shared.answer) = answer;
    }

    /// Every request until now.
    pub fn requests(&self) -> Vec<TokenRequest> {
        locked(&self.shared.requests).clone()
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let address = self.url.split('/').nth(2).unwrap_or_default();
        // Wakes the acceptor.
        TcpStream::connect(address).ok();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            stream.set_read_timeout(Some(SILENCE)).ok();
            let served = match &shared.tls {
                None => converse(&shared, stream),
                Some(tls) => match tls.accept(stream) {
                    Ok(stream) => converse(&shared, stream),
                    // A client that does not trust the certificate.
                    Err(_) => Ok(()),
                },
            };
            // A client that goes away is part of some tests.
            served.ok();
        });
    }
}

fn converse(shared: &Shared, stream: impl Read + Write) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let request = read_request(&mut reader)?;
    locked(&shared.requests).push(request);
    let answer = locked(&shared.answer).clone();
    let (status, body) = match answer {
        Answer::Token { subject, lifetime } => {
            let token = shared.issuer.token(&subject, lifetime);
            let body = serde_json::json!({
                "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(),
            });
            ("200 OK".to_owned(), body.to_string())
        }
        Answer::Other { status, body } => (status, body),
        Answer::Silence => {
            thread::sleep(SILENCE);
            return Ok(());
        }
    };
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn read_request(reader: &mut impl BufRead) -> io::Result<TokenRequest> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut lines = lines.into_iter();
    let line = lines.next().unwrap_or_default();
    let header = |line: String| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length
        .and_then(|(_, length)| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(TokenRequest {
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Base 64 with the alphabet of URLs and without padding.
fn url_text(bytes: &[u8]) -> String {
    let text = base64::encode_block(bytes);
    text.replace('+', "-")
        .replace('/', "_")
        .replace(['=', '\n'], "")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const KEY_ID: &str = "the-one-key";
const SILENCE: Duration = Duration::from_secs(60);
const SIGNS: &str = "OpenSSL signs";
