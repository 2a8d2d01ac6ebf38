//! The two kinds of lock that a command can run under, as one: Consul's, which has a lease, and this machine's own,
//! which cannot be lost. Each is waited for in a thread of its own, which gives it back when it is told to.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use consul_lock::Client;
use consul_lock::clock::Moment;
use consul_lock::lock::{self, Claim, Holding, Keeper, LockOptions, Notice, Release, Stop, Tell};

use super::Input;
use super::event::{Event, Grant, Released};
use super::here::{self, Wanted};
use super::inbox::Outlet;
use super::outcome::Refused;
use super::state::Here;

/// The lock that a run wants.
#[derive(Debug)]
pub(crate) enum LockPlan {
    /// A key in Consul.
    Consul {
        /// Where.
        client: Client,
        /// What.
        options: Box<LockOptions>,
    },
    /// Files on this machine.
    Local(Wanted),
}

/// A lock that is held.
#[derive(Debug)]
pub(super) enum Held {
    Consul(Box<Holding>),
    Local(here::Held),
}

impl LockPlan {
    /// Until when a lock on this machine is waited for; Consul's waiters watch their own time.
    pub(super) fn here(&self, now: Moment) -> Option<Here> {
        match self {
            Self::Consul { .. } => None,
            Self::Local(wanted) => Some(Here { give_up_at: wanted.wait.map(|wait| now + wait), conflict: None }),
        }
    }

    /// Starts to wait for the lock.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn acquire(self, stop: Stop, outlet: Outlet) -> std::io::Result<Releaser> {
        let (word, words) = channel::<(Held, Stop)>();
        let releaser = Releaser { word, outlet: outlet.clone() };
        let serve = move || {
            let result = match self {
                Self::Consul { client, options } => acquire_in_consul(&client, &options, &stop, &outlet),
                Self::Local(wanted) => {
                    let tell = |event| outlet.send(Input::Event(event));
                    wanted.acquire(&tell).map(Held::Local)
                }
            };
            match result {
                Ok(held) => outlet.send(Input::Acquired(held)),
                Err(refused) => return outlet.send(Input::Event(Event::NotAcquired(refused))),
            }
            // Nothing comes once the run has ended without a release.
            if let Ok((held, stop)) = words.recv() {
                held.release(&stop, |released| outlet.send(Input::Event(Event::Released(released))));
            }
        };
        thread::Builder::new().name("lock".into()).spawn(serve)?;
        Ok(releaser)
    }
}

/// Has the thread that got the lock give it back: one thread, and one connection, for both.
#[derive(Debug)]
pub(super) struct Releaser {
    word: Sender<(Held, Stop)>,
    outlet: Outlet,
}

impl Releaser {
    /// Begins to give back what [`LockPlan::acquire`] got; [`Event::Released`] tells how that ended.
    pub(super) fn release(&self, held: Held, stop: Stop) {
        if self.word.send((held, stop)).is_err() {
            let why = "the thread that was to do it is gone".to_owned();
            self.outlet.send(Input::Event(Event::Released(Released::Unanswered(why))));
        }
    }
}

/// Notices as the run's events.
fn teller(outlet: &Outlet) -> Tell {
    let outlet = outlet.clone();
    Arc::new(move |notice: Notice| outlet.send(Input::Event(Event::Lock(notice))))
}

fn acquire_in_consul(client: &Client, options: &LockOptions, stop: &Stop, outlet: &Outlet) -> Result<Held, Refused> {
    match lock::acquire(client, options, stop, &teller(outlet)) {
        Ok(holding) => Ok(Held::Consul(Box::new(holding))),
        Err(error) => Err(Refused::by(&error)),
    }
}

/// A property of each claim, a line each.
fn lines<'a, C, T: ToString>(claims: &'a [C], property: impl Fn(&'a C) -> T) -> String {
    claims.iter().map(|claim| property(claim).to_string()).collect::<Vec<_>>().join("\n")
}

impl Held {
    pub(super) fn grant(&self) -> Grant {
        match self {
            Self::Consul(holding) => {
                let session = Some(holding.session().to_string());
                let fences = holding.claims().iter().map(Claim::fence).collect();
                Grant { lease: Some(holding.lease()), session, fences }
            }
            Self::Local(held) => {
                let fences = held.claims.iter().map(|claim| claim.fence).collect();
                Grant { lease: None, session: None, fences }
            }
        }
    }

    /// What the command finds in its environment; of several keys, a line for each.
    pub(super) fn environment(&self, chain: &[String]) -> Vec<(String, OsString)> {
        let (keys, session, own_link, fences, indexes) = match self {
            Self::Consul(holding) => {
                let session = holding.session().to_string();
                let claims = holding.claims();
                let [keys, fences, indexes] =
                    [lines(claims, Claim::key), lines(claims, Claim::fence), lines(claims, Claim::lock_index)];
                (keys, session.clone(), session, fences, indexes)
            }
            Self::Local(held) => {
                let [keys, fences] = [
                    lines(&held.claims, |claim| claim.key.to_string()),
                    lines(&held.claims, |claim| claim.fence.to_string()),
                ];
                (keys, String::new(), held.link.clone(), fences, String::new())
            }
        };
        // Without a limit there is no slot to tell of.
        let slots: Option<Vec<_>> = match self {
            Self::Consul(holding) => holding.claims().iter().map(Claim::slot).collect(),
            Self::Local(held) => held.claims.iter().map(|claim| claim.held.slot()).collect(),
        };
        let slots = slots.map(|slots| ("CONSUL_LOCK_SLOT", lines(&slots, |slot| *slot)));
        let chain = chain.iter().cloned().chain([own_link]).collect::<Vec<_>>().join("\n");
        [
            ("CONSUL_LOCK_HELD", "true".to_owned()),
            ("CONSUL_LOCK_KEY", keys),
            ("CONSUL_LOCK_SESSION", session),
            ("CONSUL_LOCK_FENCE", fences),
            ("CONSUL_LOCK_INDEX", indexes),
            ("CONSUL_LOCK_CHAIN", chain),
        ]
        .into_iter()
        .chain(slots)
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
    }

    /// The descriptors that the tree inherits, so that the lock outlives keeper and guard.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Consul(_) => Vec::new(),
            Self::Local(held) => held.claims.iter().map(|claim| claim.held.descriptor()).collect(),
        }
    }

    /// Whether somebody is known to be waiting for it.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Consul(holding) => holding.is_awaited(),
            Self::Local(_) => false,
        }
    }

    /// Starts to hold on to it.
    pub(super) fn keep(&self, outlet: &Outlet) -> std::io::Result<Option<Keeper>> {
        match self {
            Self::Consul(holding) => Keeper::start(holding, &teller(outlet)).map(Some),
            Self::Local(_) => Ok(None),
        }
    }

    /// Gives it back, which may take a while, and tells how that ended.
    fn release(self, stop: &Stop, tell: impl FnOnce(Released)) {
        match self {
            // Told before the connection is closed, which takes time that nobody need wait.
            Self::Consul(holding) => tell(match holding.release(stop) {
                Release::Released => Released::Done,
                Release::AlreadyGone => Released::AlreadyGone,
                Release::Unanswered(error) => Released::Unanswered(error.to_string()),
            }),
            Self::Local(held) => tell(match held.release() {
                Ok(()) => Released::Done,
                Err(error) => Released::Unanswered(error.to_string()),
            }),
        }
    }
}
