//! Completions for the shells. What the flags are is generated from their definitions; around that goes, for each shell,
//! what no generator knows: the names of locks, which a [hidden command](names) asks Consul for, and the command after
//! `--`, which is the shell's own business.

pub(crate) mod names;

use clap::{Arg, Args, Command, CommandFactory as _, ValueHint};
use clap_complete::Shell;

use super::args::Cli;
use super::exit::Exit;
use super::output::print;

/// Prints the completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints a script.
pub(crate) fn run(args: &CompletionsArgs) -> Exit {
    print(&script(args.shell))
}

/// The script for `shell`.
fn script(shell: Shell) -> String {
    let mut definitions = offered();
    let mut flags = Vec::new();
    clap_complete::generate(shell, &mut definitions, "consul-lock", &mut flags);
    let flags = String::from_utf8_lossy(&flags);
    let (flags, ours) = match shell {
        Shell::Bash => (bash(&flags), include_str!("bash.sh")),
        Shell::Zsh => (zsh(&flags), include_str!("zsh.sh")),
        Shell::Fish => (flags.into_owned(), include_str!("fish.fish")),
        Shell::Elvish => (flags.into_owned(), include_str!("elvish.elv")),
        Shell::PowerShell => return power_shell(&flags),
        _ => (flags.into_owned(), ""),
    };
    format!("{flags}\n{ours}")
}

/// What a shell may offer: all but the commands that nobody types, which clap_complete would offer with the others.
fn offered() -> Command {
    let all = Cli::command();
    let mut offered = Command::new("consul-lock").version(env!("CARGO_PKG_VERSION")).propagate_version(true);
    for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
        offered = offered.subcommand(command.clone().mut_args(without_files));
    }
    offered
}

/// Where no files were asked for, no shell shall offer any.
fn without_files(arg: Arg) -> Arg {
    let is_open = arg.get_value_hint() == ValueHint::Unknown && arg.get_action().takes_values();
    if is_open { arg.value_hint(ValueHint::Other) } else { arg }
}

/// For a program with a dash in its name clap_complete 4.6 derives a command's label in two ways, one where it finds the
/// command and another where it lists the flags, so that none is ever offered. Its registration is left to ours.
fn bash(flags: &str) -> String {
    let flags = flags.replace("consul__subcmd__lock", "consul__lock");
    flags.lines().take_while(|line| !line.starts_with("if [[")).map(|line| format!("{line}\n")).collect()
}

/// The function that zsh calls is ours, which calls the generated one. A word for which there is nothing to offer must
/// be an empty list: a mere message there keeps zsh from inserting the one flag that fits.
fn zsh(flags: &str) -> String {
    let flags = flags.replacen("\n_consul-lock() {", "\n_consul-lock_flags() {", 1);
    let own = flags.find("if [ \"$funcstack[1]\"").unwrap_or(flags.len());
    let offer_nothing = |line: &str| match line.strip_suffix(":' \\") {
        Some(word) if line.starts_with("':") || line.starts_with("'*:") => format!("{word}:( )' \\\n"),
        _ => format!("{line}\n"),
    };
    flags[..own].lines().map(offer_nothing).collect()
}

/// One script block is all that PowerShell takes for a command; ours goes into the generated one. Its loop takes keys for
/// subcommands, so it is ended after the first word.
fn power_shell(flags: &str) -> String {
    let flags = flags.replacen("$i -lt $commandElements.Count", "$i -lt [Math]::Min(2, $commandElements.Count)", 1);
    let begins = "    $commandElements = $commandAst.CommandElements\n";
    flags.replacen(begins, &format!("{begins}{}", include_str!("powershell.ps1")), 1)
}
