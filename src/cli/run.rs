//! `consul-lock run`: from what was typed to the exit code, by way of the run itself.

use super::args::RunArgs;
use super::exit::{Exit, code};
use super::plan;
use super::report::{self, Report};
use super::systemd::Manager;
use crate::guard::Inherited;
use crate::run::{self, Class, Outcome};

/// Runs a command under a lock.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn run(args: RunArgs, inherited: Inherited) -> anyhow::Result<Exit> {
    let output = args.output;
    let meant = match plan::make(args, inherited) {
        Ok(meant) => meant,
        Err(refusal) => {
            Report::error(output, &[], refusal.code, &refusal.message);
            return Ok(Exit::Code(refusal.code));
        }
    };
    let mut report = Report::new(output, meant.keys.clone(), meant.plan.kill_signal);
    let mut manager = None;
    // The first note comes after the guard was forked: from there on there may be threads.
    let outcome = run::run(meant.plan, |note| {
        report.tell(&note);
        manager.get_or_insert_with(|| Manager::new(report::names(&meant.keys))).tell(&note);
    })?;
    report.finish();
    if let Some(manager) = manager {
        manager.finish();
    }
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
