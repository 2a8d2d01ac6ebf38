//! What a person types and reads: from arguments to a plan, from an outcome to messages and an exit code.

mod args;
mod exit;
mod plan;
mod program;
mod report;
mod signal;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::guard::Inherited;
use crate::run::{self, Class, Outcome};
use crate::sys;
use args::{Cli, Command, RunArgs};
use exit::{Exit, code};
use report::Report;

/// Does what the arguments say.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn main() -> anyhow::Result<Exit> {
    // First of all: what is opened or handled later would pass for inherited.
    let inherited = Inherited::read();
    sys::share_heap();
    match Cli::try_parse() {
        Ok(Cli { command: Command::Run(args) }) => run(*args, inherited),
        Err(error) => {
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed standard output is no reason to fail.
            let _ = error.print();
            Ok(Exit::Code(if is_help { 0 } else { code::USAGE }))
        }
    }
}

fn run(args: RunArgs, inherited: Inherited) -> anyhow::Result<Exit> {
    let output = args.output;
    let meant = match plan::make(args, inherited) {
        Ok(meant) => meant,
        Err(refusal) => {
            Report::error(output, &[], refusal.code, &refusal.message);
            return Ok(Exit::Code(refusal.code));
        }
    };
    let mut report = Report::new(output, meant.keys.clone(), meant.plan.kill_signal);
    let outcome = run::run(meant.plan, |note| report.tell(&note))?;
    report.finish();
    let exit = Exit::of(&outcome, meant.codes);
    if let Some(message) = last_word(&outcome, output.quiet) {
        let code = if let Exit::Code(code) = exit { code } else { code::INTERNAL };
        Report::error(output, &meant.keys, code, &message);
    }
    Ok(exit)
}

/// The message of an outcome of which the run itself has not told.
fn last_word(outcome: &Outcome, quiet: bool) -> Option<String> {
    match outcome {
        // flock(1) -n says nothing at all; we say who it was, unless told not to.
        Outcome::NotAcquired(refused) if quiet && refused.class == Class::Conflict => None,
        Outcome::NotAcquired(refused) => Some(refused.message.clone()),
        Outcome::NotStarted(errno) => Some(format!(
            "the command cannot be executed: {}; the lock was released",
            nix::errno::Errno::from_raw(*errno).desc()
        )),
        Outcome::GuardDied => {
            Some("lock-guard was killed from outside; the command was killed with it, and the lock released".to_owned())
        }
        Outcome::Exited(_) | Outcome::Killed(_) | Outcome::Interrupted(_) | Outcome::Lost(_) => None,
    }
}

/// Tells a fault that nothing foresees, and ends.
pub(crate) fn fail(error: &anyhow::Error) -> ! {
    report::write_last(format!("consul-lock: {error:#}"));
    Exit::Code(code::INTERNAL).exit()
}
