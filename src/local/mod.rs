//! The lock of `--local`: flock(2) on a file per key, for one machine and without a server. The kernel keeps the lock
//! on the open file description, so whoever shares the description holds it: the guard gets it over a socket, the tree
//! inherits it, and when keeper and guard are both killed the lock stays until the tree's last process is gone. For the
//! same reason nothing here unlocks by being dropped; dropping closes one descriptor of perhaps several.
//!
//! Writers lock the key's file exclusively and readers share it; who waits does so in [turn](turn). A semaphore has a file
//! for each of its [slots](slots), the first of which is the key's own.
//!
//! Lock files are never deleted. Should somebody else delete one, or the directory, then who has locked a file that is
//! no longer the one of that name opens it again.

mod book;
mod dir;
mod error;
mod file;
mod held;
mod look;
mod name;
mod network;
mod slots;
mod turn;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use consul_lock::lock::{Key, Record, Sharing};
use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::sys::stat::{fstat, lstat};

use dir::{Dir, flock_unless};
pub(crate) use error::Error;
pub(crate) use held::Held;
pub(crate) use look::{Holding, Seen, Table};
use name::Part;

/// How often a file may turn out to be another one after it was locked.
const MAX_TRIES: u32 = 1000;

/// The most slots of a semaphore: whoever waits for one has a thread and a descriptor for each.
pub(crate) const MAX_SLOTS: u16 = 64;

/// Where the lock files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `--local`: `/run/lock/consul-lock-UID` where /run/lock is there and may be written, else `/tmp/consul-lock-UID`.
    Own,
    /// `--local=DIR`: that directory, which must exist.
    Dir(PathBuf),
}

/// The locks of one directory.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    place: Place,
    no_guarantee: bool,
    dir: Arc<Dir>,
}

/// Somebody who holds a lock, as the files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// What it has written about itself, or was told to write.
    pub(crate) value: String,
    /// The number of its run, where that is known.
    pub(crate) run: Option<String>,
}

/// A file that is locked, and what keeps its directory from being cleaned meanwhile.
#[derive(Debug)]
struct Locked {
    file: File,
    path: PathBuf,
    dir: Arc<Dir>,
}

/// What a single flock(2) came to.
enum Try {
    Won(Locked),
    /// Somebody else has it; or the waiting for it was called off.
    NotOurs,
    /// What was locked, or found locked, is not the file of that name any more.
    Stale,
}

impl Locks {
    /// Opens and checks the directory; our own is made if need be. A network file system is refused unless
    /// `no_guarantee`. Waits at most 5 s for somebody who has locked the directory itself.
    pub(crate) fn open(place: Place, no_guarantee: bool) -> Result<Self, Error> {
        let dir = Arc::new(Dir::open(&place, no_guarantee)?);
        Ok(Self { place, no_guarantee, dir })
    }

    /// Whether they are on a network file system, whose server may forget them.
    pub(crate) fn are_on_network(&self) -> bool {
        self.dir.network.is_some()
    }

    /// The lock, if it can be had at this moment and nobody who came before waits for it.
    pub(crate) fn try_lock(&self, key: &Key, sharing: Sharing) -> Result<Option<Held>, Error> {
        match sharing {
            Sharing::Exclusive => turn::pass(self, key, false),
            Sharing::Shared => turn::pass(self, key, true),
            Sharing::Limit(limit) => slots::pass(self, key, limit.get()),
        }
    }

    /// The lock, as soon as it can be had: the calling thread sleeps until then, for ever if need be, and only the
    /// end of the process ends that. Its signals are for other threads.
    pub(crate) fn lock(&self, key: &Key, sharing: Sharing) -> Result<Held, Error> {
        let never = AtomicBool::new(false);
        let held = match sharing {
            Sharing::Exclusive => turn::wait(self, key, false, &never)?,
            Sharing::Shared => turn::wait(self, key, true, &never)?,
            Sharing::Limit(limit) => Some(slots::wait(self, key, limit.get())?),
        };
        // A blocking flock(2) does not answer this on any file system that we know of.
        held.ok_or_else(|| system(&self.dir.path(key, Part::KEY), "locking the file", Errno::EWOULDBLOCK))
    }

    /// Who holds a slot of the key (the first is the key itself), as far as the files tell. To be asked after
    /// [`Locks::try_lock`] found the lock taken: the record of a holder that was killed stays until the next one has
    /// written its own.
    pub(crate) fn holders(&self, key: &Key, slot: u16) -> Result<Vec<Holder>, Error> {
        let path = self.dir.path(key, Part::Slot(slot));
        let failed = |error: io::Error| io_error(&path, "reading the holder", &error);
        let Some(file) = self.dir.existing(key, Part::Slot(slot))? else { return Ok(Vec::new()) };
        if let Some(value) = file::record(&file).map_err(failed)? {
            let run = Record::read(value.as_bytes()).map(|record| record.run);
            return Ok(vec![Holder { value, run }]);
        }
        match self.dir.existing(key, Part::Book)? {
            Some(book) if slot <= 1 => book::readers(&book, &file).map_err(failed),
            _ => Ok(Vec::new()),
        }
    }

    /// flock(2) on a file of the key's. Nothing if somebody else has it and `operation` does not wait, or if it was called
    /// off.
    fn take(&self, key: &Key, part: Part, how: FlockArg, called_off: &AtomicBool) -> Result<Option<Locked>, Error> {
        let mut dir = Arc::clone(&self.dir);
        for _ in 0..MAX_TRIES {
            match attempt(&dir, key, part, how, called_off)? {
                Try::Won(locked) => return Ok(Some(locked)),
                Try::NotOurs => return Ok(None),
                // It may be the directory that was removed.
                Try::Stale => dir = Arc::new(Dir::open(&self.place, self.no_guarantee)?),
            }
        }
        Err(Error::Unsteady(dir.path(key, part)))
    }
}

fn attempt(dir: &Arc<Dir>, key: &Key, part: Part, how: FlockArg, called_off: &AtomicBool) -> Result<Try, Error> {
    let Some(file) = dir.make(key, part)? else { return Ok(Try::Stale) };
    let path = dir.path(key, part);
    let won = match flock_unless(file.as_fd(), how, called_off) {
        Ok(()) => true,
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => false,
        Err(errno) => return Err(system(&path, "locking the file", errno)),
    };
    if !is_at(&file, &path)? {
        return Ok(Try::Stale);
    }
    Ok(if won { Try::Won(Locked { file, path, dir: Arc::clone(dir) }) } else { Try::NotOurs })
}

/// Whether `path` leads to this very file, so that whoever comes later asks for the same lock.
fn is_at(file: &File, path: &Path) -> Result<bool, Error> {
    let ours = fstat(file).map_err(|errno| system(path, "reading its status", errno))?;
    match lstat(path) {
        Ok(there) => Ok((ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        Err(errno) => Err(system(path, "reading its status", errno)),
    }
}

fn system(path: &Path, doing: &'static str, errno: Errno) -> Error {
    Error::System { path: path.to_owned(), doing, errno }
}

fn io_error(path: &Path, doing: &'static str, error: &io::Error) -> Error {
    // The only error of std's own here is a write of nothing at all, which is what a full device does.
    system(path, doing, error.raw_os_error().map_or(Errno::ENOSPC, Errno::from_raw))
}

#[cfg(test)]
mod tests;
