//! What is said to somebody who typed what cannot be meant: clap's own words, with our prefix, in the form that was asked
//! for; and where it can be told what was meant, the right line to type.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, ValueEnum};

use super::args::{Cli, Command, Hold};
use super::exit::{Exit, code};
use super::help;
use super::output::{ColorArg, LogFormat, Output};
use super::report::Report;

/// Answers what could not be parsed: help that was asked for, or what is wrong.
pub(crate) fn answer(error: &clap::Error, typed: &[OsString]) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            help::print(error);
            Exit::Code(if error.use_stderr() { code::USAGE } else { 0 })
        }
        _ => {
            let typed: Vec<_> = typed.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let output = output_of(&typed);
            let (wrong, rest) = words(error);
            let message = match (meant(error, &typed), output.log_format) {
                (Some(Meant::Line(line)), LogFormat::Text) => {
                    format!("{wrong}; did you mean this?\n\n    {line}\n\nFor more information, try '--help'.")
                }
                (Some(Meant::Line(line)), LogFormat::Json) => format!("{wrong}; did you mean: {line}"),
                (Some(Meant::Word(word)), LogFormat::Text) => format!("{wrong}: did you mean {word}?{rest}"),
                (Some(Meant::Word(word)), LogFormat::Json) => format!("{wrong}: did you mean {word}?"),
                (None, LogFormat::Text) => format!("{wrong}{rest}"),
                (None, LogFormat::Json) => wrong,
            };
            Report::error(output, &[], code::USAGE, &message);
            Exit::Code(code::USAGE)
        }
    }
}

/// What was probably meant.
enum Meant {
    /// This flag, command or value.
    Word(String),
    /// This whole line.
    Line(String),
}

/// What is wrong, on one line, and clap's usage and hint.
fn words(error: &clap::Error) -> (String, String) {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    let (wrong, _) = text.split_once("\n\n").unwrap_or((text, ""));
    let wrong = wrong.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let rest = text.find("\n\nUsage:").or_else(|| text.find("\n\nFor more information"));
    (wrong, rest.map_or_else(String::new, |at| text[at..].to_owned()))
}

fn meant(error: &clap::Error, typed: &[String]) -> Option<Meant> {
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedValue, ContextKind::SuggestedSubcommand];
    let suggested = suggested.into_iter().find_map(|kind| text_of(error.get(kind)?)).map(Meant::Word);
    let first = typed.get(1)?;
    if let Some(limit) = limit(error, typed) {
        return Some(limit);
    }
    let unknown = error.get(ContextKind::InvalidSubcommand).and_then(text_of);
    let near = unknown.and_then(|word| nearest(&word)).map(Meant::Word).or(suggested);
    if names().contains(first) {
        return near.or_else(|| without_dashes(error, typed).map(Meant::Line));
    }
    match with_run(typed) {
        Some((line, is_certain)) if is_certain || near.is_none() => Some(Meant::Line(line)),
        _ => near,
    }
}

/// What `consul lock -n=3` means, as Go's flags may be written, and `-n3`. In `-n 3` the number has become a key, which is
/// answered with the keys.
fn limit(error: &clap::Error, typed: &[String]) -> Option<Meant> {
    let is_for_a_lock = error.kind() == ErrorKind::UnknownArgument && ["run", "acquire"].contains(&typed[1].as_str());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = typed.iter().take_while(|word| *word != "--").filter_map(|word| {
        let number = word.strip_prefix("-n")?;
        Some(number.strip_prefix('=').unwrap_or(number))
    });
    numbers.filter(|_| is_for_a_lock).find(|text| is_number(text)).map(|limit| Meant::Word(format!("--limit {limit}")))
}

fn text_of(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// The line with `run` in it, as for `consul-lock KEY -- COMMAND` and, as people know it from `consul lock`,
/// `consul-lock KEY COMMAND`; and whether nothing else can be meant: there is a key and a command.
fn with_run(typed: &[String]) -> Option<(String, bool)> {
    let mut line = typed.to_vec();
    line.insert(1, "run".to_owned());
    let Ok(Command::Hold(Hold::Run(args))) = Command::read(&line) else { return None };
    let is_complete = !args.command.is_empty() || args.shell.is_some();
    if !is_complete {
        match dashed(&line) {
            Some(dashed) => line = dashed,
            None => line.extend(["--".to_owned(), "COMMAND".to_owned()]),
        }
    }
    Some((quoted(&line), is_complete && args.keys.len() == 1))
}

/// The line with `--` before the command, if that is all that it lacks: `consul-lock run KEY ls -l`.
fn without_dashes(error: &clap::Error, typed: &[String]) -> Option<String> {
    let is_flag = error.kind() == ErrorKind::UnknownArgument && typed[1] == "run";
    let dashed = is_flag.then(|| dashed(typed)).flatten()?;
    Some(quoted(&dashed))
}

/// The line with `--` behind the first key, if a line with a key and a command comes out.
fn dashed(line: &[String]) -> Option<Vec<String>> {
    if line.iter().any(|word| word == "--") {
        return None;
    }
    (2..line.len()).find_map(|at| {
        let mut line = line.to_vec();
        line.insert(at, "--".to_owned());
        let Ok(Command::Hold(Hold::Run(args))) = Command::read(&line) else { return None };
        (!args.keys.is_empty() && !args.command.is_empty()).then_some(line)
    })
}

/// A line as a shell takes it, without a token in it.
fn quoted(line: &[String]) -> String {
    let mut line = line.to_vec();
    for at in 1..line.len() {
        if line[at - 1] == "--token" {
            line[at] = "TOKEN".to_owned();
        } else if line[at].starts_with("--token=") {
            line[at] = "--token=TOKEN".to_owned();
        }
    }
    let is_safe = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    let quote = |word: &String| match word.chars().all(is_safe) && !word.is_empty() {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let words = line.iter().skip(1).map(quote);
    ["consul-lock".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// The commands' names.
fn names() -> Vec<String> {
    let cli = Cli::command();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).chain(["help".to_owned()]).collect()
}

/// The command whose name is a slip of the finger away: clap's own measure finds that "rnu" is not like "run".
fn nearest(word: &str) -> Option<String> {
    let slips = if word.chars().count() < 5 { 1 } else { 2 };
    let near =
        names().into_iter().map(|name| (distance(word, &name), name)).filter(|(slips_made, _)| *slips_made <= slips);
    near.min().map(|(_, name)| name)
}

/// How many slips lie between two words: a letter too many, one too few, a wrong one, two in the wrong order.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(letter != other)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == to[j - 1] && from[i - 1] == *other {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// In which form to answer somebody whose flags cannot be parsed.
fn output_of(typed: &[String]) -> Output {
    let ours: Vec<_> = typed.iter().take_while(|word| *word != "--").collect();
    let value = |flag: &str| {
        let next = |at: usize| ours.get(at + 1).map(|word| word.as_str());
        ours.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(flag)? {
            "" => next(at),
            rest => rest.strip_prefix('='),
        })
    };
    let log_format = value("--log-format").and_then(|text| LogFormat::from_str(text, false).ok());
    let color = value("--color").and_then(|text| ColorArg::from_str(text, false).ok());
    Output {
        quiet: false,
        verbose: 0,
        log_format: log_format.unwrap_or(LogFormat::Text),
        color: color.unwrap_or(ColorArg::Auto),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_one() {
        for (from, to, slips) in [("rnu", "run", 1), ("ru", "run", 1), ("runn", "run", 1), ("wiat", "wait", 1)] {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
        assert_eq!((distance("", "run"), distance("run", "run"), distance("list", "status")), (3, 0, 5));
        assert_eq!(nearest("rnu").as_deref(), Some("run"));
        assert_eq!(nearest("completoins").as_deref(), Some("completions"));
        assert_eq!(nearest("deploy/web"), None);
    }

    #[test]
    fn a_line_is_one_that_a_shell_takes() {
        let line = ["x", "run", "a b", "--", "sh", "-c", "echo 'hi'", ""].map(str::to_owned);
        assert_eq!(quoted(&line), r"consul-lock run 'a b' -- sh -c 'echo '\''hi'\''' ''");
        let line = ["x", "run", "--token", "s3cret", "--token=s3cret", "k"].map(str::to_owned);
        assert_eq!(quoted(&line), "consul-lock run --token TOKEN --token=TOKEN k");
    }
}
