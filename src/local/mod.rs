//! The lock of `--local`: flock(2) on a file per key, for one machine and without a server. The kernel keeps the lock
//! on the open file description, so whoever shares the description holds it: the guard gets it over a socket, the tree
//! inherits it, and when keeper and guard are both killed the lock stays until the tree's last process is gone. For the
//! same reason nothing here unlocks by being dropped; dropping closes one descriptor of perhaps several.
//!
//! Lock files are never deleted. Should somebody else delete one, or the directory, then who has locked a file that is
//! no longer the one of that name opens it again.

mod dir;
mod error;
mod file;
mod look;
mod name;
mod network;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consul_lock::lock::Key;
use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::sys::stat::{fstat, lstat};

use dir::{Dir, flock};
pub(crate) use error::Error;
pub(crate) use look::{Seen, Table};

/// How often a file may turn out to be another one after it was locked.
const MAX_TRIES: u32 = 1000;

/// Where the lock files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `--local`: `/run/lock/consul-lock-UID` where /run/lock is there and may be written, else `/tmp/consul-lock-UID`.
    Own,
    /// `--local=DIR`: that directory, which must exist.
    Dir(PathBuf),
}

/// The locks of one directory.
#[derive(Debug)]
pub(crate) struct Locks {
    place: Place,
    no_guarantee: bool,
    dir: Arc<Dir>,
}

/// A lock that is held as long as any process has [`Held::descriptor`] open, or until [`Held::release`].
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
    path: PathBuf,
    fence: Option<u64>,
    /// Keeps systemd-tmpfiles away while we hold.
    _dir: Arc<Dir>,
}

/// What a single flock(2) came to.
enum Try {
    Won(Held),
    Busy,
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

    /// The lock, if nobody holds it at this moment.
    pub(crate) fn try_lock(&self, key: &Key) -> Result<Option<Held>, Error> {
        self.acquire(key, FlockArg::LockExclusiveNonblock)
    }

    /// The lock, as soon as nobody holds it: the calling thread sleeps in flock(2), for ever if need be, and only the
    /// end of the process ends that. Its signals are for other threads.
    pub(crate) fn lock(&self, key: &Key) -> Result<Held, Error> {
        match self.acquire(key, FlockArg::LockExclusive)? {
            Some(held) => Ok(held),
            // A blocking flock(2) does not answer this on any file system that we know of.
            None => Err(system(&self.dir.path(key), "locking the file", Errno::EWOULDBLOCK)),
        }
    }

    /// What the key's holder has written about itself, or what it was told to write with `--value`. To be asked after
    /// [`Locks::try_lock`] found the lock taken: the record of a holder that was killed stays until the next one has
    /// written its own.
    pub(crate) fn holder(&self, key: &Key) -> Result<Option<String>, Error> {
        match self.dir.existing(key)? {
            Some(file) => {
                file::record(&file).map_err(|error| io_error(&self.dir.path(key), "reading the holder", &error))
            }
            None => Ok(None),
        }
    }

    fn acquire(&self, key: &Key, operation: FlockArg) -> Result<Option<Held>, Error> {
        let mut dir = Arc::clone(&self.dir);
        for _ in 0..MAX_TRIES {
            match attempt(&dir, key, operation)? {
                Try::Won(held) => return Ok(Some(held)),
                Try::Busy => return Ok(None),
                // It may be the directory that was removed.
                Try::Stale => dir = Arc::new(Dir::open(&self.place, self.no_guarantee)?),
            }
        }
        Err(Error::Unsteady(dir.path(key)))
    }
}

fn attempt(dir: &Arc<Dir>, key: &Key, operation: FlockArg) -> Result<Try, Error> {
    let Some(file) = dir.make(key)? else { return Ok(Try::Stale) };
    let path = dir.path(key);
    let busy = match flock(file.as_fd(), operation) {
        Ok(()) => false,
        Err(Errno::EWOULDBLOCK) => true,
        Err(errno) => return Err(system(&path, "locking the file", errno)),
    };
    if !is_at(&file, &path)? {
        return Ok(Try::Stale);
    }
    Ok(if busy { Try::Busy } else { Try::Won(Held { file, path, fence: None, _dir: Arc::clone(dir) }) })
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

impl Held {
    /// The lock itself, for whoever is to share it. It is close-on-exec, as every descriptor of ours.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The fencing token of this holder, greater than that of any holder before it: the one before plus one, or the
    /// microseconds since 1970, whichever is more. `record`, which tells waiters who holds the lock, is stored with it.
    /// To be called before the command is started; on an error, such as of a full disk, the lock has been given up.
    pub(crate) fn take_fence(&mut self, record: &[u8]) -> Result<u64, Error> {
        let written = file::fence(&self.file).and_then(|stored| {
            let fence = file::next_fence(stored, file::now());
            file::write(&self.file, fence, record).map(|()| fence)
        });
        match written {
            Ok(fence) => {
                self.fence = Some(fence);
                Ok(fence)
            }
            Err(error) => {
                let _ = flock(self.file.as_fd(), FlockArg::Unlock);
                Err(io_error(&self.path, "writing the lock file", &error))
            }
        }
    }

    /// Gives the lock up, whoever shares it, and removes the holder's record. To be called when the tree is dead.
    pub(crate) fn release(self) -> Result<(), Error> {
        if let Some(fence) = self.fence {
            // A record that stays is read by nobody while the lock is free.
            let _ = file::clear(&self.file, fence);
        }
        flock(self.file.as_fd(), FlockArg::Unlock).map_err(|errno| system(&self.path, "unlocking the file", errno))
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
