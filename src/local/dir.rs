//! The directory of the lock files: which one it is, whether it can be trusted, and the way from it to a key's file.
//! Everything below it is reached by openat(2) from its descriptor, and no symbolic link is followed there.
//!
//! Our own directory has mode 0700 and its files 0600. A directory that the user named is used as it is, and what we
//! make in it is open to whoever may write in it, since users share locks that way: in a directory of mode 2770 the
//! files have 0660. Modes are set after creation, whatever the umask; who meets a file in between waits a moment.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use consul_lock::lock::Key;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FlockArg, OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, lstat, mkdirat};
use nix::unistd::{Uid, geteuid};

use super::error::Error;
use super::name::{self, Part};
use super::{Place, network};

/// Where our own directory is, the first that exists and that this user may write in. Never chosen by the environment:
/// a cron job and a terminal must exclude each other.
const BASES: [&str; 2] = ["/run/lock", "/tmp"];

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const BELOW: OFlag = DIRECTORY.union(OFlag::O_NOFOLLOW);
/// Not waiting for a pipe's other end, in case somebody put one there.
const FILE: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// The pause before another try at what somebody else is just creating or cleaning.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a file that may not be opened is tried again: its creator is between creating and chmod.
const CREATION: u32 = 20;
/// How often a directory that is locked exclusively is tried again: systemd-tmpfiles is looking through it.
const CLEANING: u32 = 500;

/// The open lock directory. While it is open we have a shared flock(2) on it, which is how systemd-tmpfiles(8) is told
/// to leave its contents alone.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// The kind of network file system that it is on, if it is on one.
    pub(super) network: Option<&'static str>,
    /// Permissions of the files and directories that we make in it.
    file_mode: Mode,
    directory_mode: Mode,
}

impl Dir {
    /// Opens and checks the directory; our own is made if need be.
    pub(super) fn open(place: &Place, no_guarantee: bool) -> Result<Self, Error> {
        let (fd, path) = match place {
            Place::Own => own(&BASES.map(Path::new), geteuid())?,
            Place::Dir(path) if path.as_os_str().is_empty() => return Err(Error::NoName),
            Place::Dir(path) => {
                // Whole, so that messages say where it is; a working directory that is gone leaves it as typed.
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                (named(&path)?, path)
            }
        };
        Self::enter(fd, path, no_guarantee)
    }

    /// Takes an open directory into use: on a local file system, and not while somebody cleans it.
    fn enter(fd: OwnedFd, path: PathBuf, no_guarantee: bool) -> Result<Self, Error> {
        let failed = |doing, errno| Error::System { path: path.clone(), doing, errno };
        let network = network::kind(&fd).map_err(|errno| failed("asking for its file system", errno))?;
        if let Some(kind) = network
            && !no_guarantee
        {
            return Err(Error::Network { path, kind });
        }
        let mut tries = 0;
        loop {
            match flock(fd.as_fd(), FlockArg::LockSharedNonblock) {
                Ok(()) => break,
                Err(Errno::EWOULDBLOCK) if tries < CLEANING => tries += 1,
                Err(Errno::EWOULDBLOCK) => return Err(Error::Occupied(path)),
                Err(errno) => return Err(failed("locking the directory", errno)),
            }
            sleep(PAUSE);
        }
        let status = fstat(&fd).map_err(|errno| failed("reading its status", errno))?;
        let (file_mode, directory_mode) = modes(&status);
        Ok(Self { fd, path, network, file_mode, directory_mode })
    }

    /// The directory's own path, to be listed.
    pub(super) fn root(&self) -> &Path {
        &self.path
    }

    /// The path of a file of the key's, for messages and for stat(2).
    pub(super) fn path(&self, key: &Key, part: Part) -> PathBuf {
        let (directories, file) = name::parts(key.as_str());
        self.path.join(directories.iter().collect::<PathBuf>()).join(format!("{file}{part}"))
    }

    /// A file of the key's, open for reading and writing, made if need be; `None` if a directory above it has just been
    /// removed.
    pub(super) fn make(&self, key: &Key, part: Part) -> Result<Option<File>, Error> {
        self.walk(key, part, true)
    }

    /// A file of the key's, open for reading; `None` if there is none.
    pub(super) fn existing(&self, key: &Key, part: Part) -> Result<Option<File>, Error> {
        self.walk(key, part, false)
    }

    fn walk(&self, key: &Key, part: Part, make: bool) -> Result<Option<File>, Error> {
        let (directories, file) = name::parts(key.as_str());
        let file = format!("{file}{part}");
        let mut path = self.path.clone();
        let mut parent: Option<OwnedFd> = None;
        for name in directories {
            path.push(&name);
            let at = parent.as_ref().unwrap_or(&self.fd).as_fd();
            match self.directory(at, &name, &path, make)? {
                Some(fd) => parent = Some(fd),
                None => return Ok(None),
            }
        }
        path.push(&file);
        self.file(parent.as_ref().unwrap_or(&self.fd).as_fd(), &file, &path, make)
    }

    fn directory(&self, at: BorrowedFd, name: &str, path: &Path, make: bool) -> Result<Option<OwnedFd>, Error> {
        let failed = |doing, errno| Err(Error::System { path: path.to_owned(), doing, errno });
        let mut tries = 0;
        loop {
            match openat(at, name, BELOW, Mode::empty()) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::ENOENT) if make => match mkdirat(at, name, self.directory_mode) {
                    Ok(()) => set_mode(at, name, self.directory_mode),
                    Err(Errno::EEXIST) => {}
                    Err(Errno::ENOENT) => return Ok(None),
                    Err(errno) => return failed("creating the directory", errno),
                },
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(Error::NotDirectory(path.to_owned())),
                Err(Errno::EACCES) if tries < CREATION => wait_for_mode(at, name, self.directory_mode, &mut tries),
                Err(errno) => return failed("opening the directory", errno),
            }
        }
    }

    fn file(&self, at: BorrowedFd, name: &str, path: &Path, make: bool) -> Result<Option<File>, Error> {
        let failed = |doing, errno| Err(Error::System { path: path.to_owned(), doing, errno });
        let access = if make { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        let mut tries = 0;
        loop {
            // Not O_CREAT on a file that exists: in a sticky directory such as /tmp the kernel refuses that for
            // somebody else's file (fs.protected_regular).
            match openat(at, name, FILE | access, Mode::empty()) {
                Ok(fd) => return regular(fd, path).map(Some),
                Err(Errno::ENOENT) if make => {
                    match openat(at, name, FILE | access | OFlag::O_CREAT | OFlag::O_EXCL, self.file_mode) {
                        Ok(fd) => {
                            // Failing leaves it open to fewer than it might be, which is the safe side.
                            let _ = fchmod(&fd, self.file_mode);
                            return regular(fd, path).map(Some);
                        }
                        Err(Errno::EEXIST) => {}
                        Err(Errno::ENOENT) => return Ok(None),
                        Err(Errno::EACCES) if tries < CREATION => wait_for_mode(at, name, self.file_mode, &mut tries),
                        Err(errno) => return failed("creating the lock file", errno),
                    }
                }
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => return Err(Error::NotFile(path.to_owned())),
                Err(Errno::EACCES) if tries < CREATION => wait_for_mode(at, name, self.file_mode, &mut tries),
                Err(errno) => return failed("opening the lock file", errno),
            }
        }
    }
}

/// flock(2), again after an interruption. nix's own `Flock` is of no use here: it unlocks when it is dropped, and the
/// tree goes on holding the lock when the keeper is gone.
pub(super) fn flock(fd: BorrowedFd, operation: FlockArg) -> nix::Result<()> {
    flock_unless(fd, operation, &AtomicBool::new(false))
}

/// flock(2), or EINTR as soon as it is called off: whoever sets the flag interrupts the thread with a signal, again
/// until it has ended, since a signal that comes before the thread sleeps is lost.
#[expect(deprecated, reason = "nix offers the plain call under this name only")]
pub(super) fn flock_unless(fd: BorrowedFd, operation: FlockArg, called_off: &AtomicBool) -> nix::Result<()> {
    while !called_off.load(Ordering::Relaxed) {
        match nix::fcntl::flock(fd.as_raw_fd(), operation) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
    Err(Errno::EINTR)
}

/// The user's directory. The name itself may be a symbolic link: it is the user who says where.
fn named(path: &Path) -> Result<OwnedFd, Error> {
    open(path, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOENT => Error::Missing(path.to_owned()),
        Errno::ENOTDIR => Error::NotDirectory(path.to_owned()),
        errno => Error::System { path: path.to_owned(), doing: "opening the directory", errno },
    })
}

/// Our own directory: `consul-lock-UID` in the first base that this user may write in. A base that is read-only or full
/// is an error and never passed over: it may be so for this process alone, which would then exclude nobody.
fn own(bases: &[&Path], user: Uid) -> Result<(OwnedFd, PathBuf), Error> {
    let mut refusal = Errno::ENOENT;
    let mut path = PathBuf::new();
    for base in bases {
        path = base.join(format!("consul-lock-{user}"));
        match mkdirat(AT_FDCWD, &path, Mode::S_IRWXU) {
            Ok(()) => set_mode(AT_FDCWD, &path, Mode::S_IRWXU),
            Err(Errno::EEXIST) => {}
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EPERM)) => {
                refusal = errno;
                continue;
            }
            Err(errno) => return Err(Error::System { path, doing: "creating the directory", errno }),
        }
        return trusted(&path, user).map(|fd| (fd, path));
    }
    Err(Error::System { path, doing: "creating the directory", errno: refusal })
}

/// Opens our own directory and makes sure that it is nobody else's.
fn trusted(path: &Path, user: Uid) -> Result<OwnedFd, Error> {
    let failed = |doing, errno| Error::System { path: path.to_owned(), doing, errno };
    let check = |status: &FileStat| {
        if status.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
            return Err(Error::NotDirectory(path.to_owned()));
        }
        if status.st_uid != user.as_raw() {
            return Err(Error::Owner { path: path.to_owned(), owner: status.st_uid, user: user.as_raw() });
        }
        let mode = status.st_mode & 0o777;
        if mode & 0o077 != 0 { Err(Error::Mode { path: path.to_owned(), mode }) } else { Ok(mode) }
    };
    let mode = check(&lstat(path).map_err(|errno| failed("reading its status", errno))?)?;
    if mode != Mode::S_IRWXU.bits() {
        // Ours, and closed to ourselves: its creator's umask did that, and was killed before the chmod.
        set_mode(AT_FDCWD, path, Mode::S_IRWXU);
    }
    let fd = open(path, BELOW, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOTDIR | Errno::ELOOP => Error::NotDirectory(path.to_owned()),
        errno => failed("opening the directory", errno),
    })?;
    // Once more, on what was really opened.
    check(&fstat(&fd).map_err(|errno| failed("reading its status", errno))?)?;
    Ok(fd)
}

/// The permissions of the files and of the directories that we make in a directory: whoever may write in it may use
/// them, and nobody else.
fn modes(status: &FileStat) -> (Mode, Mode) {
    let (mut file, mut directory) = (0o600, 0o700 | status.st_mode & 0o3000);
    for shift in [0, 3] {
        if status.st_mode >> shift & 0o3 == 0o3 {
            file |= 0o6 << shift;
            directory |= 0o7 << shift;
        }
    }
    (Mode::from_bits_truncate(file), Mode::from_bits_truncate(directory))
}

/// The file behind a descriptor, if it is one.
fn regular(fd: OwnedFd, path: &Path) -> Result<File, Error> {
    let status =
        fstat(&fd).map_err(|errno| Error::System { path: path.to_owned(), doing: "reading its status", errno })?;
    if status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() {
        Ok(File::from(fd))
    } else {
        Err(Error::NotFile(path.to_owned()))
    }
}

/// Waits for what somebody else is creating, and does the chmod for a creator of ours that did not live to do it.
fn wait_for_mode(at: BorrowedFd, name: &str, mode: Mode, tries: &mut u32) {
    *tries += 1;
    if fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|status| status.st_uid == geteuid().as_raw()) {
        set_mode(at, name, mode);
    }
    sleep(PAUSE);
}

/// chmod, not following a symbolic link. Failing leaves it open to fewer than it might be, which is the safe side, and
/// which the next open(2) tells.
fn set_mode<P: ?Sized + nix::NixPath>(at: BorrowedFd, name: &P, mode: Mode) {
    let _ = fchmodat(at, name, mode, FchmodatFlags::NoFollowSymlink);
}

#[cfg(test)]
mod tests;
