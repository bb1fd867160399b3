//! What a look at the set-up brings to light.

use serde::Serialize;

use crate::checks::{Area, Check, Level};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Ok,
    /// It works, but not as one would wish.
    Warning,
    /// `run` would not start, would stop, or would not deliver.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub area: Area,
    pub severity: Severity,
    /// `WP-<AREA>-<NAME>`, the same in every version. None where all is well.
    pub code: Option<&'static str>,
    /// The problem in a few words, the same wherever it is found.
    pub title: Option<&'static str>,
    /// What it is about: the name of a role, slot, table, topic or setting.
    pub object: Option<String>,
    /// What there is, with its names and values.
    pub seen: String,
    /// What to do: SQL, a command or a line of the configuration wherever one is enough.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub(crate) fn ok(area: Area, seen: impl Into<String>) -> Self {
        Self {
            area,
            severity: Severity::Ok,
            code: None,
            title: None,
            object: None,
            seen: one_line(&seen.into()),
            fix: None,
        }
    }

    /// The same as a warning, where the check knows both.
    pub(crate) fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Code and sight in one line, as the log tells it.
    pub(crate) fn line(&self) -> String {
        match self.code {
            Some(code) => format!("{code}: {}", self.seen),
            None => self.seen.clone(),
        }
    }
}

impl Check {
    /// It applies: to what, what was seen, and what to do.
    pub(crate) fn found(
        &self,
        object: impl Into<String>,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            area: self.area,
            severity: match self.level {
                Level::Warning => Severity::Warning,
                Level::Error | Level::Either => Severity::Error,
            },
            code: Some(self.code),
            title: Some(self.title),
            object: Some(one_line(&object.into())),
            seen: one_line(&seen.into()),
            fix: Some(printable(&fix.into())),
        }
    }
}

/// Names and the server's texts can't break out of a line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Our own line ends stay; nothing else moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.replace(|char: char| char.is_control() && char != '\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::PUB_ROOT;

    #[test]
    fn a_name_from_the_server_stays_on_its_line() {
        let finding = PUB_ROOT.found("a\nb", "c\r\n\u{1b}[31md", "e\u{7}\nf");
        assert_eq!(finding.object.as_deref(), Some("a b"));
        assert_eq!(finding.line(), "WP-PUB-ROOT: c   [31md");
        assert_eq!(finding.fix.as_deref(), Some("e \nf"));
    }

    #[test]
    fn what_can_be_either_is_an_error_until_it_is_called_a_warning() {
        let finding = PUB_ROOT.found("p", "s", "f");
        assert!(finding.is_error());
        assert_eq!(finding.into_warning().severity, Severity::Warning);
    }
}
