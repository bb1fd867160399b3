use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::*;

fn grant(url: &str) -> Grant {
    let properties = [
        ("sasl.mechanism", "OAUTHBEARER"),
        (URL, url),
        (CLIENT_ID, "app"),
        (CLIENT_SECRET, "hunter2"),
        (EXTENSIONS, "pool=b"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Grant::of(&properties.map(owned).into()).unwrap()
}

/// Answers every request with what `answer` makes of its number, from 0.
fn serve(answer: impl Fn(usize) -> String + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let mut length = 0;
            // The form is the last of the request.
            while !String::from_utf8_lossy(&request[..length]).contains("client_credentials") {
                length += stream.read(&mut request[length..]).unwrap();
            }
            let answer = answer(counted.fetch_add(1, Ordering::SeqCst));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, count)
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn opaque(seconds: f64) -> String {
    http(
        "200 OK",
        &format!(r#"{{"access_token": "opaque-hunter3", "expires_in": {seconds}}}"#),
    )
}

#[test]
fn a_token_is_kept_until_it_gets_old() {
    let (url, count) = serve(|_| opaque(3600.0));
    let source = TokenSource::new(grant(&url));
    let token = source.token().unwrap();
    source.token().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(
        token.principal, "app",
        "of an opaque token nothing else is known"
    );
    assert_eq!(token.extensions, [("pool".to_owned(), "b".to_owned())]);
    let due = token.refresh_in().as_secs();
    assert!((2870..=2880).contains(&due), "80 % of an hour: {due}");
}

#[test]
fn an_old_token_serves_on_while_the_endpoint_fails() {
    let (url, _) = serve(|number| match number {
        0 => opaque(2.0),
        _ => http("503 Service Unavailable", ""),
    });
    let source = TokenSource::new(grant(&url));
    let first = source.token().unwrap();
    let failed = loop {
        // After 1.6 s it is asked for again, after 2 s nothing is left.
        match source.token() {
            Ok(token) => assert_eq!(token.expires_at, first.expires_at),
            Err(error) => break error,
        }
        thread::sleep(Duration::from_millis(5));
        if !first.lasts() {
            source.kept.lock().unwrap().as_mut().unwrap().refresh_at = Instant::now();
        }
    };
    assert!(!first.lasts());
    assert_eq!(failed.kind, TroubleKind::Unreachable);
    assert!(failed.message.contains("503"), "{failed}");
}

#[test]
fn a_refresher_goes_on_after_failures_and_ends_with_its_client() {
    let (url, count) = serve(|number| match number {
        0 => http("500 Oops", ""),
        _ => opaque(0.2),
    });
    let (sender, heard) = mpsc::channel();
    let source = Arc::new(TokenSource::new(grant(&url)));
    let refresher =
        Refresher::start(source, move |token| sender.send(token.is_ok()).is_ok()).unwrap();
    let patience = Duration::from_secs(30);
    let heard: Vec<bool> = (0..4)
        .map(|_| heard.recv_timeout(patience).unwrap())
        .collect();
    assert_eq!(heard, [false, true, true, true]);
    assert_eq!(count.load(Ordering::SeqCst), 4);
    drop(refresher);
}

#[test]
fn answers_that_are_no_tokens_are_told_apart() {
    let ask = |answer: String| {
        let (url, _) = serve(move |_| answer.clone());
        TokenSource::new(grant(&url)).token().unwrap_err()
    };
    let cases = [
        (
            http("401 No", r#"{"error": "invalid_client"}"#),
            TroubleKind::Credentials,
            "invalid_client",
        ),
        (
            http(
                "400 No",
                r#"{"error": "x", "error_description": "hunter2!"}"#,
            ),
            TroubleKind::Credentials,
            "x: ****!",
        ),
        (
            http("404 No", "<html>"),
            TroubleKind::Configuration,
            "status 404",
        ),
        (
            http("302 Found\r\nLocation: /x", ""),
            TroubleKind::Configuration,
            "status 302",
        ),
        (
            http("429 Slowly", ""),
            TroubleKind::Unreachable,
            "status 429",
        ),
        (
            http("200 OK", "not json"),
            TroubleKind::Configuration,
            "no JSON",
        ),
        (
            http("200 OK", "{}"),
            TroubleKind::Configuration,
            "no access_token",
        ),
        (
            http("200 OK", r#"{"access_token": "a"}"#),
            TroubleKind::Configuration,
            "how long",
        ),
        (
            http("200 OK", r#"{"access_token": "a\u0001b", "expires_in": 5}"#),
            TroubleKind::Configuration,
            "other characters",
        ),
        (
            http("200 OK", &"x".repeat(300_000)),
            TroubleKind::Configuration,
            "longer than",
        ),
        ("garbage".to_owned(), TroubleKind::Unreachable, "failed"),
    ];
    for (answer, kind, words) in cases {
        let error = ask(answer);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{words:?} is not in {error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn a_tokens_own_claims_say_who_it_is_for_and_how_long() {
    // {"alg":"none"}.{"sub":"app-7","iat":1000,"exp":1060}
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhcHAtNyIsImlhdCI6MTAwMCwiZXhwIjoxMDYwfQ.c2ln";
    let body = format!(r#"{{"access_token": "{token}"}}"#);
    let (url, _) = serve(move |_| http("200 OK", &body));
    let token = TokenSource::new(grant(&url)).token().unwrap();
    assert_eq!(token.principal, "app-7");
    // By our clock it is long over; the difference between the two clocks is not the token's.
    let due = token.refresh_in().as_secs();
    assert!((40..=48).contains(&due), "80 % of a minute: {due}");
    assert!(!format!("{token:?}").contains("eyJ"));
}

#[test]
fn nobody_listening_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    drop(listener);
    let error = TokenSource::new(grant(&url)).token().unwrap_err();
    assert_eq!(error.kind, TroubleKind::Unreachable);
    assert!(
        error.message.contains(&url) && error.fix.contains(URL),
        "{error:?}"
    );
}

#[test]
fn extensions_have_names_of_letters() {
    assert_eq!(extension_pairs(" ").unwrap(), []);
    assert_eq!(extension_pairs("a=1, b=x=y").unwrap().len(), 2);
    for wrong in ["a", "auth=1", "a1=2", "=x"] {
        assert!(extension_pairs(wrong).is_err(), "{wrong}");
    }
}
