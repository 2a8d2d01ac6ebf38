//! The slots of a semaphore: a file each, of which a holder has one. The first is the key itself, so that a run without a
//! limit excludes the holder of that one alone, and is waited for in [turn](super::turn).
//!
//! Whoever waits has a thread for each slot, asleep in flock(2) on a description of its own. The first to win is it; the others
//! are called back from the kernel by a signal, and one that wins nevertheless unlocks at once.

use std::os::unix::thread::JoinHandleExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use consul_lock::lock::Key;
use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SigSet, Signal};

use super::{Error, Held, Locks, Part, system, turn};
use crate::sys;

/// What interrupts a thread: a signal that by default does nothing.
const CALL: Signal = Signal::SIGURG;

/// The pause before those threads are called again that have not answered.
const AGAIN: Duration = Duration::from_millis(1);
/// How often they are called. One that has not come by then (stopped, or starved) unlocks what it wins later.
const CALLS: u32 = 1000;

/// What each of these threads needs, in bytes; it goes down a few calls and sleeps.
const STACK: usize = 128 * 1024;

type Answer = Result<Option<Held>, Error>;

/// A slot, if one can be had at this moment; any of those that can.
pub(super) fn pass(locks: &Locks, key: &Key, slots: u16) -> Result<Option<Held>, Error> {
    let never = AtomicBool::new(false);
    let first = fastrand::u16(0..slots);
    for slot in (0..slots).map(|step| (first + step) % slots + 1) {
        let held = match slot {
            1 => turn::pass(locks, key, false)?,
            _ => {
                let locked = locks.take(key, Part::Slot(slot), FlockArg::LockExclusiveNonblock, &never)?;
                locked.map(Held::exclusive)
            }
        };
        if let Some(held) = held {
            return Ok(Some(held.in_slot(key.clone(), slot)));
        }
    }
    Ok(None)
}

/// A slot, as soon as one can be had.
pub(super) fn wait(locks: &Locks, key: &Key, slots: u16) -> Result<Held, Error> {
    let failed = |errno| system(&locks.dir.path(key, Part::KEY), "waiting for a slot", errno);
    sys::interrupt_by(CALL).map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or_default())))?;
    let over = Arc::new(AtomicBool::new(false));
    let (answer, answers) = channel();
    let mut threads = Vec::new();
    for slot in 1..=slots {
        let waiter =
            Waiter { locks: locks.clone(), key: key.clone(), slot, over: Arc::clone(&over), answer: answer.clone() };
        match thread::Builder::new().name(format!("slot {slot}")).stack_size(STACK).spawn(move || waiter.wait()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                over.store(true, Ordering::Relaxed);
                call_off(&threads, &answers);
                return Err(failed(Errno::from_raw(error.raw_os_error().unwrap_or_default())));
            }
        }
    }
    drop(answer);
    // Those who were called back have nothing to say, and may say so first.
    let first = answers.iter().find(|answer| !matches!(answer, Ok(None))).unwrap_or(Ok(None));
    call_off(&threads, &answers);
    first?.ok_or_else(|| failed(Errno::EWOULDBLOCK))
}

/// Calls the threads back until all have ended.
fn call_off(threads: &[JoinHandle<()>], answers: &Receiver<Answer>) {
    for _ in 0..CALLS {
        let mut left = threads.iter().filter(|thread| !thread.is_finished()).peekable();
        if left.peek().is_none() {
            return;
        }
        for thread in left {
            // Not joined, so that the number is still its own.
            let _ = pthread_kill(thread.as_pthread_t(), CALL);
        }
        let _ = answers.recv_timeout(AGAIN);
    }
}

/// A thread that waits for a slot.
struct Waiter {
    locks: Locks,
    key: Key,
    slot: u16,
    /// Somebody has won, or failed.
    over: Arc<AtomicBool>,
    answer: Sender<Answer>,
}

impl Waiter {
    fn wait(self) {
        // Should it not be possible, the thread is called in vain, and unlocks what it wins.
        let _ = SigSet::from(CALL).thread_unblock();
        let won = match self.slot {
            1 => turn::wait(&self.locks, &self.key, false, &self.over),
            slot => {
                let locked = self.locks.take(&self.key, Part::Slot(slot), FlockArg::LockExclusive, &self.over);
                locked.map(|locked| locked.map(Held::exclusive))
            }
        };
        let came_first = !matches!(won, Ok(None)) && !self.over.swap(true, Ordering::Relaxed);
        let answer = match won {
            Ok(Some(held)) if !came_first => {
                let _ = held.release();
                Ok(None)
            }
            won => won.map(|held| held.map(|held| held.in_slot(self.key.clone(), self.slot))),
        };
        let _ = self.answer.send(answer);
    }
}
