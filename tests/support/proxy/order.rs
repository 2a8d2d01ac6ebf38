//! How an order reaches the threads of the proxy. Each waits in poll(2), on its sockets and on a pipe that closes with
//! the next order. Orders form a chain that every thread walks link by link, so that none misses one, however short it
//! was in force.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What the present connections have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing; other rules hold for what comes.
    None,
    /// Never say anything more.
    Swallow,
    /// Close; the listener too.
    Close,
    /// Close with RST.
    Reset,
    /// Close with RST; the fault that is set goes on.
    ResetOnce,
}

/// The wait for the next order, and then that order and the wait for the one after it.
pub struct Change {
    closed: PipeReader,
    next: OnceLock<(Order, Arc<Change>)>,
}

/// Gives the orders.
pub struct Publisher(Mutex<(PipeWriter, Arc<Change>)>);

impl Change {
    fn new() -> (PipeWriter, Arc<Self>) {
        let (closed, writer) = pipe().expect("a pipe");
        (writer, Arc::new(Self { closed, next: OnceLock::new() }))
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self(Mutex::new(Change::new()))
    }
}

impl Publisher {
    /// Gives an order to every thread that waits, or will wait, on the present change.
    pub fn publish(&self, order: Order) {
        let mut latest = self.0.lock().expect("no thread of the proxy panics");
        let (writer, change) = Change::new();
        let before = std::mem::replace(&mut *latest, (writer, Arc::clone(&change)));
        assert!(before.1.next.set((order, change)).is_ok(), "a change has one successor");
        // Dropping the writer of the pipe wakes them.
    }

    /// The change that is to come, for a thread that begins.
    pub fn latest(&self) -> Arc<Change> {
        Arc::clone(&self.0.lock().expect("no thread of the proxy panics").1)
    }
}

/// Why [`wait`] came back.
pub enum Wake {
    /// The descriptor of this number has something to read, or has ended.
    Ready(usize),
    /// The time is over.
    Late,
    /// There is an order.
    Order(Order),
}

/// Waits for one of the descriptors, the time or an order, orders first; moves `change` on to the next.
pub fn wait(change: &mut Arc<Change>, descriptors: &[BorrowedFd], until: Option<Instant>) -> Wake {
    let wanted: Vec<_> = descriptors.iter().map(|descriptor| (*descriptor, PollFlags::POLLIN)).collect();
    wait_for(change, &wanted, until)
}

/// [`wait`] with the events to wait for.
pub fn wait_for(change: &mut Arc<Change>, wanted: &[(BorrowedFd, PollFlags)], until: Option<Instant>) -> Wake {
    loop {
        let held = Arc::clone(change);
        let mut polled = vec![PollFd::new(held.closed.as_fd(), PollFlags::POLLIN)];
        polled.extend(wanted.iter().map(|(descriptor, events)| PollFd::new(*descriptor, *events)));
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            // Rounded up: a poll that ends too early would be repeated until the time has come.
            let left = until.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let count = match poll(&mut polled, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("poll: {error}"),
        };
        if let Some((order, next)) = held.next.get() {
            *change = Arc::clone(next);
            return Wake::Order(*order);
        }
        // `None` is an event that nix has no name for, POLLRDHUP.
        if let Some(number) = polled[1..].iter().position(|each| each.any() != Some(false)) {
            return Wake::Ready(number);
        }
        if count == 0 && until.is_some_and(|until| until <= Instant::now()) {
            return Wake::Late;
        }
    }
}
