//! Texts for the server: quoting, and the one replication command that is needed.

use walpost_pgoutput::Lsn;

/// What `START_REPLICATION` asks for. Version 1 of the `pgoutput` protocol: committed transactions
/// only.
#[derive(Clone, Copy, Debug)]
pub struct StartReplication<'a> {
    /// Name of a logical slot whose plugin is `pgoutput`.
    pub slot: &'a str,
    /// Transactions whose commit record ends at or before this are left out; a position behind the
    /// slot's own is raised to that one by the server, without a word.
    pub start: Lsn,
    /// Names of publications. One that does not exist is an error only when the first change is
    /// decoded, and from PostgreSQL 18 on no more than a warning.
    pub publications: &'a [&'a str],
    /// Whether values are sent by their types' send functions instead of as text.
    pub binary: bool,
    /// Whether `pg_logical_emit_message` is passed on.
    pub messages: bool,
}

impl StartReplication<'_> {
    pub(crate) fn to_command(self) -> String {
        let publications = self.publications.iter().map(|name| quote_identifier(name));
        let publications = publications.collect::<Vec<_>>().join(",");
        let mut command = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}",
            quote_identifier(self.slot),
            self.start,
            quote_replication_literal(&publications),
        );
        if self.binary {
            command.push_str(", binary 'true'");
        }
        if self.messages {
            command.push_str(", messages 'true'");
        }
        command.push(')');
        command
    }
}

/// The name as a quoted SQL identifier: never a keyword, never folded to lower case.
///
/// A zero byte, which no name can hold, is left alone: the protocol's strings end there, and
/// sending such a text is refused.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The text as an SQL string literal, read the same whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        // The blank keeps the prefix apart from a word before it.
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// The text as a literal of the replication grammar, which has no `E''`: a backslash is just a
/// character.
fn quote_replication_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn command_quotes_slot_and_publications() {
        let command = StartReplication {
            slot: "my_slot",
            start: Lsn::new(0x1_6B37_48FF),
            publications: &["plain", "we\"ird, pu'b", "back\\slash"],
            binary: true,
            messages: true,
        };
        assert_eq!(
            command.to_command(),
            "START_REPLICATION SLOT \"my_slot\" LOGICAL 1/6B3748FF (proto_version '1', \
             publication_names '\"plain\",\"we\"\"ird, pu''b\",\"back\\slash\"', \
             binary 'true', messages 'true')"
        );
    }

    #[test]
    fn options_that_are_off_are_left_out() {
        let command = StartReplication {
            slot: "s",
            start: Lsn::new(0),
            publications: &["p"],
            binary: false,
            messages: false,
        };
        assert_eq!(
            command.to_command(),
            "START_REPLICATION SLOT \"s\" LOGICAL 0/0 (proto_version '1', \
             publication_names '\"p\"')"
        );
    }

    #[test]
    fn hostile_texts_are_quoted() {
        assert_eq!(quote_literal("plain"), "'plain'");
        assert_eq!(
            quote_literal("'; drop table t; --"),
            "'''; drop table t; --'"
        );
        assert_eq!(quote_literal("\\"), " E'\\\\'");
        assert_eq!(quote_literal("\\' or 1=1 --"), " E'\\\\'' or 1=1 --'");
        assert_eq!(
            quote_identifier("a\"; drop table t; --"),
            "\"a\"\"; drop table t; --\""
        );
    }

    proptest! {
        #[test]
        fn literal_reads_back_under_either_setting(text in "[a-z'\\\\\"\n\u{e9}]{0,20}") {
            let quoted = quote_literal(&text);
            for standard in [true, false] {
                let (value, rest) = read_literal(&quoted, standard);
                prop_assert_eq!(value.as_str(), text.as_str());
                prop_assert_eq!(rest, "");
            }
        }

        #[test]
        fn identifier_reads_back(name in "[a-zA-Z'\\\\\"\n .\u{e9}]{1,20}") {
            let quoted = quote_identifier(&name);
            let inner = quoted.strip_prefix('"').unwrap();
            let (value, rest) = read_doubled(inner, '"', false);
            prop_assert_eq!(value.as_str(), name.as_str());
            prop_assert_eq!(rest, "");
        }
    }

    /// Reads a literal as the server's lexer does.
    fn read_literal(text: &str, standard_conforming: bool) -> (String, &str) {
        let text = text.trim_start();
        match text.strip_prefix("E'") {
            Some(rest) => read_doubled(rest, '\'', true),
            None => read_doubled(text.strip_prefix('\'').unwrap(), '\'', !standard_conforming),
        }
    }

    /// Reads up to the closing quote; returns what follows it too.
    fn read_doubled(text: &str, quote: char, escapes: bool) -> (String, &str) {
        let mut value = String::new();
        let mut rest = text.chars();
        while let Some(char) = rest.next() {
            if char == quote {
                if !rest.as_str().starts_with(quote) {
                    return (value, rest.as_str());
                }
                rest.next();
                value.push(quote);
            } else if char == '\\' && escapes {
                value.push(rest.next().expect("a backslash escapes a character"));
            } else {
                value.push(char);
            }
        }
        panic!("unterminated: {text}")
    }
}
