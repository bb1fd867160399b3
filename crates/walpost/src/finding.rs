//! What a look at the set-up brings to light.

use serde::Serialize;

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
    pub severity: Severity,
    /// `WP-<AREA>-<NAME>`, the same in every version. None where all is well.
    pub code: Option<&'static str>,
    pub seen: String,
    pub fix: Option<String>,
}

impl Finding {
    pub(crate) fn ok(seen: impl Into<String>) -> Self {
        Self {
            severity: Severity::Ok,
            code: None,
            seen: seen.into(),
            fix: None,
        }
    }

    pub(crate) fn warning(
        code: &'static str,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (seen, fix) = (seen.into(), Some(fix.into()));
        Self {
            severity: Severity::Warning,
            code: Some(code),
            seen,
            fix,
        }
    }

    pub(crate) fn error(
        code: &'static str,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            ..Self::warning(code, seen, fix)
        }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
