//! Readers and writers of a key, each in turn. Whoever has to wait takes the gate first, a file beside the key's, and keeps
//! it until the key itself is his: so whoever waits keeps later ones behind him, a writer the readers that would else come
//! and go for ever without leaving room for him, and a reader the writers. The gate is free while nobody waits.
//!
//! A reader that need not wait shares the gate for a moment with others of his kind. A writer that need not wait looks at it
//! only once he has the key, and gives the key up again if somebody waits for it; without a gate there is nobody, and
//! nothing more to be done.
//!
//! The kernel opens the gate when a waiter dies, and a waiter that Ctrl-Z stops opens it before: nobody has to wait behind
//! somebody who may not go on before tomorrow. When it goes on it waits for the key alone. Only SIGSTOP, which nobody
//! notices, has all who come later wait until it goes on or is killed.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};

use consul_lock::lock::Key;
use nix::errno::Errno;
use nix::fcntl::FlockArg;

use super::dir::flock;
use super::{Error, Held, Locked, Locks, Part, system};
use crate::sys;

/// The key, if it can be had at this moment and nobody waits for it.
pub(super) fn pass(locks: &Locks, key: &Key, shared: bool) -> Result<Option<Held>, Error> {
    let never = AtomicBool::new(false);
    if shared {
        let Some(gate) = locks.take(key, Part::Gate, FlockArg::LockSharedNonblock, &never)? else { return Ok(None) };
        let _gate = Gate(gate);
        let locked = locks.take(key, Part::KEY, FlockArg::LockSharedNonblock, &never)?;
        return Ok(locked.map(|locked| Held::shared(locked, key.clone())));
    }
    let Some(locked) = locks.take(key, Part::KEY, FlockArg::LockExclusiveNonblock, &never)? else { return Ok(None) };
    if is_waited_for(&locked, key)? {
        let _ = flock(locked.file.as_fd(), FlockArg::Unlock);
        return Ok(None);
    }
    Ok(Some(Held::exclusive(locked)))
}

/// The key, as soon as it can be had and whoever came before has had it. Nothing if that was called off.
pub(super) fn wait(locks: &Locks, key: &Key, shared: bool, called_off: &AtomicBool) -> Result<Option<Held>, Error> {
    let Some(gate) = locks.take(key, Part::Gate, FlockArg::LockExclusive, called_off)? else { return Ok(None) };
    let _gate = Waiting::with(gate);
    let how = if shared { FlockArg::LockShared } else { FlockArg::LockExclusive };
    let locked = locks.take(key, Part::KEY, how, called_off)?;
    Ok(locked.map(|locked| if shared { Held::shared(locked, key.clone()) } else { Held::exclusive(locked) }))
}

/// Whether somebody has the gate. A reader that just passes it does not count.
fn is_waited_for(locked: &Locked, key: &Key) -> Result<bool, Error> {
    let Some(gate) = locked.dir.existing(key, Part::Gate)? else { return Ok(false) };
    match flock(gate.as_fd(), FlockArg::LockSharedNonblock) {
        Ok(()) => {
            let _ = flock(gate.as_fd(), FlockArg::Unlock);
            Ok(false)
        }
        Err(Errno::EWOULDBLOCK) => Ok(true),
        Err(errno) => Err(system(&locked.dir.path(key, Part::Gate), "looking for waiters", errno)),
    }
}

/// The gate, until this is dropped: nobody else ever has this description.
struct Gate(Locked);

impl Drop for Gate {
    fn drop(&mut self) {
        open(&self.0);
    }
}

/// The gate for as long as it takes to get the key, opened before we are stopped.
struct Waiting(ManuallyDrop<Locked>);

impl Waiting {
    fn with(gate: Locked) -> Self {
        sys::GATE.store(gate.file.as_raw_fd(), Ordering::SeqCst);
        sys::tidy_before_stop();
        Self(ManuallyDrop::new(gate))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        sys::GATE.store(sys::NO_GATE, Ordering::SeqCst);
        // And not closed: another thread may be stopped just now, and opens it.
        open(&self.0);
    }
}

fn open(gate: &Locked) {
    let _ = flock(gate.file.as_fd(), FlockArg::Unlock);
}
