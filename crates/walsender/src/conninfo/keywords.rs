//! The form `key=value key = 'va\'lue'`.

use super::{ConninfoError, settings::Settings};

pub(super) fn read(text: &str, settings: &mut Settings) -> Result<(), ConninfoError> {
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let end = rest
            .find(|char| char == '=' || is_blank(char))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start_matches(is_blank).strip_prefix('=') else {
            // The word itself may be a piece of a password with a blank in it.
            return Err(ConninfoError::new(format!(
                "no '=' after the word at byte {}; a value with blanks needs quotes (key='...')",
                text.len() - rest.len()
            )));
        };
        let (value, after) = read_value(after.trim_start_matches(is_blank))?;
        settings.set(name, value)?;
        rest = after.trim_start_matches(is_blank);
    }
    Ok(())
}

/// The value at the start of `text`, and what follows it. A backslash takes the next character as
/// it is, quoted or not; one at the very end stands for nothing.
fn read_value(text: &str) -> Result<(String, &str), ConninfoError> {
    let quoted = text.strip_prefix('\'');
    let mut value = String::new();
    let mut chars = quoted.unwrap_or(text).chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => value.extend(chars.next()),
            '\'' if quoted.is_some() => return Ok((value, chars.as_str())),
            char if quoted.is_none() && is_blank(char) => return Ok((value, chars.as_str())),
            char => value.push(char),
        }
    }
    if quoted.is_some() {
        return Err(ConninfoError::new("a quoted value has no closing quote"));
    }
    Ok((value, ""))
}

/// What C's `isspace` takes for a blank.
fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}
