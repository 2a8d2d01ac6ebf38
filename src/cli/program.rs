//! Finding the command before the lock is taken, so that a misspelt name costs nobody a turn. The rules are those of
//! execvp(3) as glibc has them: a name with a slash is taken as it is, any other is looked for along PATH; a candidate
//! that may not be executed is passed over and remembered; a missing `#!` interpreter is "not found"; a file that the
//! kernel knows no format for is run by /bin/sh. What only execve(2) itself can tell (a damaged binary, a file open for
//! writing) comes out later.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FileStat, SFlag, stat};
use nix::unistd::{AccessFlags, Gid, Uid, faccessat, getegid, geteuid};
use thiserror::Error;

/// Where execvp(3) looks when PATH is not set.
#[cfg(not(target_env = "musl"))]
const DEFAULT_PATH: &str = "/bin:/usr/bin";
#[cfg(target_env = "musl")]
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// How much of a script's beginning the kernel looks at (BINPRM_BUF_SIZE).
const HEAD: u64 = 256;

/// How many `#!` interpreters may be scripts themselves before execve(2) answers ELOOP.
const MAX_DEPTH: u32 = 5;

/// Why the command cannot be run.
#[derive(Debug, Error)]
pub(crate) enum NotRunnable {
    /// No name at all, as from an unset variable in a script.
    #[error("the command's name is empty: check for an unset variable")]
    Empty,
    /// No such file, here or along PATH.
    #[error("{}: no such command{}: check its spelling and PATH, or give its whole path", .0.display(),
        if .0.as_bytes().contains(&b'/') { "" } else { " along PATH" })]
    NotFound(OsString),
    /// A script whose interpreter does not exist.
    #[error("{}: its interpreter {interpreter:?} does not exist{}", .script.display(),
        if .interpreter.as_os_str().as_bytes().ends_with(b"\r") {
            ": the script has Windows line ends, remove them"
        } else {
            ": install it, or mend the script's first line"
        })]
    NoInterpreter {
        /// The script.
        script: PathBuf,
        /// What its first line names.
        interpreter: PathBuf,
    },
    /// It is there and execve(2) would answer EACCES.
    #[error("{} cannot be executed: {why}", .path.display())]
    Denied {
        /// The command, or a script's interpreter.
        path: PathBuf,
        /// Which of the reasons it is.
        why: Why,
    },
    /// It could not be looked at, or no execve(2) will take it.
    #[error("{} cannot be executed: {}", .path.display(), .errno.desc())]
    Failed {
        /// The command, or a script's interpreter.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// An unprivileged user may not signal what this file starts, and the kernel drops its parent-death signal.
    #[error(
        "{} {gain}, so that this user may be unable to kill it: run it as `sudo consul-lock run ...`, or give up the \
         guarantee with --no-guarantee", .path.display()
    )]
    Privileged {
        /// The command, or a script's interpreter.
        path: PathBuf,
        /// How it gets its privileges.
        gain: Gain,
    },
}

/// What makes execve(2) answer EACCES.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Why {
    /// The path is a directory's.
    #[error("it is a directory")]
    Directory,
    /// A device, a pipe or a socket.
    #[error("it is no regular file")]
    Irregular,
    /// No execute permission, or a file system mounted noexec.
    #[error("this user may not execute it; `chmod +x` gives permission, unless its file system is mounted noexec")]
    Permission,
    /// A directory above it may not be searched.
    #[error("this user may not search a directory above it")]
    Search,
}

/// How a file gives its process more privileges than its caller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Gain {
    /// The setuid bit.
    #[error("is setuid")]
    SetUid,
    /// The setgid bit.
    #[error("is setgid")]
    SetGid,
    /// File capabilities (capabilities(7)).
    #[error("has file capabilities")]
    Capabilities,
}

impl NotRunnable {
    /// The exit code that says the same: 126 found but not executable, 127 not found, 64 for a promise that cannot be
    /// kept.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Empty | Self::NotFound(_) | Self::NoInterpreter { .. } => 127,
            Self::Failed { errno: Errno::ELOOP | Errno::ENAMETOOLONG, .. } => 127,
            Self::Denied { .. } | Self::Failed { .. } => 126,
            Self::Privileged { .. } => 64,
        }
    }
}

/// The file that `execvp(program)` would execute, where `path` is the value of PATH. The answer has a slash, so that it
/// is not looked for again.
pub(crate) fn find(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, NotRunnable> {
    if program.is_empty() {
        return Err(NotRunnable::Empty);
    }
    if program.as_bytes().contains(&b'/') {
        return examine(Path::new(program), 0).map(|_| PathBuf::from(program));
    }
    let (mut denied, mut without_interpreter) = (None, None);
    for element in path.unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes().split(|&byte| byte == b':') {
        let directory = if element.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(element) };
        let candidate = Path::new(directory).join(program);
        match examine(&candidate, 0) {
            Ok(_) => return Ok(candidate),
            Err(NotRunnable::NotFound(_)) => {}
            Err(error @ NotRunnable::NoInterpreter { .. }) => without_interpreter = without_interpreter.or(Some(error)),
            Err(error @ NotRunnable::Denied { .. }) => denied = denied.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(denied.or(without_interpreter).unwrap_or_else(|| NotRunnable::NotFound(program.to_owned())))
}

/// Refuses a command, as [`find`] returned it, that would run with privileges which put it beyond this user's
/// kill(2), or beyond prctl(PR_SET_PDEATHSIG).
/// A setuid bit on a script means nothing to the kernel; on its interpreter it does.
pub(crate) fn refuse_privileged(found: &Path) -> Result<(), NotRunnable> {
    if geteuid().is_root() {
        return Ok(());
    }
    let (binary, status) = examine(found, 0)?;
    match gain(&binary, &status, geteuid(), getegid()) {
        Some(gain) => Err(NotRunnable::Privileged { path: binary, gain }),
        None => Ok(()),
    }
}

/// Whether execve(2) would take `path`; if so, the file that becomes the process: itself, or a script's interpreter.
fn examine(path: &Path, depth: u32) -> Result<(PathBuf, FileStat), NotRunnable> {
    let denied = |why| Err(NotRunnable::Denied { path: path.to_owned(), why });
    let failed = |errno| Err(NotRunnable::Failed { path: path.to_owned(), errno });
    if depth > MAX_DEPTH {
        return failed(Errno::ELOOP);
    }
    let status = match stat(path) {
        Ok(status) => status,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT) => {
            return Err(NotRunnable::NotFound(path.into()));
        }
        Err(Errno::EACCES) => return denied(Why::Search),
        Err(errno) => return failed(errno),
    };
    match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return denied(Why::Directory),
        _ => return denied(Why::Irregular),
    }
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Ok(()) => {}
        Err(Errno::EACCES) => return denied(Why::Permission),
        Err(errno) => return failed(errno),
    }
    let Some(interpreter) = interpreter(path) else { return Ok((path.to_owned(), status)) };
    examine(&interpreter, depth + 1).map_err(|error| match error {
        NotRunnable::NotFound(_) => NotRunnable::NoInterpreter { script: path.to_owned(), interpreter },
        error => error,
    })
}

/// The interpreter that the kernel reads from a script's first line; `None` for what is no script, or has a first line
/// that the kernel does not take. A file that may be executed and not read is no script to anybody.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).ok()?;
    let rest = head.strip_prefix(b"#!")?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = rest.split(|&byte| byte == b'\n').next()?;
    let start = line.iter().position(|byte| !blank(byte))?;
    let name = line[start..].split(|byte| blank(byte) || *byte == 0).next()?;
    // A name that runs to the end of what the kernel reads may have been cut off, and is not taken.
    let cut = head.len() as u64 == HEAD && head.ends_with(name);
    (!name.is_empty() && !cut).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

/// The privileges beyond `uid`'s and `gid`'s that a process gets by executing `binary`.
fn gain(binary: &Path, status: &FileStat, uid: Uid, gid: Gid) -> Option<Gain> {
    let has = |mode| status.st_mode & mode == mode;
    if has(0o4000) && status.st_uid != uid.as_raw() {
        return Some(Gain::SetUid);
    }
    // Without the group's execute bit, setgid once meant mandatory locking and gives nothing.
    if has(0o2010) && status.st_gid != gid.as_raw() {
        return Some(Gain::SetGid);
    }
    has_capabilities(binary).then_some(Gain::Capabilities)
}

#[cfg(target_os = "linux")]
fn has_capabilities(binary: &Path) -> bool {
    crate::sys::has_attribute(binary, c"security.capability")
}

#[cfg(not(target_os = "linux"))]
fn has_capabilities(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests;
