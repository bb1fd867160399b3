//! Texts as identifiers and literals of SQL, read back as the server's lexer reads them.

use walpost_walsender::{quote_identifier, quote_literal};

pub(crate) fn run(input: &[u8]) {
    // The protocol ends a text at a zero byte, so none is ever quoted with one in it.
    let text = String::from_utf8_lossy(input).replace('\0', "");
    let behind = " is what follows";
    if !text.is_empty() {
        let quoted = quote_identifier(&text) + behind;
        let read = quoted
            .strip_prefix('"')
            .map(|rest| doubled(rest, '"', false));
        assert_eq!(read, Some((text.clone(), behind)), "{quoted}");
    }
    let quoted = quote_literal(&text) + behind;
    for standard_conforming in [true, false] {
        let read = literal(&quoted, standard_conforming);
        assert_eq!(read, Some((text.clone(), behind)), "{quoted}");
    }
}

/// Reads a literal: a backslash is a character where strings are standard conforming, unless an E
/// stands before.
fn literal(text: &str, standard_conforming: bool) -> Option<(String, &str)> {
    let text = text.trim_start_matches(' ');
    match text.strip_prefix("E'") {
        Some(rest) => Some(doubled(rest, '\'', true)),
        None => Some(doubled(
            text.strip_prefix('\'')?,
            '\'',
            !standard_conforming,
        )),
    }
}

/// Reads up to the closing quote, and says what stands behind it.
fn doubled(text: &str, quote: char, escapes: bool) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next == quote {
            if !rest.as_str().starts_with(quote) {
                return (value, rest.as_str());
            }
            rest.next();
            value.push(quote);
        } else if next == '\\' && escapes {
            // The others are letters and digits with a meaning of their own.
            let escaped = rest.next().filter(|char| matches!(char, '\\' | '\''));
            value.push(escaped.expect("only quotes and backslashes are escaped"));
        } else {
            value.push(next);
        }
    }
    panic!("there is no end to it: {text}")
}
