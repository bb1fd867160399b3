//! `walpost man`: manual pages, from the same description as the command line itself.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use walpost_core::class::Exit;

use crate::cli::Cli;
use crate::error::Error;
use crate::exit::Status;
use crate::output;

/// Prints the page of the command of these words, none for walpost itself.
pub(super) fn print(words: &[String]) -> Result<(), Error> {
    let root = built();
    let mut command = &root;
    for word in words {
        command = command
            .find_subcommand(word)
            .ok_or_else(|| unknown(words, &root))?;
    }
    let page = page(command).map_err(anyhow::Error::from)?;
    output::print(&String::from_utf8_lossy(&page))
}

/// Writes the page of every command into the directory, and makes it where it is missing.
pub(super) fn write(dir: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| {
        let message = format!("can't write manual pages into {}: {error}", dir.display());
        Error::new(Exit::Configuration, message).with_fix("name a directory that can be written to")
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut written = String::new();
    for command in tree(&built()) {
        let path = dir.join(Man::new(command.clone()).get_filename());
        let page = page(command).map_err(failed)?;
        fs::write(&path, page).map_err(failed)?;
        written.push_str(&format!("{}\n", path.display()));
    }
    output::print(&written)
}

fn built() -> clap::Command {
    // A page about how to get help would have nothing to say.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    root
}

fn tree(command: &clap::Command) -> Vec<&clap::Command> {
    let mut all = vec![command];
    all.extend(command.get_subcommands().flat_map(tree));
    all
}

/// The page with a section for each paragraph of what help prints below the options.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let more = command
        .get_after_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    for paragraph in more.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let (title, lines) = paragraph.split_once(":\n").unwrap_or(("Notes", paragraph));
        let title = match title.to_uppercase() {
            // As manual pages call it.
            title if title == "EXIT CODES" => "EXIT STATUS".to_owned(),
            title => title,
        };
        roff.control("SH", [title.as_str()]);
        roff.control("nf", []);
        for line in lines.trim_end().lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn unknown(words: &[String], root: &clap::Command) -> Error {
    let names: Vec<_> = tree(root)
        .iter()
        .skip(1)
        .filter_map(|command| command.get_bin_name()?.strip_prefix("walpost "))
        .map(str::to_owned)
        .collect();
    let message = format!("there is no command '{}'", words.join(" "));
    Error::new(Status::Usage, message).with_fix(format!("name one of: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(command: &clap::Command) -> String {
        String::from_utf8(page(command).unwrap()).unwrap()
    }

    #[test]
    fn every_command_has_a_page_of_its_own_name() {
        let root = built();
        let names: Vec<_> = tree(&root)
            .into_iter()
            .map(|command| Man::new(command.clone()).get_filename())
            .collect();
        assert!(names.contains(&"walpost.1".to_owned()), "{names:?}");
        assert!(
            names.contains(&"walpost-config-print.1".to_owned()),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
        for command in tree(&root) {
            let page = text(command);
            for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
                assert!(page.contains(section), "{page}");
            }
        }
    }

    #[test]
    fn the_main_page_lists_exit_codes_and_environment() {
        let page = text(&built());
        for section in [
            ".SH EXAMPLES",
            ".SH ENVIRONMENT",
            ".SH FILES",
            ".SH \"EXIT STATUS\"",
        ] {
            assert!(page.contains(section), "{section} in {page}");
        }
        for status in Status::ALL {
            let line = format!("\n{:<4}", status.code());
            assert!(page.contains(&line), "{line} in {page}");
        }
    }

    #[test]
    fn a_page_of_no_command_is_asked_for_in_vain() {
        let error = print(&["chekc".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("'chekc'"));
        assert!(error.fix().unwrap().contains("config print"), "{error:?}");
    }
}
