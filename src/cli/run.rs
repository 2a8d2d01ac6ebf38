//! `consul-lock run`: from what was typed to the exit code, by way of the run itself.

use super::args::RunArgs;
use super::exit::{Exit, code};
use super::metrics::Metrics;
use super::plan;
use super::refusal::Refusal;
use super::report::{self, Report};
use super::systemd::Manager;
use crate::guard::Inherited;
use crate::run::{self, Class, Note, Outcome};

/// Runs a command under a lock.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn run(mut args: RunArgs, inherited: Inherited) -> anyhow::Result<Exit> {
    let output = args.output;
    let refuse = |refusal: Refusal| {
        Report::error(output, &[], refusal.code, &refusal.message);
        Ok(Exit::Code(refusal.code))
    };
    let metrics = args.metrics_file.take().map(|path| Metrics::new(path, &args.keys.join(" "))).transpose();
    let mut metrics = match metrics {
        Ok(metrics) => metrics,
        Err(refusal) => return refuse(refusal),
    };
    let meant = match plan::make(args, inherited) {
        Ok(meant) => meant,
        Err(refusal) => {
            // Nothing more can be said of a file that cannot be written now.
            let _ = metrics.map(|metrics| metrics.write(Exit::Code(refusal.code), false));
            return refuse(refusal);
        }
    };
    let mut report = Report::new(output, meant.keys.clone(), meant.plan.kill_signal);
    let mut manager = None;
    // The first note comes after the guard was forked: from there on there may be threads.
    let outcome = run::run(meant.plan, |note| {
        metrics.iter_mut().for_each(|metrics| metrics.note(&note));
        report.tell(&note);
        manager.get_or_insert_with(|| Manager::new(report::names(&meant.keys))).tell(&note);
    });
    let exit = outcome.as_ref().map_or(Exit::Code(code::INTERNAL), |outcome| Exit::of(outcome, meant.codes));
    let success = matches!(outcome, Ok(Outcome::Exited(0)));
    if let Some(Err(why)) = metrics.map(|metrics| metrics.write(exit, success)) {
        report.tell(&Note::MetricsUnwritten(why));
    }
    report.finish();
    if let Some(manager) = manager {
        manager.finish();
    }
    let outcome = outcome?;
    if let Some(message) = last_word(&outcome, output.quiet) {
        let code = if let Exit::Code(code) = exit { code } else { code::INTERNAL };
        Report::error(output, &meant.keys, code, &message);
    }
    Ok(exit)
}

/// The message of an outcome of which the run itself has not told.
pub(super) fn last_word(outcome: &Outcome, quiet: bool) -> Option<String> {
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
