//! Rules about the text of the repository that no compiler checks.
//!
//! Each test walks the files that git knows, or would know after `git add`, and names every
//! violation at once.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use walpost_tests::repository_root;

#[test]
fn lines_of_rust_have_at_most_100_columns() {
    refuse(
        "rustfmt leaves long strings and comments alone: break them",
        |violations| {
            for file in rust_files() {
                for (number, line) in file.lines() {
                    if line.chars().count() > 100 {
                        violations.push(file.at(number, "more than 100 columns"));
                    }
                }
            }
        },
    );
}

#[test]
fn files_have_at_most_500_lines_of_code() {
    refuse("split the file along its concerns", |violations| {
        for file in rust_files().into_iter().filter(|file| !file.is_test()) {
            let code = file
                .production_lines()
                .filter(|(_, line)| is_code(line))
                .count();
            if code > 500 {
                violations.push(format!("{}: {code} lines of code", file.path));
            }
        }
    });
}

#[test]
fn no_note_to_self_and_no_debug_print_is_left() {
    // Spelled in two halves: this file is walked too.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|half| half.concat());
    let call = ["dbg", "!("].concat();
    refuse(
        "do it, or write down elsewhere that it is not done",
        |violations| {
            for file in text_files() {
                for (number, line) in file.lines() {
                    if let Some(word) = words.iter().find(|word| has_word(line, word)) {
                        violations.push(file.at(number, word));
                    }
                    if file.is_rust() && line.contains(&call) {
                        violations.push(file.at(number, &call));
                    }
                }
            }
        },
    );
}

#[test]
fn unsafe_code_is_in_one_file_only() {
    let forms = ["{", "fn", "impl", "extern", "trait"].map(|after| format!("{} {after}", UNSAFE));
    refuse(
        "write it without, or in the module that is reviewed for it",
        |violations| {
            for file in rust_files() {
                if file.path == UNSAFE_FILE {
                    continue;
                }
                for (number, line) in file.lines() {
                    let code = line.split("//").next().unwrap_or_default();
                    if forms.iter().any(|form| has_word(code, form)) {
                        violations.push(file.at(number, "unsafe code"));
                    }
                }
            }
        },
    );
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    let call = [".unwrap", "()"].concat();
    refuse(
        "return an error, or say with expect() why it can't fail",
        |violations| {
            for file in rust_files().into_iter().filter(|file| !file.is_test()) {
                for (number, line) in file.production_lines() {
                    if is_code(line) && line.contains(&call) {
                        violations.push(file.at(number, &call));
                    }
                }
            }
        },
    );
}

#[test]
fn every_crate_explains_itself_first() {
    refuse(
        "begin the crate's root file with a //! comment of a few sentences",
        |violations| {
            let manifests = tracked()
                .into_iter()
                .filter(|path| path.ends_with("Cargo.toml"));
            for manifest in manifests.filter(|path| read(path).contains("[package]")) {
                let dir = Path::new(&manifest)
                    .parent()
                    .expect("a manifest lies in a directory");
                for root in ["src/lib.rs", "src/main.rs"].map(|root| dir.join(root)) {
                    let Ok(text) = fs::read_to_string(repository_root().join(&root)) else {
                        continue;
                    };
                    let docs = text.lines().take_while(|line| line.starts_with("//!"));
                    if docs.map(str::len).sum::<usize>() < 40 {
                        violations.push(format!("{}: no crate documentation", root.display()));
                    }
                }
            }
        },
    );
}

#[test]
fn every_relative_link_of_the_documentation_resolves() {
    refuse(
        "correct the link, or write what it points to",
        |violations| {
            for file in text_files()
                .into_iter()
                .filter(|file| file.path.ends_with(".md"))
            {
                let dir = Path::new(&file.path)
                    .parent()
                    .expect("a file lies in a directory");
                for (number, target) in links(&file) {
                    let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
                    let linked = if path.is_empty() {
                        PathBuf::from(&file.path)
                    } else {
                        normal(&dir.join(path))
                    };
                    if !repository_root().join(&linked).exists() {
                        violations.push(file.at(number, &format!("{target} leads nowhere")));
                    } else if !anchor.is_empty() && !anchors(&linked).contains(anchor) {
                        violations.push(file.at(number, &format!("{target}: no such heading")));
                    }
                }
            }
        },
    );
}

#[test]
fn every_row_of_the_page_of_mistakes_is_made_by_a_test() {
    let tests: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| file.path.starts_with("tests/tests/"))
        .collect();
    refuse(
        "no test names this mistake: take the row away",
        |violations| {
            let path = repository_root().join("docs/mistakes.md");
            let page = fs::read_to_string(path).expect("read docs/mistakes.md");
            let titles = page
                .lines()
                .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
            for title in titles.filter(|title| *title != "mistake") {
                let literal = format!("\"{title}\"");
                if !tests.iter().any(|file| file.text.contains(&literal)) {
                    violations.push(format!("docs/mistakes.md: {title}"));
                }
            }
        },
    );
}

#[test]
fn every_test_that_the_pages_on_guarantees_and_failures_name_exists() {
    let tests: BTreeSet<String> = rust_files().iter().flat_map(named_tests).collect();
    refuse(
        "name the test as the source does, or say that there is no test",
        |violations| {
            for path in ["docs/guarantees.md", FAILURES] {
                let page = File {
                    text: read(path),
                    path: path.to_owned(),
                };
                for (number, name) in test_names(&page) {
                    if !tests.contains(&name) {
                        violations.push(page.at(number, &format!("{name} is no test")));
                    }
                }
                for number in unproven_rows(&page).filter(|_| path == FAILURES) {
                    violations.push(page.at(number, "neither a test nor \"no test\""));
                }
            }
        },
    );
}

#[test]
fn pure_crates_depend_on_no_runtime_and_no_sockets() {
    let impure = [
        "async-std",
        "axum",
        "hyper",
        "libc",
        "mio",
        "native-tls",
        "openssl",
        "openssl-sys",
        "postgres",
        "rdkafka",
        "rdkafka-sys",
        "rustls",
        "smol",
        "socket2",
        "tokio",
        "tokio-postgres",
        "tracing-subscriber",
        "ureq",
    ];
    refuse(
        "a pure crate takes values and gives values: do it in an edge",
        |violations| {
            for package in ["walpost-pgoutput", "walpost-core"] {
                let names = dependencies(package);
                for name in impure.iter().filter(|name| names.contains(**name)) {
                    violations.push(format!("{package} depends on {name}"));
                }
            }
        },
    );
}

#[test]
fn the_witness_shares_no_code_with_the_relay() {
    refuse(
        "what judges the relay must not share its mistakes: write it anew",
        |violations| {
            let names = dependencies("walpost-witness");
            let ours = names.iter().filter(|name| name.starts_with("walpost"));
            for name in ours.filter(|name| *name != "walpost-witness") {
                violations.push(format!("walpost-witness depends on {name}"));
            }
        },
    );
}

#[test]
fn text_ends_with_a_newline_and_lines_end_with_what_can_be_seen() {
    refuse(
        "remove the white space, end the file with one newline",
        |violations| {
            for file in text_files()
                .into_iter()
                .filter(|file| !file.path.contains("/fixtures/"))
            {
                for (number, line) in file.lines() {
                    if line.ends_with([' ', '\t', '\r']) {
                        violations.push(file.at(number, "white space at the end"));
                    }
                }
                let newlines = file.text.len() - file.text.trim_end_matches('\n').len();
                if newlines != 1 && !file.text.is_empty() {
                    violations.push(format!("{}: ends with {newlines} newlines", file.path));
                }
            }
        },
    );
}

mod rules {
    //! The walkers themselves.

    use super::*;

    #[test]
    fn the_walk_sees_this_file_and_knows_it_for_a_test() {
        let files = rust_files();
        let this = files.iter().find(|file| file.path == "tests/tests/tidy.rs");
        assert!(this.expect("this file is walked").is_test());
    }

    #[test]
    fn production_lines_end_where_the_tests_begin() {
        let inline = file(
            "a.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n",
        );
        assert_eq!(inline.production_lines().count(), 1);
        let sibling = file("a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert_eq!(
            sibling
                .production_lines()
                .filter(|(_, line)| is_code(line))
                .count(),
            3
        );
    }

    #[test]
    fn words_are_found_as_words() {
        assert!(has_word("a word.", "word"));
        assert!(!has_word("swordfish", "word"));
        assert!(has_word("sword word", "word"));
    }

    #[test]
    fn links_outside_of_code_are_found() {
        let text =
            "[a](b.md) `[c](d)` ![e](f.png \"g\")\n```\n[h](i)\n```\n[j](https://k) [l](#m)\n";
        let found: Vec<String> = links(&file("a.md", text))
            .into_iter()
            .map(|(_, l)| l)
            .collect();
        assert_eq!(found, ["b.md", "f.png", "#m"]);
    }

    #[test]
    fn tests_are_named_by_suite_and_module() {
        let tests = |path: &str| {
            let text = "#[test]\n#[cfg(unix)]\nfn it_holds() {}\n\nfn helper() {}\n\
                        mod tests {\n    #[tokio::test]\n    async fn it_waits() {}\n}\n";
            named_tests(&file(path, text))
        };
        for (path, names) in [
            (
                "tests/tests/faults/main.rs",
                ["faults it_holds", "faults it_waits"],
            ),
            ("tests/tests/tidy.rs", ["tidy it_holds", "tidy it_waits"]),
            (
                "tests/tests/refusals/check/mod.rs",
                ["refusals check::it_holds", "refusals check::it_waits"],
            ),
            (
                "crates/core/src/relay/tests/flow.rs",
                ["core relay::flow::it_holds", "core relay::flow::it_waits"],
            ),
            (
                "crates/core/tests/sim/main.rs",
                ["core sim::it_holds", "core sim::it_waits"],
            ),
            (
                "crates/kafka/src/lib.rs",
                ["kafka it_holds", "kafka it_waits"],
            ),
        ] {
            assert_eq!(tests(path), names, "{path}");
        }
        assert_eq!(tests("fuzz/fuzz_targets/decode.rs"), [""; 0]);
    }

    #[test]
    fn names_of_tests_are_told_from_other_code() {
        let text = "`faults park::it_holds` `walpost run` `core sim::it_…` `run --once`\n\
                    `delivery it_arrives`, `wal_status`\n";
        let found = test_names(&file("a.md", text));
        let expected = [(1, "faults park::it_holds"), (2, "delivery it_arrives")];
        assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
    }

    #[test]
    fn a_row_without_a_test_says_so() {
        let text = "| what | test |\n|---|---|\n| a | `faults a_b` |\n| b | `c` |\n\
                    | c | with a broker: no test |\n| `faults a_b` | none |\n";
        let found: Vec<_> = unproven_rows(&file("a.md", text)).collect();
        assert_eq!(found, [4, 6]);
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(
            slug("## 2.1 What `run` does, and why"),
            "21-what-run-does-and-why"
        );
    }

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// Everything that a package depends on, itself included.
fn dependencies(package: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal"])
        .args(["--prefix", "none", "-f", "{p}", "-p", package])
        .current_dir(repository_root())
        .output()
        .expect("run cargo tree");
    let errors = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "cargo tree -p {package}: {errors}");
    let tree = String::from_utf8_lossy(&tree.stdout);
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(
        names.contains(package),
        "cargo tree printed no tree: {tree}"
    );
    names
}

/// Runs a walk and fails with everything that it found.
#[track_caller]
fn refuse(remedy: &str, walk: impl FnOnce(&mut Vec<String>)) {
    let mut violations = Vec::new();
    walk(&mut violations);
    let count = violations.len();
    assert!(
        violations.is_empty(),
        "{count} violations; {remedy}:\n{}",
        violations.join("\n")
    );
}

struct File {
    /// Relative to the repository.
    path: String,
    text: String,
}

impl File {
    /// Lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Lines up to an inline module of tests, which by convention is the end of a file.
    fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        self.lines().take(tests.unwrap_or(lines.len()))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code: `tests.rs`, `…_tests.rs`, or in a directory of such, except
    /// for the harness, which is a library.
    fn is_test(&self) -> bool {
        let in_harness = self.path.starts_with("tests/src/");
        let path = self.path.strip_prefix("tests/src/").unwrap_or(&self.path);
        let mut parts = path.split('/').rev();
        let name = parts.next().unwrap_or_default();
        let in_tests = parts.any(|dir| matches!(dir, "tests" | "benches" | "fuzz_targets"));
        let named = name == "tests.rs" || name.ends_with("_tests.rs");
        named || (in_tests && !in_harness)
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn rust_files() -> Vec<File> {
    text_files().into_iter().filter(File::is_rust).collect()
}

/// Every file that is text, except generated ones.
fn text_files() -> Vec<File> {
    let text = [
        ".rs", ".md", ".toml", ".sh", ".sql", ".yaml", ".yml", ".xml", "Makefile", "/run",
    ];
    let files: Vec<File> = tracked()
        .into_iter()
        .filter(|path| text.iter().any(|ending| path.ends_with(ending)))
        .map(|path| File {
            text: read(&path),
            path,
        })
        .collect();
    assert!(files.len() > 20, "git names only {} files", files.len());
    files
}

/// Paths of all files that are tracked, or new and not ignored.
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        // A container's checkout can belong to another user than the one who runs the tests.
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(repository_root())
        .output()
        .expect("run git");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let paths: BTreeSet<String> = names
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    // A tracked file that was deleted is still named until the next commit.
    paths
        .into_iter()
        .filter(|path| repository_root().join(path).is_file())
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository_root().join(path))
        .unwrap_or_else(|error| panic!("read {path}: {error}"))
}

fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

fn has_word(line: &str, word: &str) -> bool {
    let is_boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let ends_in_word = word.ends_with(char::is_alphanumeric);
    line.match_indices(word).any(|(start, found)| {
        let after = line[start + found.len()..].chars().next();
        is_boundary(line[..start].chars().next_back()) && (!ends_in_word || is_boundary(after))
    })
}

/// The tests of a file, as the documentation names them: the suite, a blank, and the path of the
/// function. A suite is one of black-box tests, or a crate. Modules that are called `tests` and
/// the roots of crates are left out.
fn named_tests(file: &File) -> Vec<String> {
    let parts: Vec<&str> = file.path.trim_end_matches(".rs").split('/').collect();
    let (suite, modules) = match parts[..] {
        ["tests", "tests", suite, ref modules @ ..] => (suite, modules),
        ["crates", suite, "src" | "tests", ref modules @ ..] => (suite, modules),
        _ => return Vec::new(),
    };
    let modules = modules
        .iter()
        .filter(|module| !matches!(**module, "tests" | "mod" | "main" | "lib"));
    let path: String = modules.map(|module| format!("{module}::")).collect();
    let mut is_test = false;
    let mut named = Vec::new();
    for line in file.text.lines().map(str::trim_start) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            let name = function.and_then(|rest| rest.split('(').next());
            named.extend(
                name.filter(|_| is_test)
                    .map(|name| format!("{suite} {path}{name}")),
            );
            is_test = false;
        }
    }
    named
}

/// What a page has in code that is the name of a test, with its line.
fn test_names(page: &File) -> Vec<(usize, String)> {
    let spans = page.lines().flat_map(|(number, line)| {
        let code = line.split('`').skip(1).step_by(2);
        code.filter(|code| is_test_name(code))
            .map(move |code| (number, code.to_owned()))
    });
    spans.collect()
}

/// A word, a blank, and a path whose last part is more than one word.
fn is_test_name(code: &str) -> bool {
    let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    code.split_once(' ').is_some_and(|(suite, path)| {
        let name = path.rsplit("::").next().unwrap_or_default();
        let is_word = suite.chars().all(|c| c.is_ascii_lowercase());
        is_word && path.chars().all(is_path) && name.contains('_')
    })
}

/// Rows of tables whose last cell neither names a test nor says that there is none.
fn unproven_rows(page: &File) -> impl Iterator<Item = usize> {
    let rows = page.lines().filter(|(_, line)| line.starts_with('|'));
    rows.filter_map(|(number, line)| {
        let last = line.trim_matches(['|', ' ']).rsplit(" | ").next()?;
        let is_head = last == "test" || last.chars().all(|c| matches!(c, '-' | '|'));
        let names_one = last.split('`').skip(1).step_by(2).any(is_test_name);
        (!is_head && !names_one && !last.contains("no test")).then_some(number)
    })
}

/// Targets of the links within the repository, outside of code.
fn links(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        for part in prose.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            let leaves = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !leaves {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors that a Markdown file's headings give.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = read(&path.to_string_lossy());
    let mut in_fence = false;
    let headings = text.lines().filter(|line| {
        in_fence ^= line.starts_with("```");
        !in_fence && line.starts_with('#')
    });
    headings.map(slug).collect()
}

/// A heading as its anchor: lower case, spaces to dashes, punctuation dropped.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                normal.push(component);
            }
        }
    }
    normal
}

/// Every row of its tables names a test.
const FAILURES: &str = "docs/failures.md";

/// The one module that calls C functions without a safe wrapper.
const UNSAFE_FILE: &str = "crates/kafka/src/native.rs";
const UNSAFE: &str = "unsafe";
