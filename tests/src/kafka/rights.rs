//! Rights on a broker, as requests on the wire: the client library of the tests has none for them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::Kafka;
use crate::wait_until;

/// One thing that a user may do.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// See this topic.
    Describe(&'a str),
    /// Write to this topic (and see it).
    Write(&'a str),
    /// Create this topic.
    Create(&'a str),
    /// Read this topic's configuration.
    DescribeConfigs(&'a str),
}

impl Kafka {
    /// Grants rights to a user, who is named without `User:`, and waits until the broker goes by
    /// them.
    ///
    /// # Panics
    ///
    /// When the broker does not take them.
    #[track_caller]
    pub fn grant(&self, user: &str, rights: &[Right<'_>]) {
        let answer = self.ask(&create_acls(user, rights));
        // Correlation id, throttling, count; then for each a code and a nullable text.
        let mut at = 12;
        for right in rights {
            assert_eq!(answer[at..at + 2], [0, 0], "{right:?}: {answer:?}");
            let text = i16::from_be_bytes([answer[at + 2], answer[at + 3]]);
            at += 4 + usize::try_from(text).unwrap_or(0);
        }
        for right in rights {
            self.wait_for_right(user, *right, true);
        }
    }

    /// Takes a right away that was granted, and waits until the broker goes by that.
    ///
    /// # Panics
    ///
    /// When the broker does not do it.
    #[track_caller]
    pub fn revoke(&self, user: &str, right: Right<'_>) {
        let answer = self.ask(&delete_acls(user, right));
        // Correlation id, throttling, count; then a code.
        assert_eq!(answer[12..14], [0, 0], "{right:?}: {answer:?}");
        self.wait_for_right(user, right, false);
    }

    /// What is granted or taken away is on record when that is answered. The broker goes by it a
    /// moment later, and is the one that says so here.
    #[track_caller]
    fn wait_for_right(&self, user: &str, right: Right<'_>, is_there: bool) {
        wait_until(DEADLINE, &format!("{right:?} is there: {is_there}"), || {
            let answer = self.ask(&describe_acls(user, right));
            // Correlation id, throttling; then a code, an empty text, and the number of resources.
            assert_eq!(answer[8..12], [0; 4], "{right:?}: {answer:?}");
            let is_listed = answer[12..16] != [0; 4];
            (is_listed == is_there).then_some(())
        });
    }

    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.brokers()).expect("the broker listens");
        let length = i32::try_from(request.len()).expect("a short request");
        stream.write_all(&length.to_be_bytes()).expect(SPEAKS);
        stream.write_all(request).expect(SPEAKS);
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect(SPEAKS);
        let length = usize::try_from(u32::from_be_bytes(length)).expect("a short answer");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).expect(SPEAKS);
        answer
    }
}

impl<'a> Right<'a> {
    /// The topic, and the number of the operation.
    fn parts(self) -> (&'a str, u8) {
        match self {
            Right::Write(topic) => (topic, 4),
            Right::Create(topic) => (topic, 5),
            Right::Describe(topic) => (topic, 8),
            Right::DescribeConfigs(topic) => (topic, 10),
        }
    }
}

const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

/// Version 1 of the request `CreateAcls` (protocol guide, key 30).
fn create_acls(user: &str, rights: &[Right<'_>]) -> Vec<u8> {
    let count = u32::try_from(rights.len()).expect("few rights");
    let mut request = head(30);
    request.extend(count.to_be_bytes());
    for right in rights {
        put_entry(&mut request, user, *right);
    }
    request
}

/// Version 1 of the request `DescribeAcls` (protocol guide, key 29).
fn describe_acls(user: &str, right: Right<'_>) -> Vec<u8> {
    let mut request = head(29);
    put_entry(&mut request, user, right);
    request
}

/// Version 1 of the request `DeleteAcls` (protocol guide, key 31).
fn delete_acls(user: &str, right: Right<'_>) -> Vec<u8> {
    let mut request = head(31);
    request.extend(1_u32.to_be_bytes());
    put_entry(&mut request, user, right);
    request
}

/// An entry is the same where it is made and where it is looked for.
fn put_entry(request: &mut Vec<u8>, user: &str, right: Right<'_>) {
    let (topic, operation) = right.parts();
    request.push(TOPIC);
    put_text(request, topic);
    request.push(LITERAL);
    put_text(request, &format!("User:{user}"));
    put_text(request, "*");
    request.extend([operation, ALLOW]);
}

/// The head of a request in its version 1.
fn head(key: i16) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(1_i16.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    put_text(&mut request, "rights");
    request
}

fn put_text(request: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("a short text");
    request.extend(length.to_be_bytes());
    request.extend(text.as_bytes());
}

const DEADLINE: Duration = Duration::from_secs(30);
const SPEAKS: &str = "the broker speaks its protocol";
