//! Signal names as people type them for `-s`: `TERM`, `SIGTERM`, `term`, `15`. Only those whose default action ends a
//! process (signal(7)) are taken: a first signal that cannot end anything would make every loss wait out the grace.

use std::str::FromStr;

use nix::sys::signal::Signal;
use thiserror::Error;

use super::slip;

/// Why a text is no signal for `-s`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SignalError {
    /// Neither a name nor a number of a signal. Real-time signals have no names here.
    #[error("there is no signal \"{0}\": write for example TERM, INT, HUP, USR1, KILL or a number such as 15")]
    Unknown(String),
    /// Nearly a name.
    #[error("there is no signal \"{0}\": did you mean {1}?")]
    Slip(String, &'static str),
    /// A signal that a process ignores by default, or that stops or continues it.
    #[error("{} does not end a process: choose one that does, for example TERM, INT, HUP or KILL", .0.as_str())]
    Harmless(Signal),
}

/// The signal that `text` names.
pub(crate) fn parse(text: &str) -> Result<Signal, SignalError> {
    let unknown = || match nearest(text) {
        Some(name) => SignalError::Slip(text.to_owned(), name),
        None => SignalError::Unknown(text.to_owned()),
    };
    let signal = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok()).ok_or_else(unknown)?
    } else {
        let upper = text.to_ascii_uppercase();
        let name = match upper.strip_prefix("SIG").unwrap_or(&upper) {
            // The older names for three of them, which kill(1) takes as well.
            "CLD" => "CHLD",
            "IOT" => "ABRT",
            "POLL" => "IO",
            name => name,
        };
        Signal::from_str(&format!("SIG{name}")).map_err(|_| unknown())?
    };
    if is_harmless(signal) { Err(SignalError::Harmless(signal)) } else { Ok(signal) }
}

/// Whether it ends no process by default.
fn is_harmless(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::SIGCHLD
            | Signal::SIGCONT
            | Signal::SIGSTOP
            | Signal::SIGTSTP
            | Signal::SIGTTIN
            | Signal::SIGTTOU
            | Signal::SIGURG
            | Signal::SIGWINCH
    )
}

/// The name without SIG, of those that are taken, that is a slip away.
fn nearest(text: &str) -> Option<&'static str> {
    let upper = text.to_ascii_uppercase();
    let taken = Signal::iterator().filter(|&signal| !is_harmless(signal));
    slip::nearest(upper.strip_prefix("SIG").unwrap_or(&upper), taken.filter_map(|signal| signal.as_str().get(3..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_signal_goes_by_any_of_its_names() {
        for text in ["TERM", "SIGTERM", "term", "sigterm", "Term", "15"] {
            assert_eq!(parse(text), Ok(Signal::SIGTERM), "{text}");
        }
        assert_eq!(parse("9"), Ok(Signal::SIGKILL));
        assert_eq!(parse("usr1"), Ok(Signal::SIGUSR1));
        assert_eq!(parse("IOT"), Ok(Signal::SIGABRT));
    }

    #[test]
    fn what_ends_nothing_is_refused_by_name() {
        for text in ["CONT", "STOP", "TSTP", "TTIN", "TTOU", "CHLD", "CLD", "WINCH", "URG", "18"] {
            let message = parse(text).map_err(|error| error.to_string()).expect_err(text);
            assert!(message.starts_with("SIG") && message.contains("does not end a process"), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_with_examples() {
        for text in ["", "SIG", "SIGSIGTERM", "TERMINATE", "0", "34", "999", "99999999999", "-15", "+15"] {
            let message = parse(text).map_err(|error| error.to_string()).expect_err(text);
            assert!(message.contains(&format!("\"{text}\"")) && message.contains("TERM, INT"), "{message}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_a_signal_that_is_taken() {
        for (text, meant) in
            [("TRM", "TERM"), ("SIGTRM", "TERM"), ("trem", "TERM"), (" TERM", "TERM"), ("HPU", "HUP"), ("usr", "USR1")]
        {
            assert_eq!(parse(text), Err(SignalError::Slip(text.to_owned(), meant)), "{text}");
        }
        // CONT is not taken.
        assert_eq!(parse("CONTT"), Err(SignalError::Unknown("CONTT".to_owned())));
    }

    #[test]
    fn every_signal_that_can_end_a_process_is_taken() {
        let taken = Signal::iterator().filter(|&signal| parse(signal.as_str()) == Ok(signal)).count();
        assert_eq!(taken, Signal::iterator().count() - 8);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,12}") {
            if let Ok(signal) = parse(&text) {
                prop_assert_eq!(parse(signal.as_str()), Ok(signal));
            }
        }
    }
}
