//! Words for a POSIX shell that evaluates what we print.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use consul_lock::clock::Moment;

use super::exit::Exit;
use super::stdout;

/// `text` as one word, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One command that exports these variables.
pub(super) fn export(variables: &[(&str, String)]) -> String {
    let words: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("export {}\n", words.join(" "))
}

/// A moment as a script can reckon with it: seconds since 1970 by this machine's clock, rounded down. Nothing is empty.
pub(super) fn seconds(moment: Option<Moment>) -> String {
    let Some(moment) = moment else { return String::new() };
    let (now, here) = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), Moment::now());
    let at = if moment > here { now + moment.since(here) } else { now.saturating_sub(here.since(moment)) };
    Duration::as_secs(&at).to_string()
}

/// Makes the shell that evaluates it fail as we do: the exit status of a command within `eval "$(...)"` is not the
/// shell's.
pub(super) fn fail(exit: Exit) {
    let code = match exit {
        Exit::Code(0) => return,
        Exit::Code(code) => i32::from(code),
        Exit::Signal(signal) => 128 + signal as i32,
    };
    // There is nobody to tell who would not know.
    let _ = stdout::put(&format!("(exit {code})\n"));
}

/// Whether somebody evaluates what we print, as far as arguments that make no sense can say: the name of the command may be
/// what is wrong with them. What follows `run` may be for another program.
pub(super) fn is_evaluated<'a>(arguments: impl Iterator<Item = &'a OsStr>) -> bool {
    let mut arguments = arguments.take_while(|argument| *argument != "--").peekable();
    arguments.peek().is_some_and(|command| *command != "run") && arguments.any(|argument| argument == "--export")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the shell makes of it: `printf %s` of each word, with a byte of zero behind.
    fn as_read_by_sh(words: &str) -> Vec<u8> {
        let script = format!("printf '%s\\0' {words}");
        std::process::Command::new("sh").args(["-c", &script]).output().expect("sh is there").stdout
    }

    #[test]
    fn the_shell_reads_every_character_as_it_is() {
        let all: String = (1_u8..128).map(char::from).chain("ü€𝄞".chars()).collect();
        for text in ["", "a b", "'", "''", "it's", "$(id)`id`", "\\", "\n", "a\n\n", "!!", "~", "*", all.as_str()] {
            assert_eq!(as_read_by_sh(&quote(text)), [text.as_bytes(), b"\0"].concat(), "{text:?}");
        }
    }

    #[test]
    fn variables_are_exported_by_one_command() {
        assert_eq!(export(&[("A", "it's".into()), ("B", String::new())]), "export A='it'\\''s' B=''\n");
    }

    #[test]
    fn a_moment_is_never_later_than_it_is() {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let before = now();
        let shown: f64 = seconds(Some(Moment::now() + Duration::from_secs(60))).parse().unwrap();
        assert!(shown <= now() + 60.0 && shown > before + 58.0, "{shown} {before}");
        assert_eq!(seconds(None), "");
        assert!(seconds(Some(Moment::now() - Duration::from_secs(60))).parse::<f64>().unwrap() < now());
    }

    #[test]
    fn who_asks_for_variables_is_known_even_when_nothing_else_makes_sense() {
        let asks = |words: &[&str]| is_evaluated(words.iter().map(|word| OsStr::new(*word)));
        assert!(asks(&["acquire", "--bogus", "--export"]) && asks(&["renew", "--export"]));
        assert!(asks(&["aquire", "--export", "k"]) && asks(&["-q", "acquire", "--export", "k"]));
        assert!(!asks(&["run", "k", "-c", "true", "--export"]));
        assert!(!asks(&["acquire", "k"]) && !asks(&["run", "k", "--", "x", "--export"]) && !asks(&[]));
        assert!(!asks(&["acquire", "--", "--export"]));
    }

    proptest! {
        #[test]
        fn quoted_text_has_no_quote_that_ends_it(text in "[ -~\\n']{0,40}") {
            let quoted = quote(&text);
            let outside = quoted.replace(r"'\''", "");
            prop_assert!(outside.starts_with('\'') && outside.ends_with('\''));
            prop_assert_eq!(outside.matches('\'').count(), 2);
        }
    }
}
