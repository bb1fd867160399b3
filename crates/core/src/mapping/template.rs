//! Templates: text with `${name}` in it, where a name is a column or one of walpost's own values.

use std::fmt;

/// A parsed template. `N` is what a name has become: text at first, a place in the row once a
/// table's shape is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template<N> {
    pieces: Vec<Piece<N>>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<N> {
    Literal(Box<str>),
    Column(N),
    Own(Own),
}

/// Values that do not come from a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Position,
    CommitTime,
    Xid,
}

/// Why a template is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    Empty,
    Unclosed(usize),
    EmptyName(usize),
    UnknownOwn(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the template is empty"),
            Self::Unclosed(at) => write!(f, "the '${{' at byte {at} has no '}}'"),
            Self::EmptyName(at) => write!(f, "the '${{}}' at byte {at} names nothing"),
            Self::UnknownOwn(name) => write!(
                f,
                "'${{{name}}}' is not known: there are ${{walpost.position}}, \
                 ${{walpost.commit_time}} and ${{walpost.xid}}"
            ),
        }
    }
}

impl Template<String> {
    /// Parses a template. `$${` stands for a plain `${`.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let offset = text.len() - rest.len() + at;
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at - 1]);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let after = &rest[at + 2..];
            let end = after.find('}').ok_or(TemplateError::Unclosed(offset))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(Self::name(&after[..end], offset)?);
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        Ok(Self { pieces })
    }

    /// Exactly one column.
    pub(crate) fn column(name: &str) -> Self {
        Self {
            pieces: vec![Piece::Column(name.to_owned())],
        }
    }

    fn name(name: &str, offset: usize) -> Result<Piece<String>, TemplateError> {
        match name {
            "" => Err(TemplateError::EmptyName(offset)),
            "walpost.position" => Ok(Piece::Own(Own::Position)),
            "walpost.commit_time" => Ok(Piece::Own(Own::CommitTime)),
            "walpost.xid" => Ok(Piece::Own(Own::Xid)),
            other if other.starts_with("walpost.") => {
                Err(TemplateError::UnknownOwn(other.to_owned()))
            }
            column => Ok(Piece::Column(column.to_owned())),
        }
    }

    /// The same template over places, where `place` finds each column.
    pub(crate) fn resolve<P, E>(
        &self,
        mut place: impl FnMut(&str) -> Result<P, E>,
    ) -> Result<Template<P>, E> {
        let resolve = |piece: &Piece<String>| {
            Ok(match piece {
                Piece::Literal(text) => Piece::Literal(text.clone()),
                Piece::Own(own) => Piece::Own(*own),
                Piece::Column(name) => Piece::Column(place(name)?),
            })
        };
        Ok(Template {
            pieces: self.pieces.iter().map(resolve).collect::<Result<_, E>>()?,
        })
    }

    /// Whether this is exactly one column.
    pub(crate) fn is_column(&self, name: &str) -> bool {
        matches!(&self.pieces[..], [Piece::Column(column)] if column == name)
    }
}

impl<N> Template<N> {
    /// The parts in their order; never empty.
    pub(crate) fn pieces(&self) -> &[Piece<N>] {
        &self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Piece<String>> {
        Template::parse(text).unwrap().pieces
    }

    fn literal(text: &str) -> Piece<String> {
        Piece::Literal(text.into())
    }

    fn column(name: &str) -> Piece<String> {
        Piece::Column(name.to_owned())
    }

    #[test]
    fn names_and_text_alternate() {
        assert_eq!(parse("${destination}"), [column("destination")]);
        assert_eq!(
            parse("a.${b}-${walpost.xid}c"),
            [
                literal("a."),
                column("b"),
                literal("-"),
                Piece::Own(Own::Xid),
                literal("c")
            ]
        );
    }

    #[test]
    fn a_doubled_dollar_is_text() {
        assert_eq!(parse("x$${y}${z}"), [literal("x${y}"), column("z")]);
        assert_eq!(parse("cost $5"), [literal("cost $5")]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let error = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "the template is empty");
        assert_eq!(error("ab${c"), "the '${' at byte 2 has no '}'");
        assert_eq!(error("${a}${}"), "the '${}' at byte 4 names nothing");
        assert!(error("${walpost.lsn}").contains("'${walpost.lsn}' is not known"));
    }
}
