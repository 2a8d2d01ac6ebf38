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
use super::slip;

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
    let near = nearest_of(error).map(Meant::Word).or(suggested);
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

/// The command, or the value of a flag, that is a slip away from what was typed.
fn nearest_of(error: &clap::Error) -> Option<String> {
    let text = |kind| error.get(kind).and_then(text_of);
    let (word, known) = match (text(ContextKind::InvalidSubcommand), error.get(ContextKind::ValidValue)) {
        (Some(word), _) => (word, names()),
        (None, Some(ContextValue::Strings(values))) => (text(ContextKind::InvalidValue)?, values.clone()),
        _ => return None,
    };
    slip::nearest(&word, known.iter().map(String::as_str)).map(str::to_owned)
}

/// The line with `run` in it, as for `consul-lock KEY -- COMMAND` and, as people know it from `consul lock`,
/// `consul-lock KEY COMMAND`; and whether nothing else can be meant: there is a key and a command.
fn with_run(typed: &[String]) -> Option<(String, bool)> {
    let mut line = typed.to_vec();
    line.insert(1, "run".to_owned());
    // A slip in a flag as well is mended as it would be after `run`.
    let lacks_command = loop {
        match Command::read(&line) {
            Ok(Command::Hold(Hold::Run(args))) if !args.command.is_empty() || args.shell.is_some() => {
                return Some((quoted(&line), args.keys.len() == 1));
            }
            Ok(Command::Hold(Hold::Run(_))) => break true,
            Ok(_) => return None,
            Err(error) => match with_flag(&error, &line) {
                Some(mended) => line = mended,
                None => break false,
            },
        }
    };
    if let Some(dashed) = dashed(&line) {
        return Some((quoted(&dashed), false));
    }
    line.extend(["--".to_owned(), "COMMAND".to_owned()]);
    lacks_command.then(|| (quoted(&line), false))
}

/// The line with the flag that clap suggests in the place of one that there is not.
fn with_flag(error: &clap::Error, line: &[String]) -> Option<Vec<String>> {
    let unknown = error.get(ContextKind::InvalidArg).and_then(text_of)?;
    let flag = error.get(ContextKind::SuggestedArg).and_then(text_of)?;
    let mut line = line.to_vec();
    let word = line.iter_mut().find(|word| word.split('=').next() == Some(unknown.as_str()))?;
    *word = word.replacen(&unknown, &flag, 1);
    Some(line)
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
        // What begins with a dash is a flag of ours, and no command.
        let is_command = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
        (!args.keys.is_empty() && args.command.first().is_some_and(is_command)).then_some(line)
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
    fn a_line_is_one_that_a_shell_takes() {
        let line = ["x", "run", "a b", "--", "sh", "-c", "echo 'hi'", ""].map(str::to_owned);
        assert_eq!(quoted(&line), r"consul-lock run 'a b' -- sh -c 'echo '\''hi'\''' ''");
        let line = ["x", "run", "--token", "s3cret", "--token=s3cret", "k"].map(str::to_owned);
        assert_eq!(quoted(&line), "consul-lock run --token TOKEN --token=TOKEN k");
    }
}
