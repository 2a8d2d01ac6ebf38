//! Signals become events. Who sent one must be known, which `signal-hook` tells, for the interrupt, too: `ctrlc` tells
//! nobody, and its thread costs a short run a twentieth of its processor time. A signal that was ignored when we were
//! started, as under nohup(1), gets no handler.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpid, getsid};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin as Info};

use super::event::{Event, Origin};
use super::inbox::Outlet;
use crate::guard::{self, Inherited};

/// What is handled: the signals that people and programs send to a program they have started.
const HANDLED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// The signals that have come and were not yet told.
pub(super) struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    guard: Pid,
}

impl Signals {
    /// Installs the handlers and unblocks all but `mask`. Those that came while all were blocked are pending before this
    /// returns: the guard was not there to get them, and what follows must not overtake them. `rung` is the other end of
    /// the outlet's bell.
    ///
    /// # Errors
    /// When the operating system gives no handler.
    pub(super) fn handle(
        inherited: &Inherited,
        mask: &SigSet,
        guard: Pid,
        outlet: &Outlet,
        rung: UnixStream,
    ) -> anyhow::Result<Self> {
        let handled: Vec<_> = HANDLED.iter().filter(|signal| !inherited.ignores(**signal)).map(|s| *s as i32).collect();
        let delivery = SignalDelivery::with_pipe(rung, outlet.bell()?, WithOrigin::default(), handled)?;
        mask.thread_set_mask()?;
        Ok(Self { delivery, guard })
    }

    /// Takes what has come, and silences the bell: what is said over the channel must be looked for after this.
    pub(super) fn pending(&mut self) -> impl Iterator<Item = Event> {
        let guard = self.guard;
        self.delivery.pending().filter_map(move |info| event(&info, guard))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

fn event(info: &Info, guard: Pid) -> Option<Event> {
    let signal = Signal::try_from(info.signal).ok()?;
    Some(Event::Signal { signal, origin: origin(info, guard) })
}

/// Where a signal came from. A sender that has ended meanwhile cannot be placed, and counts as outside.
fn origin(info: &Info, guard: Pid) -> Origin {
    match (info.cause, info.process) {
        // A terminal that hangs up tells the leader of its session alone (`ssh -t host consul-lock …`, `exec consul-lock …`),
        // and not the job that the command is in.
        (Cause::Kernel, _) if info.signal == Signal::SIGHUP as i32 && getsid(None) == Ok(getpid()) => Origin::Outside,
        (Cause::Kernel, _) => Origin::Terminal,
        (_, Some(sender)) if guard::descends(sender.pid, guard.as_raw()) => Origin::Tree,
        _ => Origin::Outside,
    }
}
