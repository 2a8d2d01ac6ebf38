//! Messages for people: sentences, each at its level.

use std::fmt::Display;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use consul_lock::duration;
use consul_lock::lock::{Key, Loss};
use consul_lock::plain::plain;
use nix::sys::signal::Signal;

use super::{Level, is_coloured, names};
use crate::cli::output::ColorArg;
use crate::run::Note;

/// Tells in text.
#[derive(Debug)]
pub(super) struct Text {
    /// The lock's keys, in words.
    names: String,
    /// What the command gets before SIGKILL.
    first_signal: Signal,
    color: ColorArg,
    /// What is told once was told.
    told_retrying: bool,
}

/// How much a message is to catch the eye.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    Plain,
    Warning,
    Bad,
}

impl Text {
    pub(super) fn new(keys: &[Key], first_signal: Signal, color: ColorArg) -> Self {
        Self { names: names(keys), first_signal, color, told_retrying: false }
    }

    /// The line for a note, if it is told at this level.
    pub(super) fn line(&mut self, note: &Note, level: Level) -> Option<String> {
        let (needed, tone, message) = self.word(note)?;
        (needed <= level).then(|| paint(tone, &message, is_coloured(self.color)))
    }

    /// A line that is always told.
    pub(super) fn plain(&self, message: &str) -> String {
        paint(Tone::Plain, message, is_coloured(self.color))
    }

    #[allow(clippy::too_many_lines)] // A table, in the order of a run.
    fn word(&mut self, note: &Note) -> Option<(Level, Tone, String)> {
        use Level::{Always, Debug, Normal, Verbose};
        use Tone::{Bad, Plain, Warning};
        let names = &self.names;
        Some(match note {
            Note::Waiting { key, holder } => (Normal, Plain, format!("waiting for {key}, held by {holder}")),
            Note::WaitingHere { key, holder: Some(record) } => {
                (Normal, Plain, format!("waiting for {key}, held by {record}"))
            }
            Note::WaitingHere { key, holder: None } => {
                (Normal, Plain, format!("waiting for {key}, held by another process on this machine"))
            }
            Note::Delayed { key, left } => {
                let left = left.map_or_else(String::new, |left| format!(", {} at least", duration::show(whole(left))));
                let why = "its last holder lost it and may still be at work";
                (Normal, Plain, format!("waiting for {key} until its lock delay is over{left}: {why}"))
            }
            Note::Ahead { key, ahead: 0 } => (Verbose, Plain, format!("next in line for {key}")),
            Note::Ahead { key, ahead } => (Verbose, Plain, format!("{ahead} before us in the line for {key}")),
            Note::Unqueued { key, reason } => {
                let mend = format!("key_prefix \"{key}/.queue/\" {{ policy = \"write\" }}");
                (
                    Normal,
                    Warning,
                    format!(
                        "no place in the line for {key} ({reason}), so that anybody may come first: the token needs {mend}"
                    ),
                )
            }
            Note::OtherLimit { key, holder, theirs, ours } => {
                (Normal, Warning, other_limit(key, holder, *theirs, *ours))
            }
            Note::OtherLimitHere { key, holder, ours } => {
                (Normal, Warning, other_limit(key, holder, holder.limit, *ours))
            }
            Note::Retrying(why) => {
                let level = if std::mem::replace(&mut self.told_retrying, true) { Debug } else { Normal };
                (level, Warning, format!("{why}; trying again"))
            }
            Note::SessionReplaced(id) => {
                (Normal, Warning, format!("the session ended while waiting for {names}; waiting on under {id}"))
            }
            Note::StartedAgain { lost, session } => {
                let what = lost.as_ref().map_or_else(|| "the session".to_owned(), Key::to_string);
                let message = format!(
                    "lost {what} while waiting for the rest of {names}; all was given back, starting again under {session}"
                );
                (Normal, Warning, message)
            }
            Note::Acquired { grant, after } => {
                let session = grant.session.as_ref().map_or_else(String::new, |id| format!(", session {id}"));
                let after = duration::show(*after);
                let fences = grant.fences.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                let word = if grant.fences.len() == 1 { "fence" } else { "fences" };
                (Verbose, Plain, format!("acquired {names} after {after} ({word} {fences}{session})"))
            }
            Note::Plan(terms) => {
                let [every, term, kill, safe] =
                    [terms.interval(), terms.until_term(), terms.until_deadline(), terms.delay()].map(duration::show);
                let plan = format!(
                    "lease: confirmed every {every}; without a confirmation {} after {term}, SIGKILL after {kill}, nobody else \
                     before {safe}",
                    name(self.first_signal)
                );
                (Verbose, Plain, plan)
            }
            Note::NoGuarantee(why) => (Always, Warning, format!("no guarantee: {why}")),
            Note::Started(pid) => (Verbose, Plain, format!("started the command, pid {pid}")),
            Note::Unconfirmed { trouble, since, left, first, urgent } => {
                let level = if *urgent {
                    Normal
                } else if *first {
                    Verbose
                } else {
                    Debug
                };
                let (since, left) = (duration::show(*since), duration::show(*left));
                let message = format!(
                    "{names} not confirmed for {since}: {trouble}; the command is told to stop in {left} unless Consul answers"
                );
                (level, Warning, message)
            }
            Note::Confirmed { after_trouble: Some(time) } => {
                (Verbose, Plain, format!("{names} confirmed again after {}", duration::show(*time)))
            }
            Note::Confirmed { after_trouble: None } => (Debug, Plain, format!("{names} confirmed")),
            Note::RenewalFailing(why) => (Normal, Warning, format!("the session is not renewed: {why}")),
            Note::Lost { loss, key, grace } => {
                let seen = key.as_ref().map_or_else(String::new, |key| format!(", seen at {key}"));
                (Always, Bad, format!("lost {names}{seen}: {loss}; {}", verdict(loss, *grace)))
            }
            Note::Dead { after, left } => {
                let left = match left {
                    Some(left) => format!("{} before anybody else could hold the lock", duration::show(*left)),
                    None => "somebody else may have held the lock before".to_owned(),
                };
                // A keeper that was stopped hears of the loss after the end.
                let when = if after.is_zero() {
                    "already".to_owned()
                } else {
                    format!("{} after that", duration::show(*after))
                };
                (Always, Bad, format!("the command and all that it started was dead {when}, {left}"))
            }
            Note::Forwarded(signal) => (Verbose, Plain, format!("passed {} on to the command", name(*signal))),
            Note::Hurried(signal) => (Verbose, Plain, format!("{} came", name(*signal))),
            Note::Exited { code, signal, left } => {
                let how = match (code, signal) {
                    (_, Some(signal)) => format!("died of {}", name(*signal)),
                    (Some(code), None) => format!("ended with code {code}"),
                    (None, None) => "ended".to_owned(),
                };
                let left = match left {
                    0 => String::new(),
                    1 => ", leaving a process behind".to_owned(),
                    left => format!(", leaving {left} processes behind"),
                };
                (Verbose, Plain, format!("the command {how}{left}"))
            }
            Note::KilledLeftBehind { pid, name } => {
                let mend = "--background wait holds the lock for such processes, --background leave lets them live";
                (Always, Warning, format!("ended {name} (pid {pid}), which the command left behind: {mend}"))
            }
            Note::Unkillable { pid, user, name } => {
                (Always, Bad, format!("{name} (pid {pid} of {user}) cannot be killed"))
            }
            Note::HoldingOn => {
                (Always, Bad, format!("holding on to {names} until it ends; another signal gives up on that"))
            }
            Note::TakingOver => {
                (Always, Bad, "lock-guard does not answer; killing the command in its place".to_owned())
            }
            Note::Released => (Verbose, Plain, format!("released {names}")),
            Note::GoneBeforeRelease => (
                Always,
                Warning,
                format!("{names} was not ours any more when it was released: it was lost shortly before the end"),
            ),
            Note::MetricsUnwritten(why) => (Normal, Warning, why.clone()),
            Note::ReleaseUnanswered(why) => (
                Normal,
                Warning,
                format!(
                    "{names} may not be released ({why}): if so, it is free when its session has ended and the lock delay is over"
                ),
            ),
        })
    }
}

fn verdict(loss: &Loss, grace: Duration) -> String {
    match (loss, grace.is_zero()) {
        (_, true) => "killing the command".to_owned(),
        (_, false) => format!("ending the command, {} to go until SIGKILL", duration::show(grace)),
    }
}

/// Nobody wants to know that a lock has been held for 3.217 s.
fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

fn name(signal: Signal) -> &'static str {
    signal.as_str()
}

/// The line for the error that ended everything.
pub(super) fn error(message: &str, coloured: bool) -> String {
    paint(Tone::Bad, message, coloured)
}

/// A message as it is written. What others have put into it (programs' names, a key's value) does nothing to a terminal.
pub(super) fn paint(tone: Tone, message: &str, coloured: bool) -> String {
    let colour = match tone {
        Tone::Plain => AnsiColor::Cyan,
        Tone::Warning => AnsiColor::Yellow,
        Tone::Bad => AnsiColor::Red,
    };
    let style = if coloured { colour.on_default() } else { Style::new() };
    let lines: Vec<_> = message.lines().map(plain).collect();
    format!("{style}consul-lock:{style:#} {}", lines.join("\n"))
}

/// That somebody has the lock with another limit than ours.
fn other_limit(key: &Key, holder: &impl Display, theirs: u16, ours: u16) -> String {
    format!(
        "{key} is held with another limit, {theirs} and not {ours}, by {holder}: as many as the greater one may run at once"
    )
}
