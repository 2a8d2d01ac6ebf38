//! What is typed below a live line. It is the command's and never read here; but Enter moves the cursor to the next row,
//! and the kernel tells of each line that was typed: by an edge of epoll(7), and by the bytes that wait (`FIONREAD`).
//! Standard error serves for both, being the terminal, however it was opened and whatever standard input is.

use std::io::stderr;

use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::sys;

/// Over the next row's end if the cursor is not at this one's beginning, and up from there: to the row above after Enter,
/// and to this very one after Ctrl-D behind a text, which the kernel takes for a line, too, but shows no more of.
pub(super) fn up(width: usize) -> String {
    format!("{}\r\x1b[A", " ".repeat(width))
}

/// The bytes of typed lines that nobody has read yet.
pub(super) fn pending() -> usize {
    sys::readable(stderr()).unwrap_or(0)
}

/// Whether Enter is shown: not while a program has taken the line's editing or the echo for itself.
pub(super) fn is_echoed() -> bool {
    let needed = LocalFlags::ICANON | LocalFlags::ECHO;
    tcgetattr(stderr()).is_ok_and(|settings| settings.local_flags.contains(needed))
}

/// Ends the listening when it is dropped.
#[derive(Debug)]
pub(crate) struct Keyboard {
    #[cfg(target_os = "linux")]
    _end: std::os::unix::net::UnixStream,
}

impl Keyboard {
    /// Has a thread call `tell` whenever a line was typed. Nothing where that cannot be had: the line's next turn sees it.
    #[cfg(target_os = "linux")]
    pub(crate) fn listen(tell: impl Fn() + Send + 'static) -> Option<Self> {
        use nix::errno::Errno;
        use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
        const END: u64 = 1;

        let (end, ended) = std::os::unix::net::UnixStream::pair().ok()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?;
        epoll.add(stderr(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).ok()?;
        epoll.add(&ended, EpollEvent::new(EpollFlags::EPOLLIN, END)).ok()?;
        let listen = move || {
            let _open = ended;
            let mut events = [EpollEvent::empty(); 2];
            loop {
                match epoll.wait(&mut events, EpollTimeout::NONE) {
                    Ok(count) if events[..count].iter().all(|event| event.data() != END) => tell(),
                    Err(Errno::EINTR) => {}
                    _ => return,
                }
            }
        };
        std::thread::Builder::new().name("keyboard".into()).spawn(listen).ok()?;
        Some(Self { _end: end })
    }

    /// Nothing: there is no epoll(7).
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn listen(_tell: impl Fn() + Send + 'static) -> Option<Self> {
        None
    }
}
