//! Renewing the session, for as long as the lock is kept.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::{AGAIN, Event};
use crate::lock::holding::Holding;
use crate::lock::notice::{Notice, Tell, Trouble};
use crate::lock::session::Touch;
use crate::lock::stop::Stop;

/// The thread that renews.
pub(super) struct Renewer {
    pub(super) holding: Arc<Holding>,
    pub(super) tell: Tell,
    pub(super) stop: Stop,
    pub(super) events: Sender<Event>,
}

impl Renewer {
    pub(super) fn run(self) {
        let session = &self.holding.session;
        let Some(interval) = session.interval() else { return };
        let mut pause = interval;
        let mut failures = 0;
        while self.stop.pause(pause).is_ok() {
            pause = match session.renew(&self.holding.client) {
                Touch::Alive => {
                    failures = 0;
                    interval
                }
                // A deposed leader answers renewals from old state, so that this proves nothing; a consistent read does.
                Touch::Gone => {
                    let _ = self.events.send(Event::Look);
                    AGAIN
                }
                Touch::Unknown(error) => {
                    failures += 1;
                    // One that fails is an election or a hiccup; the second in a row is told, and no other.
                    if failures == 2 {
                        (self.tell)(Notice::RenewalFailing(Trouble::from(&error)));
                    }
                    AGAIN
                }
            };
        }
    }
}
