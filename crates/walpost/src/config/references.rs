//! `${env:NAME}` and `${file:PATH}` inside the scalars of the file.
//!
//! They are resolved after the file was read as YAML, so that what a variable holds can change a
//! value and nothing else. What they bring is not searched for references again.

use super::file;
use super::schema::Form;

/// The environment, as far as it is text.
pub(super) type Variables = [(String, String)];

/// A scalar with its references replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub text: String,
    /// As they were written, in order: `${env:NAME}`.
    pub references: Vec<String>,
    /// What came in their place. It may be secret.
    pub values: Vec<String>,
}

/// Replaces the references of one scalar. `Err` has every problem of it; none quotes a value.
pub(super) fn resolve(
    text: &str,
    form: Form,
    variables: &Variables,
) -> Result<Resolved, Vec<String>> {
    let mut resolved = Resolved::default();
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        let is_escaped = before.ends_with('$');
        let is_ours = after.starts_with("env:") || after.starts_with("file:");
        match (is_escaped, is_ours) {
            // The escape of a template is the template's to take away.
            (true, _) if form.is_template() => {
                resolved.text.push_str(before);
                resolved.text.push_str("${");
                rest = after;
            }
            (true, _) => {
                resolved.text.push_str(&before[..before.len() - 1]);
                resolved.text.push_str("${");
                rest = after;
            }
            (false, true) => {
                resolved.text.push_str(before);
                let Some((reference, behind)) = after.split_once('}') else {
                    problems.push("a '${' has no '}'".to_owned());
                    break;
                };
                rest = behind;
                match value(reference, variables) {
                    Ok(value) => resolved.push(reference, value),
                    Err(problem) => problems.push(problem),
                }
            }
            (false, false) => {
                if !has_own_names(form) && is_variable(after) {
                    problems.push(UNMARKED.to_owned());
                }
                resolved.text.push_str(before);
                resolved.text.push_str("${");
                rest = after;
            }
        }
    }
    resolved.text.push_str(rest);
    if resolved.text.is_empty() && !resolved.references.is_empty() {
        let references = resolved.references.join("");
        problems.push(format!("{references} is empty"));
    }
    if problems.is_empty() {
        Ok(resolved)
    } else {
        Err(problems)
    }
}

/// Whether a text has a reference that would be replaced in the file.
pub(super) fn is_in(text: &str) -> bool {
    text.contains("${env:") || text.contains("${file:")
}

const UNMARKED: &str = "'${…}' names neither a variable nor a file: write ${env:NAME} or \
                        ${file:PATH}, and '$${' for a plain '${'";

impl Resolved {
    fn push(&mut self, reference: &str, value: String) {
        self.text.push_str(&value);
        self.references.push(format!("${{{reference}}}"));
        self.values.push(value);
    }
}

/// Templates name columns in braces, and the shell its variables.
fn has_own_names(form: Form) -> bool {
    form.is_template() || form == Form::Command
}

/// Whether it goes on like the name of a variable that someone expects to be replaced.
fn is_variable(after: &str) -> bool {
    after.split_once('}').is_some_and(|(name, _)| is_name(name))
}

fn is_name(name: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(of_name)
}

fn value(reference: &str, variables: &Variables) -> Result<String, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        return file::secret(path);
    }
    let name = reference.strip_prefix("env:").unwrap_or(reference);
    if !is_name(name) {
        return Err(
            "a variable's name after '${env:' has letters, digits and '_'; there is no \
                    way to give a default"
                .to_owned(),
        );
    }
    let found = variables.iter().find(|(variable, _)| variable == name);
    match found {
        Some((_, value)) => Ok(value.clone()),
        None => Err(format!(
            "the environment variable {name} is not set, or is not UTF-8"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Vec<(String, String)> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        [
            ("HOST", "db"),
            ("PORT", "5433"),
            ("NESTED", "${env:HOST}"),
            ("EMPTY", ""),
        ]
        .map(owned)
        .into()
    }

    fn text(text: &str, form: Form) -> String {
        resolve(text, form, &variables()).unwrap().text
    }

    fn problem(text: &str) -> String {
        resolve(text, Form::Conninfo, &variables())
            .unwrap_err()
            .join("; ")
    }

    #[test]
    fn a_scalar_can_have_several_references() {
        let resolved = resolve(
            "postgresql://u@${env:HOST}:${env:PORT}/d",
            Form::Conninfo,
            &variables(),
        )
        .unwrap();
        assert_eq!(resolved.text, "postgresql://u@db:5433/d");
        assert_eq!(resolved.references, ["${env:HOST}", "${env:PORT}"]);
        assert_eq!(resolved.values, ["db", "5433"]);
        assert_eq!(text("x${env:EMPTY}", Form::Conninfo), "x");
    }

    #[test]
    fn what_a_reference_brings_is_not_resolved_again() {
        assert_eq!(text("${env:NESTED}", Form::Conninfo), "${env:HOST}");
    }

    #[test]
    fn a_doubled_dollar_stands_for_one() {
        assert_eq!(
            text("$${env:HOST}$${x}$5$", Form::Conninfo),
            "${env:HOST}${x}$5$"
        );
        assert_eq!(text("a$${x", Form::Secret), "a${x");
    }

    #[test]
    fn templates_and_commands_keep_their_own_names() {
        assert_eq!(
            text("${destination}.$${x}.${env:HOST}", Form::Template),
            "${destination}.$${x}.db"
        );
        assert_eq!(
            text("echo ${HOME} ${env:PORT}", Form::Command),
            "echo ${HOME} 5433"
        );
    }

    #[test]
    fn what_can_t_be_resolved_is_named_and_never_shown() {
        assert!(problem("${env:NOPE}").contains("the environment variable NOPE is not set"));
        assert!(problem("${file:/no/such}").contains("can't read the file /no/such"));
        assert!(problem("a${env:HOST").contains("has no '}'"));
        assert!(problem("${env:HOST:-x}").contains("no way to give a default"));
        assert!(problem("${PASSWORD}").contains("write ${env:NAME}"));
        assert!(problem("${env:EMPTY}").contains("${env:EMPTY} is empty"));
        let both = problem("${env:A}${env:B}");
        assert!(
            both.contains("variable A is") && both.contains("variable B is"),
            "{both}"
        );
        // No name of a variable: a password may well hold it.
        assert_eq!(text("p${x-y}", Form::Secret), "p${x-y}");
    }
}
