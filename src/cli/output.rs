//! How much is said, and in which form: the flags of that name, on every command.

use clap::{ArgAction, Args, ValueEnum};

use super::exit::Exit;
use super::stdout::{self, Unwritten};

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Say nothing but errors and losses.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say more; twice: each confirmation.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Text, or a JSON object a line.
    #[arg(long, value_name = "text|json", hide_possible_values = true, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Colours in messages; NO_COLOR is respected.
    #[arg(long, hide_short_help = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

/// Prints what was asked for on standard output. Whoever has closed it has read enough.
pub(crate) fn print(text: &str) -> Exit {
    match stdout::write(text) {
        Err(Unwritten::Failed(refusal)) => {
            super::report::write_last(format!("consul-lock: {}", refusal.message));
            Exit::Code(refusal.code)
        }
        Ok(()) | Err(Unwritten::NoReader) => Exit::Code(0),
    }
}
