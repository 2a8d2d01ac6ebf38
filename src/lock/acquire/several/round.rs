//! A round: the keys are taken one after the other, and those that are held already are confirmed, so that the loss of
//! one ends the waiting for the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::TIMEOUT;
use crate::consul::{Client, SessionId};
use crate::lock::challenge::{Verdict, challenge};
use crate::lock::claim::Claim;
use crate::lock::key::Key;
use crate::lock::stop::Stop;

/// What was taken so far, with a thread that looks after it.
pub(super) struct Round {
    /// Thrown when the caller's is, when something is lost, and at the end.
    stop: Stop,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    session: Option<SessionId>,
    claims: Vec<Claim>,
    lost: Option<Key>,
}

impl Round {
    /// Nothing is taken yet.
    pub(super) fn begin(client: Client, stop: &Stop, interval: Duration) -> std::io::Result<Self> {
        let round = Self { stop: stop.child(), taken: Arc::default() };
        let (stop, taken) = (round.stop.clone(), Arc::clone(&round.taken));
        let confirm = move || {
            while stop.pause(interval).is_ok() {
                let (session, claims) = {
                    let taken = lock(&taken);
                    (taken.session.clone(), taken.claims.clone())
                };
                // Nothing is done under them yet: what proves nothing is asked again.
                if let Some(session) = session
                    && let Ok(Verdict::NotOurs(number)) = challenge(&client, &claims, &session, TIMEOUT)
                {
                    lose(&taken, &stop, number);
                }
            }
        };
        std::thread::Builder::new().name("confirm".into()).spawn(confirm)?;
        Ok(round)
    }

    /// The stop for those who wait for the next one.
    pub(super) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Another one is ours.
    pub(super) fn hold(&self, session: &SessionId, claim: Claim) {
        let mut taken = lock(&self.taken);
        taken.session = Some(session.clone());
        taken.claims.push(claim);
    }

    /// What is ours.
    pub(super) fn claims(&self) -> Vec<Claim> {
        lock(&self.taken).claims.clone()
    }

    /// The one of this number is not.
    pub(super) fn lose(&self, number: usize) {
        lose(&self.taken, &self.stop, number);
    }

    /// Ends it: what was taken, and what of that was lost.
    pub(super) fn end(self) -> (Vec<Claim>, Option<Key>) {
        let mut taken = lock(&self.taken);
        (std::mem::take(&mut taken.claims), taken.lost.take())
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.stop.throw();
    }
}

fn lose(taken: &Mutex<Taken>, stop: &Stop, number: usize) {
    let mut taken = lock(taken);
    taken.lost = taken.claims.get(number).map(|claim| claim.key.clone());
    drop(taken);
    stop.throw();
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}
