//! The acquisition as far as a process is concerned: it waits in a thread, and whoever started it, a signal, or the end of
//! the process that it is for, can call it off. Nothing is left behind then.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use consul_lock::clock::Moment;
use consul_lock::lock::{self, Claim, Detached, Holding, Notice, Stop, Tell};
use nix::sys::signal::Signal;

use super::{CLEAN_UP, Plan};
use crate::run::{Class, Grant, Note, Outcome, Refused};

/// A signal that comes so soon after another is the same one, sent to the group and passed on by a wrapper.
const ECHO: Duration = Duration::from_millis(100);

/// A session that was made so long ago is renewed before the lock is handed over.
const FRESH: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The acquisition has come to an end; with a lock, when its session ends unless it is renewed.
    Done(Box<Result<(Holding, Option<Moment>), lock::Error>>),
    /// The lock has something to tell.
    Lock(Notice),
    /// A signal came.
    Signal(Signal),
    /// The process that the lock is for has ended.
    ProcessEnded,
    /// The script has the lock.
    Delivered,
    /// The process in front is gone, and nobody will know of the lock.
    Abandoned,
    /// The lock was given back, or cannot be.
    Released,
}

/// An acquisition under way.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    plan: &'a Plan,
    stop: Stop,
    started_at: Moment,
    given_up: Option<GivenUp>,
}

#[derive(Debug)]
struct GivenUp {
    outcome: Outcome,
    since: Moment,
}

/// Notices as events.
pub(super) fn teller(inbox: &Sender<Event>) -> Tell {
    let inbox = inbox.clone();
    Arc::new(move |notice| {
        let _ = inbox.send(Event::Lock(notice));
    })
}

impl<'a> Attempt<'a> {
    /// Starts. A lock that will be `left` to its session gets one that has all of its TTL before it.
    ///
    /// # Errors
    /// No thread to be had.
    pub(super) fn start(plan: &'a Plan, left: bool, inbox: &Sender<Event>) -> std::io::Result<Self> {
        let (stop, tell, started_at) = (Stop::new(), teller(inbox), Moment::now());
        let attempt = Self { plan, stop: stop.clone(), started_at, given_up: None };
        let (client, options, inbox) = (plan.client.clone(), plan.options.clone(), inbox.clone());
        let acquire = move || {
            let result = lock::acquire(&client, &options, &stop, &tell).and_then(|holding| {
                let is_stale = options.session.is_some() || Moment::now().since(started_at) > FRESH;
                let ready = if stop.is_thrown() {
                    Err(lock::Error::Stopped)
                } else if left && is_stale {
                    let keys = holding.claims().iter().map(|claim| claim.key().clone()).collect();
                    let session = holding.session().clone();
                    let (retry_for, keep_key) = (options.retry_for, options.keep_key);
                    Detached { client, keys, session, retry_for, keep_key }.renew(&stop, &tell)
                } else {
                    Ok(holding.expires())
                };
                match ready {
                    Ok(ends_at) => Ok((holding, ends_at)),
                    Err(error) => {
                        holding.release(&Stop::new());
                        Err(error)
                    }
                }
            });
            // Nobody listens once we have given up on the clean-up, too.
            let _ = inbox.send(Event::Done(Box::new(result)));
        };
        thread::Builder::new().name("acquire".into()).spawn(acquire)?;
        Ok(attempt)
    }

    /// Waits for the lock, and says what came of it.
    pub(super) fn run(
        mut self,
        events: &Receiver<Event>,
        report: &mut impl FnMut(Option<Note>),
    ) -> Result<(Holding, Option<Moment>), Outcome> {
        if let Some(why) = self.plan.no_guarantee {
            report(Some(Note::NoGuarantee(why)));
        }
        loop {
            let left =
                self.given_up.as_ref().map_or(CLEAN_UP, |given_up| (given_up.since + CLEAN_UP).since(Moment::now()));
            match events.recv_timeout(left) {
                Ok(Event::Done(result)) => return self.done(*result, report),
                Ok(Event::Lock(Notice::Waiting { holder, .. })) if self.is_ancestor(&holder.session.to_string()) => {
                    self.give_up(held_by_ancestor(&holder.session.to_string()));
                }
                Ok(Event::Lock(notice)) => {
                    if let Some(note) = Note::while_waiting(notice) {
                        report(Some(note));
                    }
                }
                Ok(Event::Signal(signal)) => match &self.given_up {
                    Some(given_up) if Moment::now().since(given_up.since) < ECHO => {}
                    // Somebody cannot wait for the clean-up: the session ends by its TTL.
                    Some(given_up) => return Err(given_up.outcome.clone()),
                    None => {
                        report(Some(Note::Hurried(signal)));
                        self.give_up(Outcome::Interrupted(signal));
                    }
                },
                Ok(Event::Abandoned) => self.give_up(Outcome::Interrupted(Signal::SIGHUP)),
                Ok(Event::ProcessEnded) => {
                    let message = "the process of --pid has ended: nobody wants the lock any more";
                    self.give_up(Outcome::NotAcquired(Refused::new(Class::Usage, message)));
                }
                Ok(Event::Delivered | Event::Released) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if let Some(given_up) = self.given_up {
                        return Err(given_up.outcome);
                    }
                }
            }
        }
    }

    fn give_up(&mut self, outcome: Outcome) {
        self.given_up.get_or_insert(GivenUp { outcome, since: Moment::now() });
        self.stop.throw();
    }

    fn done(
        self,
        result: Result<(Holding, Option<Moment>), lock::Error>,
        report: &mut impl FnMut(Option<Note>),
    ) -> Result<(Holding, Option<Moment>), Outcome> {
        match (result, self.given_up.as_ref().map(|given_up| given_up.outcome.clone())) {
            (Ok((holding, ends_at)), None) => {
                let session = Some(holding.session().to_string());
                let fences = holding.claims().iter().map(Claim::fence).collect();
                let grant = Grant { lease: Some(holding.lease()), session, fences };
                report(Some(Note::Acquired { grant, after: Moment::now().since(self.started_at) }));
                Ok((holding, ends_at))
            }
            (Ok((holding, _)), Some(outcome)) => {
                give_back(holding);
                Err(outcome)
            }
            (Err(_), Some(outcome)) => Err(outcome),
            (Err(error), None) => {
                let refused = Refused::by(&error);
                let ancestor = refused.holders.iter().find(|holder| self.is_ancestor(holder));
                Err(ancestor.map_or_else(|| Outcome::NotAcquired(refused.clone()), |holder| held_by_ancestor(holder)))
            }
        }
    }

    fn is_ancestor(&self, session: &str) -> bool {
        self.plan.ancestors.iter().any(|ancestor| ancestor == session)
    }
}

fn held_by_ancestor(session: &str) -> Outcome {
    let message = format!(
        "this script, or the run that started it, holds the same lock already (session {session}), and would wait for itself \
         for ever; use another key, or release it first"
    );
    Outcome::NotAcquired(Refused::new(Class::Usage, message))
}

/// Gives back a lock that came too late, for so long as a clean-up may take.
fn give_back(holding: Holding) {
    let stop = Stop::new();
    let (done, released) = std::sync::mpsc::channel();
    let hurry = stop.clone();
    let release = move || {
        holding.release(&stop);
        let _ = done.send(());
    };
    if thread::Builder::new().name("release".into()).spawn(release).is_ok() {
        let _ = released.recv_timeout(CLEAN_UP);
        hurry.throw();
    }
}
