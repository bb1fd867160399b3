//! `docs/mistakes.md`: what walpost says to each mistake, as the tests have seen it.
//!
//! Every test that makes a mistake of the list checks its own row: the page can't say anything
//! that the binary does not. With `WALPOST_UPDATE_DOCS=1` the rows are written instead.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
};

use crate::repository_root;

/// What was done wrong, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Mistake<'a> {
    /// The heading that it stands under. It has to be on the page already.
    pub section: &'a str,
    /// What was done wrong, in a few words. Names the row.
    pub title: &'a str,
    /// The exit code; None where the process goes on.
    pub code: Option<i32>,
    /// What it said.
    pub message: &'a str,
    /// What it said to do.
    pub fix: Option<&'a str>,
}

impl Mistake<'_> {
    /// The page has this row. `names` are what the test made up, and what the page says instead.
    ///
    /// # Panics
    ///
    /// When the page has another row of this title, or none.
    #[track_caller]
    pub fn is_listed(&self, names: &[(&str, &str)]) {
        let row = self.row(names);
        if env::var_os("WALPOST_UPDATE_DOCS").is_some() {
            self.write(&row);
            return;
        }
        let page = fs::read_to_string(page_path()).expect("read docs/mistakes.md");
        let listed = page.lines().find(|line| is_row_of(line, self.title));
        assert_eq!(
            listed,
            Some(row.as_str()),
            "docs/mistakes.md does not say what walpost says; WALPOST_UPDATE_DOCS=1 writes the row"
        );
    }

    fn row(&self, names: &[(&str, &str)]) -> String {
        let cell = |text: &str| {
            // A longer name first: one may be a part of another.
            let mut names = names.to_vec();
            names.sort_by_key(|(made_up, _)| std::cmp::Reverse(made_up.len()));
            let text = names
                .iter()
                .fold(text.to_owned(), |text, (made_up, shown)| {
                    text.replace(made_up, shown)
                });
            let words: Vec<_> = text.split_whitespace().collect();
            words
                .join(" ")
                .replace('|', "\\|")
                .replace('<', "&lt;")
                .replace('*', "\\*")
        };
        let code = match self.code {
            Some(code) => code.to_string(),
            None => "goes on".to_owned(),
        };
        format!(
            "| {} | {code} | {} | {} |",
            self.title,
            cell(self.message.trim_start_matches("error: ")),
            cell(self.fix.unwrap_or_default())
        )
    }

    /// Replaces the row, or adds it to the end of its section.
    fn write(&self, row: &str) {
        let path = page_path();
        // Tests of several processes write the page at once.
        let lock = File::open(repository_root().join("Cargo.toml")).expect("open a file to lock");
        lock.lock().expect("lock the page");
        let page = fs::read_to_string(&path).expect("read docs/mistakes.md");
        let mut lines: Vec<_> = page.lines().map(str::to_owned).collect();
        if let Some(index) = lines.iter().position(|line| is_row_of(line, self.title)) {
            lines[index] = row.to_owned();
        } else {
            let heading = format!("## {}", self.section);
            let start = lines.iter().position(|line| *line == heading);
            let start = start.unwrap_or_else(|| panic!("docs/mistakes.md has no {heading:?}"));
            let is_table = |line: &&String| line.starts_with('|');
            let table = start
                + lines[start..]
                    .iter()
                    .take_while(|line| !is_table(line))
                    .count();
            let end = table + lines[table..].iter().take_while(is_table).count();
            lines.insert(end, row.to_owned());
        }
        let mut page = lines.join("\n");
        page.push('\n');
        fs::write(&path, page).expect("write docs/mistakes.md");
    }
}

fn is_row_of(line: &str, title: &str) -> bool {
    line.strip_prefix("| ")
        .and_then(|rest| rest.strip_prefix(title))
        .is_some_and(|rest| rest.starts_with(" | "))
}

fn page_path() -> PathBuf {
    repository_root().join("docs/mistakes.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_no_port_and_breaks_no_table() {
        let mistake = Mistake {
            section: "Postgres",
            title: "A title",
            code: Some(69),
            message: "can't reach 127.0.0.1:49152:\n  a | b",
            fix: Some("start it"),
        };
        assert_eq!(
            mistake.row(&[("49152", "5432")]),
            "| A title | 69 | can't reach 127.0.0.1:5432: a \\| b | start it |"
        );
        assert!(is_row_of(&mistake.row(&[]), "A title"));
        assert!(!is_row_of(&mistake.row(&[]), "A"));
    }
}
