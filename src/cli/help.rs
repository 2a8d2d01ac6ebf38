//! What `-h` says: one screen of 24 lines and 80 columns, made of clap's definitions when somebody asks, and of nothing else.
//! The name of a group stands beside its flags, for which clap's own layout has a line and an empty one; a default is
//! `[15s]`; what is marked `hide_short_help` is left to `--help`, which is clap's.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::builder::{StyledStr, Styles};
use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::args::Cli;

/// Columns of the screen.
const WIDTH: usize = 80;
/// Columns between a group, a flag and its text.
const GAP: usize = 2;
/// A flag that is longer pushes its own text to the right, not that of the others.
const WIDEST_FLAG: usize = 22;

/// A flag, an argument or a command.
struct Row {
    /// The name of its group.
    group: String,
    /// Columns of `flag`.
    width: usize,
    flag: StyledStr,
    text: String,
}

/// Prints the help that clap has answered with: ours in place of its short one.
pub(super) fn print(answer: &clap::Error) {
    let mut definitions = Cli::command();
    definitions.build();
    let Some(mut command) = whose(&mut definitions, &answer.render().to_string()) else {
        let _ = answer.print();
        return;
    };
    let text = short(&mut command);
    // A closed standard output is no reason to fail.
    let _ = if answer.use_stderr() {
        write!(anstream::stderr(), "{}", text.ansi())
    } else {
        write!(anstream::stdout(), "{}", text.ansi())
    };
}

/// The command whose short help clap has given; none if it is not a short one.
fn whose(definitions: &mut Command, given: &str) -> Option<Command> {
    if definitions.render_help().to_string() == given {
        return Some(definitions.clone());
    }
    definitions.get_subcommands_mut().find_map(|command| whose(command, given))
}

/// The help that fits a screen.
fn short(command: &mut Command) -> StyledStr {
    let mut help = StyledStr::new();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage();
    let _ = write!(help, "{}\n\n{}\n\n", wrapped(&about, 0, 0), usage.ansi());
    write_rows(&mut help, &rows(command), command.get_styles());
    let after = command.get_after_help().map(|text| format!("{text}\n")).unwrap_or_default();
    let _ = writeln!(help, "\n{after}{}", more(command));
    help
}

/// Where there is more.
fn more(command: &Command) -> String {
    let is_cut = command.get_arguments().any(|arg| !arg.is_hide_set() && arg.is_hide_short_help_set());
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let what = match (is_cut, command.get_after_long_help().is_some()) {
        (true, true) => "All flags and examples",
        (true, false) => "All flags",
        (false, true) => "Examples",
        (false, false) => "More",
    };
    format!("{what}: {name} --help")
}

/// The rows, those of a group together, in the order of the definitions.
fn rows(command: &Command) -> Vec<Row> {
    let styles = command.get_styles();
    // `help` is another way to type --help.
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let commands = commands.map(|command| {
        let (name, literal) = (command.get_name(), styles.get_literal());
        Row {
            group: "Commands".to_owned(),
            width: name.len(),
            flag: format!("{literal}{name}{literal:#}").into(),
            text: command.get_about().map(ToString::to_string).unwrap_or_default(),
        }
    });
    // On a command these two say nothing that the last line does not.
    let is_plain = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_hide_short_help_set());
    let shown = shown.filter(|arg| command.has_subcommands() || !is_plain(arg));
    let mut rows: Vec<_> = commands.chain(shown.map(|arg| row(arg, styles))).collect();
    let mut groups = Vec::new();
    for row in &rows {
        if !groups.contains(&row.group) {
            groups.push(row.group.clone());
        }
    }
    rows.sort_by_key(|row| groups.iter().position(|group| *group == row.group));
    rows
}

fn row(arg: &Arg, styles: &Styles) -> Row {
    let none = if arg.is_positional() { "Arguments" } else { "Options" };
    let (literal, placeholder) = (styles.get_literal(), styles.get_placeholder());
    // As clap writes it: `--wait <DURATION>`, `-c <STRING>`, `--verbose...`, `<KEY>...`.
    let plain = arg.to_string();
    let value = plain.find(|c: char| !c.is_alphanumeric() && c != '-').unwrap_or(plain.len());
    let (name, value) = plain.split_at(value);
    let both = arg.get_short().filter(|_| arg.get_long().is_some());
    let short = both.map(|short| format!("{literal}-{short}{literal:#}, ")).unwrap_or_default();
    Row {
        group: arg.get_help_heading().unwrap_or(none).to_owned(),
        width: plain.chars().count() + both.map_or(0, |_| "-x, ".len()),
        flag: format!("{short}{literal}{name}{literal:#}{placeholder}{value}{placeholder:#}").into(),
        text: text(arg),
    }
}

/// What a flag does and, in brackets, its default or the values that it takes.
fn text(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default().replace("[default: ", "[");
    let list = |words: Vec<String>| if words.is_empty() { String::new() } else { format!(" [{}]", words.join(", ")) };
    if arg.get_action().takes_values() && !arg.is_hide_default_value_set() {
        text += &list(arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect());
    }
    if !arg.is_hide_possible_values_set() {
        text += &list(arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect());
    }
    text
}

fn write_rows(help: &mut StyledStr, rows: &[Row], styles: &Styles) {
    let header = styles.get_header();
    let first = rows.iter().map(|row| row.group.len()).max().unwrap_or_default() + GAP;
    let widest = rows.iter().map(|row| row.width).filter(|width| *width <= WIDEST_FLAG).max().unwrap_or_default();
    let column = first + widest + GAP;
    let mut above = None;
    for row in rows {
        let group = if above == Some(&row.group) { "" } else { &row.group };
        above = Some(&row.group);
        let begin = column.max(first + row.width + GAP);
        let (left, right) = (first - group.len(), begin - first - row.width);
        let text = wrapped(&row.text, begin, column);
        let _ = match group {
            "" => write!(help, "{:left$}", ""),
            _ => write!(help, "{header}{group}{header:#}{:left$}", ""),
        };
        let _ = writeln!(help, "{}{:right$}{text}", row.flag.ansi(), "");
    }
}

/// The text in lines that end before the screen does: the first begins in column `first`, the others in column `rest`.
fn wrapped(text: &str, first: usize, rest: usize) -> String {
    let mut lines = String::new();
    let mut column = first;
    for (at, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if at > 0 && column + 1 + width > WIDTH {
            let _ = write!(lines, "\n{:rest$}", "");
            column = rest;
        } else if at > 0 {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_short_help_leaves_anything_out() {
        let mut definitions = Cli::command();
        definitions.build();
        for command in definitions.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let (short, long) = (short(command).to_string(), command.render_long_help().to_string());
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let flag = arg.to_string();
                let is_in =
                    |help: &str| help.lines().any(|line| line.contains(&format!("{flag} ")) || line.ends_with(&flag));
                assert!(is_in(&long), "{flag}\n{long}");
                let is_kept = !arg.is_hide_short_help_set() && !["help", "version"].contains(&arg.get_id().as_str());
                assert!(!is_kept || is_in(&short), "{flag}\n{short}");
            }
        }
    }

    #[test]
    fn a_text_is_wrapped_below_its_own_column() {
        let words = ["word"; 30].join(" ");
        let text = wrapped(&words, 40, 20);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.iter().map(|line| line.len()).collect::<Vec<_>>(), [39, 79, 69]);
        assert!(lines[1..].iter().all(|line| line.starts_with(&format!("{:20}w", ""))), "{text}");
        assert_eq!(wrapped("", 40, 20), "");
    }
}
