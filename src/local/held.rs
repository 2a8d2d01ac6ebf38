//! A lock of this machine that is held.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use consul_lock::lock::Key;
use nix::fcntl::FlockArg;

use super::book::Book;
use super::dir::{Dir, flock};
use super::{Error, Locked, file, io_error, system};

/// A lock that is held as long as any process has [`Held::descriptor`] open, or until [`Held::release`].
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
    path: PathBuf,
    kind: Kind,
    /// What was stored with the fence, once it was taken.
    written: Option<Written>,
    /// Keeps systemd-tmpfiles away while we hold.
    dir: Arc<Dir>,
}

#[derive(Debug)]
enum Kind {
    Exclusive,
    Slot(Key, u16),
    Shared(Key),
}

#[derive(Debug)]
struct Written {
    fence: u64,
    run: String,
}

impl Held {
    pub(super) fn exclusive(Locked { file, path, dir }: Locked) -> Self {
        Self { file, path, kind: Kind::Exclusive, written: None, dir }
    }

    pub(super) fn shared(locked: Locked, key: Key) -> Self {
        Self { kind: Kind::Shared(key), ..Self::exclusive(locked) }
    }

    /// The same, as a slot of a semaphore.
    pub(super) fn in_slot(self, key: Key, slot: u16) -> Self {
        Self { kind: Kind::Slot(key, slot), ..self }
    }

    /// The lock itself, for whoever is to share it. It is close-on-exec, as every descriptor of ours.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Which slot of a semaphore it is, counted from 1.
    pub(crate) fn slot(&self) -> Option<u16> {
        match self.kind {
            Kind::Slot(_, slot) => Some(slot),
            Kind::Exclusive | Kind::Shared(_) => None,
        }
    }

    /// The fencing token of this holder, greater than that of any holder before it: the one before plus one, or the
    /// microseconds since 1970, whichever is more. `value`, which tells waiters who holds the lock, is stored with it, and
    /// for a reader the number of its `run`. To be called before the command is started; on an error, such as of a full
    /// disk, the lock has been given up.
    pub(crate) fn take_fence(&mut self, run: &str, value: &[u8]) -> Result<u64, Error> {
        let fence = self.store(run, value).inspect_err(|_| {
            let _ = flock(self.file.as_fd(), FlockArg::Unlock);
        })?;
        self.written = Some(Written { fence, run: run.to_owned() });
        Ok(fence)
    }

    fn store(&self, run: &str, value: &[u8]) -> Result<u64, Error> {
        let failed = |error: io::Error| io_error(&self.path, "writing the lock file", &error);
        match &self.kind {
            Kind::Exclusive => {
                let fence = file::next_fence(file::fence(&self.file).map_err(failed)?, file::now());
                file::write(&self.file, fence, value).map_err(failed)?;
                Ok(fence)
            }
            Kind::Slot(key, slot) => {
                Book::lock(&self.dir, key)?.fence_for_slot(&self.file, *slot == 1, value).map_err(failed)
            }
            Kind::Shared(key) => Book::lock(&self.dir, key)?.fence_for_reader(&self.file, run, value).map_err(failed),
        }
    }

    /// Gives the lock up, whoever shares its description, and removes the holder's record. To be called when the tree is
    /// dead.
    pub(crate) fn release(self) -> Result<(), Error> {
        // A record that stays is read by nobody while the lock is free.
        match (&self.kind, &self.written) {
            (_, None) => {}
            (Kind::Exclusive | Kind::Slot(..), Some(Written { fence, .. })) => {
                let _ = file::clear(&self.file, *fence);
            }
            (Kind::Shared(key), Some(Written { run, .. })) => {
                let _ = Book::lock(&self.dir, key).map(|book| book.strike_out(run));
            }
        }
        flock(self.file.as_fd(), FlockArg::Unlock).map_err(|errno| system(&self.path, "unlocking the file", errno))
    }

    /// The file, for tests.
    #[cfg(test)]
    pub(super) fn file(&self) -> (&File, &std::path::Path) {
        (&self.file, &self.path)
    }
}
