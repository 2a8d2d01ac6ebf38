//! Standard output: what a command was asked for, and nothing else. A reader that has seen enough (`| head`) ends us as
//! SIGPIPE would, which Rust's runtime ignores.

use std::io::{self, ErrorKind, Write as _};

use nix::sys::signal::Signal;

use super::exit::{Exit, code};
use super::refusal::Refusal;

/// Writes `text` at once, for those to whom a reader that has gone is like any other failure.
///
/// # Errors
/// What the kernel says.
pub(super) fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes `text` at once.
///
/// # Errors
/// How we end when it cannot be written, with the message if there is one to tell.
pub(crate) fn write(text: &str) -> Result<(), Unwritten> {
    match put(text) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unwritten::NoReader),
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Unwritten::Failed(Refusal { code: code::INTERNAL, message }))
        }
    }
}

/// Why something could not be written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// Nobody reads any more, which is no error.
    NoReader,
    /// A full disk, for example.
    Failed(Refusal),
}

impl Unwritten {
    /// How we end.
    pub(crate) fn exit(&self, tell: impl FnOnce(&Refusal) -> Exit) -> Exit {
        match self {
            Self::NoReader => Exit::Signal(Signal::SIGPIPE),
            Self::Failed(refusal) => tell(refusal),
        }
    }
}
