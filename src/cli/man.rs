//! The manual's pages, generated from the definitions of the flags.

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::Cli;
use super::exit::Exit;
use super::output::print;
use super::refusal::Refusal;
use super::slip;

/// The date of this version, as CHANGELOG.md has it.
const RELEASED: &str = "2026-11-22";

/// Prints a page of the manual.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command that the page is about; consul-lock itself if there is none.
    command: Option<String>,
}

/// Prints a page.
///
/// # Errors
/// There is no such command, or the page could not be made.
pub(crate) fn run(args: &ManArgs) -> Result<Exit, Refusal> {
    // What the short help leaves out has its text in the manual all the same.
    let shown = |command: Command| command.mut_args(|arg| arg.hide_short_help(false));
    let mut cli = Cli::command().disable_help_subcommand(true).mut_subcommands(shown);
    // Gives each command the name of its page, and the program's version.
    cli.build();
    let Some(name) = &args.command else { return Ok(print(&page(cli))) };
    let command = cli.find_subcommand(name).filter(|command| !command.is_hide_set());
    if let Some(command) = command {
        return Ok(print(&page(command.clone())));
    }
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    let meant = slip::nearest(name, shown.map(Command::get_name));
    let meant = meant.map_or_else(String::new, |meant| format!(": did you mean {meant}?"));
    Err(Refusal::usage(format!("there is no command \"{name}\" that could have a page{meant}")))
}

fn page(command: Command) -> String {
    let mut page = Vec::new();
    // Into memory: there is nothing that could fail.
    let _ = Man::new(command).manual("consul-lock").date(RELEASED).render(&mut page);
    // A line break on both sides of an empty line is two too many, of which mandoc(1) warns.
    String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.sp\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pages_have_the_date_of_the_version_in_the_change_log() {
        let newest = format!("## {} - {}\n", env!("CARGO_PKG_VERSION"), super::RELEASED);
        let log = include_str!("../../CHANGELOG.md");
        assert!(log[log.find("\n## ").expect("a version") + 1..].starts_with(&newest), "{newest}");
    }
}
