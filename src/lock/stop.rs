//! Giving up, from another thread: Go's `stopCh`. Whoever waits in here is woken at once, a pause by the condition
//! variable and a blocking query by the end of its connection.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::consul::Client;

/// A switch that ends an acquisition; clones are the same switch. Once thrown it stays so.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    thrown: Condvar,
}

#[derive(Default)]
struct State {
    thrown: bool,
    blocked: Option<Client>,
    children: Vec<Weak<Shared>>,
}

/// The switch was thrown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl Stop {
    /// A switch that nobody has thrown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch that is thrown with this one, and can be thrown alone.
    pub(super) fn child(&self) -> Self {
        let child = Self::new();
        let mut state = self.state();
        state.children.retain(|other| other.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.0));
        child.state().thrown = state.thrown;
        child
    }

    /// Throws the switch: pauses end, and the blocking query in flight is cut off.
    pub fn throw(&self) {
        let mut state = self.state();
        state.thrown = true;
        if let Some(client) = state.blocked.take() {
            client.shutdown();
        }
        let children = std::mem::take(&mut state.children);
        drop(state);
        self.0.thrown.notify_all();
        children.iter().filter_map(Weak::upgrade).for_each(|child| Self(child).throw());
    }

    /// Whether the switch was thrown.
    #[must_use]
    pub fn is_thrown(&self) -> bool {
        self.state().thrown
    }

    /// Sleeps for `time` or until the switch is thrown.
    pub fn pause(&self, time: Duration) -> Result<(), Stopped> {
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            if state.thrown {
                return Err(Stopped);
            }
            // Not a moment to sleep until: `time` may be longer than any that the clock can name.
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            state = self.0.thrown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs `request` on `client`, whose connections are cut if the switch is thrown meanwhile; they are of no more use
    /// then. For requests that change nothing only.
    pub fn interruptible<T>(&self, client: &Client, request: impl FnOnce(&Client) -> T) -> Result<T, Stopped> {
        {
            let mut state = self.state();
            if state.thrown {
                return Err(Stopped);
            }
            state.blocked = Some(client.clone());
        }
        let result = request(client);
        let mut state = self.state();
        state.blocked = None;
        if state.thrown { Err(Stopped) } else { Ok(result) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_thrown()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_thrown_with_its_parent_and_alone() {
        let stop = Stop::new();
        let (first, second) = (stop.child(), stop.child());
        first.throw();
        assert!(first.is_thrown() && !stop.is_thrown() && !second.is_thrown());
        let thrower = stop.clone();
        let thread = std::thread::spawn(move || thrower.throw());
        assert_eq!(second.pause(Duration::from_secs(60)), Err(Stopped));
        assert!(thread.join().is_ok());
        assert!(stop.child().is_thrown());
    }

    #[test]
    fn a_pause_ends_by_itself_or_when_the_switch_is_thrown() {
        let stop = Stop::new();
        assert_eq!(stop.pause(Duration::from_millis(1)), Ok(()));
        let thrower = stop.clone();
        let thread = std::thread::spawn(move || thrower.throw());
        assert_eq!(stop.pause(Duration::MAX), Err(Stopped));
        assert!(thread.join().is_ok());
        assert!(stop.is_thrown());
    }
}
