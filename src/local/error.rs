//! What can go wrong with a lock on this machine, each with its mend.

use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

/// Why a lock on this machine cannot be had; that somebody else holds it is no error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Error {
    /// `--local=` with nothing behind it.
    #[error("--local= names no directory: write --local for the usual one, or --local=DIR")]
    NoName,
    /// The directory that the user named is missing.
    #[error("{}: there is no such directory: create it, or name another one with --local=DIR", .0.display())]
    Missing(PathBuf),
    /// Something else is in the directory's place.
    #[error("{}: it is no directory, or a symbolic link: have it moved away, or name a directory with --local=DIR",
        .0.display())]
    NotDirectory(PathBuf),
    /// Somebody else made our directory.
    #[error("{}: it belongs to user {owner}, not to user {user}: have it removed, or name a directory with --local=DIR",
        .path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// The user id that it has.
        owner: u32,
        /// The user id that it should have.
        user: u32,
    },
    /// Others may enter our directory.
    #[error("{}: its mode is {mode:o}, open to others: chmod 700 it", .path.display())]
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// On such file systems flock(2) may hold on this machine only, or not at all after a lost connection.
    #[error("{}: it is on a network file system ({kind}), whose locks cannot be relied upon: name a directory on a \
        local one with --local=DIR, or give up the guarantee with --no-guarantee", .path.display())]
    Network {
        /// The directory.
        path: PathBuf,
        /// The file system's usual name.
        kind: &'static str,
    },
    /// Somebody keeps an exclusive flock(2) on the directory itself.
    #[error("{}: another program keeps the whole directory locked: see with lslocks which one, or name another \
        directory with --local=DIR", .0.display())]
    Occupied(PathBuf),
    /// Something else is in the lock file's place.
    #[error("{}: it is no regular file: remove it", .0.display())]
    NotFile(PathBuf),
    /// The file is another one each time that we have locked it.
    #[error("{}: somebody keeps replacing the lock file: stop what removes files there, or name another directory with \
        --local=DIR", .0.display())]
    Unsteady(PathBuf),
    /// A system call failed.
    #[error("{}: {doing} failed: {}{}", .path.display(), .errno.desc(), mend(*.errno))]
    System {
        /// The directory or file.
        path: PathBuf,
        /// What was tried, as a noun: "opening the lock file".
        doing: &'static str,
        /// What the system said.
        errno: Errno,
    },
}

impl Error {
    /// Whether this is the machine's state (exit code 78) and not what was typed (64).
    pub(crate) fn is_config(&self) -> bool {
        !matches!(self, Self::NoName)
    }
}

/// What to do about a failed system call, as the end of a sentence.
fn mend(errno: Errno) -> &'static str {
    match errno {
        Errno::EROFS => ": name a directory that can be written with --local=DIR",
        Errno::ENOSPC | Errno::EDQUOT => ": make room there, or name another directory with --local=DIR",
        Errno::EACCES | Errno::EPERM => {
            ": make it accessible to this user (a directory that users share has their group and mode 2770), or name \
             another one with --local=DIR"
        }
        Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS => {
            ": this file system has no locks, name a directory on another one with --local=DIR"
        }
        Errno::ENAMETOOLONG => ": choose a shorter key, or a directory on another file system with --local=DIR",
        Errno::EMFILE | Errno::ENFILE => ": raise the limit of open files (ulimit -n)",
        _ => ": name another directory with --local=DIR",
    }
}
