//! YAML text into nodes that know where they stand. The only place that knows the YAML library.
//!
//! Every scalar keeps the text that the file has: what it means is for the key to say. So a
//! password of digits keeps its leading zeros, and a duration needs no quotes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{ExternalMessageSource, Location, Options, Spanned};

/// Maps in lists in maps: far more than any configuration has, far less than the stack holds.
const DEPTH_MAX: usize = 16;

/// Nodes of one text.
const NODES_MAX: usize = 20_000;

/// A place in a text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub line: u64,
    pub column: u64,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub value: Value,
    pub at: Position,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the text; keys can repeat.
    Map(Vec<(Node, Node)>),
}

impl fmt::Debug for Value {
    /// The shape only: a scalar can be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The text is not YAML, or more of it than we take. Nothing of it is in the message: it can hold a
/// password.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub problem: String,
    pub at: Option<Position>,
}

/// Reads one document. An empty text is nothing.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let start = Position { line: 1, column: 1 };
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Node {
            value: Value::Null,
            at: start,
        });
    }
    match serde_saphyr::from_str_with_options::<Spanned<Parsed>>(text, options()) {
        Ok(parsed) => Ok(node(parsed, text)),
        Err(error) => Err(SyntaxError {
            problem: problem(error.without_snippet()),
            at: error.location().and_then(position),
        }),
    }
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        max_nodes: NODES_MAX,
    };
    serde_saphyr::options! {
        budget: budget,
        with_snippet: false,
        // Seen by our own reader, which reports every one.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // Or `!secret name` and a password with a '!' first would silently be other texts.
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    }
}

/// What the deserializer hands over.
enum Parsed {
    Null,
    Text(String),
    /// Looks like a boolean or a number; here as the library prints it.
    Plain(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        Parsed::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(Parsed::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(Parsed::Plain(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Parsed, E> {
        Ok(Parsed::Plain(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Parsed, E> {
        Ok(Parsed::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
        Ok(Parsed::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Parsed, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Parsed::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Parsed, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Parsed::Map(map))
    }
}

fn node(parsed: Spanned<Parsed>, text: &str) -> Node {
    let at = position(parsed.referenced).unwrap_or(Position { line: 1, column: 1 });
    let value = match parsed.value {
        Parsed::Null => Value::Null,
        Parsed::Text(scalar) => Value::Scalar(scalar),
        Parsed::Plain(printed) => {
            Value::Scalar(source(parsed.defined, text).map_or(printed, str::to_owned))
        }
        Parsed::List(items) => {
            Value::List(items.into_iter().map(|item| node(item, text)).collect())
        }
        Parsed::Map(entries) => {
            let entry = |(key, value)| (node(key, text), node(value, text));
            Value::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { value, at }
}

/// The characters of a plain scalar.
fn source(location: Location, text: &str) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    let scalar = text.get(start..start.checked_add(length)?)?.trim();
    // A tag before it, or an anchor, is not the scalar's.
    let is_plain = !scalar.is_empty() && !scalar.contains(|char: char| char.is_whitespace());
    is_plain.then_some(scalar)
}

fn position(location: Location) -> Option<Position> {
    let (line, column) = (location.line(), location.column());
    (line > 0).then_some(Position {
        line,
        column: column.max(1),
    })
}

/// The library's words where they can't carry a value, ours where they can.
fn problem(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;

    if let Error::ExternalMessage { source, msg, .. } = error
        && let ExternalMessageSource::Parser(parser) = &**source
    {
        // The only one of the parser's messages that has a character of the text in it.
        let problem = if matches!(parser.kind(), ErrorKind::UnexpectedCharacter { .. }) {
            "unexpected character: text that starts with a special character, or has ': ' or ' #' \
             in it, needs quotes"
        } else {
            msg
        };
        return format!("not valid YAML: {problem}");
    }
    let text = if matches!(error, Error::UnknownAnchor { .. }) {
        "not valid YAML: an alias (*name) without an anchor: text that starts with '*' needs quotes"
    } else if matches!(error, Error::UnsupportedTag { .. }) {
        "a tag (!name) that is not YAML's own: a variable is written ${env:NAME} here, a file \
         ${file:PATH}, and text that starts with '!' needs quotes"
    } else if matches!(error, Error::MultipleDocuments { .. }) {
        "more than one document: a configuration is one"
    } else if matches!(error, Error::MergeKeyNotAllowed { .. }) {
        "merge keys (<<) are not supported"
    } else if matches!(error, Error::Budget { .. }) {
        "the YAML has too many values, or is nested too deeply"
    } else {
        "a value that can't be read: is it in need of quotes?"
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(node: &Node) -> &str {
        let Value::Scalar(text) = &node.value else {
            panic!("{node:?}")
        };
        text
    }

    fn map(node: &Node) -> &[(Node, Node)] {
        let Value::Map(entries) = &node.value else {
            panic!("{node:?}")
        };
        entries
    }

    #[test]
    fn scalars_keep_the_text_of_the_file() {
        for text in [
            "007",
            "1e5",
            "0x1F",
            "1_000",
            "1.50",
            ".inf",
            "+5",
            "true",
            "yes",
            "5s",
            "64MiB",
            "12345678901234567890123",
            "a:b",
            "-1",
            "0o17",
            "1.0",
            "NaN",
            "2026-01-01",
        ] {
            let parsed = parse(&format!("a: {text}")).unwrap();
            assert_eq!(scalar(&map(&parsed)[0].1), text);
            let parsed = parse(&format!("[ {text} ]")).unwrap();
            let Value::List(items) = &parsed.value else {
                panic!("{parsed:?}")
            };
            assert_eq!(scalar(&items[0]), text);
        }
        assert_eq!(scalar(&map(&parse("a: '007 '").unwrap())[0].1), "007 ");
    }

    #[test]
    fn nodes_know_their_place() {
        let parsed = parse("# c\na:\n  b: [x,\n    y]\n").unwrap();
        let (key, inner) = &map(&parsed)[0];
        assert_eq!(key.at, Position { line: 2, column: 1 });
        let (key, list) = &map(inner)[0];
        assert_eq!(key.at, Position { line: 3, column: 3 });
        let Value::List(items) = &list.value else {
            panic!("{list:?}")
        };
        assert_eq!(items[1].at, Position { line: 4, column: 5 });
    }

    #[test]
    fn repeated_keys_are_all_there() {
        let parsed = parse("a: 1\na: 2\n").unwrap();
        assert_eq!(map(&parsed).len(), 2);
    }

    #[test]
    fn an_empty_text_is_nothing() {
        for text in ["", "\n \n", "# only a comment\n", "---\n", "~"] {
            assert_eq!(parse(text).unwrap().value, Value::Null, "{text:?}");
        }
    }

    #[test]
    fn a_syntax_error_has_a_place_and_never_the_text() {
        for text in [
            "a: hunter2: b",
            "a: [hunter2",
            "a: *hunter2",
            "a: @hunter2",
            "a: \"hunter2",
            "a: {hunter2",
            "a: %hunter2\n b",
            "a: |\n hunter2\nb",
            "a: 'hunter2' x",
            "\thunter2: 1",
            "a: !hunter2:x [",
            "? hunter2\n: : :",
            "a: \"\\hunter2\"",
            "a: 1\n---\nhunter2: 1",
            "hunter2: {<<: {a: 1}}",
            "a: !!binary hunter2",
            "a: !!int hunter2",
            "a: &hunter2",
        ] {
            if let Err(error) = parse(text) {
                assert!(error.at.is_some(), "{text}: {error:?}");
                assert!(
                    !format!("{error:?}").contains("hunter2"),
                    "{text}: {error:?}"
                );
            }
        }
        assert!(parse("a: *hunter2").is_err());
        assert!(parse("a: [hunter2").is_err());
    }

    #[test]
    fn a_deep_text_is_refused() {
        let text = "[".repeat(100_000);
        assert!(parse(&text).is_err());
    }
}
