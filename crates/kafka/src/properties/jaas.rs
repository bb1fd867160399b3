//! `sasl.jaas.config`: one login module with options, in the syntax of Java's login configuration.
//!
//! ```text
//! org.apache.kafka.common.security.plain.PlainLoginModule required
//!     username="app" password="p\"w";
//! ```

/// The login modules that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Module {
    Plain,
    Scram,
    Oauth,
    Kerberos,
    MskIam,
    Other,
}

/// A login module with its options, in order.
#[derive(PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) module: Module,
    pub(super) options: Vec<(String, String)>,
}

/// Reads an entry. The error says what was expected and quotes nothing: it is full of secrets.
pub(super) fn parse(text: &str) -> Result<Entry, &'static str> {
    let mut words = Words(text.chars().collect(), 0);
    let class = words.next()?.ok_or("it is empty")?;
    let name = class.rsplit('.').next().unwrap_or_default();
    let module = match name {
        "PlainLoginModule" => Module::Plain,
        "ScramLoginModule" => Module::Scram,
        "OAuthBearerLoginModule" => Module::Oauth,
        "Krb5LoginModule" => Module::Kerberos,
        "IAMLoginModule" => Module::MskIam,
        _ => Module::Other,
    };
    let flag = words.next()?.unwrap_or_default();
    let flags = ["required", "requisite", "sufficient", "optional"];
    if !flags.iter().any(|known| flag.eq_ignore_ascii_case(known)) {
        return Err("after the login module, 'required' is expected");
    }
    let mut options = Vec::new();
    loop {
        let Some(option) = words.next()? else {
            return Err("a semicolon is missing at its end");
        };
        if option == ";" {
            break;
        }
        if words.next()?.as_deref() != Some("=") {
            return Err("an option has no value: expected name=\"value\"");
        }
        let value = words.next()?.filter(|value| value != ";");
        let value = value.ok_or("an option has no value: expected name=\"value\"")?;
        options.push((option, value));
    }
    match words.next()? {
        None => Ok(Entry { module, options }),
        Some(_) => Err("it names a second login module: only one can be used"),
    }
}

/// Words, strings in quotes, and the signs `=` and `;`, as Java's `StreamTokenizer` takes them.
struct Words(Vec<char>, usize);

impl Words {
    fn next(&mut self) -> Result<Option<String>, &'static str> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.1 += 1;
        }
        let Some(first) = self.peek() else {
            return Ok(None);
        };
        match first {
            '"' | '\'' => self.quoted(first).map(Some),
            '=' | ';' => {
                self.1 += 1;
                Ok(Some(first.to_string()))
            }
            _ => Ok(Some(self.plain())),
        }
    }

    fn plain(&mut self) -> String {
        let mut word = String::new();
        while let Some(char) = self.peek() {
            if char.is_whitespace() || "=;\"'".contains(char) {
                break;
            }
            word.push(char);
            self.1 += 1;
        }
        word
    }

    fn quoted(&mut self, quote: char) -> Result<String, &'static str> {
        self.1 += 1;
        let mut word = String::new();
        loop {
            let char = self.peek().ok_or("a quoted value has no end")?;
            self.1 += 1;
            match char {
                char if char == quote => return Ok(word),
                '\\' => {
                    let escaped = self.peek().ok_or("a quoted value has no end")?;
                    self.1 += 1;
                    word.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    });
                }
                other => word.push(other),
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.0.get(self.1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<(String, String)> {
        parse(text).ok().unwrap().options
    }

    #[test]
    fn a_module_and_its_options_are_read() {
        let text = "org.apache.kafka.common.security.scram.ScramLoginModule required\n  \
                    username=\"app\"\n  password=\"secret\";";
        let entry = parse(text).ok().unwrap();
        assert_eq!(entry.module, Module::Scram);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            entry.options,
            [pair("username", "app"), pair("password", "secret")]
        );
    }

    #[test]
    fn quotes_and_escapes_are_those_of_java() {
        let text = r#"a.PlainLoginModule required username='it"s' password = "a\"b\\c;=d e" ;"#;
        let values: Vec<_> = options(text).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [r#"it"s"#, r#"a"b\c;=d e"#]);
        assert_eq!(
            options("PlainLoginModule REQUIRED username=app password=p@ss:w0rd;")[1].1,
            "p@ss:w0rd"
        );
    }

    #[test]
    fn what_is_no_entry_is_refused_without_quoting_it() {
        let broken = [
            "",
            "PlainLoginModule",
            "PlainLoginModule username=\"hunter2\";",
            "PlainLoginModule required username=\"hunter2\"",
            "PlainLoginModule required username=\"hunter2;",
            "PlainLoginModule required hunter2;",
            "PlainLoginModule required password=;",
            "PlainLoginModule required a=\"hunter2\"; Other required;",
        ];
        for text in broken {
            let why = parse(text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
