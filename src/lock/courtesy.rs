//! Letting others go first. Those who wait for one lock have one Consul, and often one machine: a request whose answer
//! nobody awaits stands in the way of the one that somebody does. Both pauses are short beside starting a command, and
//! shorten the time from one holder to the next.

use std::time::Duration;

/// Before whoever has moved up in the line looks round. The one before has just got the lock and has a command to start,
/// and Consul has enough to do; a command that is over sooner is followed that much later.
pub(super) const WHEN_MOVED_UP: Duration = Duration::from_millis(3);

/// Before whoever has given the lock back ends the session, where somebody waits for the lock: that one's request would
/// stand behind ours, and nobody waits for the session's end.
pub(super) const WHEN_GIVEN_BACK: Duration = Duration::from_millis(2);
