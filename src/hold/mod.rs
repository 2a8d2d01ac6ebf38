//! A lock for scripts, acquired by a process that then ends. Without a keeper the session's TTL is all that is left of it:
//! somebody renews it, or it ends. With a [keeper](Until), a process in the background renews it until it is released or
//! until the time is up. Either way nobody is killed when the lock is lost: whoever works under it asks, or finds out
//! when it is given back.

mod attempt;
mod keeper;
mod link;
mod process;
mod signals;

use std::io;
use std::sync::mpsc::channel;
use std::time::Duration;

use consul_lock::Client;
use consul_lock::clock::Moment;
use consul_lock::lock::{Holding, LockOptions, Stop};
use serde::{Deserialize, Serialize};

pub(crate) use keeper::acquire as acquire_with_keeper;
pub(crate) use process::Process;

use crate::guard::Inherited;
use crate::run::{Class, Note, Outcome, Refused};
use attempt::{Attempt, Event};

/// Longest time that giving up may take.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// What to acquire, and for whom.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where.
    pub(crate) client: Client,
    /// What.
    pub(crate) options: LockOptions,
    /// The sessions of those who wait for us: a lock that one of them holds would be waited for for ever.
    pub(crate) ancestors: Vec<String>,
    /// What we were started with.
    pub(crate) inherited: Inherited,
    /// Why the promise is not kept.
    pub(crate) no_guarantee: Option<&'static str>,
}

/// How long a keeper keeps a lock that nobody releases.
#[derive(Debug)]
pub(crate) struct Until {
    /// Until this process is gone.
    pub(crate) process: Option<Process>,
    /// For so long at most.
    pub(crate) max: Option<Duration>,
}

/// A lock that is held, as the script is told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The key; of several, a line each.
    pub(crate) keys: String,
    /// The session that holds it.
    pub(crate) session: String,
    /// The fencing token, in the same way.
    pub(crate) fences: String,
    /// The slot of a semaphore, in the same way; nothing without a limit.
    pub(crate) slots: Option<String>,
    /// When it ends by itself: the session by its TTL, or what the keeper was allowed.
    pub(crate) ends_at: Option<Moment>,
}

impl Taken {
    fn new(holding: &Holding, ends_at: Option<Moment>) -> Self {
        let (keys, fences): (Vec<_>, Vec<_>) =
            holding.claims().iter().map(|claim| (claim.key().to_string(), claim.fence().to_string())).unzip();
        let slots: Option<Vec<_>> = holding.claims().iter().map(|claim| Some(claim.slot()?.to_string())).collect();
        Self {
            keys: keys.join("\n"),
            session: holding.session().to_string(),
            fences: fences.join("\n"),
            slots: slots.map(|slots| slots.join("\n")),
            ends_at,
        }
    }
}

/// Acquires the lock and leaves it to its session. `report` is told what happens, and nothing when no more is to come;
/// `deliver` hands the lock to the script, and a lock that cannot be delivered is given back.
///
/// # Errors
/// A fault of the machine: no thread, no handler to be had.
pub(crate) fn acquire(
    plan: &Plan,
    mut report: impl FnMut(Option<Note>),
    deliver: impl FnOnce(&Taken) -> io::Result<()>,
) -> anyhow::Result<Result<(), Outcome>> {
    let (inbox, events) = channel();
    let tell = inbox.clone();
    signals::listen(&plan.inherited, move |signal| tell.send(Event::Signal(signal)).is_ok())?;
    let result = Attempt::start(plan, true, &inbox)?.run(&events, &mut report);
    report(None);
    let (holding, ends_at) = match result {
        Ok(held) => held,
        Err(outcome) => return Ok(Err(outcome)),
    };
    Ok(deliver(&Taken::new(&holding, ends_at)).map_err(|error| {
        holding.release(&Stop::new());
        undelivered(&error)
    }))
}

/// The lock was had, and nobody could be told.
fn undelivered(error: &io::Error) -> Outcome {
    let message = format!("cannot write to standard output ({error}): the lock was given back");
    Outcome::NotAcquired(Refused::new(Class::Internal, message))
}
