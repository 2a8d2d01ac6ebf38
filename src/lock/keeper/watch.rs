//! When to ask for the next change of a key, and from which index.

use std::time::Duration;

use super::AGAIN;
use crate::clock::Moment;
use crate::consul::Reply;

/// A reply that came sooner than this to a blocking query was not worth blocking for.
const QUICK: Duration = Duration::from_millis(100);

/// The watch over one key.
#[derive(Debug)]
pub(super) struct Watch {
    /// When to watch again; nothing while a query is out.
    pub(super) at: Option<Moment>,
    /// The index that it waits for a change from.
    pub(super) index: u64,
    quick: u32,
}

impl Watch {
    /// A watch that begins now, from the index at which the key was acquired.
    pub(super) fn new(fence: u64, now: Moment) -> Self {
        Self { at: Some(now), index: fence, quick: 0 }
    }

    /// Takes note of what came back to a query that was sent at `sent`. The next follows at once, as a rule, since it
    /// takes its time; after one that did not block there is a pause.
    pub(super) fn answered(&mut self, sent: Moment, reply: Option<&Reply>) {
        let now = Moment::now();
        let pause = match reply {
            None => AGAIN,
            Some(reply) => {
                // An index that goes back is started again without.
                self.index = if reply.index < self.index { 0 } else { reply.index };
                let is_quick = now.since(sent) < QUICK;
                self.quick = if is_quick { self.quick + 1 } else { 0 };
                if self.quick > 2 { AGAIN } else { Duration::ZERO }
            }
        };
        self.at = Some(now + pause);
    }
}
