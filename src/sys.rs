//! What neither the standard library nor nix offers safely: fork, raw statuses, received descriptors, pidfds. The only
//! file with `unsafe`; each function here is small enough to be judged on its own.

use std::ffi::{CStr, CString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{ForkResult, Pid};

// The unwinder out of the compiler's static library, before the standard library asks for the shared one of the same code,
// which then is not needed: a library less to be found, mapped and relocated takes a quarter of a millisecond off every start.
// The linker finds both in the same folder.
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
// SAFETY: nothing is declared.
unsafe extern "C" {}

// SAFETY: the program has no other `main`, and this one is called once, by the C library, as it calls main(). The
// arguments that it does not take are in `std::env::args` by then, by glibc's doing.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let _ = HEAP.set(heap_end());
    crate::start::start()
}

/// Where the heap begins, once `main` has begun.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
static HEAP: OnceLock<usize> = OnceLock::new();

/// Where the heap ends, which is where it begins as long as nothing was allocated (sbrk(2)).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn heap_end() -> usize {
    // SAFETY: sbrk(0) changes nothing.
    unsafe { libc::sbrk(0) as usize }
}

/// Has the kernel copy now, in one call, what a fork(2) has left of the heap for the first write to copy: with threads each of
/// those writes stops the other processors for a moment. Nothing is lost where it cannot (Linux before 5.14).
pub(crate) fn own_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Some(&begin) = HEAP.get() {
        let length = heap_end().saturating_sub(begin);
        // SAFETY: the call changes nothing that can be read in the range, which is the C library's heap alone.
        unsafe {
            libc::madvise(begin as *mut libc::c_void, length, libc::MADV_POPULATE_WRITE);
        }
    }
}

/// Lets all threads share one heap: each of ours allocates little, and a heap of its own costs it more than a tenth of a
/// millisecond at its start (mallopt(3), `M_ARENA_MAX`).
pub(crate) fn share_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt changes a number in the allocator; no other thread exists yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// fork(2). The child is `None`.
///
/// # Errors
/// What fork(2) says: EAGAIN, ENOMEM.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: every caller is single-threaded (the keeper before its first thread, the guard always), so the child
    // inherits no lock that a vanished thread holds and may allocate.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// _exit(2): ends a forked process without running what the program that forked it meant to run at its own exit.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Whether `signal` is ignored in this process.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action sigaction(2) only writes the present one, to memory that is large enough; zeroed
    // memory is a valid `sigaction` should it fail.
    let action = unsafe {
        libc::sigaction(signal as libc::c_int, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Gives `signal` its default action.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub(crate) fn set_default(which: Signal) -> io::Result<()> {
    // SAFETY: no handler is installed, so no code can run in a signal's context.
    unsafe { signal(which, SigHandler::SigDfl) }?;
    Ok(())
}

/// Has `signal` interrupt the system call that its thread sleeps in, and do nothing else.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub(crate) fn interrupt_by(signal: Signal) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // Without SA_RESTART, which would have the call begin again.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, and so nothing that a signal's context forbids.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Ignores `signal`.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
pub(crate) fn ignore(which: Signal) -> io::Result<()> {
    // SAFETY: no handler is installed, so no code can run in a signal's context.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

/// Whether a line of ours is on the terminal that must go before we are stopped.
pub(crate) static DRAWN: AtomicBool = AtomicBool::new(false);

/// The descriptor of a gate that is to be opened before we are stopped, or [`NO_GATE`]. It must stay open for as long as we
/// live: a descriptor of that number that is something else by then would lose its lock.
pub(crate) static GATE: AtomicI32 = AtomicI32::new(NO_GATE);

/// No descriptor.
pub(crate) const NO_GATE: RawFd = -1;

/// Takes it away: back to its beginning, and nothing from there on (ECMA-48, CR and ED).
pub(crate) const ERASE: &str = "\r\x1b[J";

/// From now on Ctrl-Z first takes the line away that [`DRAWN`] tells of, and opens the [`GATE`]. Where SIGTSTP is not at its
/// default nothing changes: whoever ignores it is not stopped.
pub(crate) fn tidy_before_stop() {
    replace_action(|before| matches!(before, SigHandler::SigDfl), SigHandler::Handler(tidy_and_stop));
}

/// Takes [`tidy_before_stop`] back, unless there is a gate.
pub(crate) fn stop_as_ever() {
    if GATE.load(Ordering::SeqCst) == NO_GATE {
        replace_action(|before| matches!(before, SigHandler::Handler(_)), SigHandler::SigDfl);
    }
}

/// Gives SIGTSTP another action if its present one is as expected.
fn replace_action(is_expected: impl Fn(SigHandler) -> bool, to: SigHandler) {
    let action = |handler| SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the one handler that is ever installed here does what a handler may, and no more.
    unsafe {
        if let Ok(before) = sigaction(Signal::SIGTSTP, &action(to))
            && !is_expected(before.handler())
        {
            let _ = sigaction(Signal::SIGTSTP, &before);
        }
    }
}

/// What a program has to do that wants to know of SIGTSTP and be stopped all the same (Stevens' APUE, 10.21): its default
/// action for a moment, by which the kernel also sees to it that nobody is stopped whom nobody could continue.
extern "C" fn tidy_and_stop(number: libc::c_int) {
    let errno = Errno::last_raw();
    // SAFETY: poll, write, sigaction, raise and pthread_sigmask may be called by a handler (signal-safety(7)), as may
    // flock, a bare system call, and all pointers are to this function's own variables; zeroed memory is the default
    // action, and a valid signal set.
    unsafe {
        let mut polled = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        // A terminal that takes nothing must not keep us from being stopped.
        if DRAWN.swap(false, Ordering::SeqCst)
            && libc::poll(&raw mut polled, 1, 0) == 1
            && polled.revents & libc::POLLOUT != 0
        {
            libc::write(libc::STDERR_FILENO, ERASE.as_ptr().cast(), ERASE.len());
        }
        let gate = GATE.load(Ordering::SeqCst);
        if gate != NO_GATE {
            libc::flock(gate, libc::LOCK_UN);
        }
        let (mut ours, mut mask, mut only_this) = MaybeUninit::zeroed().assume_init();
        let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(number, &raw const default, &raw mut ours);
        libc::raise(number);
        libc::sigemptyset(&raw mut only_this);
        libc::sigaddset(&raw mut only_this, number);
        // Here we are stopped, and go on.
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const only_this, &raw mut mask);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut());
        libc::sigaction(number, &raw const ours, ptr::null_mut());
    }
    Errno::set_raw(errno);
}

/// The bytes that a read(2) would give at once (ioctl_tty(2), FIONREAD): of a terminal that edits lines, of whole lines.
///
/// # Errors
/// ENOTTY for what has no such number.
pub(crate) fn readable(descriptor: impl AsFd) -> nix::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, to a place for one.
    Errno::result(unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Whether `descriptor` is open.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
pub(crate) fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag, and answers EBADF for what is no descriptor.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Whether `descriptor` is open and stays so across execve(2).
pub(crate) fn survives_exec(descriptor: RawFd) -> bool {
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// What waitpid(2) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// A child was dead, and is now reaped.
    Child(i32, ExitStatus),
    /// There are children, all alive.
    AllAlive,
    /// ECHILD: there is no child. In a subreaper that proves that no descendant is alive.
    NoChild,
}

/// waitpid(-1, WNOHANG | __WALL). Not nix's, which takes a death by a realtime signal for an error and loses it.
pub(crate) fn reap() -> Reaped {
    #[cfg(target_os = "linux")]
    const FLAGS: libc::c_int = libc::WNOHANG | libc::__WALL;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: libc::c_int = libc::WNOHANG;
    let mut status = 0;
    loop {
        // SAFETY: `status` is a place for one status.
        match unsafe { libc::waitpid(-1, &raw mut status, FLAGS) } {
            0 => return Reaped::AllAlive,
            -1 if Errno::last() == Errno::EINTR => {}
            // ECHILD is all that is left: the flags are valid, and there is no pid that could be wrong.
            -1 => return Reaped::NoChild,
            pid => return Reaped::Child(pid, ExitStatus::from_raw(status)),
        }
    }
}

/// Whether this process has children, dead or alive; none is reaped.
#[cfg(target_os = "linux")]
pub(crate) fn has_children() -> bool {
    const FLAGS: libc::c_int = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a place for one answer; with WNOWAIT nothing changes.
    let answer = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), FLAGS) };
    answer == 0 || Errno::last() != Errno::ECHILD
}

/// Most descriptors that [`receive`] takes at a time.
pub(crate) const MOST_DESCRIPTORS: usize = 32;

/// recvmsg(2) without blocking: bytes read (0: the other end is closed), and the descriptors that came with them.
///
/// # Errors
/// `WouldBlock` if there is nothing to read, and what else recvmsg(2) says.
pub(crate) fn receive(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([libc::c_int; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    #[cfg(target_os = "linux")]
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            for descriptor in descriptors {
                // SAFETY: the kernel has just made this descriptor for us; nobody else knows of it.
                received.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
    }
    Ok((message.bytes, received))
}

/// pidfd_open(2): a handle on the process that has `pid` now and on no later one.
///
/// # Errors
/// ESRCH; ENOSYS before Linux 5.3; EMFILE.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: two integers in, a descriptor or -1 out.
    let descriptor = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// pidfd_send_signal(2).
///
/// # Errors
/// ESRCH, EPERM, as kill(2).
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_send_signal(process: &OwnedFd, signal: Signal) -> nix::Result<()> {
    let (descriptor, number) = (process.as_raw_fd(), signal as libc::c_int);
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for as long as `process` lives, and a null siginfo is allowed.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, number, no_info, 0) };
    Errno::result(answer).map(drop)
}

/// Names this process in `ps` (prctl(2), PR_SET_NAME); elsewhere than on Linux it keeps its name.
pub(crate) fn set_name(name: &CStr) {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_name(name);
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Makes descendants whose parent dies fall to this process instead of to init (prctl(2), PR_SET_CHILD_SUBREAPER). Only
/// Linux has it (so does FreeBSD, under another name).
///
/// # Errors
/// EINVAL before Linux 3.4.
pub(crate) fn become_subreaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// Has the kernel kill this process when its parent, whose pid was `parent`, dies (prctl(2), PR_SET_PDEATHSIG). It survives
/// execve(2), but not that of a setuid program. Returns false if the parent is dead already.
pub(crate) fn die_with(parent: Pid) -> bool {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    nix::unistd::getppid() == parent
}

/// Whether the file at `path`, followed through symbolic links, has the extended attribute `name` (getxattr(2)). A file
/// that cannot be asked, or a file system without such attributes, has none.
#[cfg(target_os = "linux")]
pub(crate) fn has_attribute(path: &Path, name: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both strings end in a NUL and outlive the call; a size of 0 asks for the length, and nothing is written.
    let length = unsafe { nix::libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_seen_through_a_link() {
        // Beside the test itself rather than in /tmp: a tmpfs has such attributes since Linux 6.6 only.
        let directory = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(directory.parent().unwrap()).unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
        let name = c"user.consul-lock-test";
        // SAFETY: both strings end in a NUL and outlive the call; the value is one byte long.
        let set = unsafe { nix::libc::setxattr(path.as_ptr(), name.as_ptr(), [1_u8].as_ptr().cast(), 1, 0) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        assert!(has_attribute(&file, name) && has_attribute(&link, name));
        assert!(!has_attribute(&link, c"user.consul-lock-other"));
    }

    #[test]
    fn a_plain_file_and_no_file_have_no_attribute() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!has_attribute(file.path(), c"user.consul-lock-test"));
        assert!(!has_attribute(Path::new("/nowhere/at/all"), c"user.consul-lock-test"));
    }
}
