//! How a run's outcome becomes an exit: one table, and the one place that dies of a signal on purpose.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};

use crate::run::{Class, Outcome, ends_us};
use crate::sys;

/// sysexits(3) and the shell's conventions, as docs/exit-codes.md explains them.
pub(crate) mod code {
    /// `status`: nobody holds it.
    pub(crate) const FREE: u8 = 1;
    /// Usage, and a promise that the settings cannot keep.
    pub(crate) const USAGE: u8 = 64;
    /// Consul is not there, or has no leader.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// A fault of our own.
    pub(crate) const INTERNAL: u8 = 70;
    /// Not acquired (`-E`).
    pub(crate) const CONFLICT: u8 = 75;
    /// Lost (`--lost-exit-code`), or not, or no longer, held under the session that is named.
    pub(crate) const LOST: u8 = 76;
    /// Consul denied it.
    pub(crate) const DENIED: u8 = 77;
    /// Something is set up wrongly.
    pub(crate) const CONFIGURATION: u8 = 78;
    /// Found, but cannot be executed.
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    /// Not found.
    pub(crate) const NOT_FOUND: u8 = 127;
}

/// The two codes that a user may choose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes {
    /// Not acquired.
    pub(crate) conflict: u8,
    /// Lost.
    pub(crate) lost: u8,
}

impl Default for Codes {
    fn default() -> Self {
        Self { conflict: code::CONFLICT, lost: code::LOST }
    }
}

impl Codes {
    /// The code of a refusal of this class.
    pub(crate) fn of(self, class: Class) -> u8 {
        match class {
            Class::Conflict => self.conflict,
            Class::Usage => code::USAGE,
            Class::Unavailable => code::UNAVAILABLE,
            Class::Denied => code::DENIED,
            Class::Configuration => code::CONFIGURATION,
            Class::Lost => self.lost,
            Class::Internal => code::INTERNAL,
        }
    }
}

/// How this process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With a code.
    Code(u8),
    /// Of a signal, so that a shell's loop stops as it would without us.
    Signal(Signal),
}

impl Exit {
    /// The table.
    pub(crate) fn of(outcome: &Outcome, codes: Codes) -> Self {
        match outcome {
            Outcome::Exited(status) => Self::Code(u8::try_from(*status & 0xff).unwrap_or(u8::MAX)),
            Outcome::Killed(signal) | Outcome::Interrupted(signal) if ends_us(*signal) => Self::Signal(*signal),
            Outcome::Killed(signal) | Outcome::Interrupted(signal) => {
                Self::Code(u8::try_from(128 + *signal as i32).unwrap_or(u8::MAX))
            }
            Outcome::Lost(_) => Self::Code(codes.lost),
            Outcome::NotStarted(errno) if *errno == nix::libc::ENOENT => Self::Code(code::NOT_FOUND),
            Outcome::NotStarted(_) => Self::Code(code::NOT_EXECUTABLE),
            Outcome::GuardDied => Self::Code(code::INTERNAL),
            Outcome::NotAcquired(refused) => Self::Code(codes.of(refused.class)),
        }
    }

    /// Ends this process.
    pub(crate) fn exit(self) -> ! {
        match self {
            Self::Code(code) => std::process::exit(i32::from(code)),
            Self::Signal(signal) => {
                // Dying of SIGQUIT would leave a core file of ours behind, which tells nobody anything. Where cores go to a
                // program (core(5)) the limit does not count.
                let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
                #[cfg(target_os = "linux")]
                let _ = nix::sys::prctl::set_dumpable(false);
                let _ = sys::set_default(signal);
                let mut set = SigSet::empty();
                set.add(signal);
                let _ = set.thread_unblock();
                let _ = raise(signal);
                // A signal that is blocked for the whole process, say; the shell's own number for it then.
                std::process::exit(128 + signal as i32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Refused;
    use consul_lock::lock::Loss;

    #[test]
    fn the_whole_table() {
        let codes = Codes { conflict: 11, lost: 12 };
        let refused = |class| Outcome::NotAcquired(Refused::new(class, ""));
        let table = [
            (Outcome::Exited(0), Exit::Code(0)),
            (Outcome::Exited(3), Exit::Code(3)),
            (Outcome::Exited(255), Exit::Code(255)),
            (Outcome::Killed(Signal::SIGTERM), Exit::Signal(Signal::SIGTERM)),
            (Outcome::Killed(Signal::SIGINT), Exit::Signal(Signal::SIGINT)),
            (Outcome::Killed(Signal::SIGQUIT), Exit::Signal(Signal::SIGQUIT)),
            (Outcome::Killed(Signal::SIGHUP), Exit::Signal(Signal::SIGHUP)),
            (Outcome::Killed(Signal::SIGPIPE), Exit::Signal(Signal::SIGPIPE)),
            (Outcome::Killed(Signal::SIGKILL), Exit::Code(137)),
            (Outcome::Killed(Signal::SIGSEGV), Exit::Code(139)),
            (Outcome::Interrupted(Signal::SIGINT), Exit::Signal(Signal::SIGINT)),
            (Outcome::Interrupted(Signal::SIGUSR1), Exit::Code(138)),
            (Outcome::Lost(Loss::Unconfirmed), Exit::Code(12)),
            (Outcome::NotStarted(nix::libc::ENOENT), Exit::Code(127)),
            (Outcome::NotStarted(nix::libc::EACCES), Exit::Code(126)),
            (Outcome::NotStarted(nix::libc::E2BIG), Exit::Code(126)),
            (Outcome::GuardDied, Exit::Code(70)),
            (refused(Class::Conflict), Exit::Code(11)),
            (refused(Class::Usage), Exit::Code(64)),
            (refused(Class::Lost), Exit::Code(12)),
            (refused(Class::Unavailable), Exit::Code(69)),
            (refused(Class::Internal), Exit::Code(70)),
            (refused(Class::Denied), Exit::Code(77)),
            (refused(Class::Configuration), Exit::Code(78)),
        ];
        for (outcome, exit) in table {
            assert_eq!(Exit::of(&outcome, codes), exit, "{outcome:?}");
        }
    }
}
